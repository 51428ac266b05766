/** Time and chance as parts that a caller hands in, so that decisions can be replayed. */

export interface Clock {
  /** Epoch milliseconds. */
  now(): number
  /** Milliseconds on a scale that never steps back; only differences mean something. */
  monotonicMs(): number
  /** Resolves after `ms`, or rejects with the signal's reason. Does not keep the process alive. */
  sleep(ms: number, options: { signal: AbortSignal }): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, { signal }) =>
    new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const onAbort = () => {
        clearTimeout(timer)
        reject(signal.reason)
      }
      const timer = setTimeout(() => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }, ms)
      timer.unref()
      signal.addEventListener('abort', onAbort, { once: true })
    }),
}

/** A clock that stands still until a test or the simulator moves it. */
export class ManualClock implements Clock {
  #nowMs: number
  #waiting: { at: number; wake: () => void }[] = []

  constructor(nowMs = 0) {
    this.#nowMs = nowMs
  }

  now(): number {
    return this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  sleep(ms: number, { signal }: { signal: AbortSignal }): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      this.#waiting.push({ at: this.#nowMs + ms, wake: resolve })
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
  }

  /** Moves on by `ms` and wakes, in order, all whose time has come. */
  advance(ms: number): void {
    this.#nowMs += ms
    const due = this.#waiting.filter((one) => one.at <= this.#nowMs).sort((a, b) => a.at - b.at)
    this.#waiting = this.#waiting.filter((one) => one.at > this.#nowMs)
    for (const one of due) one.wake()
  }
}

/** A source of chance: a float in [0, 1). */
export type Random = () => number

/** A small seeded generator (xorshift128-like splitmix start); equal seeds give equal streams. */
export function seededRandom(seed: number): Random {
  let a = seed >>> 0
  return () => {
    a = (a + 0x9e3779b9) >>> 0
    let t = a ^ (a >>> 16)
    t = Math.imul(t, 0x21f0aaad)
    t ^= t >>> 15
    t = Math.imul(t, 0x735a2d97)
    t ^= t >>> 15
    return (t >>> 0) / 4294967296
  }
}

/** A whole number in [0, below). */
export function randomBelow(random: Random, below: number): number {
  return Math.floor(random() * below)
}
