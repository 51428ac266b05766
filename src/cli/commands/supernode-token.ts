/** `darner supernode token`: shows the join token of the supernode whose data directory this is. */
import { DarnerError } from '../../core/errors.ts'
import { daemonSettings } from '../../daemon/daemon.ts'
import type { Action } from '../context.ts'

export const action: Action = async (_args, options, context) => {
  const { data } = await daemonSettings('supernode', options, context)
  const { keptJoinToken } = await import('../../../supernode/admission.ts')
  const token = await keptJoinToken(data)
  if (token === undefined)
    throw new DarnerError('NOT_FOUND', `there is no join token in ${data}: no supernode has run there`, {
      way: 'name its directory with --data; a supernode makes the token when it first starts',
    })
  context.stdout.write(context.json ? `${JSON.stringify({ token })}\n` : `${token}\n`)
  return 0
}
