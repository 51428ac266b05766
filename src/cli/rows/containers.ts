/** Commands on containers that are there: to look at them, into them and through them. */
import { LIMITS } from './container-options.ts'
import {
  CHANGE,
  CONTAINER,
  type CommandRow,
  DETACH_KEYS,
  FORCE_PRUNE,
  FORMAT,
  INSPECT_FORMAT,
  JSON_OPTION,
  LISTED,
  NO_TRUNC,
  OUTPUT,
  PRUNE_FILTER,
  RUNNING,
  refused,
  SIG_PROXY,
  SIZE,
} from './shape.ts'

export const CONTAINERS: readonly CommandRow[] = [
  {
    name: 'ps',
    summary: 'list containers',
    client: true,
    options: [
      { flags: '-a, --all', summary: 'stopped ones too' },
      { flags: '-n, --last <N>', summary: 'the last N that were made, stopped ones too', kind: 'integer' },
      { flags: '-l, --latest', summary: 'the last one that was made' },
      SIZE,
      ...LISTED,
      { flags: '--services', summary: 'list the side services of rich containers' },
    ],
  },
  {
    name: 'logs',
    summary: 'print what a container wrote',
    client: true,
    args: [CONTAINER],
    options: [
      { flags: '-f, --follow', summary: 'go on until the container ends' },
      { flags: '-n, --tail <LINES>', summary: 'only the last lines, or all' },
      { flags: '-t, --timestamps', summary: 'put the time before each line' },
      { flags: '--since <TIME>', summary: 'only what was written since: 10m, 2026-11-24T09:00:00Z' },
      { flags: '--until <TIME>', summary: 'only what was written until then' },
      { flags: '--service <NAME>', summary: 'the log of one of its side services' },
      refused('--details', 'a log keeps no labels or variables: darner inspect has them'),
    ],
  },
  {
    name: 'exec',
    summary: 'run a command in a running container',
    client: true,
    passThrough: true,
    args: [RUNNING, { name: 'CMD', summary: 'command and its arguments', many: true }],
    options: [
      { flags: '-d, --detach', summary: 'let it run, and connect nothing' },
      { flags: '-i, --interactive', summary: 'connect stdin' },
      { flags: '-t, --tty', summary: 'give it a terminal' },
      { flags: '-e, --env <NAME=VALUE>', summary: 'set an environment variable (repeatable)', kind: 'list' },
      { flags: '--env-file <FILE>', summary: 'lines NAME=VALUE (repeatable)', kind: 'list' },
      DETACH_KEYS,
      { flags: '-u, --user <USER>', summary: 'run as this user, or USER:GROUP' },
      { flags: '-w, --workdir <DIR>', summary: 'start in this directory' },
      { flags: '--privileged', summary: 'every capability that the host has' },
    ],
  },
  {
    name: 'enter',
    summary: 'open a login shell in a running container',
    client: true,
    args: [RUNNING],
    options: [{ flags: '-u, --user <USER>', summary: 'log in as this user (default: the one of the container)' }],
  },
]

/** By docker's words, beside the daily ones. */
export const FURTHER_CONTAINERS: readonly CommandRow[] = [
  {
    name: 'update',
    summary: 'change limits and restart policy of containers, running or not; what is not named stays',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      ...LIMITS,
      refused('--cpu-rt-period <US>', 'use --cpus'),
      refused('--cpu-rt-runtime <US>', 'use --cpus'),
      {
        flags: '--disk-quota <SIZE[,inodes=N]>',
        summary: 'most that its writable layer may hold, where projects keep it',
      },
    ],
    examples: ['darner update --memory 1g --cpus 2 web', 'darner update --disk-quota 20G,inodes=400k web'],
  },
  {
    name: 'cp',
    summary: 'copy files between a container and this host',
    client: true,
    args: [
      { name: 'FROM', summary: 'CONTAINER:PATH, a path here, or - for a tar on stdin', names: ['container'] },
      { name: 'TO', summary: 'CONTAINER:PATH, a path here, or - for a tar on stdout', names: ['container'] },
    ],
    options: [
      { flags: '-a, --archive', summary: 'keep owners' },
      { flags: '-L, --follow-link', summary: 'copy what links of this host lead to' },
      { flags: '-q, --quiet', summary: 'without effect: no progress is printed' },
    ],
    examples: ['darner cp web:/etc/nginx ./nginx', 'darner cp ./site/. web:/srv'],
  },
  {
    name: 'top',
    summary: 'list the processes of a container',
    client: true,
    passThrough: true,
    args: [RUNNING, { name: 'PS-OPTION', summary: 'as ps takes them (default: -ef)', optional: true, many: true }],
  },
  {
    name: 'stats',
    summary: 'show what containers use, again and again',
    client: true,
    args: [{ ...RUNNING, optional: true, many: true }],
    options: [
      { flags: '-a, --all', summary: 'stopped ones too' },
      { flags: '--no-stream', summary: 'once' },
      FORMAT,
      NO_TRUNC,
      JSON_OPTION,
    ],
  },
  { name: 'diff', summary: 'list the files that a container changed', client: true, args: [CONTAINER] },
  {
    name: 'attach',
    summary: 'join the streams of a running container; ctrl-p ctrl-q leaves it',
    client: true,
    args: [RUNNING],
    options: [{ flags: '--no-stdin', summary: 'connect no input' }, DETACH_KEYS, SIG_PROXY],
  },
  {
    name: 'export',
    summary: 'write the root file system of a container as a tar',
    client: true,
    args: [CONTAINER],
    options: [OUTPUT],
  },
  {
    name: 'commit',
    summary: 'make an image of what a container changed',
    client: true,
    args: [CONTAINER, { name: 'REF', summary: 'name[:tag] of the image', optional: true }],
    options: [
      { flags: '-m, --message <TEXT>', summary: 'kept in its history' },
      { flags: '-a, --author <TEXT>', summary: 'who made it' },
      CHANGE,
      { flags: '--no-pause', summary: 'let the container run on meanwhile: --pause=false' },
      { flags: '-p, --pause [BOOL]', summary: 'hold the container meanwhile (default: true)', bare: 'true' },
    ],
  },
]

/** `container WORD`. */
export const CONTAINER_GROUP: readonly CommandRow[] = [
  { name: 'container', alias: 'ps', summary: 'list containers' },
  { name: 'container ls', alias: 'ps', summary: 'list containers' },
  ...(
    [
      'run',
      'create',
      'start',
      'stop',
      'restart',
      'kill',
      'pause',
      'unpause',
      'rename',
      'wait',
      'rm',
      'update',
      'logs',
      'exec',
      'attach',
      'cp',
      'top',
      'stats',
      'diff',
      'port',
      'export',
      'commit',
    ] as const
  ).map((word): CommandRow => ({ name: `container ${word}`, alias: word, summary: `darner ${word}` })),
  {
    name: 'container inspect',
    summary: 'print all that is known about containers, as JSON',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [INSPECT_FORMAT, SIZE],
  },
  {
    name: 'container prune',
    summary: 'delete containers that do not run',
    client: true,
    options: [FORCE_PRUNE, PRUNE_FILTER],
  },
]
