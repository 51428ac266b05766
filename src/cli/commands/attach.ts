/** `darner attach`: joins the streams of a running container to this terminal or pipe. Exit code: the process's. */
import { DarnerError } from '../../core/errors.ts'
import { attachOf } from '../attach-options.ts'
import type { Action } from '../context.ts'
import { detachKeysOf } from '../detach-keys.ts'
import { EngineClient } from '../engine-client.ts'
import { runAttached } from './run.ts'

export const action: Action = async ([name = ''], options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const { id, status, request } = await client.inspect(name, { signal: context.signal })
  if (status !== 'running')
    throw new DarnerError('STATE_INVALID', `container ${name} is ${status}, not running: there is nothing to attach to`)
  const stdin = options.stdin !== false && request.openStdin === true
  const io = { tty: request.tty === true, stdin, ...attachOf(options), ...detachKeysOf(options) }
  return await runAttached(client, id, io, context, { start: false })
}
