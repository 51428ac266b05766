/** The command table, put together from the rows of each subject. Nothing here is loaded but what is asked for. */
import type { Action } from './context.ts'
import { BLOBS } from './rows/blobs.ts'
import { CONTAINER_LIFE } from './rows/container-life.ts'
import { CONTAINER_GROUP, CONTAINERS, FURTHER_CONTAINERS } from './rows/containers.ts'
import { DAEMONS } from './rows/daemons.ts'
import { HELP } from './rows/help.ts'
import { FURTHER_IMAGES, IMAGE_GROUP, IMAGES } from './rows/images.ts'
import { NETWORKS } from './rows/networks.ts'
import { NEW_CONTAINERS } from './rows/new-containers.ts'
import type { CommandRow } from './rows/shape.ts'
import { STORAGE } from './rows/storage.ts'
import { EVENTS, INFO, SYSTEM_GROUP, VERSION } from './rows/system.ts'
import { UPKEEP } from './rows/upkeep.ts'
import { VOLUMES } from './rows/volumes.ts'

/** In the order in which the help lists them: darner's daily words, docker's further ones, groups of words. */
const ROWS: readonly CommandRow[] = [
  ...DAEMONS,
  ...BLOBS,
  ...IMAGES,
  ...NEW_CONTAINERS,
  ...NETWORKS,
  ...CONTAINERS,
  ...STORAGE,
  ...CONTAINER_LIFE,
  ...UPKEEP,
  ...HELP,
  ...FURTHER_CONTAINERS,
  EVENTS,
  ...FURTHER_IMAGES,
  INFO,
  VERSION,
  ...IMAGE_GROUP,
  ...CONTAINER_GROUP,
  ...VOLUMES,
  ...SYSTEM_GROUP,
]

/** The whole table, aliases filled in. */
export const COMMANDS: readonly CommandRow[] = filled(ROWS)

function filled(rows: readonly CommandRow[]): CommandRow[] {
  return rows.map((row) => {
    if (row.alias === undefined) return row
    const { summary, ...target } = rows.find(({ name }) => name === row.alias) ?? row
    return {
      ...target,
      ...(row.args === undefined ? {} : { args: row.args }),
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
