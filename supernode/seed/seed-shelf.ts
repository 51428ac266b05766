/** What the seed shows to the peers that open a task at it: it chooses the pieces, so that each leaves once before any twice. */
import type { Clock } from '../../src/core/clock.ts'
import type { GivingTo, PeerId, Shelf, ShelfTask } from '../../src/core/contracts/exchange.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import { pieceCount, type TaskId } from '../../src/core/task/task.ts'
import { Giving } from '../../src/exchange/handout/giving.ts'
import type { HandoutOptions } from '../../src/exchange/handout/handout.ts'
import { checkPass, ShownPass } from '../../src/protocol/pass.ts'
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
  /** A child takes a piece, and will need its digest. */
  taken(seed: SeedTask, child: PeerId, piece: number): void
  /** Bytes that left for a child. */
  sent(task: TaskId, child: PeerId, bytes: number): void
}

/** One task that children have open. */
interface Open {
  readonly giving: Giving
  holds: number
}

export class SeedShelf implements Shelf {
  readonly #options: SeedShelfOptions
  readonly #parts: SeedShelfParts
  readonly #open = new Map<SeedTask, Open>()

  constructor(options: SeedShelfOptions, parts: SeedShelfParts) {
    this.#options = options
    this.#parts = parts
  }

  async open(id: TaskId, reader: PeerId, pass: Uint8Array): Promise<ShelfTask> {
    if (!this.#parts.admitted(reader))
      throw new DarnerError('CAPABILITY_REFUSED', `${reader} is not admitted`, { details: { reader } })
    const { issuer } = this.#options
    const nowMs = () => this.#parts.clock.now()
    const seed = this.#parts.find(id)
    if (seed === undefined) {
      // a reader without a right doesn't learn that either
      checkPass(pass, { issuer, reader, task: id, nowMs: nowMs() })
      throw new DarnerError('PIECE_ABSENT', `${id}: the seed doesn't hold it`)
    }
    const right = new ShownPass({ reader, task: seed.task, issuer: () => issuer, nowMs, came: () => seed.came })
    right.show(pass)
    return this.#shelfTask(seed, reader, right)
  }

  /** Pieces became known: children that wait may get them. */
  known(seed: SeedTask, from: number, count: number): void {
    this.#open.get(seed)?.giving.known(from, count)
  }

  /** The task failed: waiting children get the reason. */
  failed(seed: SeedTask, error: DarnerError): void {
    this.#open.get(seed)?.giving.fail(error)
  }

  /** Takes back what children didn't confirm in time. Call it about once a second. */
  tick(): void {
    for (const { giving } of this.#open.values()) giving.tick()
  }

  #shelfTask(seed: SeedTask, reader: PeerId, right: ShownPass): ShelfTask {
    const open = this.#hold(seed)
    let place: GivingTo | undefined
    return {
      task: seed.task,
      have: seed.stored.have,
      check: () => right.check(),
      renew: (newer) => right.show(newer),
      announces: false,
      onPieces: (listener) => seed.stored.onPieces(listener),
      read: (piece, offset, into) => seed.stored.read(piece * seed.task.pieceBytes + offset, into),
      give: (childHas) => {
        const giving = open.giving.open(childHas)
        place = giving
        const choose: GivingTo['choose'] = async (options) => {
          if (seed.error !== undefined) throw seed.error
          const piece = await giving.choose(options)
          // it leaves without being offered first
          if (options.sure && piece !== undefined) this.#parts.taken(seed, reader, piece)
          return piece
        }
        const taken = (piece: number) => {
          giving.taken(piece)
          this.#parts.taken(seed, reader, piece)
        }
        return { ...giving, choose, taken }
      },
      sent: (bytes) => this.#parts.sent(seed.task.id, reader, bytes),
      [Symbol.dispose]: () => {
        place?.[Symbol.dispose]()
        if (--open.holds === 0) this.#open.delete(seed)
      },
    }
  }

  #hold(seed: SeedTask): Open {
    let open = this.#open.get(seed)
    if (open === undefined) {
      const giving = new Giving(pieceCount(seed.task), knownOf(seed), {
        clock: this.#parts.clock,
        handout: this.#options.handout,
      })
      open = { giving, holds: 0 }
      this.#open.set(seed, open)
    }
    open.holds++
    return open
  }
}

function knownOf(seed: SeedTask): Bitmap {
  const known = new Bitmap(pieceCount(seed.task))
  known.addRange(0, seed.known)
  return known
}
