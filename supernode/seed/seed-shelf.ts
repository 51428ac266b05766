/** What the seed shows to the peers that open a task at it: it chooses the pieces, so that each leaves once before any twice. */
import type { Clock } from '../../src/base/clock.ts'
import { DarnerError } from '../../src/base/errors.ts'
import { abortable } from '../../src/base/signals.ts'
import type { PeerId, Shelf, ShelfTask } from '../../src/contracts/exchange.ts'
import type { ReadonlyBitmap } from '../../src/task/bitmap.ts'
import { Handout, type HandoutOptions } from '../../src/task/handout.ts'
import { pieceCount, type TaskId } from '../../src/task/task.ts'
import { checkPass, opens } from '../../src/wire/pass.ts'
import type { SeedTask } from './seed-task.ts'

export interface SeedShelfOptions {
  readonly issuer: PeerId
  readonly handout: HandoutOptions
}

export interface SeedShelfParts {
  readonly clock: Clock
  find(id: TaskId): SeedTask | undefined
  /** Whether this peer may still read at all. */
  admitted(peer: PeerId): boolean
  /** Bytes that left for a child. */
  sent(task: TaskId, child: PeerId, bytes: number): void
}

/** The handout of one task, with those who wait for its next piece. */
class Counter {
  readonly handout: Handout<symbol>
  #changed = Promise.withResolvers<void>()
  holds = 0

  constructor(seed: SeedTask, options: HandoutOptions) {
    this.handout = new Handout(pieceCount(seed.task), options)
    if (seed.known > 0) this.handout.known(0, seed.known)
  }

  /** Resolves at the next change of what could be given. */
  get changed(): Promise<void> {
    return this.#changed.promise
  }

  wake(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }
}

export class SeedShelf implements Shelf {
  readonly #options: SeedShelfOptions
  readonly #parts: SeedShelfParts
  readonly #counters = new Map<SeedTask, Counter>()

  constructor(options: SeedShelfOptions, parts: SeedShelfParts) {
    this.#options = options
    this.#parts = parts
  }

  async open(id: TaskId, reader: PeerId, pass: Uint8Array): Promise<ShelfTask> {
    if (!this.#parts.admitted(reader))
      throw new DarnerError('CAPABILITY_REFUSED', `${reader} is not admitted`, { details: { reader } })
    const { scope } = checkPass(pass, {
      issuer: this.#options.issuer,
      reader,
      task: id,
      nowMs: this.#parts.clock.now(),
    })
    const seed = this.#parts.find(id)
    if (seed === undefined) throw new DarnerError('PIECE_ABSENT', `${id}: the seed doesn't hold it`)
    if (!opens(scope, seed.readScope))
      throw new DarnerError('CAPABILITY_REFUSED', `${id}: ${reader} shows a pass of a place that never served it whole`)
    const counter = this.#counter(seed)
    return this.#shelfTask(seed, counter, reader)
  }

  /** Pieces became known: children that wait may get them. */
  known(seed: SeedTask, from: number, count: number): void {
    const counter = this.#counters.get(seed)
    counter?.handout.known(from, count)
    counter?.wake()
  }

  /** Takes back what children didn't confirm in time. Call it about once a second. */
  tick(): void {
    const now = this.#parts.clock.monotonicMs()
    for (const counter of this.#counters.values()) if (counter.handout.expire(now).length > 0) counter.wake()
  }

  #counter(seed: SeedTask): Counter {
    let counter = this.#counters.get(seed)
    if (counter === undefined) {
      counter = new Counter(seed, this.#options.handout)
      this.#counters.set(seed, counter)
    }
    return counter
  }

  #shelfTask(seed: SeedTask, counter: Counter, reader: PeerId): ShelfTask {
    const { clock, sent } = this.#parts
    const { handout } = counter
    // one child may open a task twice (a reconnect): each opening is its own child to the handout
    const child = Symbol(reader)
    let joined = false
    counter.holds++
    return {
      task: seed.task,
      have: seed.stored.have,
      onPieces: (listener) => seed.stored.onPieces(listener),
      read: (piece, offset, into) => seed.stored.read(piece * seed.task.pieceBytes + offset, into),
      choose: async (childHas: ReadonlyBitmap, { signal }) => {
        if (!joined) handout.join(child, childHas)
        joined = true
        for (;;) {
          signal.throwIfAborted()
          if (seed.error !== undefined) throw seed.error
          const piece = handout.next(child, clock.monotonicMs())
          if (piece === 'none') return undefined
          if (piece !== 'wait') return piece
          await abortable(counter.changed, signal)
        }
      },
      told: (from, count) => {
        handout.confirmed(child, from, count)
        counter.wake()
      },
      sent: (piece, bytes) => {
        handout.sent(child, piece)
        counter.wake()
        sent(seed.task.id, reader, bytes)
      },
      unsent: (piece) => {
        handout.failed(child, piece)
        counter.wake()
      },
      [Symbol.dispose]: () => {
        handout.release(child)
        counter.wake()
        if (--counter.holds === 0) this.#counters.delete(seed)
      },
    }
  }
}
