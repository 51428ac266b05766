/** The settings file: YAML, flat, each key a setting. Positions are kept so that an error names file, line and key. */
import { readFile } from 'node:fs/promises'
import { isMap, isScalar, LineCounter, parseDocument } from 'yaml'
import { DarnerError, systemCode } from '../errors.ts'
import { valueOfData } from './parse.ts'
import type { Setting } from './schema.ts'

const MAX_FILE_BYTES = 1024 * 1024

export interface FileValue {
  readonly value: unknown
  /** `/etc/darner/agent.yaml line 3`. */
  readonly where: string
}

/**
 * Reads the settings in `path`. A file that isn't there is no settings, unless it is `wanted`. Throws CONFIG_INVALID naming
 * file, line and key for an unknown or repeated key, a wrong type, and text that is no YAML map.
 */
export async function readSettingsFile(
  path: string,
  settings: readonly Setting[],
  options: { wanted: boolean; signal?: AbortSignal },
): Promise<Map<string, FileValue>> {
  let text: string
  try {
    text = await readFile(path, { encoding: 'utf8', ...(options.signal ? { signal: options.signal } : {}) })
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' && !options.wanted) return new Map()
    if (code === undefined) throw error
    throw new DarnerError('CONFIG_INVALID', `reading settings file ${path}: ${code}`, { cause: error })
  }
  if (text.length > MAX_FILE_BYTES)
    throw new DarnerError('CONFIG_INVALID', `settings file ${path} is longer than ${MAX_FILE_BYTES} bytes`)
  return parseSettings(path, text, settings)
}

/** As {@link readSettingsFile}, from text. */
export function parseSettings(path: string, text: string, settings: readonly Setting[]): Map<string, FileValue> {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true })
  const at = (offset: number | undefined) => `${path} line ${lines.linePos(offset ?? 0).line}`
  const broken = document.errors[0]
  if (broken)
    throw new DarnerError('CONFIG_INVALID', `${at(broken.pos[0])}: ${broken.message}${keyAt(text, broken.pos[0])}`)
  const values = new Map<string, FileValue>()
  const root = document.contents
  if (root === null || (isScalar(root) && root.value === null)) return values
  if (!isMap(root)) throw new DarnerError('CONFIG_INVALID', `${at(root.range?.[0])}: expected "key: value" lines`)
  const byKey = new Map(settings.map((setting) => [setting.key, setting]))
  for (const { key: node, value } of root.items) {
    const where = at(node.range?.[0])
    const key = isScalar(node) ? String(node.value) : ''
    const setting = byKey.get(key)
    if (!setting) throw unknownKey(where, key, [...byKey.keys()])
    const data: unknown = value?.toJS(document, { maxAliasCount: 100 }) ?? null
    values.set(key, { value: valueOfData(setting, data, where), where })
  }
  return values
}

function keyAt(text: string, offset: number): string {
  const key = /^\s*([A-Za-z0-9_-]+)\s*:/.exec(text.slice(text.lastIndexOf('\n', offset - 1) + 1))?.[1]
  return key === undefined ? '' : ` (at ${key})`
}

function unknownKey(where: string, key: string, known: readonly string[]): DarnerError {
  const near = nearest(key, known)
  return new DarnerError('CONFIG_INVALID', `${where}: unknown key ${JSON.stringify(key.slice(0, 80))}`, {
    way: near === undefined ? `the keys are ${known.join(', ')}` : `did you mean ${near}?`,
    details: { key, where },
  })
}

/** The known word within two edits of `word`, if there is one; dashes, underscores and case don't count. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const plain = (text: string) => text.replaceAll(/[-_]/g, '').toLowerCase()
  const scored = known.map((one) => ({ one, edits: editsBetween(plain(word.slice(0, 80)), plain(one)) }))
  return scored.filter(({ edits }) => edits <= 2).sort((a, b) => a.edits - b.edits)[0]?.one
}

function editsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
