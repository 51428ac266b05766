/** `darner __complete WORD…`: what the completion scripts ask. Prints `words` or `files` first, then a line for each offer. */
import { EXIT } from '../../core/errors.ts'
import { DEFAULT_SOCKET } from '../context.ts'
import { plain } from '../format/words.ts'
import type { ProgramIo } from '../perform.ts'
import { wantedAt } from './wanted.ts'

/** `files`: paths of this host fit, too; they are the shell's to offer. */
export async function complete(words: readonly string[], { env, stdout, signal }: ProgramIo): Promise<number> {
  const { offers, place, head } = wantedAt(words)
  const typed = words.at(-1) ?? ''
  const socket = words[words.indexOf('--socket') + 1]
  const named = words.includes('--socket') && socket !== undefined && socket !== '' ? socket : undefined
  const names =
    place.names === undefined
      ? []
      : await (await import('./names.ts')).namesOf(place.names, {
          socket: named ?? (env.DARNER_SOCKET || DEFAULT_SOCKET),
          signal,
        })
  const all = [...offers, ...names.map(({ word, ...rest }) => ({ word: head + word, ...rest }))]
  const lines = all
    .filter(({ word }) => word.startsWith(typed))
    .map(({ word, summary }) => (summary === undefined ? plain(word) : `${plain(word)}\t${plain(summary)}`))
  stdout.write(`${[place.files === true ? 'files' : 'words', ...lines].join('\n')}\n`)
  return EXIT.done
}
