/** `darner start`: starts containers that don't run; with --attach, joined to this terminal or pipe. */
import { DarnerError } from '../../core/errors.ts'
import { attachOf } from '../attach-options.ts'
import type { Action } from '../context.ts'
import { detachKeysOf } from '../detach-keys.ts'
import { forEach } from '../each.ts'
import { EngineClient } from '../engine-client.ts'
import { runAttached } from './run.ts'

export const action: Action = async (args, options, context) => {
  const client = new EngineClient({ socket: context.socket })
  if (options.attach !== true && options.interactive !== true)
    return await forEach(args, context, (name) => client.start(name, { signal: context.signal }))
  const [name = '', ...others] = args
  if (others.length > 0) throw new DarnerError('BAD_ARGUMENT', 'start: -a and -i take one container, not several')
  const { id, request } = await client.inspect(name, { signal: context.signal })
  const io = {
    tty: request.tty === true,
    stdin: options.interactive === true,
    ...attachOf(options),
    ...detachKeysOf(options),
  }
  return await runAttached(client, id, io, context)
}
