/** One running fetch with its readers: begun by the first, ended with the last, or when the blob is complete. */

import type { ByteSources, ContentSummary } from '../../src/core/contracts/content.ts'
import type { Digest } from '../../src/core/digest.ts'
import { type DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { pieceCount } from '../../src/core/task/task.ts'
import type { StoredTask } from '../../src/store/store.ts'
import type { Fetching } from './fetching.ts'
import type { Tail } from './tail.ts'

/** What performs the fetch right now: a download from the swarm, or a read at the origin. */
export interface Fetcher {
  readonly from: ByteSources
  demand(from: number, to: number): Disposable
  describe(): string
}

/** {@link Fetcher.demand} of one that gives bytes in order, whatever readers wait for. */
export function inOrder(): Disposable {
  return { [Symbol.dispose]: () => {} }
}

const NOTHING: ByteSources = { origin: 0, supernode: 0, peers: 0 }

export class Running implements Fetching {
  readonly stored: StoredTask
  readonly whole: Promise<ContentSummary>
  readonly matched: Promise<ContentSummary>
  readonly failing: AbortSignal
  readonly tail: Tail | undefined
  readonly #controller: AbortController
  readonly #haveAtStart: number
  readonly #startedMs: number
  readonly #now: () => number
  readonly #demands = new Map<symbol, { from: number; to: number; held: Disposable | undefined }>()
  #fetcher: Fetcher | undefined
  #before: ByteSources = NOTHING
  readers = 0

  /** `work` fetches everything and resolves with the verified digest; it is aborted when the last reader leaves. */
  constructor(
    stored: StoredTask,
    now: () => number,
    controller: AbortController,
    work: (running: Running, signal: AbortSignal) => Promise<Digest>,
    tail?: Tail,
  ) {
    this.tail = tail
    this.stored = stored
    this.#now = now
    this.#startedMs = now()
    this.#haveAtStart = stored.have.count - stored.regained
    this.#controller = controller
    this.whole = this.#freed(work(this, controller.signal)).then((digest) => this.#summary(digest))
    // a failure comes by `whole`, whose error says how the fetch ended
    const matched = stored.matched({ signal: controller.signal }).then((digest) => this.#summary(digest))
    this.matched = Promise.race([this.whole, matched.catch(() => this.whole)])
    this.matched.catch(() => {})
    const failing = new AbortController()
    this.failing = failing.signal
    this.whole.catch((error: DarnerError) => failing.abort(error))
  }

  get from(): ByteSources {
    const now = this.#fetcher?.from ?? NOTHING
    return {
      origin: this.#before.origin + now.origin,
      supernode: this.#before.supernode + now.supernode,
      peers: this.#before.peers + now.peers,
    }
  }

  /** Another way of fetching takes over; what readers wait for is handed on to it. */
  use(fetcher: Fetcher): void {
    this.#before = this.from
    this.#fetcher = fetcher
    for (const demand of this.#demands.values()) demand.held = fetcher.demand(demand.from, demand.to)
  }

  demand(from: number, to: number): Disposable {
    const key = Symbol('demand')
    this.#demands.set(key, { from, to, held: this.#fetcher?.demand(from, to) })
    return {
      [Symbol.dispose]: () => {
        this.#demands.get(key)?.held?.[Symbol.dispose]()
        this.#demands.delete(key)
      },
    }
  }

  describe(): string {
    return this.#fetcher?.describe() ?? 'starting'
  }

  /** Ends the fetch; what is here stays, to go on from later. */
  abort(reason: unknown): void {
    this.#controller.abort(reason)
  }

  /** A disk without room for the rest gets the beginning back: others may fit there. */
  async #freed(work: Promise<Digest>): Promise<Digest> {
    try {
      return await work
    } catch (error) {
      if (isDarnerError(error, 'DISK_FULL') && !this.stored.complete) await this.stored.discard(error)
      throw error
    }
  }

  #summary(digest: Digest): ContentSummary {
    return {
      digest,
      bytes: this.stored.task.bytes,
      pieces: pieceCount(this.stored.task) - this.#haveAtStart - this.stored.regained,
      seconds: (this.#now() - this.#startedMs) / 1000,
      from: this.from,
    }
  }
}
