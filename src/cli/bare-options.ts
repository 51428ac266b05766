/**
 * Options as they are spelled out before the line is parsed. Those that may stand without a value must never take the argument after them;
 * others are other programs' spellings.
 */
import { commandIn } from './command-words.ts'
import type { CommandRow } from './rows/shape.ts'

/** `run --rich IMAGE` becomes `run --rich=systemd IMAGE`; what follows the first argument of the command is left alone. */
export function spellOut(argv: readonly string[], rows: readonly CommandRow[]): string[] {
  const found = commandIn(argv, rows)
  if (found === undefined) return [...argv]
  const { row } = found
  const command = argv.slice(0, found.at + found.words)
  const words = argv.slice(command.length).flatMap((word) => row.respell?.(word) ?? [word])
  const bare = new Map(
    (row.options ?? []).flatMap(({ flags, bare: value }) =>
      value === undefined ? [] : names(flags).map((name) => [name, `${long(flags)}=${value}`] as const),
    ),
  )
  if (bare.size === 0) return [...command, ...words]
  const valued = new Set(
    (row.options ?? []).filter(({ flags }) => flags.includes('<')).flatMap(({ flags }) => names(flags)),
  )
  const out: string[] = []
  let index = 0
  for (; index < words.length; index++) {
    const word = words[index] ?? ''
    if (!word.startsWith('-') || word === '--') break
    out.push(bare.get(word) ?? word)
    if (valued.has(word) || word === '--socket') out.push(...words.slice(index + 1, ++index + 1))
  }
  return [...command, ...out, ...words.slice(index)]
}

const names = (flags: string) => flags.split(/[ ,]+/).filter((one) => one.startsWith('-'))
const long = (flags: string) => names(flags).at(-1) ?? flags
