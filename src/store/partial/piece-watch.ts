/** Waiters for pieces of one task, and listeners for each piece. */
import type { Log } from '../../core/log.ts'

type Waiter = PromiseWithResolvers<void>

export class PieceWatch {
  readonly #log: Log
  readonly #waiters = new Map<number, Set<Waiter>>()
  readonly #listeners = new Set<(from: number, count: number) => void>()

  constructor(log: Log) {
    this.#log = log
  }

  get busy(): boolean {
    return this.#waiters.size > 0 || this.#listeners.size > 0
  }

  get heard(): boolean {
    return this.#listeners.size > 0
  }

  listen(listener: (from: number, count: number) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Resolves when the piece is announced, rejects with what {@link fail} was given or the signal's reason. */
  async wait(piece: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const waiter: Waiter = Promise.withResolvers()
    const set = this.#waiters.get(piece) ?? new Set()
    this.#waiters.set(piece, set.add(waiter))
    const onAbort = () => waiter.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await waiter.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      set.delete(waiter)
      if (set.size === 0 && this.#waiters.get(piece) === set) this.#waiters.delete(piece)
    }
  }

  announce(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) {
      const set = this.#waiters.get(piece)
      if (!set) continue
      this.#waiters.delete(piece)
      for (const waiter of set) waiter.resolve()
    }
    for (const listener of this.#listeners) {
      try {
        listener(from, count)
      } catch (error) {
        // one listener's fault must not keep the others from hearing
        this.#log.error({ error }, 'piece listener failed')
      }
    }
  }

  fail(error: Error): void {
    const sets = [...this.#waiters.values()]
    this.#waiters.clear()
    this.#listeners.clear()
    for (const set of sets) for (const waiter of set) waiter.reject(error)
  }
}
