/**
 * One content straight from its origin, by this process. It begins where an earlier run ended, goes on where a read broke, never puts two
 * versions into one file, and checks the digest.
 */
import { createHash } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import type { GetSummary } from '../../api/get-frames.ts'
import { formatDuration } from '../../core/config/units.ts'
import type { Version } from '../../core/contracts/origin.ts'
import { algorithmOf, Digester, parseDigest } from '../../core/digest.ts'
import { DarnerError, isDarnerError } from '../../core/errors.ts'
import type { OriginClient } from '../../origin/registry-client.ts'
import { RETRY_LIMITS, retryPlan } from '../../origin/retry-plan.ts'
import { tellsApart } from '../../origin/validator.ts'
import type { Order, Range, Ways } from './order.ts'
import { paced } from './paced.ts'
import { goingOn, type Show } from './show.ts'
import type { Target } from './target.ts'

export interface FromOriginParts {
  readonly client: OriginClient
  readonly show: Show
  readonly say: (text: string) => void
}

/** What came, and the time that the origin gives it. */
export interface Fetched extends GetSummary {
  readonly lastModified?: string
}

/** Versions that may come one after the other before it is the origin's fault. */
const MAX_VERSIONS = 3

/** Throws what reading an origin throws, DIGEST_MISMATCH, ORIGIN_CHANGED, NOT_FOUND (a range outside), and the target's. */
export async function fetchFromOrigin(
  order: Order,
  target: Target,
  ways: Ways,
  parts: FromOriginParts,
  { signal }: { signal: AbortSignal },
): Promise<Fetched> {
  const { origin, credential } = order
  const digest = order.digest === undefined ? undefined : parseDigest(order.digest)
  if (digest !== undefined && ways.range !== undefined) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `${order.title}: a part can't be checked against the digest of the whole without an agent`,
      {
        way: origin.kind === 'registry' ? 'leave out --range' : 'leave out --range or --digest',
      },
    )
  }
  const what = { origin, ...(digest === undefined ? {} : { digest }) }
  const range = ways.range === undefined ? undefined : await boundsOf(ways.range, order, parts.client, signal)
  const run = new Run(order, target, ways, parts, digest === undefined ? 'sha256' : algorithmOf(digest))
  const limits = { ...RETRY_LIMITS, attempts: (ways.retries ?? RETRY_LIMITS.attempts - 1) + 1 }
  await run.begin(range)
  for (let attempt = 0, versions = 1; ; ) {
    const before = run.have
    try {
      const ifMatch = run.have > 0 && run.version !== undefined ? { ifMatch: run.version } : {}
      const at = (range?.from ?? 0) + run.have
      const to = range?.to === undefined ? {} : { to: range.to }
      if (range?.to === undefined || at < range.to) {
        await using read = await parts.client.read(what, { from: at, ...to, ...ifMatch, credential, signal })
        await run.take(read, at, range, signal)
      }
      const summary = run.summary()
      if (digest === undefined || summary.digest === digest) return summary
      const text = `${order.title}: ${digest} was asked for, the ${summary.bytes} bytes hash to ${summary.digest}`
      const error = new DarnerError('DIGEST_MISMATCH', text, { details: { expected: digest, got: summary.digest } })
      // what an earlier run left may be of another version
      if (!run.resumed) throw error
      parts.say(goingOn(error, 'once more from the start'))
      await run.again()
    } catch (error) {
      if (signal.aborted) {
        run.leave()
        throw signal.reason
      }
      if (isDarnerError(error, 'DIGEST_MISMATCH')) throw error
      if (isDarnerError(error, 'ORIGIN_CHANGED')) {
        if (before === 0 && range !== undefined) throw new DarnerError('NOT_FOUND', error.message, { cause: error })
        if (++versions > MAX_VERSIONS) throw error
        parts.say(goingOn(error, 'from the start'))
        await run.again()
        continue
      }
      if (run.have > before) attempt = 0
      const waitMs = retryPlan(error, ++attempt, Math.random, limits)
      if (waitMs === undefined) {
        run.leave()
        throw error
      }
      parts.say(goingOn(error, `again in ${formatDuration(waitMs)}`))
      await setTimeout(waitMs, undefined, { signal })
      // nothing shows whether what comes next belongs to what is here
      if (run.have > 0 && digest === undefined && !tellsApart(run.version)) await run.again()
    }
  }
}

interface Bounds {
  readonly from: number
  readonly to: number | undefined
}

/** A range from the end needs the length first. */
async function boundsOf(range: Range, order: Order, client: OriginClient, signal: AbortSignal): Promise<Bounds> {
  if (!('last' in range)) return { from: range.from, to: range.to }
  const { bytes } = await client.stat({ origin: order.origin }, { credential: order.credential, signal })
  if (bytes === undefined)
    throw new DarnerError(
      'UNSUPPORTED',
      `${order.title}: the origin tells no length, so there are no last ${range.last} bytes`,
    )
  return { from: Math.max(0, bytes - range.last), to: bytes }
}

class Run {
  readonly #order: Order
  readonly #target: Target
  readonly #ways: Ways
  readonly #parts: FromOriginParts
  readonly #algorithm: 'sha256' | 'sha512'
  readonly #started = performance.now()
  #digester: Digester
  #key = ''
  #got = 0
  /** Bytes of what is wanted that are in the target. */
  have = 0
  /** The version that they are of. */
  version: Version | undefined
  /** Some of them are an earlier run's. */
  resumed = false

  constructor(order: Order, target: Target, ways: Ways, parts: FromOriginParts, algorithm: 'sha256' | 'sha512') {
    this.#order = order
    this.#target = target
    this.#ways = ways
    this.#parts = parts
    this.#algorithm = algorithm
    this.#digester = new Digester(algorithm)
  }

  async begin(range: Bounds | undefined): Promise<void> {
    const { origin, digest } = this.#order
    this.#key = createHash('sha256')
      .update(JSON.stringify([origin, digest, range]))
      .digest('hex')
    const kept = this.#ways.resume
      ? await this.#target.kept(this.#key, (bytes) => this.#digester.update(bytes))
      : undefined
    if (kept === undefined || (digest === undefined && !tellsApart(kept.version))) return await this.again()
    this.have = kept.bytes
    this.version = kept.version
    this.resumed = kept.bytes > 0
  }

  async again(): Promise<void> {
    await this.#target.restart()
    this.#digester = new Digester(this.#algorithm)
    this.have = 0
    this.version = undefined
    this.resumed = false
  }

  /** Takes what a read that was asked from byte `at` on brings. */
  async take(
    read: Version & { from: number; stream: AsyncIterable<Uint8Array> },
    at: number,
    range: Bounds | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { etag, lastModified, bytes } = read
    if (range !== undefined && bytes !== undefined && at >= bytes && this.have === 0)
      throw new DarnerError(
        'NOT_FOUND',
        `${this.#order.title}: the range begins at byte ${at}, the content has ${bytes} bytes`,
      )
    if (this.have === 0) {
      this.version = {
        ...(etag === undefined ? {} : { etag }),
        ...(lastModified === undefined ? {} : { lastModified }),
        ...(bytes === undefined ? {} : { bytes }),
      }
      await this.#target.restart({ key: this.#key, version: this.version })
    }
    const total = bytes === undefined ? undefined : Math.min(range?.to ?? bytes, bytes) - (range?.from ?? 0)
    // an origin that knows no ranges sends everything
    let skip = at - read.from
    let left = range?.to === undefined ? Number.POSITIVE_INFINITY : range.to - at
    for await (const chunk of paced(read.stream, this.#ways.rateBytesPerSec, signal)) {
      const part = chunk.subarray(Math.min(skip, chunk.byteLength)).subarray(0, left)
      skip -= Math.min(skip, chunk.byteLength)
      left -= part.byteLength
      this.#digester.update(part)
      await this.#target.write(part)
      this.have += part.byteLength
      this.#got += part.byteLength
      this.#parts.show.progress({ bytes: total, have: this.have, from: { origin: this.#got, supernode: 0, peers: 0 } })
      if (left === 0) break
    }
  }

  /** What is here stays for a later run, if that can tell what it is of. */
  leave(): void {
    if (this.have > 0 && (this.#order.digest !== undefined || tellsApart(this.version))) this.#target.keep()
  }

  summary(): Fetched {
    const { lastModified } = this.version ?? {}
    return {
      digest: this.#digester.finish(),
      bytes: this.have,
      seconds: (performance.now() - this.#started) / 1000,
      from: { origin: this.#got, supernode: 0, peers: 0 },
      pieces: 0,
      ...(lastModified === undefined ? {} : { lastModified }),
    }
  }
}
