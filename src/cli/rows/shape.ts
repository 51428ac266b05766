/** What the rows of the command table are made of. */

export interface ArgumentRow {
  readonly name: string
  readonly summary: string
  readonly optional?: boolean
  /** Takes all that follow. */
  readonly many?: boolean
}

export interface OptionRow {
  /** As commander writes it: `-o, --output <FILE>`. */
  readonly flags: string
  readonly summary: string
  /** How the text becomes a value: `list` collects repeats, `duration` gives milliseconds. */
  readonly kind?: 'text' | 'list' | 'integer' | 'duration'
  readonly required?: boolean
  /** What it means without a value; the flag then names it as `[VALUE]`. */
  readonly bare?: string
}

export interface CommandRow {
  /** A sub-command is named after its parent: `supernode token`. Its module is `commands/<name with dashes>.ts`. */
  readonly name: string
  /** Another command that this one is, whole: its arguments, options and module. */
  readonly alias?: string
  readonly summary: string
  readonly args?: readonly ArgumentRow[]
  readonly options?: readonly OptionRow[]
  /** Takes the flags of every setting of this role, `--config` included. */
  readonly settings?: 'supernode' | 'agent'
  /** Only these of the role's settings. */
  readonly only?: readonly string[]
  /** Options stand before the first argument; whatever follows it is passed through. */
  readonly passThrough?: boolean
  /** Talks to an agent: takes `--socket`. */
  readonly client?: boolean
  /** Lines shown under the help. */
  readonly examples?: readonly string[]
}

export const JSON_OPTION: OptionRow = { flags: '--json', summary: 'print the result as JSON' }
export const PLAIN_HTTP: OptionRow = {
  flags: '--plain-http',
  summary: 'speak http to the registry instead of https',
}
export const PLATFORM: OptionRow = {
  flags: '--platform <OS/ARCH>',
  summary: 'which of a multi-platform image (default: this host)',
}
export const TIMEOUT: OptionRow = {
  flags: '--timeout <DURATION>',
  summary: 'give up after this long with exit code 124: 30s, 5m',
  kind: 'duration',
}
export const QUIET: OptionRow = { flags: '-q, --quiet', summary: 'print no progress' }
export const CONTAINER: ArgumentRow = { name: 'CONTAINER', summary: 'name, id or unambiguous start of an id' }
export const IMAGE: ArgumentRow = { name: 'IMAGE', summary: 'name, id or unambiguous start of an id' }

export const FORMAT: OptionRow = {
  flags: '--format <TEMPLATE>',
  summary: "a Go template, `table TEMPLATE` or json, with docker's field names",
}
export const FILTER: OptionRow = {
  flags: '-f, --filter <NAME=VALUE>',
  summary: "only what fits; docker's filters (repeatable)",
  kind: 'list',
}
export const NO_TRUNC: OptionRow = { flags: '--no-trunc', summary: 'print ids and commands whole' }
export const IDS_ONLY: OptionRow = { flags: '-q, --quiet', summary: 'print ids only' }
export const FORCE_PRUNE: OptionRow = { flags: '-f, --force', summary: 'ask nobody' }
export const PRUNE_FILTER: OptionRow = {
  flags: '--filter <NAME=VALUE>',
  summary: 'only what fits: until=24h, label=…, label!=… (repeatable)',
  kind: 'list',
}
/** Options of the commands that list. */
export const LISTED: readonly OptionRow[] = [FILTER, FORMAT, NO_TRUNC, IDS_ONLY, JSON_OPTION]

const text = (flags: string, summary: string): OptionRow => ({ flags, summary })
const repeated = (flags: string, summary: string): OptionRow => ({
  flags,
  summary: `${summary} (repeatable)`,
  kind: 'list',
})
const integer = (flags: string, summary: string): OptionRow => ({ flags, summary, kind: 'integer' })
const duration = (flags: string, summary: string): OptionRow => ({ flags, summary, kind: 'duration' })

/** Limits, for run, create and update alike. */
export const LIMITS: readonly OptionRow[] = [
  text('-m, --memory <SIZE>', 'most memory: 512m'),
  text('--memory-swap <SIZE>', 'most memory and swap together; -1 for no limit'),
  text('--memory-reservation <SIZE>', 'what it keeps when memory gets short'),
  text('--cpus <N>', 'most CPUs: 1.5'),
  integer('-c, --cpu-shares <N>', 'share of the CPUs when they are short, against 1024'),
  integer('--cpu-period <US>', 'length of a scheduling period in microseconds'),
  integer('--cpu-quota <US>', 'CPU time in each period in microseconds'),
  text('--cpuset-cpus <LIST>', 'only these CPUs: 0-3, 0,1'),
  text('--cpuset-mems <LIST>', 'memory of only these nodes'),
  text('--pids-limit <N>', 'most processes and threads; -1 for no limit'),
  integer('--blkio-weight <N>', 'share of the disks when they are busy: 10 to 1000'),
  text('--restart <POLICY>', 'when it ends: no, on-failure[:N], always or unless-stopped'),
]

/** Further options of run and create, by docker's names. */
export const CREATE: readonly OptionRow[] = [
  ...LIMITS,
  repeated('--device-read-bps <DEVICE:RATE>', 'most bytes a second read from a disk: /dev/sda:10m'),
  repeated('--device-write-bps <DEVICE:RATE>', 'most bytes a second written to a disk'),
  repeated('--device-read-iops <DEVICE:N>', 'most reads a second from a disk'),
  repeated('--device-write-iops <DEVICE:N>', 'most writes a second to a disk'),
  repeated('-v, --volume <SPEC>', 'HOST:PATH[:ro,…], NAME:PATH, or PATH for a volume of its own'),
  repeated('--mount <SPEC>', 'type=bind|volume|tmpfs,source=…,target=…[,readonly]'),
  repeated('--tmpfs <PATH[:OPTIONS]>', 'memory as a file system there'),
  repeated('--volumes-from <CONTAINER[:ro]>', 'the mounts of another container'),
  text('--entrypoint <CMD>', "replaces the image's entrypoint; empty takes it away"),
  repeated('--env-file <FILE>', 'lines NAME=VALUE'),
  repeated('-l, --label <NAME=VALUE>', 'a label'),
  repeated('--label-file <FILE>', 'lines NAME=VALUE'),
  text('-u, --user <USER>', 'run as this user, or USER:GROUP'),
  text('-w, --workdir <DIR>', 'start in this directory'),
  repeated('--group-add <GROUP>', 'a further group'),
  text('--hostname <NAME>', 'its host name (docker: -h)'),
  text('--domainname <NAME>', 'its NIS domain name'),
  repeated('--cap-add <CAPABILITY>', 'a capability more; ALL for all that the host has'),
  repeated('--cap-drop <CAPABILITY>', 'a capability less; ALL for all'),
  { flags: '--privileged', summary: 'all capabilities and devices, nothing masked' },
  { flags: '--read-only', summary: 'no writable layer' },
  repeated('--security-opt <OPTION>', 'no-new-privileges, seccomp=unconfined, seccomp=FILE'),
  repeated('--sysctl <NAME=VALUE>', 'a kernel setting of its namespaces'),
  repeated('--ulimit <NAME=SOFT[:HARD]>', 'a resource limit of its processes'),
  repeated('--device <HOST[:PATH[:rwm]]>', 'a device node of this host'),
  text('--shm-size <SIZE>', 'size of /dev/shm (default: 64m)'),
  text('--oom-score-adj <N>', 'how soon it goes when memory is out: -1000 to 1000'),
  { flags: '--init', summary: 'a small init as PID 1 that reaps and forwards signals' },
  text('--pid <host>', "the host's process ids"),
  text('--ipc <host|private>', "the host's System V IPC"),
  text('--uts <host>', "the host's own name"),
  text('--userns <host|auto>', "the host's user ids, or a user namespace with ids of its own"),
  text('--stop-signal <SIGNAL>', "what stop sends first (default: the image's, else TERM)"),
  text('--stop-timeout <SECONDS>', 'how long stop waits before KILL (default: 10)'),
  text('--health-cmd <CMD>', 'a command whose exit code says whether it is healthy'),
  duration('--health-interval <DURATION>', 'between two checks (default: 30s)'),
  duration('--health-timeout <DURATION>', 'a check that takes longer failed (default: 30s)'),
  duration('--health-start-period <DURATION>', 'failures count only after this'),
  integer('--health-retries <N>', 'failures in a row that mean unhealthy (default: 3)'),
  { flags: '--no-healthcheck', summary: "leave out the image's check" },
  text('--log-driver <NAME>', 'json-file, journald or none'),
  repeated('--log-opt <NAME=VALUE>', 'max-size, max-file'),
  repeated('--annotation <NAME=VALUE>', 'an annotation of its bundle; darner.rich=MODE is read'),
  repeated('--storage-opt <NAME=VALUE>', 'size=10G, inodes=200000: --disk-quota'),
  repeated('--expose <PORT>', 'a port that it serves, without publishing it'),
  { flags: '-P, --publish-all', summary: 'publish each port that the image exposes on any free one' },
  repeated('--dns-search <DOMAIN>', 'a search domain of its own'),
  repeated('--dns-option <OPTION>', 'a resolver option'),
  text('--mac-address <ADDRESS>', 'this hardware address on its network'),
  text('--cidfile <FILE>', 'write the id into this new file'),
  text('--pull <WHEN>', 'always, missing (default) or never'),
]
