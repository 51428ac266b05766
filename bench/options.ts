/** What a bench can be told: one table for its help, for reading a command line, and for what is wrong with one. */
import { parseArgs } from 'node:util'
import { DarnerError } from '../src/core/errors.ts'

export interface BenchOption {
  readonly summary: string
  /** What stands for its value in the help; without it, it is a switch. */
  readonly value?: string
  readonly default?: string
}

/** By name, without dashes. */
export type BenchOptions = Readonly<Record<string, BenchOption>>

/** Switches are true or false, the others a text, undefined without a default. */
export type BenchValues<T extends BenchOptions> = {
  readonly [K in keyof T]: T[K] extends { readonly value: string }
    ? T[K] extends { readonly default: string }
      ? string
      : string | undefined
    : boolean
}

/** Throws BAD_ARGUMENT. `parts`: the words that may stand beside the options. */
export function readOptions<const T extends BenchOptions>(
  table: T,
  args: readonly string[],
  parts: readonly string[] = [],
): { values: BenchValues<T>; parts: string[] } {
  const { values, positionals } = parse(table, args)
  const strange = positionals.find((word) => !parts.includes(word))
  if (strange !== undefined)
    throw new DarnerError('BAD_ARGUMENT', `'${strange}': expected ${parts.length > 0 ? parts.join(', ') : 'an option'}`)
  const read = Object.entries(table).map(([name, one]) => [
    name,
    one.value === undefined ? values[name] === true : (values[name] ?? one.default),
  ])
  return { values: Object.fromEntries(read) as BenchValues<T>, parts: positionals }
}

function parse(table: BenchOptions, args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: Object.fromEntries(
        Object.entries(table).map(([name, { value }]) => [name, { type: value === undefined ? 'boolean' : 'string' }]),
      ),
    })
  } catch (error) {
    const [sentence = ''] = (error as Error).message.split(/\. |\n/)
    throw new DarnerError('BAD_ARGUMENT', sentence, { cause: error })
  }
}

/** A number of at least `least`. Throws BAD_ARGUMENT. */
export function numberOf(
  name: string,
  text: string,
  { least, whole = false }: { least: number; whole?: boolean },
): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value) || value < least || (whole && !Number.isInteger(value)))
    throw new DarnerError(
      'BAD_ARGUMENT',
      `--${name}: expected a ${whole ? 'whole ' : ''}number from ${least} on, got '${text}'`,
    )
  return value
}

/** One of `choices`. Throws BAD_ARGUMENT. */
export function oneOf<const T extends string>(name: string, text: string, choices: readonly T[]): T {
  const found = choices.find((one) => one === text)
  if (found === undefined)
    throw new DarnerError('BAD_ARGUMENT', `--${name}: expected ${choices.join(', ')}, got '${text}'`)
  return found
}

/** The lines below the usage. */
export function optionLines(table: BenchOptions): string[] {
  const rows = Object.entries({
    ...table,
    json: { summary: 'one JSON line a figure', value: undefined, default: undefined },
  }).map(([name, { value, summary, default: standard }]) => [
    `--${name}${value === undefined ? '' : ` ${value}`}`,
    `${summary}${standard === undefined ? '' : ` (default: ${standard})`}`,
  ])
  const wide = Math.max(...rows.map(([flag = '']) => flag.length))
  return rows.map(([flag = '', summary = '']) => `  ${flag.padEnd(wide)}  ${summary}`)
}
