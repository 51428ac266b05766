/** Where a command's name stands in a command line: behind the program's own options. */
import type { CommandRow } from './rows/shape.ts'

/** Its first word's index; -1 where there is none. */
export function commandAt(argv: readonly string[]): number {
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? ''
    if (word === '--socket') at++
    else if (!word.startsWith('-')) return at
  }
  return -1
}

/** The row that the line names, by one word or two, and how many words its name has. */
export function commandIn<Row extends Pick<CommandRow, 'name'>>(
  argv: readonly string[],
  rows: readonly Row[],
): { readonly row: Row; readonly at: number; readonly words: number } | undefined {
  const at = commandAt(argv)
  const within = rows.find(({ name }) => name === `${argv[at]} ${argv[at + 1]}`)
  const row = within ?? rows.find(({ name }) => name === argv[at])
  return row && { row, at, words: within === undefined ? 1 : 2 }
}
