/** `darner mirror`: whether the registry mirror of this host's agent serves, where, and what it reaches. */
import { DarnerError } from '../../core/errors.ts'
import type { Action } from '../context.ts'
import { mirrorLines, mirrorState } from '../mirror-setup/target.ts'

export const action: Action = async (_args, _options, context) => {
  const state = await mirrorState(context)
  if (context.json) context.stdout.write(`${JSON.stringify(state)}\n`)
  if (state.state === 'failed') throw new DarnerError('HOST_UNABLE', state.trouble ?? 'the mirror is off')
  if (context.json) return 0
  context.stdout.write(`${mirrorLines(state).join('\n')}\n`)
  return 0
}
