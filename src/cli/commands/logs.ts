/** `darner logs`: what a container wrote, stdout to stdout and stderr to stderr. */

import { CHANNEL } from '../../api/stream-frame.ts'
import { DarnerError } from '../../core/errors.ts'
import { put } from '../../core/outflow.ts'
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { text } from '../option-values.ts'
import { timeOf } from '../run-options.ts'

export const action: Action = async (args, options, context) => {
  const tail = tailOf(text(options, 'tail') ?? 'all')
  const until = text(options, 'until')
  const since = text(options, 'since')
  const service = text(options, 'service')
  const query = {
    ...(options.follow === true ? { follow: true } : {}),
    ...(options.timestamps === true ? { timestamps: true } : {}),
    ...(tail === undefined ? {} : { tail }),
    ...(service === undefined ? {} : { service }),
    ...(until === undefined ? {} : { untilMs: msOf(until) }),
    ...(since === undefined ? {} : { sinceMs: msOf(since) }),
  }
  const client = new EngineClient({ socket: context.socket })
  for await (const { channel, bytes } of client.logs(args[0] ?? '', query, { signal: context.signal })) {
    await put(channel === CHANNEL.stderr ? context.stderr : context.stdout, bytes)
  }
  return 0
}

const msOf = (time: string) => Number(timeOf(time, Date.now())) * 1000

/** undefined for all. */
function tailOf(given: string): number | undefined {
  if (given === 'all') return undefined
  if (/^\d{1,15}$/.test(given)) return Number(given)
  throw new DarnerError('BAD_ARGUMENT', `--tail ${given}: expected a whole number, or all`)
}
