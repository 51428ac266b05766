/** What a host that reads the origin tells the supernode of its progress: in runs, a few pieces at a time. */
import type { ByteSources } from '../../src/contracts/content.ts'
import type { Registration } from '../../src/contracts/scheduling.ts'

export class Reports {
  readonly #registration: Registration
  readonly #every: number
  readonly #from: ByteSources
  readonly #runs: [from: number, count: number][] = []
  #pieces = 0

  /** `from` is read at each report. */
  constructor(registration: Registration, everyPieces: number, from: ByteSources) {
    this.#registration = registration
    this.#every = everyPieces
    this.#from = from
  }

  gained(piece: number): void {
    const last = this.#runs.at(-1)
    if (last !== undefined && last[0] + last[1] === piece) last[1]++
    else this.#runs.push([piece, 1])
    if (++this.#pieces >= this.#every) this.send(false)
  }

  send(complete: boolean): void {
    if (this.#pieces === 0 && !complete) return
    this.#pieces = 0
    this.#registration.report({ runs: this.#runs.splice(0), complete, from: { ...this.#from } })
  }
}
