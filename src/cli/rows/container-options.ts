/** Options of the commands that make a container, or change its limits. */
import { type OptionRow, PLAIN_HTTP, PLATFORM, QUIET } from './shape.ts'

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

const passed = (flags: string, summary: string, kind: OptionRow['kind'] = 'text'): OptionRow => ({
  flags,
  summary: `not offered: ${summary}`,
  kind,
  unoffered: true,
})

/** docker's, for which the agent has another way. */
const UNOFFERED: readonly OptionRow[] = [
  passed('--cgroup-parent <PATH>', 'the agent has one cgroup parent for all'),
  passed('--gpus <REQUEST>', 'name each device with --device'),
  passed('--blkio-weight-device <DEVICE:WEIGHT>', 'use --blkio-weight', 'list'),
  passed('--cpu-rt-period <US>', 'use --cpus', 'integer'),
  passed('--cpu-rt-runtime <US>', 'use --cpus', 'integer'),
  passed('--kernel-memory <SIZE>', 'use --memory'),
  { flags: '--oom-kill-disable', summary: 'not offered: use --oom-score-adj', unoffered: true },
  passed('--volume-driver <NAME>', 'but for local, and where no volume is asked for'),
  passed('--isolation <NAME>', 'but for default'),
  passed('--cpu-count <N>', 'use --cpus', 'integer'),
  passed('--cpu-percent <N>', 'use --cpus', 'integer'),
  passed('--io-maxbandwidth <SIZE>', 'use --blkio-weight'),
  passed('--io-maxiops <N>', 'use --blkio-weight', 'integer'),
]

/** Further options of run and create, by docker's names. */
const CREATE: readonly OptionRow[] = [
  ...LIMITS,
  text('--memory-swappiness <N>', 'how readily its memory is swapped: 0 to 100; -1 for as the host; cgroup v1 only'),
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
  {
    flags: '--force-unsupported',
    summary: "go on, with a warning, without what this host can't enforce: limits, capabilities, quotas",
  },
  { flags: '--privileged', summary: 'all capabilities and devices, nothing masked' },
  { flags: '--read-only', summary: 'no writable layer' },
  repeated(
    '--security-opt <OPTION>',
    'no-new-privileges, seccomp=unconfined, seccomp=FILE, apparmor=NAME, apparmor=unconfined',
  ),
  repeated('--sysctl <NAME=VALUE>', 'a kernel setting of its namespaces'),
  repeated('--ulimit <NAME=SOFT[:HARD]>', 'a resource limit of its processes'),
  repeated('--device <HOST[:PATH[:rwm]]>', 'a device node of this host'),
  repeated('--device-cgroup-rule <RULE>', "devices that it may use, with or without a node: 'c 42:* rmw'"),
  text('--shm-size <SIZE>', 'size of /dev/shm (default: 64m)'),
  text('--oom-score-adj <N>', 'how soon it goes when memory is out: -1000 to 1000'),
  { flags: '--init', summary: 'a small init as PID 1 that reaps and forwards signals' },
  text('--pid <host>', "the host's process ids"),
  text('--ipc <host|private>', "the host's System V IPC"),
  text('--uts <host>', "the host's own name"),
  text('--cgroupns <host|private>', "the host's cgroup namespace, or one of its own (default: private on cgroup v2)"),
  text('--userns <host|auto>', "the host's user ids, or a user namespace with ids of its own"),
  text('--stop-signal <SIGNAL>', "what stop sends first (default: the image's, else TERM)"),
  text('--stop-timeout <SECONDS>', 'how long stop waits before KILL (default: 10)'),
  text('--health-cmd <CMD>', 'a command whose exit code says whether it is healthy'),
  duration('--health-interval <DURATION>', 'between two checks (default: 30s)'),
  duration('--health-timeout <DURATION>', 'a check that takes longer failed (default: 30s)'),
  duration('--health-start-period <DURATION>', 'failures count only after this'),
  duration('--health-start-interval <DURATION>', 'between two checks while it starts, in the start period'),
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
  repeated('--link <CONTAINER[:ALIAS]>', 'know another container by name, in /etc/hosts and by variables'),
  repeated('--link-local-ip <ADDRESS>', 'a link-local address beside its own'),
  text('--mac-address <ADDRESS>', 'this hardware address on its network'),
  text('--cidfile <FILE>', 'write the id into this new file'),
  text('--pull <WHEN>', 'always, missing (default) or never'),
  repeated('-a, --attach <STREAM>', 'only to this stream: stdin, stdout or stderr (default: both outputs)'),
  ...UNOFFERED,
]

export const CREATE_OPTIONS: readonly OptionRow[] = [
  { flags: '--rm', summary: 'remove the container when it ends' },
  { flags: '-i, --interactive', summary: 'connect stdin' },
  { flags: '-t, --tty', summary: 'give it a terminal' },
  {
    flags: '-e, --env <NAME=VALUE>',
    summary: 'set an environment variable; without a value, as it is here (repeatable)',
    kind: 'list',
  },
  { flags: '--name <NAME>', summary: 'name of the container' },
  { flags: '--runtime <NAME>', summary: "OCI runtime, one of the agent's runtimes" },
  {
    flags: '--rich [MODE]',
    summary:
      "a whole service's world: systemd (without a MODE), init (the image's own) or dumb-init (one that is bound in)",
    bare: 'systemd',
  },
  {
    flags: '--service <NAME[=CMD]>',
    summary: 'with --rich=dumb-init: keep this up beside the command; sshd, cron and syslog need no CMD (repeatable)',
    kind: 'list',
  },
  {
    flags: '--exit-with-command',
    summary: "with --rich=systemd: end with the image's own command, by its exit code",
  },
  {
    flags: '--lxcfs',
    summary: 'show the memory and CPUs that it has, not the host’s (default for --rich where there is lxcfs)',
  },
  { flags: '--no-lxcfs', summary: "leave the host's /proc as it is" },
  {
    flags: '--hook <POINT:WHERE:CMD>',
    summary: 'run CMD at pre-start, post-start, pre-stop or post-stop, on the host or inside (repeatable)',
    kind: 'list',
  },
  { flags: '--initscript <CMD>', summary: 'run CMD inside before the command: --hook pre-start:inside:CMD' },
  {
    flags: '--disk-quota <QUOTA>',
    summary: 'most that it may hold: 10G,inodes=200k, or by path: /=10G;/data=20G;log=1G',
  },
  {
    flags: '--network <NAME>',
    names: ['network'],
    words: ['host', 'none'],
    summary: "network: bridge, one that was made, host, none, container:NAME (default: the agent's defaultNetwork)",
  },
  { flags: '--network-alias <NAME>', summary: 'a further name on its network (repeatable)', kind: 'list' },
  { flags: '--ip <ADDRESS>', summary: 'this IPv4 address on its network' },
  { flags: '--ip6 <ADDRESS>', summary: 'this IPv6 address on its network' },
  {
    flags: '-p, --publish <PORT>',
    summary: 'publish a port: [[IP:]HOST:]CONTAINER[/udp], ranges too; without HOST any free one (repeatable)',
    kind: 'list',
  },
  { flags: '--add-host <NAME:ADDRESS>', summary: 'a line for its /etc/hosts (repeatable)', kind: 'list' },
  { flags: '--dns <ADDRESS>', summary: 'a resolver of its own (repeatable)', kind: 'list' },
  ...CREATE,
  PLAIN_HTTP,
  PLATFORM,
  QUIET,
]
