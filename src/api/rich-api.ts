/** What a rich container may ask for: its init, side services, a truthful /proc, hooks, a disk quota. Part of {@link CreateRequest}. */
import { type Static, Type } from 'typebox'

const closed = { additionalProperties: false } as const
const Command = Type.Array(Type.String({ maxLength: 131_072 }), { minItems: 1, maxItems: 10_000 })

/** `systemd` and `init`: the image's own; `dumb-init`: a small one of this host, bound in. */
export const RichMode = Type.Union([Type.Literal('systemd'), Type.Literal('init'), Type.Literal('dumb-init')])
export type RichMode = Static<typeof RichMode>

/** A side service of a `dumb-init` container, restarted with back-off whenever it ends. */
export const ServiceRequest = Type.Object(
  {
    name: Type.String({ pattern: '^[a-z0-9][a-z0-9_.-]{0,63}$' }),
    /** Absent for the names that the engine knows: sshd, cron, syslog. */
    command: Type.Optional(Command),
  },
  closed,
)
export type ServiceRequest = Static<typeof ServiceRequest>

export const HookPoint = Type.Union([
  Type.Literal('pre-start'),
  Type.Literal('post-start'),
  Type.Literal('pre-stop'),
  Type.Literal('post-stop'),
])
export type HookPoint = Static<typeof HookPoint>

export const HookRequest = Type.Object(
  {
    at: HookPoint,
    /** `inside`: in the container, which at post-stop there is none of any more. */
    where: Type.Union([Type.Literal('host'), Type.Literal('inside')]),
    command: Command,
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000, description: 'default 30 s' })),
    /** `fail` undoes the start at pre-start and post-start; at the stop it is recorded, as nothing may keep a container from stopping. */
    onFailure: Type.Optional(Type.Union([Type.Literal('fail'), Type.Literal('warn')])),
  },
  closed,
)
export type HookRequest = Static<typeof HookRequest>

/** How one hook went, as `inspect` shows it. */
export const HookResult = Type.Object({
  at: HookPoint,
  where: Type.Union([Type.Literal('host'), Type.Literal('inside')]),
  command: Command,
  exitCode: Type.Integer({ description: '124 after its timeout, 127 when it could not be started' }),
  /** The first 64 KiB of what it wrote to stdout and stderr. */
  output: Type.String(),
  startedAt: Type.Number(),
  ms: Type.Number(),
})
export type HookResult = Static<typeof HookResult>

/** One side service, as `ps --services` shows it. Times are epoch milliseconds. */
export const ServiceView = Type.Object({
  container: Type.String(),
  name: Type.String(),
  command: Command,
  status: Type.Union([Type.Literal('running'), Type.Literal('waiting'), Type.Literal('stopped')]),
  pid: Type.Optional(Type.Integer()),
  restarts: Type.Integer(),
  lastExitCode: Type.Optional(Type.Integer()),
  lastError: Type.Optional(Type.String()),
  startedAt: Type.Optional(Type.Number()),
  /** While `waiting`: when the next try begins. */
  nextTryAt: Type.Optional(Type.Number()),
  logPath: Type.String(),
})
export type ServiceView = Static<typeof ServiceView>

export const ServiceList = Type.Object({ services: Type.Array(ServiceView) })
export type ServiceList = Static<typeof ServiceList>

/** Bytes and inodes of a container's writable layer. */
export const DiskQuota = Type.Object(
  {
    bytes: Type.Integer({ minimum: 1 << 20, maximum: Number.MAX_SAFE_INTEGER }),
    inodes: Type.Optional(Type.Integer({ minimum: 16, maximum: 4_000_000_000 })),
  },
  closed,
)
export type DiskQuota = Static<typeof DiskQuota>

/** `GET /v1/storage`: how quotas are enforced; `none` says why they are refused. */
export const StorageView = Type.Object({
  way: Type.Union([Type.Literal('project'), Type.Literal('pool'), Type.Literal('none')]),
  reason: Type.Optional(Type.String()),
  poolBytes: Type.Optional(Type.Integer()),
  promisedBytes: Type.Optional(Type.Integer()),
})
export type StorageView = Static<typeof StorageView>

/** `POST /v1/storage`: makes the pool, or grows it. */
export const StorageRequest = Type.Object({ bytes: Type.Integer({ minimum: 1 << 20 }) }, closed)

/** The members that {@link CreateRequest} takes in. */
export const RICH_OPTIONS = {
  rich: Type.Optional(RichMode),
  /** The image's own command runs as a unit; its end ends the container with its exit code. */
  exitWithCommand: Type.Optional(Type.Boolean()),
  services: Type.Optional(Type.Array(ServiceRequest, { maxItems: 64 })),
  /** true: refused where there is no lxcfs; absent: on for rich containers where there is one. */
  lxcfs: Type.Optional(Type.Boolean()),
  hooks: Type.Optional(Type.Array(HookRequest, { maxItems: 64 })),
  /** Of the writable layer. */
  diskQuota: Type.Optional(DiskQuota),
  /** Of its logs, those of side services among them; absent: as many bytes as {@link DiskQuota} gives the writable layer. */
  logQuotaBytes: Type.Optional(Type.Integer({ minimum: 1 << 16, maximum: Number.MAX_SAFE_INTEGER })),
  /** Of new volumes, by the path that they are mounted at. */
  volumeQuotas: Type.Optional(
    Type.Record(Type.String({ pattern: '^/', maxLength: 4096 }), DiskQuota, { maxProperties: 64 }),
  ),
} as const
