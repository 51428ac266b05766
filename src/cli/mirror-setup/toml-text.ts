/** TOML that people wrote: read by a parser, changed by lines, so that the rest stays byte for byte as it was. */
import { parse, type TomlTable, type TomlValue } from 'smol-toml'
import { DarnerError } from '../../core/errors.ts'

/** The table that a text makes. Throws HOST_UNABLE, naming `path` and the line, for a text that is no TOML. */
export function readToml(text: string, path: string): TomlTable {
  const read = tomlOf(text)
  if (!(read instanceof Error)) return read
  const reason = read.message.split('\n')[0] ?? ''
  const line = 'line' in read ? ` in line ${read.line}` : ''
  throw new DarnerError('HOST_UNABLE', `${path}: not valid TOML${line}: ${reason}`, {
    cause: read,
    way: 'correct the file, its client cannot read it either',
  })
}

/** The table that a text makes, or why it is no TOML. */
export function tomlOf(text: string): TomlTable | Error {
  try {
    return parse(text, { integersAsBigInt: 'asNeeded' })
  } catch (error) {
    if (error instanceof Error) return error
    throw error
  }
}

/** The value under a name; undefined where there is none, or a part of the name is no table. */
export function valueAt(value: TomlValue | undefined, [first, ...rest]: readonly string[]): TomlValue | undefined {
  if (first === undefined) return value
  return isTable(value) && Object.hasOwn(value, first) ? valueAt(value[first], rest) : undefined
}

/** The name of the first value below, tables left out; undefined where there are only tables. */
export function firstValue(value: TomlValue | undefined, path: readonly string[]): readonly string[] | undefined {
  if (value === undefined) return undefined
  if (!isTable(value)) return path
  for (const [key, inner] of Object.entries(value)) {
    const found = firstValue(inner, [...path, key])
    if (found !== undefined) return found
  }
  return undefined
}

/** The line of a table's header, from 0, and those of its keys; undefined where it has no header. A line within a text of several lines may be mistaken: parse what you make of it. */
export function tableLines(
  text: string,
  table: readonly string[],
): { readonly header: number; readonly keyAt: (key: string) => number | undefined } | undefined {
  const lines = text.split('\n')
  const header = lines.findIndex((line) => isHeader(line) && emptyTableAt(tomlOf(line), table))
  if (header < 0) return undefined
  const next = lines.findIndex((line, at) => at > header && isHeader(line))
  const end = next < 0 ? lines.length : next
  const keyAt = (key: string) => {
    const at = lines.findIndex((line, at) => at > header && at < end && hasKey(tomlOf(line), key))
    return at < 0 ? undefined : at
  }
  return { header, keyAt }
}

function isHeader(line: string): boolean {
  return /^\s*\[[^[]/.test(line) && !(tomlOf(line) instanceof Error)
}

function emptyTableAt(read: TomlTable | Error, table: readonly string[]): boolean {
  const value = read instanceof Error ? undefined : valueAt(read, table)
  return isTable(value) && Object.keys(value).length === 0
}

function hasKey(read: TomlTable | Error, key: string): boolean {
  return !(read instanceof Error) && Object.hasOwn(read, key)
}

export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value) && !(value instanceof Date)
}
