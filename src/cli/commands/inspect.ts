/** `darner inspect`: all that is known about containers, images, volumes or networks, as a JSON list or by a template. */
import { DarnerError, EXIT, errorLine, isDarnerError } from '../../core/errors.ts'
import type { Action, CommandContext } from '../context.ts'
import { DockerClient, pathPart } from '../docker-client.ts'
import { EngineClient } from '../engine-client.ts'
import { printValue } from '../format/list.ts'
import { NetworkClient } from '../network-client.ts'
import { text } from '../option-values.ts'

const KINDS = ['container', 'image', 'volume', 'network'] as const
type Kind = (typeof KINDS)[number]

export const action: Action = (args, options, context) => {
  const type = text(options, 'type')
  const kind = KINDS.find((one) => one === type)
  if (type !== undefined && kind === undefined)
    throw new DarnerError('BAD_ARGUMENT', `--type ${type} is not one of ${KINDS.join(', ')}`)
  return inspectAll(args, kind === undefined ? KINDS : [kind], options, context)
}

/** Inspects each name as the first of `kinds` that has it; what isn't there is a line on stderr. */
export async function inspectAll(
  names: readonly string[],
  kinds: readonly Kind[],
  options: Readonly<Record<string, unknown>>,
  context: CommandContext,
): Promise<number> {
  const results = await Promise.allSettled(names.map((name) => inspectOne(name, kinds, options.size === true, context)))
  context.signal.throwIfAborted()
  const [first] = results
  if (first?.status === 'rejected' && isDarnerError(first.reason, 'AGENT_UNREACHABLE')) throw first.reason
  const found = results.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  if (text(options, 'format') === undefined) context.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`)
  else for (const one of found) printValue(one, options, context)
  for (const one of results) if (one.status === 'rejected') context.stderr.write(`darner: ${errorLine(one.reason)}\n`)
  return found.length === names.length ? EXIT.done : EXIT.failed
}

async function inspectOne(
  name: string,
  kinds: readonly Kind[],
  size: boolean,
  { socket, signal }: CommandContext,
): Promise<unknown> {
  const docker = new DockerClient({ socket })
  let last: unknown
  for (const kind of kinds) {
    try {
      switch (kind) {
        case 'container': {
          const query = size ? { size: true } : {}
          const view = await docker.json<object>('GET', `/containers/${pathPart(name)}/json`, { query, signal })
          // what docker has no words for: hooks, readiness, quotas
          return { ...view, ...(await new EngineClient({ socket }).inspect(name, { signal })) }
        }
        case 'image':
          return await docker.json('GET', `/images/${pathPart(name)}/json`, { signal })
        case 'volume':
          return await docker.json('GET', `/volumes/${pathPart(name)}`, { signal })
        case 'network':
          return {
            ...(await docker.json<object>('GET', `/networks/${pathPart(name)}`, { signal })),
            ...(await new NetworkClient({ socket }).inspect(name, { signal })),
          }
      }
    } catch (error) {
      last = error
      if (!isDarnerError(error, 'NOT_FOUND')) throw error
    }
  }
  if (kinds.length === 1) throw last
  throw new DarnerError('NOT_FOUND', `no such object: ${name}`)
}
