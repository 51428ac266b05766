/** `darner network connect`: puts a container on one more network, at once when it runs. */
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'
import { endpointOf } from '../network-options.ts'
import { texts } from '../option-values.ts'

export const action: Action = async (args, options, context) => {
  const [network = '', container = ''] = args
  const client = new NetworkClient({ socket: context.socket })
  const links = texts(options, 'link')
  const endpoint = { ...endpointOf(options, 'alias'), ...(links.length > 0 ? { links } : {}) }
  await client.connect(network, { container, endpoint }, { signal: context.signal })
  return 0
}
