/** One task opened by one child, as its parent keeps it: what was asked, what may be sent, what was announced. */

import type { Priority } from '../../core/contracts/content.ts'
import type { GivingTo, ShelfTask } from '../../core/contracts/exchange.ts'
import { DarnerError } from '../../core/errors.ts'
import { Bitmap } from '../../core/task/bitmap.ts'
import { pieceCount } from '../../core/task/task.ts'
import { PendingRuns } from '../runs.ts'
import { type Run, TELL_COMING, TELL_LOST, UNMETERED } from '../transport/lane-frames.ts'

/** How a child asks for a piece of our choice. */
export interface Question {
  /** It takes whatever comes, without an offer; */
  readonly sure: boolean
  /** of that also what is still coming here. */
  readonly early: boolean
  /** So many pieces it wants on their way to it, from all its parents; 0 leaves it to us. */
  readonly ahead: number
}

/** A request that waits or is in service. `offset` is where a piece that stepped back goes on. */
export interface ServedRequest {
  readonly id: number
  readonly piece: number
  /** Our choice, not the child's. */
  readonly chosen: boolean
  offset: number
  cancelled: boolean
}

/** How often something happens, smoothed. */
class Pace {
  #everyMs = 0
  #lastMs = 0

  /** 0 while it isn't known. */
  get everyMs(): number {
    return this.#everyMs
  }

  /** It happened now. */
  note(nowMs: number): void {
    const apartMs = nowMs - this.#lastMs
    if (this.#lastMs > 0)
      this.#everyMs = this.#everyMs === 0 ? apartMs : this.#everyMs + 0.1 * (apartMs - this.#everyMs)
    this.#lastMs = nowMs
  }
}

export class ServedChannel implements Disposable {
  readonly number: number
  readonly shelf: ShelfTask
  readonly priority: Priority
  readonly pieces: number
  /** What this child is given when it asks for any piece. */
  readonly giving: GivingTo
  /** Pieces that the child reported as here. */
  readonly #childHas: Bitmap
  /** Ends choosing, reading and waiting for this channel. */
  readonly controller = new AbortController()
  /** Piece requests that wait for a slot. */
  readonly queue: ServedRequest[] = []
  /** Requests for a piece of our choice that wait to be offered one, or to be sent one. */
  readonly undecided: number[] = []
  /** Those, and what is sent for them, by request. */
  readonly #questions = new Map<number, Question>()
  /** Pieces that were offered and neither taken nor declined yet, by request. */
  readonly #offered = new Map<number, { piece: number; late: boolean }>()
  /** Every request that has not been answered to its end, by id; undefined while its piece isn't chosen. */
  readonly open = new Map<number, ServedRequest | undefined>()
  readonly news = new PendingRuns()
  readonly newsPace = new Pace()
  /** Pieces that the shelf waits to hear of: sent whole, or not. By request. */
  readonly #owed = new Map<number, number>()
  /** True while a job of this channel waits for a slot or has one. */
  scheduled = false
  choosing = false
  /** Ends the wait of what is in service for bytes that are still coming here. */
  wake: (() => void) | undefined
  /** The child asks by name, so it needs to hear soon what is here. */
  names = false
  sentBytes = 0
  #creditBytes: number
  #creditCame: PromiseWithResolvers<void> | undefined
  #staleTold = 0
  #hinted = 0
  #inService: ServedRequest | undefined
  readonly #unsubscribe: () => void

  /** Owns `shelf`. `onNews` is called when pieces landed that the child should hear of. */
  constructor(
    options: { number: number; priority: Priority; metered: boolean; childHas: Uint8Array },
    parts: { shelf: ShelfTask; onNews: (channel: ServedChannel) => void },
  ) {
    this.number = options.number
    this.priority = options.priority
    this.shelf = parts.shelf
    this.pieces = pieceCount(parts.shelf.task)
    const { pieces } = this
    this.#childHas = options.childHas.byteLength === 0 ? new Bitmap(pieces) : Bitmap.fromBytes(pieces, options.childHas)
    this.giving = parts.shelf.give(this.#childHas)
    this.#creditBytes = options.metered ? 0 : UNMETERED
    this.#unsubscribe = parts.shelf.announces
      ? parts.shelf.onPieces((from, count) => {
          this.news.add(from, count)
          parts.onNews(this)
        })
      : () => undefined
  }

  /** The child asks for a piece of our choice. */
  ask(id: number, question: Question): void {
    this.#questions.set(id, question)
    this.open.set(id, undefined)
    this.undecided.push(id)
  }

  /** How it asked; undefined of what it asked for by name. */
  question(id: number): Question | undefined {
    return this.#questions.get(id)
  }

  /** It takes whatever comes of something that it asked for. */
  get sure(): boolean {
    for (const { sure } of this.#questions.values()) if (sure) return true
    return false
  }

  /** A request is answered to its end. */
  forget(id: number): void {
    this.open.delete(id)
    this.#questions.delete(id)
  }

  get signal(): AbortSignal {
    return this.controller.signal
  }

  /** Pieces that the child hasn't reported as here. */
  get childLacks(): number {
    return this.pieces - this.#childHas.count
  }

  /** Body bytes that the child allows now. */
  get creditLeft(): number {
    return Math.max(0, this.#creditBytes - this.sentBytes)
  }

  set credit(upToBytes: number) {
    this.#creditBytes = upToBytes
    this.#creditCame?.resolve()
    this.#creditCame = undefined
  }

  /** Resolves when the child's credit changed. Rejects when the channel ends. */
  async creditChange(): Promise<void> {
    this.signal.throwIfAborted()
    this.#creditCame ??= Promise.withResolvers()
    await this.#creditCame.promise
    this.signal.throwIfAborted()
  }

  /** A piece is offered to the child. */
  offer(id: number, piece: number): void {
    this.#offered.set(id, { piece, late: false })
  }

  /** The child answered an offer, or took its question back: the piece that it was; undefined when none was open. */
  answered(id: number): number | undefined {
    const offer = this.#offered.get(id)
    this.#offered.delete(id)
    return offer?.piece
  }

  /** Offers that were open at the last call too keep nobody else waiting. */
  tick(): void {
    for (const offer of this.#offered.values()) {
      if (offer.late) this.giving.yields(offer.piece)
      offer.late = true
    }
  }

  /** Notes that the shelf is owed a word on this request's piece. */
  owe(request: ServedRequest): void {
    this.#owed.set(request.id, request.piece)
  }

  /** The request's piece begins to be sent, or goes on. */
  begin(request: ServedRequest): void {
    this.#inService = request
    if (this.#owed.has(request.id)) return
    this.owe(request)
    this.giving.named(request.piece)
  }

  /** The child doesn't read what is in service: others may have the uplink. */
  stalled(): void {
    if (this.#inService) this.giving.yields(this.#inService.piece)
  }

  /** Tells the shelf, once, that a request's piece went out whole (its bytes) or did not (undefined). */
  settle(request: ServedRequest, bytes: number | undefined): void {
    if (!this.#owed.delete(request.id)) return
    if (bytes === undefined) this.giving.unsent(request.piece)
    else {
      this.giving.sent(request.piece)
      this.shelf.sent(bytes)
    }
  }

  /** Notes what the child says of its pieces; `flags` as in a TELL. Throws PROTOCOL_VIOLATION when it says the same things over and over. */
  told(runs: readonly Run[], flags: number): void {
    for (const [from, count] of runs) {
      if (flags !== 0) this.#hint(from, count, flags)
      else {
        const before = this.#childHas.count
        this.#childHas.addRange(from, count)
        this.#staleTold += count - (this.#childHas.count - before)
        this.giving.told(from, count)
      }
    }
    if (Math.max(this.#staleTold, this.#hinted) > staleAllowed(this.pieces)) {
      const told = `${this.#staleTold} pieces told again, ${this.#hinted} told as coming or lost`
      throw new DarnerError('PROTOCOL_VIOLATION', `channel ${this.number}: ${told}`)
    }
  }

  #hint(from: number, count: number, flags: number): void {
    this.#hinted += count
    for (let piece = from; piece < from + count; piece++) {
      if (flags === TELL_COMING) this.giving.coming(piece)
      else if (flags === TELL_LOST) this.giving.lost(piece)
    }
  }

  [Symbol.dispose](): void {
    if (this.signal.aborted) return
    this.controller.abort(new DarnerError('CLOSED', `lane channel ${this.number} closed`))
    this.#creditCame?.resolve()
    this.#unsubscribe()
    for (const { piece } of this.#offered.values()) this.giving.unsent(piece)
    for (const piece of this.#owed.values()) this.giving.unsent(piece)
    this.#owed.clear()
    this.shelf[Symbol.dispose]()
  }
}

/** How many pieces may be announced again in all before it counts as a flood: honest peers repeat at most a few. */
export function staleAllowed(pieces: number): number {
  return 4 * pieces + 1024
}
