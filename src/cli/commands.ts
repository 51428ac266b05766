/** The command table: name, arguments, options and summary of every command. Nothing here is loaded but what is asked for. */
import type { Action } from './context.ts'
import { ENGINE_ROWS, PS_OPTIONS } from './rows/engine.ts'
import {
  CONTAINER,
  type CommandRow,
  CREATE,
  FORMAT,
  IDS_ONLY,
  JSON_OPTION,
  LISTED,
  NO_TRUNC,
  type OptionRow,
  PLAIN_HTTP,
  PLATFORM,
  QUIET,
  TIMEOUT,
} from './rows/shape.ts'

const ROOT: OptionRow = {
  flags: '--root <DIR>',
  summary: 'treat this folder as the root of the file system (default: /)',
}
const READY_JSON: OptionRow = { flags: '--json', summary: 'print the line that says it is ready as JSON' }
const CREATE_OPTIONS: readonly OptionRow[] = [
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

const ROWS: readonly CommandRow[] = [
  {
    name: 'supernode',
    summary: 'run the supernode: it reads each blob once at its origin, seeds it and introduces peers to each other',
    settings: 'supernode',
    options: [READY_JSON],
    examples: ['darner supernode --listen 127.0.0.1:7070 --p2p-listen 0.0.0.0:7071 --data /var/lib/darner/supernode'],
  },
  {
    name: 'supernode token',
    summary: 'show the join token that agents of this supernode need',
    settings: 'supernode',
    only: ['data'],
    options: [JSON_OPTION],
  },
  {
    name: 'supernode revoke',
    summary: 'take a host out of the swarm: its session and connections end, it may not join again',
    settings: 'supernode',
    only: ['data'],
    args: [{ name: 'PEER', summary: "the host's PeerId, as `darner status` shows it there" }],
    options: [{ flags: '--why <TEXT>', summary: 'kept on record with it' }],
  },
  {
    name: 'supernode allow',
    summary: 'let a host join without the join token, also one that was revoked or banned',
    settings: 'supernode',
    only: ['data'],
    args: [{ name: 'PEER', summary: "the host's PeerId" }],
  },
  {
    name: 'agent',
    summary: 'run the agent of this host: it joins the swarm, serves what it holds and runs containers',
    settings: 'agent',
    options: [READY_JSON],
    examples: ['darner agent --supernode /ip4/192.0.2.1/tcp/7071/p2p/… --join-token @/etc/darner/token'],
  },
  {
    name: 'get',
    summary: 'fetch a URL through the swarm into a file',
    client: true,
    args: [
      {
        name: 'URL',
        summary: 'http, https, oci://REGISTRY/REPO:TAG|@DIGEST, s3://BUCKET/KEY, file, or a digest that was put',
      },
    ],
    options: [
      { flags: '-o, --output <FILE>', summary: 'where to write; - is stdout; with --recursive, the folder' },
      { flags: '-O, --remote-name', summary: 'write to the name that the URL ends with, here' },
      {
        flags: '-J, --remote-header-name',
        summary: "with -O: to the name in the origin's Content-Disposition, if it has one",
      },
      { flags: '--digest <DIGEST>', summary: 'what the content must hash to: sha256:<64 hex>' },
      {
        flags: '-H, --header <NAME:VALUE>',
        summary: 'send this request header to the origin (repeatable)',
        kind: 'list',
      },
      { flags: '-r, --range <FIRST-LAST>', summary: 'only these bytes: 0-499, 500-, or -500 for the last ones' },
      { flags: '--limit-rate <RATE>', summary: 'take no more per second: 500K, 20MiB/s' },
      {
        flags: '--retry <N>',
        summary: 'try again so often what can pass (default: 5 at the origin, 0 with an agent)',
        kind: 'integer',
      },
      { flags: '--no-resume', summary: 'begin anew, whatever an earlier run left' },
      { flags: '-R, --remote-time', summary: "give the file the origin's time" },
      {
        flags: '--filter <NAMES>',
        summary: 'query parameters that change only rights, as of signed URLs: X-Amz-* (repeatable)',
        kind: 'list',
      },
      { flags: '--tag <TEXT>', summary: 'share the content only with those who give the same tag' },
      { flags: '--priority <CLASS>', summary: 'interactive (default), or background: after everything else' },
      { flags: '--from-origin <WHEN>', summary: 'fallback (default), never: only the swarm, only: only the origin' },
      { flags: '--cacert <FILE>', summary: 'trust these CAs too; the command then reads the origin itself' },
      { flags: '-k, --insecure', summary: 'take any certificate; the command then reads the origin itself' },
      { flags: '-x, --proxy <URL>', summary: 'ask the origin through this proxy; the command then reads it itself' },
      { flags: '--no-netrc', summary: 'use no credentials of .netrc' },
      PLAIN_HTTP,
      { flags: '--recursive', summary: 'all files of an index page, or below an s3 prefix' },
      { flags: '--max-files <N>', summary: 'with --recursive: give up at more files (default: 1000)', kind: 'integer' },
      { flags: '--max-depth <N>', summary: 'with --recursive: folders below the first (default: 5)', kind: 'integer' },
      TIMEOUT,
      JSON_OPTION,
      QUIET,
    ],
    examples: [
      'darner get https://origin.example/big.tar -o big.tar --digest sha256:…',
      "darner get -O --filter 'X-Amz-*' 'https://bucket.example/model.bin?X-Amz-Signature=…'",
      'darner get --recursive https://origin.example/dataset/ -o dataset',
      'darner get oci://registry.example/models/llm:v1#weights.bin -o weights.bin',
    ],
  },
  {
    name: 'put',
    summary: 'give a file to the swarm; any host then has it by the digest that this prints',
    client: true,
    args: [{ name: 'FILE', summary: 'what to give; - is stdin' }],
    options: [TIMEOUT, JSON_OPTION, QUIET],
    examples: ['darner put model.bin', 'darner get sha256:… -o model.bin'],
  },
  {
    name: 'pull',
    summary: 'pull an image through the swarm',
    client: true,
    args: [{ name: 'REF', summary: 'registry/name:tag or registry/name@digest' }],
    options: [PLAIN_HTTP, PLATFORM, TIMEOUT, JSON_OPTION, QUIET],
  },
  {
    name: 'images',
    summary: 'list the images of this host',
    client: true,
    args: [{ name: 'NAME', summary: 'only these: name[:tag], with *', optional: true }],
    options: [
      { flags: '-a, --all', summary: 'without effect: there are no intermediate images' },
      { flags: '--digests', summary: 'digests too' },
      ...LISTED,
    ],
  },
  {
    name: 'run',
    summary: 'run a command in a new container',
    client: true,
    passThrough: true,
    args: [
      { name: 'IMAGE', summary: 'image to run; pulled when it is not here' },
      { name: 'CMD', summary: "command and its arguments (default: the image's)", optional: true, many: true },
    ],
    options: [{ flags: '-d, --detach', summary: 'print the id and let it run' }, ...CREATE_OPTIONS],
    examples: [
      'darner run -d --name web --network shop -p 8080:80 registry.example/nginx:1',
      'darner run --rm -e GREETING=hello registry.example/debian:13 sh -c \'echo "$GREETING"\'',
    ],
  },
  {
    name: 'create',
    summary: 'make a container and do not start it',
    client: true,
    passThrough: true,
    args: [
      { name: 'IMAGE', summary: 'image to run; pulled when it is not here' },
      { name: 'CMD', summary: "command and its arguments (default: the image's)", optional: true, many: true },
    ],
    options: CREATE_OPTIONS,
  },
  { name: 'port', summary: 'print the published ports of a container', client: true, args: [CONTAINER] },
  {
    name: 'network',
    summary: 'list the networks of this host',
    client: true,
    options: [FORMAT, NO_TRUNC, IDS_ONLY, JSON_OPTION],
  },
  { name: 'network ls', alias: 'network', summary: 'list the networks of this host' },
  {
    name: 'network create',
    summary: 'make a network whose containers find each other by name',
    client: true,
    args: [{ name: 'NAME', summary: 'name of the network' }],
    options: [
      { flags: '--subnet <CIDR>', summary: 'addresses (repeat for IPv6; default: a free range)', kind: 'list' },
      { flags: '--gateway <ADDRESS>', summary: 'gateway of the subnet it lies in (repeatable)', kind: 'list' },
      { flags: '--ip-range <CIDR>', summary: 'give addresses from this part of the subnet (repeatable)', kind: 'list' },
      { flags: '--ipv6', summary: 'IPv6 too' },
      { flags: '--internal', summary: 'no way out of the network' },
      { flags: '--label <NAME=VALUE>', summary: 'a label (repeatable)', kind: 'list' },
    ],
    examples: ['darner network create --subnet 10.20.0.0/24 shop'],
  },
  {
    name: 'network rm',
    summary: 'remove networks that no running container is on',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name, id or unambiguous start of an id', many: true }],
  },
  {
    name: 'network inspect',
    summary: 'print all that is known about networks, as JSON',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name, id or unambiguous start of an id', many: true }],
    options: [FORMAT],
  },
  {
    name: 'network connect',
    summary: 'put a container on one more network',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name or id' }, CONTAINER],
    options: [
      { flags: '--alias <NAME>', summary: 'a further name on this network (repeatable)', kind: 'list' },
      { flags: '--ip <ADDRESS>', summary: 'this IPv4 address' },
      { flags: '--ip6 <ADDRESS>', summary: 'this IPv6 address' },
    ],
  },
  {
    name: 'network disconnect',
    summary: 'take a container off a network',
    client: true,
    args: [{ name: 'NETWORK', summary: 'name or id' }, CONTAINER],
  },
  { name: 'network prune', summary: 'remove the networks that no container uses', client: true },
  {
    name: 'ps',
    summary: 'list containers',
    client: true,
    options: PS_OPTIONS,
  },
  {
    name: 'logs',
    summary: 'print what a container wrote',
    client: true,
    args: [CONTAINER],
    options: [
      { flags: '-f, --follow', summary: 'go on until the container ends' },
      { flags: '-n, --tail <LINES>', summary: 'only the last lines', kind: 'integer' },
      { flags: '-t, --timestamps', summary: 'put the time before each line' },
      { flags: '--since <TIME>', summary: 'only what was written since: 10m, 2026-11-24T09:00:00Z' },
      { flags: '--service <NAME>', summary: 'the log of one of its side services' },
    ],
  },
  {
    name: 'exec',
    summary: 'run a command in a running container',
    client: true,
    passThrough: true,
    args: [CONTAINER, { name: 'CMD', summary: 'command and its arguments', many: true }],
    options: [
      { flags: '-i, --interactive', summary: 'connect stdin' },
      { flags: '-t, --tty', summary: 'give it a terminal' },
      { flags: '-e, --env <NAME=VALUE>', summary: 'set an environment variable (repeatable)', kind: 'list' },
      { flags: '-u, --user <USER>', summary: 'run as this user, or USER:GROUP' },
      { flags: '-w, --workdir <DIR>', summary: 'start in this directory' },
      { flags: '--privileged', summary: 'every capability that the host has' },
    ],
  },
  {
    name: 'enter',
    summary: 'open a login shell in a running container',
    client: true,
    args: [CONTAINER],
    options: [{ flags: '-u, --user <USER>', summary: 'log in as this user (default: the one of the container)' }],
  },
  { name: 'storage', summary: 'say how disk quotas are enforced on this host', client: true, options: [JSON_OPTION] },
  {
    name: 'storage init',
    summary: 'make the pool of files that disk quotas come from, or grow it',
    client: true,
    options: [
      { flags: '--size <SIZE>', summary: 'most that all quotas together may be: 100G', required: true },
      JSON_OPTION,
    ],
  },
  {
    name: 'stop',
    summary: "stop containers: the image's stop signal, then KILL",
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      { flags: '-s, --signal <SIGNAL>', summary: 'name or number to send first' },
      { flags: '-t, --time <SECONDS>', summary: 'how long to wait before KILL (default: 10)', kind: 'integer' },
    ],
  },
  {
    name: 'start',
    summary: 'start containers that do not run',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      { flags: '-a, --attach', summary: 'join its streams; exit with its exit code' },
      { flags: '-i, --interactive', summary: 'with its input' },
    ],
  },
  {
    name: 'restart',
    summary: 'stop containers and start them again',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      { flags: '-t, --time <SECONDS>', summary: 'how long to wait before KILL (default: 10)', kind: 'integer' },
    ],
  },
  {
    name: 'upgrade',
    summary: 'give a container another image and keep all else: data, name, addresses; undone by itself when it fails',
    client: true,
    args: [
      { name: 'CONTAINER', summary: 'name, id or unambiguous start of an id; with --label or --filter, the image' },
      { name: 'IMAGE', summary: 'the new image; it is pulled before anything stops', optional: true },
    ],
    options: [
      { flags: '--keep-upper', summary: "keep all of the writable layer, over the new image's files" },
      { flags: '--fresh-upper', summary: 'keep nothing of the writable layer (default: what the new image has not)' },
      {
        flags: '--merge <PATH>',
        summary: "at and below this path the container's files win over the new image's (repeatable)",
        kind: 'list',
      },
      {
        flags: '--health-timeout <DURATION>',
        summary: 'how long the new one may take to be healthy before all is undone (default: 60s)',
        kind: 'duration',
      },
      {
        flags: '--keep-for <DURATION>',
        summary: 'how long a rollback stays possible (default: 24h)',
        kind: 'duration',
      },
      { flags: '--dry-run', summary: 'list what would become of each path of the writable layer, and do nothing' },
      { flags: '--label <KEY[=VALUE]>', summary: 'all containers that have this label (repeatable)', kind: 'list' },
      { flags: '--filter <label=KEY[=VALUE]>', summary: 'the same (repeatable)', kind: 'list' },
      { flags: '--batch <COUNT>', summary: 'with --label: so many side by side (default: 1)', kind: 'integer' },
      {
        flags: '--max-failures <COUNT>',
        summary: 'with --label: go on after so many failures (default: 0)',
        kind: 'integer',
      },
      { flags: '--no-pull', summary: 'take the image as it is on this host' },
      PLAIN_HTTP,
      PLATFORM,
      JSON_OPTION,
      QUIET,
    ],
    examples: [
      'darner upgrade db registry.example/postgres:17.2',
      'darner upgrade --label tier=web --batch 4 --max-failures 2 registry.example/web:8',
    ],
  },
  {
    name: 'rollback',
    summary: 'bring back what containers were before their last upgrade',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      {
        flags: '--health-timeout <DURATION>',
        summary: 'how long it may take to be healthy before all is undone (default: 60s)',
        kind: 'duration',
      },
      JSON_OPTION,
    ],
  },
  {
    name: 'kill',
    summary: 'send a signal to the first process of containers',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [{ flags: '-s, --signal <SIGNAL>', summary: 'name or number (default: KILL)' }],
  },
  { name: 'pause', summary: 'freeze all processes of containers', client: true, args: [{ ...CONTAINER, many: true }] },
  { name: 'unpause', summary: 'let paused containers go on', client: true, args: [{ ...CONTAINER, many: true }] },
  {
    name: 'rename',
    summary: 'give a container another name',
    client: true,
    args: [CONTAINER, { name: 'NAME', summary: 'the new name' }],
  },
  {
    name: 'wait',
    summary: 'wait until containers have ended, and print their exit codes',
    client: true,
    args: [{ ...CONTAINER, many: true }],
  },
  {
    name: 'rm',
    summary: 'remove containers',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      { flags: '-f, --force', summary: 'running ones too, after KILL' },
      { flags: '-v, --volumes', summary: 'with their anonymous volumes' },
    ],
  },
  {
    name: 'inspect',
    summary: 'print all that is known about containers, images, volumes and networks, as JSON',
    client: true,
    args: [{ name: 'NAME', summary: 'of a container, image, volume or network', many: true }],
    options: [
      FORMAT,
      { flags: '--type <KIND>', summary: 'only a container, image, volume or network' },
      { flags: '-s, --size', summary: 'sizes of containers too' },
    ],
  },
  {
    name: 'preheat',
    summary: 'bring an image to many hosts before anybody asks for it',
    client: true,
    args: [{ name: 'REF', summary: 'registry/name:tag or registry/name@digest' }],
    options: [
      {
        flags: '--to <SELECTOR>',
        summary:
          'which hosts: all, or zone=NAME, rack=NAME, host=NAME (with * for any letters); of several with commas between, all must hold (default: all)',
      },
      { flags: '--platform <OS/ARCH>', summary: 'which of a multi-platform image (default: all)' },
      { flags: '--deadline <DURATION>', summary: 'give up after this long (default: 10m)', kind: 'duration' },
      { flags: '--rate <RATE>', summary: 'the most that each host takes in per second meanwhile: 20MiB/s' },
      PLAIN_HTTP,
      JSON_OPTION,
      QUIET,
    ],
    examples: ['darner preheat registry.example/app:v2 --to zone=eu-1 --deadline 5m'],
  },
  {
    name: 'mirror',
    summary: "print the state of the agent's registry mirror: where it serves, which registries it reaches",
    client: true,
    options: [JSON_OPTION],
  },
  {
    name: 'mirror setup',
    summary:
      "print what points a container client at the mirror; with --apply, write it into the client's configuration",
    client: true,
    args: [{ name: 'CLIENT', summary: 'containerd, podman (skopeo and buildah too), docker or crio' }],
    options: [
      { flags: '--apply', summary: 'write it, keeping what is there' },
      { flags: '--undo', summary: 'bring back what was there before --apply' },
      {
        flags: '--upstream <NAME=URL>',
        summary: "a registry that the mirror reaches (repeatable; default: the agent's)",
        kind: 'list',
      },
      { flags: '--mirror <IP:PORT>', summary: "where the mirror listens (default: the agent's, else 127.0.0.1:65001)" },
      ROOT,
      JSON_OPTION,
    ],
    examples: ['darner mirror setup containerd --apply', 'darner mirror setup docker --undo'],
  },
  {
    name: 'mirror check',
    summary:
      'prove the mirror and the configuration of its clients step by step, with a pull of one blob, and say which step fails',
    client: true,
    args: [{ name: 'REF', summary: 'image to resolve and read a blob of', optional: true }],
    options: [
      {
        flags: '--client <NAME>',
        summary: 'whose configuration to check (repeatable; default: all that `darner mirror setup` has set up)',
        kind: 'list',
      },
      ROOT,
      TIMEOUT,
      JSON_OPTION,
    ],
    examples: ['darner mirror check docker.io/library/debian --client podman'],
  },
  { name: 'status', summary: "print the agent's state: supernode, tasks, store", client: true, options: [JSON_OPTION] },
  {
    name: 'why',
    summary: 'show who read how much of a blob at its origin, and why',
    client: true,
    args: [{ name: 'DIGEST', summary: 'sha256:<64 hex>, as manifests and `darner status` have it' }],
    options: [JSON_OPTION],
  },
  {
    name: 'df',
    summary: 'show what the store holds and how much of it could go',
    client: true,
    options: [JSON_OPTION],
  },
  {
    name: 'gc',
    summary: 'delete blobs that nothing holds, least recently used first',
    client: true,
    options: [
      { flags: '--dry-run', summary: 'only say what would go' },
      { flags: '--to <SIZE>', summary: 'stop when the store holds no more than this (default: 0)' },
      JSON_OPTION,
    ],
  },
  { name: 'limit', summary: 'show the rate limits of this host', client: true, options: [JSON_OPTION] },
  {
    name: 'limit set',
    summary: 'set, change or lift a rate limit; it holds at once, until the agent ends',
    client: true,
    args: [
      { name: 'WHAT', summary: 'host, in, out, task:DIGEST, peer:PEERID or origin:HOST' },
      { name: 'RATE', summary: 'bytes per second such as 20MiB/s, or off' },
    ],
    options: [
      { flags: '--direction <in|out>', summary: 'of a task or peer: only this way (default: both together)' },
      { flags: '--borrow', summary: 'an assured share that may use what others leave, instead of a cap' },
    ],
    examples: ['darner limit set out 20MiB/s', 'darner limit set task:sha256:… 5MiB/s --direction in'],
  },
  {
    name: 'completion',
    summary: 'print a completion script for a shell',
    args: [{ name: 'SHELL', summary: 'bash, zsh or fish' }],
    examples: ['source <(darner completion bash)'],
  },
]

/** The whole table, aliases filled in. */
export const COMMANDS: readonly CommandRow[] = filled([...ROWS, ...ENGINE_ROWS])

function filled(rows: readonly CommandRow[]): CommandRow[] {
  return rows.map((row) => {
    if (row.alias === undefined) return row
    const { summary, ...target } = rows.find(({ name }) => name === row.alias) ?? row
    return {
      ...target,
      name: row.name,
      alias: row.alias,
      summary: row.summary.startsWith('darner ') ? summary : row.summary,
    }
  })
}

/** Loads a command's module; only then is anything heavy imported. */
export async function loadAction(row: CommandRow): Promise<Action> {
  const file = (row.alias ?? row.name).replaceAll(' ', '-')
  const module = (await import(`./commands/${file}.ts`)) as { action: Action }
  return module.action
}
