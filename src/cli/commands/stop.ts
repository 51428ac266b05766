/** `darner stop`: the stop signal, then KILL after a time. */
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { EngineClient } from '../engine-client.ts'
import { text, whole } from '../option-values.ts'

export const action: Action = (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const timeoutSec = whole(options, 'time')
  const stopSignal = text(options, 'signal')
  const how = {
    ...(timeoutSec === undefined ? {} : { timeoutSec }),
    ...(stopSignal === undefined ? {} : { stopSignal }),
    signal: context.signal,
  }
  return forEach(args, context, (name) => client.stop(name, how))
}
