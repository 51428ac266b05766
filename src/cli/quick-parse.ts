/**
 * A command line read by its row of the table alone, for the many that are as they should be. Everything else, such as help and rare
 * options, is left to `full-parse.ts`, which also reports what is wrong. Commander takes a fifth of a command's start.
 */
import { parseDuration } from '../core/config/units.ts'
import type { CommandRow, OptionRow } from './rows/shape.ts'

/** What the arguments asked for. */
export interface Call {
  readonly row: CommandRow
  readonly args: string[]
  readonly options: Record<string, unknown>
}

/**
 * What `argv` (the command's own name first) asks of the command `row`; undefined where that can't be said for sure. `rows` are
 * those that it may be the parent of: with a word more it is another command.
 */
export function quickParse(
  argv: readonly string[],
  row: CommandRow,
  rows: readonly Pick<CommandRow, 'name'>[],
): Call | undefined {
  if (argv[0] !== row.name || row.settings !== undefined || row.name.includes(' ')) return undefined
  const known = optionsByFlag(row)
  const args: string[] = []
  const options: Record<string, unknown> = {}
  for (let at = 1; at < argv.length; at++) {
    const word = argv[at] ?? ''
    if (!word.startsWith('-') || word === '-') {
      if (args.length === 0 && rows.some(({ name }) => name === `${row.name} ${word}`)) return undefined
      args.push(word)
      if (!row.passThrough) continue
      args.push(...argv.slice(at + 1))
      break
    }
    const equals = word.startsWith('--') ? word.indexOf('=') : -1
    const option = known.get(equals < 0 ? word : word.slice(0, equals))
    const takes = option?.flags.includes('<')
    if (option === undefined || (equals >= 0 && !takes)) return undefined
    const name = nameOf(option.flags)
    if (!takes) {
      options[name] = !option.flags.includes('--no-')
      continue
    }
    const text = equals < 0 ? argv[++at] : word.slice(equals + 1)
    // a value that looks like an option may be a forgotten one
    if (text === undefined || (equals < 0 && text.startsWith('-') && text !== '-')) return undefined
    const value = readValue(text, option.kind, options[name])
    if (value === undefined) return undefined
    options[name] = value
  }
  const places = row.args ?? []
  const least = places.filter(({ optional }) => optional !== true).length
  const most = places.some(({ many }) => many === true) ? Number.POSITIVE_INFINITY : places.length
  const needed = (row.options ?? []).filter(({ required }) => required === true)
  if (args.length < least || args.length > most || needed.some(({ flags }) => !(nameOf(flags) in options)))
    return undefined
  return { row, args, options }
}

const SOCKET: OptionRow = { flags: '--socket <PATH>', summary: '' }
const DEBUG: OptionRow = { flags: '--debug', summary: '' }

/** All but those that may stand without a value, or are refused. */
function optionsByFlag(row: CommandRow): Map<string, OptionRow> {
  const known = new Map<string, OptionRow>()
  for (const option of [...(row.options ?? []), ...(row.client ? [SOCKET] : []), DEBUG])
    if (!option.flags.includes(' [') && option.refused === undefined)
      for (const flag of flagsIn(option.flags)) known.set(flag, option)
  return known
}

/** By hand, since each pattern that is compiled costs a start 0.1 ms. */
function flagsIn(flags: string): string[] {
  const end = flags.indexOf(' <')
  return (end < 0 ? flags : flags.slice(0, end)).split(', ')
}

/** As commander names it: `--limit-rate <RATE>` is limitRate, `--no-resume` is resume. */
export function nameOf(flags: string): string {
  const long = (flagsIn(flags).at(-1) ?? flags).slice(2)
  const [first = '', ...more] = (long.startsWith('no-') ? long.slice(3) : long).split('-')
  return first + more.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1)).join('')
}

function readValue(text: string, kind: OptionRow['kind'], before: unknown): unknown {
  switch (kind) {
    case 'list':
      return [...(Array.isArray(before) ? before : []), text]
    case 'integer':
      return /^\d{1,15}$/.test(text) ? Number(text) : undefined
    case 'duration':
      return parseDuration(text)
    default:
      return text
  }
}
