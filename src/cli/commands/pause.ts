/** `darner pause`: freezes all processes of containers. */
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'

export const action: Action = (args, _options, context) => {
  const client = new AgentClient({ socket: context.socket })
  return forEach(args, context, async (name) => {
    await client.json('POST', `/v1/containers/${encodeURIComponent(name)}/pause`, { signal: context.signal })
  })
}
