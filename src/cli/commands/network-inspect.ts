/** `darner network inspect`: all that is known about networks, as a JSON list. */
import { EXIT, errorLine } from '../../base/errors.ts'
import type { Action } from '../context.ts'
import { NetworkClient } from '../network-client.ts'

export const action: Action = async (args, _options, context) => {
  const client = new NetworkClient({ socket: context.socket })
  const results = await Promise.allSettled(args.map((name) => client.inspect(name, { signal: context.signal })))
  context.signal.throwIfAborted()
  const found = results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  for (const one of results) if (one.status === 'rejected') context.stderr.write(`darner: ${errorLine(one.reason)}\n`)
  context.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`)
  return found.length === args.length ? EXIT.done : EXIT.failed
}
