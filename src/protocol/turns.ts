/**
 * Turns at what costs a listener dear, such as a handshake: as many as its thread has time for, and fairly by address. An address that
 * asks a thousand times waits behind one that asks once.
 */
import { performance } from 'node:perf_hooks'
import type { Clock } from '../core/clock.ts'

/** Turns are given in steps. A step of a thread that is busy gives none, but every tenth gives one. */
const STEP_MS = 20
const TURNS_A_STEP = 4
const BUSY_STEPS_A_TURN = 10
/** Share of its time that a thread may be busy and still gives all turns. */
const BUSY_SHARE = 0.7

interface Waiting {
  readonly go: (granted: boolean) => void
  readonly gone: AbortSignal
}

export interface TurnsParts {
  readonly clock: Clock
  /** The share of its time that the thread was busy since the last call; by default that of its event loop. */
  readonly busy?: () => number
}

export class Turns {
  readonly #clock: Clock
  readonly #busy: () => number
  /** By address; whose turn is next comes first. */
  readonly #waiting = new Map<string, Waiting[]>()
  #left = TURNS_A_STEP
  #held = 0
  #stepping = false

  constructor({ clock, busy = loopShare() }: TurnsParts) {
    this.#clock = clock
    this.#busy = busy
  }

  /** True when it is this address's turn; false when `gone` aborted before. */
  take(address: string, gone: AbortSignal): Promise<boolean> {
    if (gone.aborted) return Promise.resolve(false)
    const turn = Promise.withResolvers<boolean>()
    const line = this.#waiting.get(address)
    const waiting = { go: turn.resolve, gone }
    if (line === undefined) this.#waiting.set(address, [waiting])
    else line.push(waiting)
    gone.addEventListener('abort', () => turn.resolve(false), { once: true })
    this.#give()
    if (!this.#stepping) void this.#step()
    return turn.promise
  }

  #give(): void {
    for (const [address, line] of this.#waiting) {
      if (this.#left <= 0) return
      this.#waiting.delete(address)
      const next = line.find(({ gone }) => !gone.aborted)
      if (next === undefined) continue
      const rest = line.slice(line.indexOf(next) + 1)
      if (rest.length > 0) this.#waiting.set(address, rest)
      this.#left--
      next.go(true)
    }
  }

  /** Goes on until nobody waits and the turns of a step have been saved up again. */
  async #step(): Promise<void> {
    this.#stepping = true
    while (this.#waiting.size > 0 || this.#left < TURNS_A_STEP) {
      await this.#clock.sleep(STEP_MS, { signal: NEVER })
      if (this.#busy() < BUSY_SHARE) this.#left = TURNS_A_STEP
      else if (++this.#held % BUSY_STEPS_A_TURN === 0) this.#left = Math.max(1, this.#left)
      this.#give()
    }
    this.#stepping = false
  }
}

const NEVER = new AbortController().signal

function loopShare(): () => number {
  let before = performance.eventLoopUtilization()
  return () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    before = now
    return utilization
  }
}
