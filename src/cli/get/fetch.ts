/** Brings one content to where it is wanted: through the agent, or by this command alone where that can't be, saying so. */

import type { GetSummary } from '../../api/get-frames.ts'
import { type Code, DarnerError, isDarnerError } from '../../core/errors.ts'
import type { CommandContext } from '../context.ts'
import { isBehindProxy } from './behind-proxy.ts'
import { fetchFromAgent } from './from-agent.ts'
import { openTarget, seenAt } from './open-target.ts'
import { aloneBecause, type Order, type Ways } from './order.ts'
import { type Display, goingOn, type Show } from './show.ts'
import type { Target } from './target.ts'

export interface FetchParts {
  readonly context: CommandContext
  readonly display: Display
  /** False: a link under the output's name is replaced, not what it leads to. */
  readonly throughLinks?: boolean
}

/** What the swarm can't bring, though the origin can: a failure of ours, or content that is nobody's to share. */
const ALONE: readonly Code[] = ['AGENT_UNREACHABLE', 'CLOSED', 'ORIGIN_UNVERSIONED', 'TASK_FAILED', 'UNSUPPORTED']
const AGENT_TRIES = 3
const AGENT_PAUSE_MS = 300

/** Resolves when it is whole under its name. Throws what failed; nothing is under the name then that wasn't before. */
export async function fetchOne(order: Order, output: string, ways: Ways, parts: FetchParts): Promise<GetSummary> {
  if (ways.fromOrigin === 'only' && order.swarmOnly === true)
    throw new DarnerError('BAD_ARGUMENT', `${order.title} can only be read from the swarm: no origin is known`)
  const here = await alreadyHere(order, output, ways)
  if (here !== undefined) return here
  const { context, display, throughLinks = true } = parts
  await using target = await openTarget(output, context, { throughLinks })
  const show = display.row(order.name ?? order.title)
  const alone = aloneBecause(ways)
  if (alone !== undefined) display.say(`${order.title}: read at the origin by this command alone (${alone})`)
  const { summary, lastModified } =
    (alone === undefined ? await throughAgent(order, target, ways, show, parts) : undefined) ??
    (await byItself(order, target, ways, show, parts))
  const time = ways.remoteTime ? (lastModified ?? (await toldTime(order, ways, parts))) : undefined
  const mtimeMs = time === undefined ? Number.NaN : Date.parse(time)
  await target.finish({ mtimeMs: Number.isNaN(mtimeMs) ? undefined : mtimeMs })
  return summary
}

interface Fetched {
  readonly summary: GetSummary
  readonly lastModified: string | undefined
}

/** Undefined where this command has to read the origin itself. */
async function throughAgent(
  order: Order,
  target: Target,
  ways: Ways,
  show: Show,
  { context, display }: FetchParts,
): Promise<Fetched | undefined> {
  for (let tries = 1, retries = ways.retries ?? 0; ; tries++) {
    try {
      return { summary: await fetchFromAgent(order, target, ways, { context, show }), lastModified: undefined }
    } catch (error) {
      context.signal.throwIfAborted()
      if (
        ways.fromOrigin !== 'never' &&
        order.swarmOnly !== true &&
        (isDarnerError(error, ...ALONE) || (await isBehindProxy(error, order.origin, context.env)))
      ) {
        display.say(
          goingOn(
            isDarnerError(error, 'AGENT_UNREACHABLE') ? withoutWay(error) : error,
            'read at the origin by this command alone',
          ),
        )
        return undefined
      }
      // the next try is of the new version, and starts a file of its own
      const changed = isDarnerError(error, 'ORIGIN_CHANGED') && tries < AGENT_TRIES
      if (!changed && (!isDarnerError(error) || !error.facts.retry || retries-- <= 0)) throw error
      display.say(goingOn(error, 'once more'))
      const { setTimeout } = await import('node:timers/promises')
      await setTimeout(AGENT_PAUSE_MS * tries, undefined, { signal: context.signal })
    }
  }
}

/** A user that is helped without an agent needn't read how to start one. */
function withoutWay(error: DarnerError): DarnerError {
  return new DarnerError(error.code, error.message)
}

async function byItself(
  order: Order,
  target: Target,
  ways: Ways,
  show: Show,
  { context, display }: FetchParts,
): Promise<Fetched> {
  const { fetchFromOrigin } = await import('./from-origin.ts')
  const { originClient } = await import('./origin-client.ts')
  await using client = await originClient(ways, context)
  const { lastModified, ...summary } = await fetchFromOrigin(
    order,
    target,
    ways,
    { client, show, say: display.say },
    { signal: context.signal },
  )
  return { summary, lastModified }
}

/** What the origin says of the time, when the swarm brought the bytes. That it doesn't answer is no reason to throw those away. */
async function toldTime(order: Order, ways: Ways, { context, display }: FetchParts): Promise<string | undefined> {
  if (order.swarmOnly === true || ways.fromOrigin === 'never') return undefined
  const { originClient } = await import('./origin-client.ts')
  const { parseDigest } = await import('../../core/digest.ts')
  await using client = await originClient(ways, context)
  const digest = order.digest === undefined ? {} : { digest: parseDigest(order.digest) }
  try {
    const rights = { credential: order.credential, signal: context.signal }
    return (await client.stat({ origin: order.origin, ...digest }, rights)).lastModified
  } catch (error) {
    context.signal.throwIfAborted()
    display.say(goingOn(error, 'the file keeps the time of now'))
    return undefined
  }
}

/** A file that has the right digest already is not fetched again. */
async function alreadyHere(order: Order, output: string, ways: Ways): Promise<GetSummary | undefined> {
  const { digest } = order
  if (digest === undefined || !ways.resume || ways.range !== undefined || output === '-') return undefined
  const seen = seenAt(output)
  if (seen?.isFile() !== true || (order.bytes !== undefined && order.bytes !== seen.size)) return undefined
  const { createReadStream } = await import('node:fs')
  const { algorithmOf, Digester, isDigest } = await import('../../core/digest.ts')
  if (!isDigest(digest)) return undefined
  const started = performance.now()
  const digester = new Digester(algorithmOf(digest))
  try {
    for await (const chunk of createReadStream(output, { highWaterMark: 1024 * 1024 }))
      digester.update(chunk as Uint8Array)
  } catch {
    return undefined // EACCES, EIO: then it is replaced
  }
  if (digester.finish() !== digest) return undefined
  const seconds = (performance.now() - started) / 1000
  return { digest, bytes: seen.size, seconds, from: { origin: 0, supernode: 0, peers: 0 }, pieces: 0 }
}
