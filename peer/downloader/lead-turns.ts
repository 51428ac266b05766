/**
 * Turns among blobs that this host reads at their origins at once. An image is unpacked from its first layer on. Where processor time is
 * short, layers that come side by side are each as late as the last. So the earlier layer goes first for as long as this thread has no time
 * to spare, and the others come while it is unpacked.
 */
import type { Clock } from '../../src/core/clock.ts'
import { anySignal } from '../../src/core/signals.ts'

/** What one blob waits for others, in all. */
const WAITS_MS = 3_000
/** How often it is looked whether this thread has time again. */
const BUSY_LOOK_MS = 10
/** At work for more than this share of the time: no time to spare. */
const BUSY_SHARE = 0.8

interface Rules {
  /** Where it is in its image; what is nowhere comes last. */
  readonly order: number
  first(): boolean
  busy(): boolean
  over(): void
}

export class LeadTurns {
  readonly #parts: { readonly clock: Clock; readonly atWork: () => number }
  /** Those under way, as they began. */
  readonly #turns = new Set<LeadTurn>()
  #lookedMs = 0
  #busy = false

  /** `atWork` returns the share of time that this thread was at work since the last call. */
  constructor(parts: { clock: Clock; atWork: () => number }) {
    this.#parts = parts
  }

  /** A blob begins to come; its turn is disposed when it has. */
  begin(order = Number.POSITIVE_INFINITY): LeadTurn {
    if (this.#turns.size === 0) this.#look()
    const turn: LeadTurn = new LeadTurn(this.#parts.clock, {
      order,
      first: () => this.#first() === turn,
      busy: () => this.#isBusy(),
      over: () => {
        this.#turns.delete(turn)
        this.#first()?.wake()
      },
    })
    this.#turns.add(turn)
    return turn
  }

  #first(): LeadTurn | undefined {
    let first: LeadTurn | undefined
    for (const turn of this.#turns) if (first === undefined || turn.order < first.order) first = turn
    return first
  }

  #isBusy(): boolean {
    // within one turn of the loop a thread is always at work
    if (this.#parts.clock.monotonicMs() - this.#lookedMs >= BUSY_LOOK_MS) this.#look()
    return this.#busy
  }

  #look(): void {
    this.#lookedMs = this.#parts.clock.monotonicMs()
    this.#busy = this.#parts.atWork() > BUSY_SHARE
  }
}

export class LeadTurn implements Disposable {
  readonly #clock: Clock
  readonly #rules: Rules
  #leftMs = WAITS_MS
  #wake: (() => void) | undefined

  constructor(clock: Clock, rules: Rules) {
    this.#clock = clock
    this.#rules = rules
  }

  get order(): number {
    return this.#rules.order
  }

  /** Whether another had better go on first. */
  get waits(): boolean {
    return this.#leftMs > 0 && !this.#rules.first() && this.#rules.busy()
  }

  /** Resolves when it is this one's turn, there is time for it anyway, or it has waited long enough. Throws the signal's reason. */
  async come({ signal }: { signal: AbortSignal }): Promise<void> {
    while (this.waits) {
      const woken = new AbortController()
      const beganMs = this.#clock.monotonicMs()
      this.#wake = () => woken.abort()
      await this.#clock.sleep(BUSY_LOOK_MS, { signal: anySignal([woken.signal, signal]) }).catch(() => {})
      signal.throwIfAborted()
      this.#leftMs -= this.#clock.monotonicMs() - beganMs
    }
    this.#wake = undefined
  }

  wake(): void {
    this.#wake?.()
  }

  [Symbol.dispose](): void {
    this.#rules.over()
  }
}
