/**
 * One absence of the supernode, from the loss of its session (or this agent's start) to the next session. It decides how long fetches wait
 * before they go on without it. All fetches share one wait, and none waits for a supernode that is known to be away.
 */
import type { Clock, Random } from '../src/core/clock.ts'
import { anySignal } from '../src/core/signals.ts'

/** The longest wait, counted from the first fetch of the absence. */
const WAIT_MS = 1_000

export interface AbsenceParts {
  readonly clock: Clock
  readonly random: Random
  /** There was a session before: other hosts may have lost theirs in the same moment. */
  readonly lost: boolean
}

export class Absence {
  readonly #clock: Clock
  readonly #sinceMs: number
  /** Hosts that lose the same supernode at once give up at different times, so that they don't meet at the origin. */
  readonly #spreadMs: number
  /** How long a dial that is under way may keep fetches waiting. */
  readonly #dialMs: number
  readonly #dialFailed = Promise.withResolvers<void>()
  #firstMs: number | undefined

  constructor({ clock, random, lost }: AbsenceParts) {
    const share = random()
    this.#clock = clock
    this.#sinceMs = clock.monotonicMs()
    this.#spreadMs = lost ? share * WAIT_MS : 0
    this.#dialMs = ((1 + share) / 2) * WAIT_MS
  }

  /** The supernode could not be reached: from here on it is known to be away. */
  dialFailed(): void {
    this.#dialFailed.resolve()
  }

  /** Resolves when a fetch should wait no longer; at once where the supernode is known to be away. Rejects with the signal's reason. */
  async waited({ signal }: { signal: AbortSignal }): Promise<void> {
    this.#firstMs ??= this.#clock.monotonicMs()
    const known = new AbortController()
    try {
      await Promise.race([
        this.#dialFailed.promise,
        this.#sleepUntil(this.#firstMs + this.#dialMs, anySignal([signal, known.signal])),
      ])
    } finally {
      known.abort()
    }
    await this.#sleepUntil(this.#sinceMs + this.#spreadMs, signal)
  }

  async #sleepUntil(atMs: number, signal: AbortSignal): Promise<void> {
    const waitMs = atMs - this.#clock.monotonicMs()
    if (waitMs > 0) await this.#clock.sleep(waitMs, { signal })
  }
}
