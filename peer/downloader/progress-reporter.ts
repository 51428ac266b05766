/** Progress reports of a host that reads the origin, to the supernode: in runs, a few pieces at a time. */
import type { Clock } from '../../src/core/clock.ts'
import type { ByteSources } from '../../src/core/contracts/content.ts'
import type { Registration } from '../../src/core/contracts/scheduling.ts'
import { addRun, type PieceRun } from '../../src/core/task/runs.ts'

/**
 * Fast progress is reported in larger runs: each report is work for the supernode, and for this host's own stream. While no other host
 * takes pieces from here, only the view of the swarm's state uses it.
 */
const LEAST_MS = 100
const UNHEARD_MS = 500

export class Reports {
  readonly #registration: Registration
  readonly #clock: Clock
  readonly #every: number
  readonly #from: ByteSources
  readonly #heard: () => boolean
  readonly #runs: PieceRun[] = []
  #pieces = 0
  #sentMs = Number.NEGATIVE_INFINITY

  /** `from` is read at each report; `heard` says whether somebody takes pieces from here. */
  constructor(
    { registration, clock, heard }: { registration: Registration; clock: Clock; heard: () => boolean },
    everyPieces: number,
    from: ByteSources,
  ) {
    this.#registration = registration
    this.#clock = clock
    this.#heard = heard
    this.#every = everyPieces
    this.#from = from
  }

  gained(from: number, count: number): void {
    addRun(this.#runs, from, count)
    this.#pieces += count
    if (this.#pieces < this.#every) return
    const leastMs = this.#heard() ? LEAST_MS : UNHEARD_MS
    if (this.#clock.monotonicMs() - this.#sentMs >= leastMs) this.send(false)
  }

  send(complete: boolean): void {
    if (this.#pieces === 0 && !complete) return
    this.#pieces = 0
    this.#sentMs = this.#clock.monotonicMs()
    this.#registration.report({ runs: this.#runs.splice(0), complete, from: { ...this.#from } })
  }
}
