/** `darner completion SHELL`: prints the script. */
import { DarnerError } from '../../core/errors.ts'
import { completionScript } from '../completion/scripts.ts'
import { SHELLS } from '../completion/shells.ts'
import type { Action } from '../context.ts'

export const action: Action = async ([name], _options, { stdout }) => {
  const shell = SHELLS.find((one) => one === name)
  if (!shell)
    throw new DarnerError('BAD_ARGUMENT', `completion for ${JSON.stringify(name)}: expected ${SHELLS.join(', ')}`)
  stdout.write(completionScript(shell))
  return 0
}
