/** `darner network connect`: puts a container on one more network, at once when it runs. */
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'
import { endpointOf } from '../network-options.ts'

export const action: Action = async (args, options, context) => {
  const [network = '', container = ''] = args
  const client = new NetworkClient({ socket: context.socket })
  await client.connect(network, { container, endpoint: endpointOf(options, 'alias') }, { signal: context.signal })
  return 0
}
