/** `darner stop`: the stop signal, then KILL after a time. */
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { EngineClient } from '../engine-client.ts'
import { whole } from '../option-values.ts'

export const action: Action = (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const timeoutSec = whole(options, 'time')
  const how = { ...(timeoutSec === undefined ? {} : { timeoutSec }), signal: context.signal }
  return forEach(args, context, (name) => client.stop(name, how))
}
