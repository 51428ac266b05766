/** One task opened by one child, as its parent keeps it: what was asked, what may be sent, what was told. */
import { DarnerError } from '../../src/base/errors.ts'
import type { Priority } from '../../src/contracts/content.ts'
import type { ShelfTask } from '../../src/contracts/exchange.ts'
import { Bitmap } from '../../src/task/bitmap.ts'
import { pieceCount } from '../../src/task/task.ts'
import { type Run, UNMETERED } from '../../src/wire/lane.ts'
import { PendingRuns } from './runs.ts'

/** A request that waits or is in service. `offset` is where a piece that stepped back goes on. */
export interface ServedRequest {
  readonly id: number
  readonly piece: number
  offset: number
  cancelled: boolean
}

export class ServedChannel implements Disposable {
  readonly number: number
  readonly shelf: ShelfTask
  readonly priority: Priority
  readonly pieces: number
  /** What the child has, told or on its way. */
  readonly childHas: Bitmap
  /** Ends choosing, reading and waiting for this channel. */
  readonly controller = new AbortController()
  /** Piece requests that wait for a slot. */
  readonly queue: ServedRequest[] = []
  /** Requests for a piece of our choice that wait to be given one. */
  readonly undecided: number[] = []
  /** Every request that has not been answered to its end, by id; undefined while its piece isn't chosen. */
  readonly open = new Map<number, ServedRequest | undefined>()
  readonly news = new PendingRuns()
  /** Pieces that the shelf waits to hear of: sent whole, or not. By request. */
  readonly #owed = new Map<number, number>()
  /** True while a job of this channel waits for a slot or has one. */
  scheduled = false
  choosing = false
  sentBytes = 0
  #creditBytes: number
  #creditCame: PromiseWithResolvers<void> | undefined
  #staleTold = 0
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
    this.childHas =
      options.childHas.byteLength === 0 ? new Bitmap(this.pieces) : Bitmap.fromBytes(this.pieces, options.childHas)
    this.#creditBytes = options.metered ? 0 : UNMETERED
    this.#unsubscribe =
      parts.shelf.choose === undefined
        ? parts.shelf.onPieces((from, count) => {
            this.news.add(from, count)
            parts.onNews(this)
          })
        : () => undefined
  }

  get signal(): AbortSignal {
    return this.controller.signal
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

  /** Notes that the shelf is owed a word on this request's piece. */
  owe(request: ServedRequest): void {
    this.#owed.set(request.id, request.piece)
  }

  /** Tells the shelf, once, that a request's piece went out whole (its bytes) or did not (undefined). */
  settle(request: ServedRequest, bytes: number | undefined): void {
    if (!this.#owed.delete(request.id)) return
    if (bytes === undefined) this.shelf.unsent(request.piece)
    else this.shelf.sent(request.piece, bytes)
  }

  /** Notes what the child has. Throws PROTOCOL_VIOLATION when it tells the same things over and over. */
  told(runs: readonly Run[]): void {
    for (const [from, count] of runs) {
      const before = this.childHas.count
      this.childHas.addRange(from, count)
      this.#staleTold += count - (this.childHas.count - before)
      this.shelf.told?.(from, count)
    }
    if (this.#staleTold > staleAllowed(this.pieces)) {
      throw new DarnerError('PROTOCOL_VIOLATION', `channel ${this.number}: ${this.#staleTold} pieces told again`)
    }
  }

  [Symbol.dispose](): void {
    if (this.signal.aborted) return
    this.controller.abort(new DarnerError('CLOSED', `lane channel ${this.number} closed`))
    this.#creditCame?.resolve()
    this.#unsubscribe()
    for (const piece of this.#owed.values()) this.shelf.unsent(piece)
    this.#owed.clear()
    this.shelf[Symbol.dispose]()
  }
}

/** How many pieces may be announced again in all before it counts as a flood: honest peers repeat at most a few. */
export function staleAllowed(pieces: number): number {
  return 4 * pieces + 1024
}
