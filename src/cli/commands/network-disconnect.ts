/** `darner network disconnect`: takes a container off a network. */
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = async (args, _options, context) => {
  const [network = '', container = ''] = args
  await new NetworkClient({ socket: context.socket }).disconnect(network, container, { signal: context.signal })
  return 0
}
