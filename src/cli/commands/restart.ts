/** `darner restart`: stops containers and starts them again. */
import { AgentClient } from '../client.ts'
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { text, whole } from '../option-values.ts'

export const action: Action = (args, options, context) => {
  const client = new AgentClient({ socket: context.socket })
  const timeoutSec = whole(options, 'time')
  const stopSignal = text(options, 'signal')
  const body = {
    ...(timeoutSec === undefined ? {} : { timeoutSec }),
    ...(stopSignal === undefined ? {} : { stopSignal }),
  }
  return forEach(args, context, async (name) => {
    await client.json('POST', `/v1/containers/${encodeURIComponent(name)}/restart`, { body, signal: context.signal })
  })
}
