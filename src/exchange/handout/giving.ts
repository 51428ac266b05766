/**
 * What a parent, seed or peer, gives to the children of one task: the {@link Handout} with its waiting children. A shelf gives one {@link
 * Giving.open} to each child that opened the task.
 */
import type { Clock, Random } from '../../core/clock.ts'
import type { GivingTo } from '../../core/contracts/exchange.ts'
import { DarnerError } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import type { ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { HANDOUT_DEFAULTS, Handout, type HandoutOptions, type Seat } from './handout.ts'

interface Waiting {
  readonly seat: Seat<symbol>
  readonly give: (piece: number | undefined) => void
  readonly fail: (error: DarnerError) => void
}

export interface GivingParts {
  readonly clock: Clock
  /** Chance for ties; a seed has none and goes in the order of the origin. */
  readonly random?: Random
  readonly handout?: HandoutOptions
}

export class Giving implements Disposable {
  readonly #handout: Handout<symbol>
  readonly #clock: Clock
  readonly #pieces: number
  readonly #waiting: Waiting[] = []

  /** `have` is what is here now; {@link known} adds more. */
  constructor(pieces: number, have: ReadonlyBitmap, parts: GivingParts) {
    const { clock, random, handout = HANDOUT_DEFAULTS } = parts
    this.#clock = clock
    this.#pieces = pieces
    this.#handout = new Handout(pieces, random === undefined ? handout : { ...handout, random })
    for (const [from, count] of have.ranges()) this.#handout.known(from, count)
  }

  /** Children that have the task open. */
  get children(): number {
    return this.#handout.children
  }

  /** Pieces were stored: children that wait may get them. */
  known(from: number, count: number): void {
    this.#handout.known(from, count)
    this.#pump()
  }

  /** A piece begins to come here and may be passed on meanwhile, or isn't coming any more. */
  arriving(piece: number, coming: boolean): void {
    this.#handout.arriving(piece, coming)
    if (coming) this.#pump()
  }

  /** Takes back what children didn't confirm in time. Call it about once a second. */
  tick(): void {
    if (this.#handout.expire(this.#clock.monotonicMs())) this.#pump()
  }

  /** A child opened the task, holding `childHas`. */
  open(childHas: ReadonlyBitmap): GivingTo {
    const handout = this.#handout
    const seat = handout.join(Symbol('child'), childHas)
    const then = (act: () => void) => {
      act()
      this.#pump()
    }
    return {
      choose: ({ signal, sure = false, early = false, ahead = 0 }) => {
        handout.asks(seat, { sure, early, ahead })
        return this.#choose(seat, signal)
      },
      coming: (piece) => handout.coming(seat, piece),
      lost: (piece) => then(() => handout.lost(seat, piece)),
      told: (from, count) =>
        then(() => {
          for (let piece = from; piece < from + count; piece++) handout.holds(seat, piece)
        }),
      taken: (piece) => then(() => handout.taken(seat, piece, this.#clock.monotonicMs())),
      named: (piece) => handout.named(seat, piece, this.#clock.monotonicMs()),
      sent: (piece) => then(() => handout.sent(seat, piece, this.#clock.monotonicMs())),
      yields: (piece) => then(() => handout.yields(seat, piece)),
      unsent: (piece) => then(() => handout.failed(seat, piece)),
      [Symbol.dispose]: () =>
        then(() => {
          handout.release(seat)
          for (const one of this.#waiting.filter((waiting) => waiting.seat === seat)) this.#end(one)
        }),
    }
  }

  /** Nothing more will be given: every waiting child gets the reason. */
  fail(error: DarnerError): void {
    for (const one of this.#waiting.splice(0)) one.fail(error)
  }

  async #choose(seat: Seat<symbol>, signal: AbortSignal): Promise<number | undefined> {
    signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()
    const waiting = { seat, give: resolve, fail: reject }
    this.#waiting.push(waiting)
    this.#pump()
    try {
      return await abortable(promise, signal)
    } catch (error) {
      // It may have been given a piece in the same moment, which then isn't sent.
      if (!this.#waiting.includes(waiting))
        void promise.then(
          (piece) => this.#untaken(seat, piece),
          () => {},
        )
      this.#end(waiting)
      throw error
    }
  }

  #untaken(seat: Seat<symbol>, piece: number | undefined): void {
    if (piece === undefined) return
    this.#handout.failed(seat, piece)
    this.#pump()
  }

  #end(waiting: Waiting): void {
    const at = this.#waiting.indexOf(waiting)
    if (at >= 0) this.#waiting.splice(at, 1)
    waiting.give(undefined)
  }

  #pump(): void {
    if (this.#waiting.length === 0) return
    for (const one of this.#waiting.filter(({ seat }) => this.#handout.held(seat) >= this.#pieces)) this.#end(one)
    for (;;) {
      const given = this.#handout.give(
        this.#waiting.map(({ seat }) => seat),
        this.#clock.monotonicMs(),
      )
      if (!given) return
      const [one] = this.#waiting.splice(given.at, 1)
      if (!one) throw new DarnerError('INTERNAL', `handout gave to place ${given.at} of ${this.#waiting.length}`)
      one.give(given.piece)
    }
  }

  /** Nothing more is given: waiting children are notified. */
  [Symbol.dispose](): void {
    for (const one of [...this.#waiting]) this.#end(one)
  }
}
