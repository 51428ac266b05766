/** `darner logs`: what a container wrote, stdout to stdout and stderr to stderr. */

import { put } from '../../base/outflow.ts'
import { CHANNEL } from '../../wire/stream-frame.ts'
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'
import { text, whole } from '../option-values.ts'
import { timeOf } from '../run-options.ts'

export const action: Action = async (args, options, context) => {
  const tail = whole(options, 'tail')
  const since = text(options, 'since')
  const service = text(options, 'service')
  const query = {
    ...(options.follow === true ? { follow: true } : {}),
    ...(options.timestamps === true ? { timestamps: true } : {}),
    ...(tail === undefined ? {} : { tail }),
    ...(service === undefined ? {} : { service }),
    ...(since === undefined ? {} : { sinceMs: Number(timeOf(since, Date.now())) * 1000 }),
  }
  const client = new EngineClient({ socket: context.socket })
  for await (const { channel, bytes } of client.logs(args[0] ?? '', query, { signal: context.signal })) {
    await put(channel === CHANNEL.stderr ? context.stderr : context.stdout, bytes)
  }
  return 0
}
