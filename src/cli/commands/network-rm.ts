/** `darner network rm`: removes networks that no running container is on. */
import { isDarnerError } from '../../core/errors.ts'
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = (args, options, context) => {
  const client = new NetworkClient({ socket: context.socket })
  const force = options.force === true
  return forEach(args, context, async (name) => {
    try {
      await client.remove(name, { signal: context.signal })
    } catch (error) {
      if (!force || !isDarnerError(error, 'NOT_FOUND')) throw error
    }
  })
}
