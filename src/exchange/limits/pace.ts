/**
 * Sending by what others leave of the links on the way: delay-based, after the idea of LEDBAT (RFC 6817). Bytes that wait in a queue make
 * the way there and back longer than the shortest that was seen. While that is more than {@link TARGET_MS}, whatever fills the queue, the
 * rate falls; while it is less, it grows. A stream that TCP's own control drives fills queues further than this, so it soon has the link to
 * itself. A link that nobody else uses is filled all but a tenth (docs/benchmarks.md, yield).
 */
import type { Clock } from '../../core/clock.ts'

/** How long a connection's bytes take to be confirmed: at present, and at best in the last minutes. */
export interface RoundTrip {
  readonly nowMs: number
  readonly leastMs: number
}

/** How long bytes may wait in queues. Below what people and calls notice, above what a busy host's own timing adds. */
export const TARGET_MS = 5
export const LEAST_BYTES_PER_SEC = 128 * 1024
const FIRST_BYTES_PER_SEC = 1024 * 1024
const MOST_BYTES_PER_SEC = 16 * 1024 ** 3
/** How often it is looked, while there is something to send. */
const MEASURE_EVERY_MS = 50
/** With twice the target or more in queues a look takes this much of the rate. */
const FALL = 0.2
/** A look without any queue adds this much; half of it at half of the target. */
const RISE = 0.05
/**
 * While less than half of the target is in queues, a look adds half. Before the first queue it does so up to most of the last rate with a
 * queue, and beyond that after so many such looks.
 */
const LEAP = 0.5
const KNOWN_PART = 0.8
const CALM_LOOKS = 10
/** What was seen before so long without a byte says nothing of now: the rate begins anew. */
const IDLE_MS = 1000
/** Looks that are not believed then: the kernel's figure is a mean, and still that of before. */
const STALE_LOOKS = 4
/** What is sent at once is what the rate gives in so many ms: it is a queue of its own on the way. */
const BURST_MS = 4
const LEAST_CHUNK_BYTES = 4 * 1024
/** The shortest way is remembered for so long at least, and for twice as long at most: routes change. */
const BASE_MS = 15 * 60_000

/** The rate alone: no clock, no I/O. */
export class SpareRate {
  bytesPerSec = FIRST_BYTES_PER_SEC
  #calm = 0
  /** What got through when a queue came last. */
  #known = Number.POSITIVE_INFINITY
  #queued = false

  /** `queueMs`: how long bytes wait on the way now; `sentBytesPerSec`: what was sent since the last look. */
  look(queueMs: number, sentBytesPerSec: number): void {
    const over = queueMs / TARGET_MS - 1
    if (over > 0) {
      if (!this.#queued) this.#known = Math.min(sentBytesPerSec, this.bytesPerSec)
      this.#calm = 0
      this.bytesPerSec *= 1 - FALL * Math.min(1, over)
    } else if (sentBytesPerSec >= this.bytesPerSec / 2) {
      // of a rate that isn't used nothing is known
      const calm = over < -0.5
      this.#calm = calm ? this.#calm + 1 : 0
      const leaps = calm && (this.bytesPerSec < KNOWN_PART * this.#known || this.#calm >= CALM_LOOKS)
      this.bytesPerSec *= 1 + (leaps ? LEAP : RISE * -over)
    }
    this.#queued = over > 0
    this.bytesPerSec = Math.min(MOST_BYTES_PER_SEC, Math.max(LEAST_BYTES_PER_SEC, this.bytesPerSec))
  }
}

export interface PaceParts {
  readonly clock: Clock
  /** Undefined where nobody can tell; then nothing is held back. */
  readonly roundTrip: () => RoundTrip | undefined
}

/** The pace of one connection. */
export class Pace {
  readonly #parts: PaceParts
  #rate = new SpareRate()
  #stale = 0
  /** The shortest way of this span and of the one before. */
  #least = { ms: Number.POSITIVE_INFINITY, beforeMs: Number.POSITIVE_INFINITY, sinceMs: 0 }
  #lookedAtMs: number
  #sentBytes = 0
  /** When what was allowed so far has been sent by the rate. */
  #freeAtMs: number
  #known = true

  constructor(parts: PaceParts) {
    this.#parts = parts
    const nowMs = parts.clock.monotonicMs()
    this.#lookedAtMs = nowMs - MEASURE_EVERY_MS
    this.#freeAtMs = nowMs
    this.#least.sinceMs = nowMs
  }

  /** The most bytes to send at once; Infinity where nothing is held back. */
  get chunkBytes(): number {
    this.#look()
    if (!this.#known) return Number.POSITIVE_INFINITY
    return Math.max(LEAST_CHUNK_BYTES, Math.floor((this.#rate.bytesPerSec * BURST_MS) / 1000))
  }

  /** Resolves when `bytes` may go; undefined, at no cost, when that is now. Rejects with the signal's reason. */
  take(bytes: number, { signal }: { signal: AbortSignal }): Promise<void> | undefined {
    this.#look()
    if (!this.#known) return undefined
    const nowMs = this.#parts.clock.monotonicMs()
    const fromMs = Math.max(this.#freeAtMs, nowMs - BURST_MS)
    this.#freeAtMs = fromMs + (bytes / this.#rate.bytesPerSec) * 1000
    this.#sentBytes += bytes
    return fromMs > nowMs ? this.#parts.clock.sleep(fromMs - nowMs, { signal }) : undefined
  }

  #look(): void {
    const nowMs = this.#parts.clock.monotonicMs()
    const spanMs = nowMs - this.#lookedAtMs
    if (spanMs < MEASURE_EVERY_MS) return
    const seen = this.#parts.roundTrip()
    this.#known = seen !== undefined
    if (spanMs > IDLE_MS) {
      this.#rate = new SpareRate()
      this.#stale = STALE_LOOKS
    }
    if (seen !== undefined) {
      if (nowMs - this.#least.sinceMs >= BASE_MS)
        this.#least = { ms: seen.leastMs, beforeMs: this.#least.ms, sinceMs: nowMs }
      this.#least.ms = Math.min(this.#least.ms, seen.leastMs)
      const queueMs = Math.max(0, seen.nowMs - Math.min(this.#least.ms, this.#least.beforeMs))
      if (this.#stale > 0) this.#stale--
      else this.#rate.look(queueMs, (this.#sentBytes / spanMs) * 1000)
    }
    this.#sentBytes = 0
    this.#lookedAtMs = nowMs
  }
}
