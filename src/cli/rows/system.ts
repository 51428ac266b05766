/** Commands on the engine as a whole. */
import { type CommandRow, FILTER, FORCE_PRUNE, FORMAT, INSPECT_FORMAT, JSON_OPTION, PRUNE_FILTER } from './shape.ts'

export const EVENTS: CommandRow = {
  name: 'events',
  summary: 'print what happens, as it happens',
  client: true,
  options: [
    { flags: '--since <TIME>', summary: 'what happened since, too: 10m, 2026-11-24T09:00:00Z' },
    { flags: '--until <TIME>', summary: 'end then' },
    FILTER,
    FORMAT,
    JSON_OPTION,
  ],
}

export const INFO: CommandRow = {
  name: 'info',
  summary: 'say what this engine is and has',
  client: true,
  options: [INSPECT_FORMAT, JSON_OPTION],
}

export const VERSION: CommandRow = {
  name: 'version',
  summary: 'print the versions of this program and of the engine',
  client: true,
  options: [INSPECT_FORMAT, JSON_OPTION],
}

/** `system WORD`. */
export const SYSTEM_GROUP: readonly CommandRow[] = [
  { name: 'system', alias: 'info', summary: 'say what this engine is and has' },
  { name: 'system info', alias: 'info', summary: 'say what this engine is and has' },
  { name: 'system events', alias: 'events', summary: 'print what happens, as it happens' },
  {
    name: 'system df',
    summary: 'show the disk that images, containers and volumes take',
    client: true,
    options: [{ flags: '-v, --verbose', summary: 'each of them' }, FORMAT, JSON_OPTION],
  },
  {
    name: 'system prune',
    summary: 'delete what no container uses',
    client: true,
    options: [
      { flags: '-a, --all', summary: 'also images with names' },
      { flags: '--volumes', summary: 'also anonymous volumes' },
      FORCE_PRUNE,
      PRUNE_FILTER,
    ],
  },
]
