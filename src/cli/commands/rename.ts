/** `darner rename`: gives a container another name. */
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'

export const action: Action = async ([container = '', name = ''], _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  await client.json('POST', `/v1/containers/${encodeURIComponent(container)}/rename`, {
    body: { name },
    signal: context.signal,
  })
  return 0
}
