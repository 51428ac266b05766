/** Commands that start, change, stop and remove containers. */
import {
  CONTAINER,
  type CommandRow,
  DETACH_KEYS,
  IMAGE,
  INSPECT_FORMAT,
  JSON_OPTION,
  PLAIN_HTTP,
  PLATFORM,
  QUIET,
  RUNNING,
  refused,
  SIG_PROXY,
} from './shape.ts'

export const CONTAINER_LIFE: readonly CommandRow[] = [
  {
    name: 'stop',
    summary: "stop containers: the image's stop signal, then KILL",
    client: true,
    args: [{ ...RUNNING, many: true }],
    options: [
      { flags: '-s, --signal <SIGNAL>', summary: 'name or number to send first' },
      { flags: '-t, --time <SECONDS>', summary: 'how long to wait before KILL (default: 10)', kind: 'integer' },
    ],
  },
  {
    name: 'start',
    summary: 'start containers that do not run',
    client: true,
    args: [{ ...CONTAINER, names: ['stopped'], many: true }],
    options: [
      { flags: '-a, --attach', summary: 'join its streams; exit with its exit code' },
      { flags: '-i, --interactive', summary: 'with its input' },
      DETACH_KEYS,
      SIG_PROXY,
      refused('--checkpoint <NAME>', 'stop and start the container'),
      refused('--checkpoint-dir <DIR>', 'stop and start the container'),
    ],
  },
  {
    name: 'restart',
    summary: 'stop containers and start them again',
    client: true,
    args: [{ ...RUNNING, many: true }],
    options: [
      { flags: '-s, --signal <SIGNAL>', summary: 'name or number to send first' },
      { flags: '-t, --time <SECONDS>', summary: 'how long to wait before KILL (default: 10)', kind: 'integer' },
    ],
  },
  {
    name: 'upgrade',
    summary: 'give a container another image and keep all else: data, name, addresses; undone by itself when it fails',
    client: true,
    args: [
      { ...CONTAINER, summary: `${CONTAINER.summary}; with --label or --filter, the image` },
      { ...IMAGE, summary: 'the new image; it is pulled before anything stops', optional: true },
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
    args: [{ ...RUNNING, many: true }],
    options: [{ flags: '-s, --signal <SIGNAL>', summary: 'name or number (default: KILL)' }],
  },
  { name: 'pause', summary: 'freeze all processes of containers', client: true, args: [{ ...RUNNING, many: true }] },
  {
    name: 'unpause',
    summary: 'let paused containers go on',
    client: true,
    args: [{ ...CONTAINER, names: ['paused'], many: true }],
  },
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
    args: [{ ...RUNNING, many: true }],
  },
  {
    name: 'rm',
    summary: 'remove containers',
    client: true,
    args: [{ ...CONTAINER, many: true }],
    options: [
      { flags: '-f, --force', summary: 'running ones too, after KILL' },
      { flags: '-v, --volumes', summary: 'with their anonymous volumes' },
      refused('-l, --link', 'make the container anew without it; darner network disconnect takes one off a network'),
    ],
  },
  {
    name: 'inspect',
    summary: 'print all that is known about containers, images, volumes and networks, as JSON',
    client: true,
    args: [
      {
        name: 'NAME',
        summary: 'of a container, image, volume or network',
        names: ['container', 'image', 'volume', 'network'],
        many: true,
      },
    ],
    options: [
      INSPECT_FORMAT,
      {
        flags: '--type <KIND>',
        summary: 'only a container, image, volume or network',
        words: ['container', 'image', 'volume', 'network'],
      },
      { flags: '-s, --size', summary: 'sizes of containers too' },
    ],
  },
]
