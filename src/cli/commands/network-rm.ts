/** `darner network rm`: removes networks that no running container is on. */
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = (args, _options, context) => {
  const client = new NetworkClient({ socket: context.socket })
  return forEach(args, context, (name) => client.remove(name, { signal: context.signal }))
}
