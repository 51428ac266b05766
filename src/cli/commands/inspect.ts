/** `darner inspect`: all that is known about containers, as a JSON list. */
import { EXIT, errorLine } from '../../base/errors.ts'
import type { ContainerView } from '../../wire/local-api.ts'
import type { Action } from '../context.ts'
import { EngineClient } from '../engine-client.ts'

export const action: Action = async (args, _options, context) => {
  const client = new EngineClient({ socket: context.socket })
  const results = await Promise.allSettled(args.map((name) => client.inspect(name, { signal: context.signal })))
  context.signal.throwIfAborted()
  const found: ContainerView[] = []
  for (const result of results) {
    if (result.status === 'fulfilled') found.push(result.value)
    else context.stderr.write(`darner: ${errorLine(result.reason)}\n`)
  }
  context.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`)
  return found.length === args.length ? EXIT.done : EXIT.failed
}
