/** `darner help`: the help of a command, as its `--help` prints it. */
import { DarnerError } from '../../core/errors.ts'
import { COMMANDS } from '../commands.ts'
import type { Action } from '../context.ts'
import { fullParse } from '../full-parse.ts'

export const action: Action = async (words, _options, context) => {
  const known = words.length === 0 || COMMANDS.some(({ name }) => name === words.join(' '))
  // what is no command is refused as if it had been called
  const answered = await fullParse(known ? [...words, '--help'] : words, context)
  if (typeof answered === 'number') return answered
  throw new DarnerError('BAD_ARGUMENT', `${JSON.stringify(words.join(' '))} is not a command`, {
    way: 'darner help lists them',
  })
}
