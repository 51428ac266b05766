/** Whether, and how, this host begins to read an origin for all. */

import { LRUCache } from 'lru-cache'
import type { Clock } from '../../src/core/clock.ts'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { OriginPort, OriginRead } from '../../src/core/contracts/origin.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'
import { originName } from '../../src/core/task/origin.ts'
import { pieceRange, type Task } from '../../src/core/task/task.ts'
import { upTo } from '../../src/core/up-to.ts'
import type { Store } from '../../src/store/store.ts'

/** An origin that hasn't answered by now is left to the supernode, which may have a better way to it. */
const ANSWER_MS = 3_000
/** For how long after that this host doesn't try it again. */
const AVOID_MS = 5 * 60_000
const MAX_AVOIDED = 256
/** The origin's own words about the asker's rights: others would hear the same. */
const REFUSED = ['ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_NOT_FOUND'] as const

export class LeadOpener {
  readonly #parts: { readonly store: Store; readonly origin: OriginPort; readonly clock: Clock }
  /** Upstreams that can't be read from here, until when. */
  readonly #avoided = new LRUCache<string, number>(upTo(MAX_AVOIDED))

  constructor(parts: { store: Store; origin: OriginPort; clock: Clock }) {
    this.#parts = parts
  }

  /** Whether to offer it for this request. */
  offers(request: ContentRequest): boolean {
    if (request.lead !== true || request.fromOrigin === 'never') return false
    if (request.digest === undefined || request.bytes === undefined || request.preheat !== undefined) return false
    return (this.#avoided.get(placeOf(request)) ?? 0) <= this.#parts.clock.monotonicMs()
  }

  /**
   * The read of what lacks, opened with the asker's own rights; undefined where somebody else had better read it. Throws the
   * origin's refusals, SIZE_MISMATCH. The caller closes the read.
   */
  async open(
    request: ContentRequest,
    task: Task,
    { signal }: { signal: AbortSignal },
  ): Promise<OriginRead | undefined> {
    const { store, origin } = this.#parts
    const here = store.byDigest(request.digest ?? task.digest ?? failNoDigest(task))?.have
    const gap = here?.nextClear(0) ?? 0
    const late = new AbortController()
    const timer = setTimeout(() => {
      late.abort(new DarnerError('TIMED_OUT', `${originName(request.origin)} did not answer within ${ANSWER_MS} ms`))
    }, ANSWER_MS)
    let read: OriginRead
    try {
      read = await origin.read(
        { origin: request.origin, digest: request.digest ?? failNoDigest(task) },
        {
          from: gap < 0 ? task.bytes : pieceRange(task, gap).from,
          credential: request.credential,
          signal: anySignal([signal, late.signal]),
        },
      )
    } catch (error) {
      signal.throwIfAborted()
      if (isDarnerError(error, ...REFUSED)) throw error
      this.#avoid(placeOf(request))
      return undefined
    } finally {
      clearTimeout(timer)
    }
    if (read.bytes === task.bytes || (read.bytes === undefined && (here?.count ?? 0) === 0)) return read
    await read[Symbol.asyncDispose]()
    // what is here is shown to the reader for an answer about the blob, which one without a length need not be
    if (read.bytes === undefined) return undefined
    const text = `${task.id}: the manifest states ${task.bytes} bytes, the origin has ${read.bytes}`
    throw new DarnerError('SIZE_MISMATCH', text)
  }

  #avoid(place: string): void {
    this.#avoided.set(place, this.#parts.clock.monotonicMs() + AVOID_MS)
  }
}

function placeOf({ origin }: ContentRequest): string {
  return origin.kind === 'registry' ? origin.upstream : new URL(origin.url).origin
}

function failNoDigest(task: Task): never {
  throw new DarnerError('INTERNAL', `${task.id}: only what has a digest is read for all`)
}
