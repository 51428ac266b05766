/** What may stand for the last word of a command line that is being typed, by the command table alone. */
import { COMMANDS } from '../commands.ts'
import type { CommandRow } from '../rows/shape.ts'
import { type Flag, flagsOf, type Place, PROGRAM_FLAGS, placeOf } from './flags.ts'

export interface Offer {
  readonly word: string
  readonly summary?: string
}

export interface Wanted {
  /** Whatever begins otherwise than the word that is typed is left out by the caller. */
  readonly offers: readonly Offer[]
  readonly place: Place
  /** Stands before each name: `--network=`. */
  readonly head: string
}

/** What is known of the line when its last word begins. */
interface Line {
  readonly row: CommandRow | undefined
  /** Arguments that the command has by now. */
  readonly args: number
  /** The flag whose value comes next. */
  readonly flag: Flag | undefined
  /** No flag may follow. */
  readonly plain: boolean
}

/** `words` are those after the program's name; the last one is being typed. */
export function wantedAt(words: readonly string[]): Wanted {
  const typed = words.at(-1) ?? ''
  const line = read(words.slice(0, -1))
  if (line === undefined) return NOTHING
  const { row, args, flag, plain } = line
  if (flag?.value !== undefined) return placed(flag.value, '')
  if (typed.startsWith('-') && !plain) {
    const flags = row === undefined ? PROGRAM_FLAGS : flagsOf(row)
    const equals = typed.indexOf('=')
    const valued = equals < 0 ? undefined : flags.find(({ long }) => long === typed.slice(0, equals))
    if (valued?.value !== undefined) return placed(valued.value, typed.slice(0, equals + 1))
    return { ...NOTHING, offers: flags.map(({ long, summary }) => ({ word: long, summary })) }
  }
  const commands = args === 0 && !plain ? commandsOf(row) : []
  const wanted = row?.args?.[args] ?? row?.args?.findLast(({ many }) => many === true)
  const { offers, place } = wanted === undefined ? NOTHING : placed(placeOf(wanted.name, wanted), '')
  return { offers: [...commands, ...offers], place, head: '' }
}

const NOTHING: Wanted = { offers: [], place: {}, head: '' }

/** Undefined for a word that is no command. */
function read(said: readonly string[]): Line | undefined {
  let line: Line = { row: undefined, args: 0, flag: undefined, plain: false }
  for (const word of said) {
    const { row, args } = line
    if (line.flag !== undefined) line = { ...line, flag: undefined }
    else if (line.plain) line = { ...line, args: args + 1 }
    else if (word === '--') line = { ...line, plain: true }
    else if (word.startsWith('-') && word !== '-') {
      const flags = row === undefined ? PROGRAM_FLAGS : flagsOf(row)
      const flag = flags.find(({ long, short }) => long === word || (short !== undefined && `-${short}` === word))
      line = { ...line, flag: flag?.value === undefined ? undefined : flag }
    } else {
      const name = row === undefined ? word : `${row.name} ${word}`
      const command = args === 0 ? COMMANDS.find((one) => one.name === name) : undefined
      if (command !== undefined) line = { ...line, row: command }
      else if (row === undefined) return undefined
      else line = { ...line, args: args + 1, plain: row.passThrough === true }
    }
  }
  return line
}

/** Commands of one more word. */
function commandsOf(row: CommandRow | undefined): Offer[] {
  const head = row === undefined ? '' : `${row.name} `
  return COMMANDS.filter(({ name }) => name.startsWith(head) && !name.slice(head.length).includes(' ')).map(
    ({ name, summary }) => ({ word: name.slice(head.length), summary }),
  )
}

function placed(place: Place, head: string): Wanted {
  return { offers: (place.words ?? []).map((word) => ({ word: `${head}${word}` })), place, head }
}
