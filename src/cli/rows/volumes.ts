/** Commands on volumes. */
import {
  type ArgumentRow,
  type CommandRow,
  FILTER,
  FORCE_PRUNE,
  FORMAT,
  INSPECT_FORMAT,
  JSON_OPTION,
  PRUNE_FILTER,
  refused,
} from './shape.ts'

const VOLUME: ArgumentRow = { name: 'VOLUME', summary: 'name of a volume', names: ['volume'] }

const EACH_HOST = 'make the volume on each host'
/** Of docker's cluster volumes. */
const CLUSTER = [
  '--availability <WORD>',
  '--group <NAME>',
  '--limit-bytes <SIZE>',
  '--required-bytes <SIZE>',
  '--scope <WORD>',
  '--secret <NAME=VALUE>',
  '--sharing <WORD>',
  '--topology-preferred <NAME=VALUE>',
  '--topology-required <NAME=VALUE>',
  '--type <WORD>',
].map((flags) => refused(flags, EACH_HOST))

export const VOLUMES: readonly CommandRow[] = [
  {
    name: 'volume',
    summary: 'list the volumes of this host',
    client: true,
    options: [
      FILTER,
      FORMAT,
      { flags: '-q, --quiet', summary: 'print names only' },
      JSON_OPTION,
      refused('--cluster', EACH_HOST),
    ],
  },
  { name: 'volume ls', alias: 'volume', summary: 'list the volumes of this host' },
  {
    name: 'volume create',
    summary: 'make a volume',
    client: true,
    args: [{ name: 'NAME', summary: 'its name (default: one of its own)', optional: true }],
    options: [
      { flags: '-d, --driver <NAME>', summary: 'only local is offered' },
      { flags: '-o, --opt <NAME=VALUE>', summary: 'an option of the driver (repeatable)', kind: 'list' },
      { flags: '--label <NAME=VALUE>', summary: 'a label (repeatable)', kind: 'list' },
      ...CLUSTER,
    ],
  },
  {
    name: 'volume inspect',
    summary: 'print all that is known about volumes, as JSON',
    client: true,
    args: [{ ...VOLUME, many: true }],
    options: [INSPECT_FORMAT],
  },
  {
    name: 'volume rm',
    summary: 'delete volumes that no container has',
    client: true,
    args: [{ ...VOLUME, many: true }],
    options: [{ flags: '-f, --force', summary: 'one that is not there is fine' }],
  },
  {
    name: 'volume prune',
    summary: 'delete anonymous volumes that no container has',
    client: true,
    options: [{ flags: '-a, --all', summary: 'named ones too' }, FORCE_PRUNE, PRUNE_FILTER],
  },
]
