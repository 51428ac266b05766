/** The buckets with a clock and callers that wait: what every mover of bulk bytes asks before it moves them. */

import type { UploadYield } from '../../api/care-api.ts'
import type { Clock } from '../../core/clock.ts'
import type { Priority } from '../../core/contracts/content.ts'
import { Scope } from '../../core/scope.ts'
import { Buckets, type Claim, type Flow, type Limit, type LimitScope } from './buckets.ts'

/**
 * A TCP segment of 1,500 bytes adds between 4 % and 5 %, on loopback nothing. Bulk movers charge the middle, so that payload and wire both
 * stay within 5 % of a limit.
 */
export const WIRE_FACTOR = 1.025

export interface TakeOptions extends Flow {
  readonly signal: AbortSignal
}

interface Waiter extends Claim {
  readonly resolve: () => void
}

export class RateLimits implements AsyncDisposable {
  readonly #clock: Clock
  readonly #buckets = new Buckets<Waiter>()
  readonly #scope = new Scope()
  readonly #listeners = new Set<() => void>()
  #wake: { atMs: number; cancel: AbortController } | undefined

  /** What of what is served gives way to all other traffic on the way, by the pace of each connection (`pace.ts`). */
  uploadYield: UploadYield = 'none'

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Sets, changes or (undefined) lifts a limit; waiting transfers are judged anew at once. */
  set(scope: LimitScope, limit: Limit | undefined): void {
    this.#buckets.set(scope, limit, this.#clock.monotonicMs())
    this.#pump()
    for (const listener of this.#listeners) listener()
  }

  /** Whether what is served at this priority gives way. */
  givesWay(priority: Priority): boolean {
    return this.uploadYield === 'all' || this.uploadYield === priority
  }

  list(): { scope: LimitScope; limit: Limit }[] {
    return this.#buckets.list()
  }

  /** Calls back after each change of a limit. Returns the unsubscriber. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  limited(flow: Flow): boolean {
    return this.#buckets.limited(flow)
  }

  /** The most bytes to take at once so that the flow stays smooth; Infinity when nothing limits it. */
  chunkBytes(flow: Flow): number {
    return this.#buckets.chunkBytes(flow)
  }

  /** Resolves when `bytes` may move; undefined, at no cost, when nothing limits the flow. Rejects with the signal's reason. */
  take(bytes: number, options: TakeOptions): Promise<void> | undefined {
    if (this.#buckets.idle || !this.#buckets.limited(options)) return undefined
    return this.#wait(bytes, options)
  }

  async #wait(bytes: number, { signal, ...flow }: TakeOptions): Promise<void> {
    signal.throwIfAborted()
    this.#scope.signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter: Waiter = { flow, bytes, resolve }
    const onAbort = () => {
      this.#buckets.remove(waiter)
      reject(signal.reason ?? this.#scope.signal.reason)
    }
    const onClose = () => reject(this.#scope.signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#scope.signal.addEventListener('abort', onClose, { once: true })
    this.#buckets.add(waiter)
    this.#pump()
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#scope.signal.removeEventListener('abort', onClose)
    }
  }

  #pump(): void {
    const nowMs = this.#clock.monotonicMs()
    const { granted, waitMs } = this.#buckets.round(nowMs)
    for (const waiter of granted) waiter.resolve()
    if (waitMs === undefined || this.#scope.signal.aborted) return
    const atMs = nowMs + waitMs
    if (this.#wake !== undefined) {
      // an earlier look costs less than a timer made anew for each caller
      if (this.#wake.atMs <= atMs) return
      this.#wake.cancel.abort()
    }
    const wake = { atMs, cancel: new AbortController() }
    this.#wake = wake
    this.#scope.run(async () => {
      try {
        await this.#clock.sleep(waitMs, { signal: wake.cancel.signal })
      } catch {
        return // only ever cancelled by us: an earlier wake took over, or the end
      }
      if (this.#wake !== wake) return
      this.#wake = undefined
      this.#pump()
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#wake?.cancel.abort()
    await this.#scope.close()
  }
}
