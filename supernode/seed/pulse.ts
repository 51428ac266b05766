/** Whether something is getting on: bytes that came, and waiters for them. */
import type { Clock } from '../../src/core/clock.ts'
import { settles } from '../../src/core/settles.ts'

/** Fewer bytes than this within the time are as good as none. */
const MIN_BYTES = 64 * 1024

export class Pulse {
  readonly #clock: Clock
  readonly #waiters = new Set<{ lack: number; readonly seen: () => void }>()

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Bytes came; `Infinity` when it is over. */
  beat(bytes: number): void {
    for (const waiter of this.#waiters) {
      waiter.lack -= bytes
      if (waiter.lack <= 0) waiter.seen()
    }
  }

  /** True once 64 KiB have come from now on, false when they don't within `withinMs`. */
  async beats(withinMs: number, { signal }: { signal: AbortSignal }): Promise<boolean> {
    const seen = Promise.withResolvers<void>()
    const waiter = { lack: MIN_BYTES, seen: seen.resolve }
    this.#waiters.add(waiter)
    try {
      return await settles(seen.promise, withinMs, { clock: this.#clock, signal })
    } finally {
      this.#waiters.delete(waiter)
    }
  }
}
