/** `darner kill`: sends a signal to the first process of containers. */
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { text } from '../option-values.ts'

export const action: Action = (args, options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const signalName = text(options, 'signal')
  const body = signalName === undefined ? {} : { signal: signalName }
  return forEach(args, context, async (name) => {
    await client.json('POST', `/v1/containers/${encodeURIComponent(name)}/kill`, { body, signal: context.signal })
  })
}
