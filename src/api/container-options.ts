/** What a container may ask for beyond its command: limits, mounts, restart policy, health check, log. Part of {@link CreateRequest}. */
import { type Static, Type } from 'typebox'

const Text = (maxLength: number, description: string) => Type.String({ maxLength, description })
const Bytes = (description: string) => Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description })
const closed = { additionalProperties: false } as const

/** Bytes or operations a second of one block device of this host. */
export const BlkioRate = Type.Object(
  {
    path: Type.String({ pattern: '^/', maxLength: 4096 }),
    what: Type.Union([
      Type.Literal('readBps'),
      Type.Literal('writeBps'),
      Type.Literal('readIops'),
      Type.Literal('writeIops'),
    ]),
    rate: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
  },
  closed,
)
export type BlkioRate = Static<typeof BlkioRate>

/** Limits that can be changed while it runs. Absent: not limited, or not changed. */
export const Resources = Type.Object(
  {
    memoryBytes: Type.Optional(Bytes('most memory; 0 takes the limit away')),
    memorySwapBytes: Type.Optional(
      Type.Integer({ minimum: -1, maximum: Number.MAX_SAFE_INTEGER, description: 'memory and swap; -1: no limit' }),
    ),
    memoryReservationBytes: Type.Optional(Bytes('what it keeps when memory gets short')),
    memorySwappiness: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 100, description: 'how readily its memory is swapped; cgroup v1 only' }),
    ),
    nanoCpus: Type.Optional(Type.Integer({ minimum: 0, maximum: 1e15, description: 'CPUs, in 1e-9' })),
    cpuShares: Type.Optional(Type.Integer({ minimum: 0, maximum: 262_144 })),
    cpuQuotaUs: Type.Optional(Type.Integer({ minimum: -1, maximum: 1e12 })),
    cpuPeriodUs: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
    cpusetCpus: Type.Optional(Type.String({ pattern: '^[0-9,-]*$', maxLength: 4096 })),
    cpusetMems: Type.Optional(Type.String({ pattern: '^[0-9,-]*$', maxLength: 4096 })),
    pidsLimit: Type.Optional(Type.Integer({ minimum: -1, maximum: 4_194_304, description: '-1 and 0: no limit' })),
    blkioWeight: Type.Optional(Type.Integer({ minimum: 0, maximum: 1000 })),
    blkioRates: Type.Optional(
      Type.Array(BlkioRate, { maxItems: 256, description: 'most that goes to and from devices' }),
    ),
  },
  closed,
)
export type Resources = Static<typeof Resources>

export const Ulimit = Type.Object(
  {
    /** As setrlimit(2) has it, in lower case and without `RLIMIT_`: `nofile`. */
    name: Type.String({ pattern: '^[a-z]{2,12}$' }),
    soft: Type.Integer({ minimum: -1 }),
    hard: Type.Integer({ minimum: -1 }),
  },
  closed,
)
export type Ulimit = Static<typeof Ulimit>

const Propagation = Type.Union([
  Type.Literal('private'),
  Type.Literal('rprivate'),
  Type.Literal('shared'),
  Type.Literal('rshared'),
  Type.Literal('slave'),
  Type.Literal('rslave'),
])

/** `bind`: a path of this host; `volume`: by name, made when it isn't there; `tmpfs`: memory. */
export const MountRequest = Type.Object(
  {
    type: Type.Union([Type.Literal('bind'), Type.Literal('volume'), Type.Literal('tmpfs')]),
    /** Host path or volume name; absent for tmpfs. */
    source: Type.Optional(Text(4096, 'host path or volume name')),
    target: Type.String({ pattern: '^/', maxLength: 4096 }),
    readonly: Type.Optional(Type.Boolean()),
    propagation: Type.Optional(Propagation),
    /** Leave an empty volume empty instead of filling it with what the image has there. */
    noCopy: Type.Optional(Type.Boolean()),
    /** Made for this container only, and removed with it. */
    anonymous: Type.Optional(Type.Boolean()),
    /** Make the host path when it isn't there. */
    makeSource: Type.Optional(Type.Boolean()),
    /** Of the volume that is made. */
    labels: Type.Optional(Type.Record(Type.String({ maxLength: 4096 }), Type.String({ maxLength: 65_536 }))),
    /** Further mount options of a tmpfs: `size=64m`, `mode=1777`, `noexec`. */
    options: Type.Optional(
      Type.Array(Type.String({ pattern: '^[a-z_]+(=[A-Za-z0-9%:._-]+)?$', maxLength: 128 }), { maxItems: 32 }),
    ),
  },
  closed,
)
export type MountRequest = Static<typeof MountRequest>

export const RestartPolicy = Type.Object(
  {
    name: Type.Union([
      Type.Literal('no'),
      Type.Literal('always'),
      Type.Literal('unless-stopped'),
      Type.Literal('on-failure'),
    ]),
    /** For `on-failure`: give up after so many; 0 never. */
    maximumRetries: Type.Optional(Type.Integer({ minimum: 0, maximum: 1_000_000 })),
  },
  closed,
)
export type RestartPolicy = Static<typeof RestartPolicy>

/** Durations are milliseconds; absent ones take the defaults of health.ts. */
export const HealthCheck = Type.Object(
  {
    /** `['NONE']`, `['CMD', …]` or `['CMD-SHELL', text]`. */
    test: Type.Array(Type.String({ maxLength: 65_536 }), { minItems: 1, maxItems: 1000 }),
    intervalMs: Type.Optional(Type.Number({ minimum: 1 })),
    timeoutMs: Type.Optional(Type.Number({ minimum: 1 })),
    startPeriodMs: Type.Optional(Type.Number({ minimum: 0 })),
    /** Between two checks of one that is still starting, within its start period; default: as later. */
    startIntervalMs: Type.Optional(Type.Number({ minimum: 0 })),
    retries: Type.Optional(Type.Integer({ minimum: 0, maximum: 10_000 })),
  },
  closed,
)
export type HealthCheck = Static<typeof HealthCheck>

export const LogConfig = Type.Object(
  {
    driver: Type.Union([Type.Literal('json-file'), Type.Literal('none'), Type.Literal('journald')]),
    /** Rotate when the file is longer; absent: never. */
    maxBytes: Type.Optional(Type.Integer({ minimum: 4096 })),
    /** Files that are kept, the one that is written among them; default 1. */
    maxFiles: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  },
  closed,
)
export type LogConfig = Static<typeof LogConfig>

/** TYPE MAJOR:MINOR ACCESS: `c 7:128 rwm`; a type `a` is both, `*` any number. */
export const DEVICE_RULE = /^([acb]) (\d{1,10}|\*):(\d{1,10}|\*) ([rwm]{1,3})$/

export const DeviceRequest = Type.Object(
  {
    /** Path of the node on this host. */
    host: Type.String({ pattern: '^/', maxLength: 4096 }),
    target: Type.String({ pattern: '^/', maxLength: 4096 }),
    access: Type.String({ pattern: '^[rwm]{1,3}$' }),
  },
  closed,
)
export type DeviceRequest = Static<typeof DeviceRequest>

const Texts = (maxItems: number) => Type.Array(Type.String({ maxLength: 4096 }), { maxItems })

/** The members that {@link CreateRequest} takes in. */
export const MORE_OPTIONS = {
  resources: Type.Optional(Resources),
  ulimits: Type.Optional(Type.Array(Ulimit, { maxItems: 32 })),
  mounts: Type.Optional(Type.Array(MountRequest, { maxItems: 1000 })),
  restart: Type.Optional(RestartPolicy),
  health: Type.Optional(HealthCheck),
  log: Type.Optional(LogConfig),
  devices: Type.Optional(Type.Array(DeviceRequest, { maxItems: 1000 })),
  /** Devices of the cgroup that may be used beside those, whether they have nodes or not. */
  deviceRules: Type.Optional(Type.Array(Type.String({ pattern: DEVICE_RULE.source }), { maxItems: 1000 })),
  privileged: Type.Optional(Type.Boolean()),
  init: Type.Optional(Type.Boolean({ description: 'a small init as PID 1 that reaps and forwards signals' })),
  domainname: Type.Optional(Type.String({ pattern: '^[a-zA-Z0-9.-]{0,253}$' })),
  /** A seccomp profile of its own, as JSON, in the place of the agent's. */
  seccompProfile: Type.Optional(Type.String({ maxLength: 1_048_576 })),
  /** Name of an AppArmor profile that is loaded, or `unconfined`; default: the agent's where the kernel has AppArmor. */
  apparmor: Type.Optional(Type.String({ pattern: '^[^\\s\\0]+$', maxLength: 512 })),
  groupAdd: Type.Optional(Texts(1000)),
  /** `NAME:ADDRESS` lines for /etc/hosts. */
  extraHosts: Type.Optional(Texts(1000)),
  sysctls: Type.Optional(
    Type.Record(Type.String({ pattern: '^[a-z0-9_.-]+$', maxLength: 256 }), Type.String({ maxLength: 4096 })),
  ),
  oomScoreAdj: Type.Optional(Type.Integer({ minimum: -1000, maximum: 1000 })),
  shmBytes: Type.Optional(Bytes('size of /dev/shm; default 64 MiB')),
  hostPid: Type.Optional(Type.Boolean({ description: "share the host's process ids" })),
  hostIpc: Type.Optional(Type.Boolean()),
  hostUts: Type.Optional(Type.Boolean()),
  cgroupns: Type.Optional(
    Type.Union([Type.Literal('host'), Type.Literal('private')], {
      description: "the host's cgroup namespace or one of its own; default: private on cgroup v2, host on v1",
    }),
  ),
  userns: Type.Optional(
    Type.Union([Type.Literal('host'), Type.Literal('auto')], {
      description: "the host's user ids, or a user namespace with ids of its own; default: as the agent is set",
    }),
  ),
  /** As Kubernetes has them: `darner.rich` among them is read, all go into the bundle. */
  annotations: Type.Optional(
    Type.Record(Type.String({ minLength: 1, maxLength: 4096 }), Type.String({ maxLength: 262_144 })),
  ),
  /** A Docker client's own words, for that client to read again; nothing else looks at them. */
  docker: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
} as const
