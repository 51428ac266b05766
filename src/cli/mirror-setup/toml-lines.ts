/** A TOML text by its lines, as far as it takes to find one setting in it and leave the rest byte for byte as people wrote it. */

export interface TomlLine {
  /** Which line of the text, from 0. */
  readonly at: number
  readonly kind: 'table' | 'key'
  /** The parts of its whole name, that of the table included; quotes are gone. */
  readonly path: readonly string[]
  /** What stands behind the `=`, without a comment; a text without its quotes. Empty for a table. */
  readonly value: string
}

const PART = /\s*(?:"([^"\\]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*/y

/** Table headers and keys. Lines within texts or lists of several lines may be taken for keys of the table that they are in. */
export function tomlLines(text: string): TomlLine[] {
  const found: TomlLine[] = []
  let table: readonly string[] = []
  for (const [at, line] of text.split('\n').entries()) {
    const header = /^\s*\[\[?([^[\]]+)\]?\]\s*(?:#.*)?$/.exec(line)?.[1]
    const named = dotted(header ?? line)
    if (named === undefined) continue
    const rest = (header ?? line).slice(named.end)
    if (header !== undefined) {
      if (rest !== '') continue
      table = named.parts
      found.push({ at, kind: 'table', path: table, value: '' })
    } else if (rest.startsWith('=')) {
      found.push({ at, kind: 'key', path: [...table, ...named.parts], value: textOf(rest.slice(1).trim()) })
    }
  }
  return found
}

/** Whether a name is within another, or that one itself. */
export function isBelow(path: readonly string[], above: readonly string[]): boolean {
  return above.every((part, at) => path[at] === part)
}

function dotted(text: string): { parts: string[]; end: number } | undefined {
  const parts: string[] = []
  for (let end = 0; ; end++) {
    PART.lastIndex = end
    const part = PART.exec(text)
    if (part === null) return undefined
    parts.push(part[1] ?? part[2] ?? part[3] ?? '')
    end = PART.lastIndex
    if (text[end] !== '.') return { parts, end }
  }
}

function textOf(text: string): string {
  const quoted = /^(?:"([^"\\]*)"|'([^']*)')\s*(?:#.*)?$/.exec(text)
  return quoted?.[1] ?? quoted?.[2] ?? text
}
