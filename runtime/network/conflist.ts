/** Network configurations as CNI has them (SPEC.md, "Section 1: Network configuration format"): read from folders, checked. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { DarnerError, systemCode } from '../../src/core/errors.ts'

const MOST_BYTES = 1 << 20

const Plugin = Type.Object({
  type: Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9_.-]*$' }),
  capabilities: Type.Optional(Type.Record(Type.String(), Type.Boolean())),
})
/** One plugin's configuration; members that its plugin alone knows are kept as they are. */
export type PluginConf = Static<typeof Plugin> & Readonly<Record<string, unknown>>

const List = Type.Object({
  cniVersion: Type.String({ pattern: '^[0-9]+\\.[0-9]+\\.[0-9]+$' }),
  name: Type.String({ pattern: '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$' }),
  disableCheck: Type.Optional(Type.Boolean()),
  disableGC: Type.Optional(Type.Boolean()),
  plugins: Type.Array(Plugin, { minItems: 1, maxItems: 64 }),
})
export interface ConfList extends Omit<Static<typeof List>, 'plugins'> {
  readonly plugins: readonly PluginConf[]
}

/** Versions of the specification that the engine speaks; results before 0.3.0 have another shape. */
const SPOKEN = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']

/** Throws CONFIG_INVALID, naming `source`. A single plugin's configuration becomes a list of one. */
export function parseConfList(text: string, source: string): ConfList {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new DarnerError('CONFIG_INVALID', `network configuration ${source}: not JSON`, { cause: error })
  }
  const list = isSingle(json) ? { cniVersion: json.cniVersion, name: json.name, plugins: [json] } : json
  if (!Value.Check(List, list)) {
    const [first] = Value.Errors(List, list)
    const where = first?.instancePath || 'the list'
    throw new DarnerError('CONFIG_INVALID', `network configuration ${source}: ${where} ${first?.message ?? 'is wrong'}`)
  }
  if (!SPOKEN.includes(list.cniVersion)) {
    throw new DarnerError('CONFIG_INVALID', `network configuration ${source}: cniVersion ${list.cniVersion}`, {
      way: `write it for one of ${SPOKEN.join(', ')}`,
    })
  }
  return list as ConfList
}

function isSingle(json: unknown): json is Record<string, unknown> {
  return typeof json === 'object' && json !== null && 'type' in json && !('plugins' in json)
}

/**
 * All configurations in the folders, by name: `*.conflist`, `*.conf` and `*.json`; the first of a name counts, in the order of
 * folders and file names. What can't be read is handed to `bad` and skipped. Folders that don't exist are empty.
 */
export async function readConfLists(
  folders: readonly string[],
  bad: (path: string, error: unknown) => void,
): Promise<ReadonlyMap<string, ConfList>> {
  const found = new Map<string, ConfList>()
  for (const folder of folders) {
    for (const name of await filesIn(folder)) {
      const path = join(folder, name)
      try {
        if ((await stat(path)).size > MOST_BYTES)
          throw new DarnerError('CONFIG_INVALID', `network configuration ${path}: more than ${MOST_BYTES} bytes`)
        const list = parseConfList(await readFile(path, 'utf8'), path)
        if (!found.has(list.name)) found.set(list.name, list)
      } catch (error) {
        bad(path, error)
      }
    }
  }
  return found
}

async function filesIn(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder)
    return names.filter((name) => ['.conflist', '.conf', '.json'].includes(extname(name))).sort()
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}
