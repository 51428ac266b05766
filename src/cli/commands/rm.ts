/** `darner rm`: removes containers, with their writable layer and log. */
import type { Action } from '../context.ts'
import { forEach } from '../each.ts'
import { EngineClient } from '../engine-client.ts'

export const action: Action = (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  return forEach(args, context, (name) =>
    client.remove(name, { force: options.force === true, signal: context.signal }),
  )
}
