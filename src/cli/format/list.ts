/** Prints a list as docker's commands do: a table, one id a line, a line of JSON each, or a template of the user's. */
import type { CommandContext } from '../context.ts'
import { text } from '../option-values.ts'
import { table } from './table.ts'
import { template } from './template.ts'

/** What a row may be asked for, by the names that docker's templates have. */
export type Row = Readonly<Record<string, string>>

export interface ListShape {
  /** Field → head of its column, in the order of the table. */
  readonly columns: Readonly<Record<string, string>>
  /** What `--quiet` prints of a row. */
  readonly quiet: string
  /** Heads of fields that only templates name. */
  readonly heads?: Readonly<Record<string, string>>
}

/** `--format` may be `table`, `json`, `table TEMPLATE` or a template. Throws BAD_ARGUMENT for a malformed one, or a field that isn't there. */
export function printList(
  rows: readonly Row[],
  shape: ListShape,
  options: Readonly<Record<string, unknown>>,
  { stdout }: Pick<CommandContext, 'stdout'>,
): void {
  const format = text(options, 'format')
  if (options.quiet === true && (format === undefined || format === 'table')) {
    for (const row of rows) stdout.write(`${row[shape.quiet] ?? ''}\n`)
  } else if (format === undefined || format === 'table') {
    const fields = Object.keys(shape.columns)
    stdout.write(table([Object.values(shape.columns), ...rows.map((row) => fields.map((field) => row[field] ?? ''))]))
  } else if (format === 'json') {
    for (const row of rows) stdout.write(`${JSON.stringify(row)}\n`)
  } else if (/^table\s/.test(format)) {
    const fill = template(unescaped(format.slice('table'.length).trimStart()), { strict: true })
    const heads = { ...headsOf(rows), ...shape.heads, ...shape.columns }
    stdout.write(table([heads, ...rows].map((row) => fill(row).split('\t'))))
  } else {
    const fill = template(unescaped(format), { strict: true })
    for (const row of rows) stdout.write(`${fill(row)}\n`)
  }
}

/** Prints one value through `--format`; without one, as JSON by lines. */
export function printValue(
  value: unknown,
  options: Readonly<Record<string, unknown>>,
  { stdout }: Pick<CommandContext, 'stdout'>,
): void {
  const format = text(options, 'format')
  if (format === undefined) stdout.write(`${JSON.stringify(value, undefined, 2)}\n`)
  else if (format === 'json') stdout.write(`${JSON.stringify(value)}\n`)
  else stdout.write(`${template(unescaped(format))(value)}\n`)
}

/** A field's head is its name in words: `RunningFor` → `RUNNING FOR`. */
function headsOf(rows: readonly Row[]): Row {
  const names = Object.keys(rows[0] ?? {})
  return Object.fromEntries(names.map((name) => [name, name.replaceAll(/([a-z])([A-Z])/g, '$1 $2').toUpperCase()]))
}

/** `\t` and `\n` as people type them in a shell. */
function unescaped(format: string): string {
  return format.replaceAll('\\t', '\t').replaceAll('\\n', '\n')
}
