/** How help is laid out: as wide as the terminal, 80 columns in a pipe. */
import { Help, type HelpConfiguration } from 'commander'

const PIPE_COLUMNS = 80
const MIN_COLUMNS = 40
/** A longer term stands on a line of its own, so that it takes no room from the text of all others. */
const MAX_TERM = 25
/** Blanks before a term, and between a term and its text. */
const GAP = '  '

/** How wide a text for `out` may be. */
export function columnsOf(out: object): number {
  const { isTTY, columns = 0 } = out as { isTTY?: boolean; columns?: number }
  return isTTY === true && columns > 0 ? Math.max(MIN_COLUMNS, columns) : PIPE_COLUMNS
}

/** For commander's `configureHelp`. */
export function helpLayout(columns: number): HelpConfiguration {
  const widest = Math.min(MAX_TERM, Math.floor(columns / 3))
  return {
    helpWidth: columns,
    minWidthToWrap: 1,
    subcommandTerm: (command) => command.name(),
    padWidth: (command, helper) => Math.min(widest, Help.prototype.padWidth.call(helper, command, helper)),
    formatItem: (term, termWidth, description, helper) => {
      const margin = ' '.repeat(GAP.length + termWidth + GAP.length)
      const text = helper.boxWrap(description, columns - margin.length).replaceAll('\n', `\n${margin}`)
      const head = term.length > termWidth ? `${term}\n${margin}` : `${term.padEnd(termWidth)}${GAP}`
      return `${GAP}${head}${text}`
    },
  }
}

/** A paragraph in lines that fit. */
export function paragraph(text: string, columns: number): string {
  return new Help().boxWrap(text, columns)
}

/** Command lines that fit: a longer one goes on behind a backslash, so that it can be copied as it stands. */
export function exampleLines(examples: readonly string[], columns: number): string {
  return examples.map((example) => exampleText(example, columns)).join('\n')
}

function exampleText(example: string, columns: number): string {
  const lines: string[] = []
  let line = GAP
  // what is quoted stays whole
  for (const word of example.match(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g) ?? []) {
    if (line.trim() !== '' && line.length + word.length + ' \\'.length > columns) {
      lines.push(`${line}\\`)
      line = GAP.repeat(2)
    }
    line += `${word} `
  }
  return [...lines, line.trimEnd()].join('\n')
}
