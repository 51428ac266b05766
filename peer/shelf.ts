/** What this peer shows to its children: every verified piece it holds, complete blobs and growing ones alike. */
import type { Clock, Random } from '../src/core/clock.ts'
import type { GivingTo, PeerId, Shelf, ShelfTask } from '../src/core/contracts/exchange.ts'
import { DarnerError } from '../src/core/errors.ts'
import type { TaskId } from '../src/core/task/task.ts'
import { Giving } from '../src/exchange/handout/giving.ts'
import { checkPass, ShownPass } from '../src/protocol/pass.ts'
import type { Came } from '../src/rights/came.ts'
import type { Store, StoredTask } from '../src/store/store.ts'

/** A half-done task of an earlier run is hashed again before it is served; longer than this and the child asks elsewhere. */
const REOPEN_MS = 30_000
/**
 * Hosts that begin together learn of each other before each has its own answer. A child waits this long for a task that we are about to
 * hold.
 */
const BEGINNING_MS = 2_000

export interface PeerShelfOptions {
  /** The supernode, whose passes count. */
  readonly issuer: () => PeerId
}

export interface PeerShelfParts {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  /** False for peers that were revoked or banned. */
  readonly admitted: (peer: PeerId) => boolean
  /** How what is here of a task came here; undefined when an earlier run got it. */
  readonly came: (task: TaskId) => Came | undefined
  /** Resolves once a task whose fetch here begins is in the store, or won't be; undefined for any other. */
  readonly beginning: (task: TaskId) => Promise<void> | undefined
  /** Bytes that left for a child. */
  readonly sent: (task: TaskId, child: PeerId, bytes: number) => void
}

/** One task that children have open. */
interface Open {
  readonly giving: Giving
  /** The task's own count when this was opened. After a loss, what its children were told no longer holds. */
  readonly losses: number
  readonly unsubscribe: () => void
  holds: number
}

export class PeerShelf implements Shelf {
  readonly #options: PeerShelfOptions
  readonly #parts: PeerShelfParts
  readonly #open = new Map<StoredTask, Open>()

  constructor(options: PeerShelfOptions, parts: PeerShelfParts) {
    this.#options = options
    this.#parts = parts
  }

  async open(id: TaskId, reader: PeerId, pass: Uint8Array): Promise<ShelfTask> {
    const { store, clock, admitted, sent } = this.#parts
    if (!admitted(reader))
      throw new DarnerError('CAPABILITY_REFUSED', `${reader} is not admitted`, { details: { reader } })
    const nowMs = () => clock.now()
    const { issuer } = this.#options
    const { reach } = checkPass(pass, { issuer: issuer(), reader, task: id, nowMs: nowMs() })
    if (store.find(id) === undefined || (reach !== 'whole' && this.#parts.came(id) === undefined)) await this.#begun(id)
    const stored = store.find(id) ?? (await store.reopen(id, { signal: AbortSignal.timeout(REOPEN_MS) }))
    if (stored === undefined) throw new DarnerError('PIECE_ABSENT', `${id}: not held here`)
    const right = new ShownPass({ reader, task: stored.task, issuer, nowMs, came: () => this.#parts.came(id) })
    right.show(pass)
    const lease = store.lease(id, `peer ${reader}`)
    const open = this.#hold(stored)
    let giving: GivingTo | undefined
    return {
      task: stored.task,
      have: stored.have,
      check: () => {
        if (stored.failure !== undefined || stored.losses !== open.losses)
          throw new DarnerError('PIECE_ABSENT', `${id}: no longer held here`)
        right.check()
      },
      renew: (newer) => right.show(newer),
      announces: true,
      onPieces: (listener) => stored.onPieces(listener),
      coming: stored.coming,
      read: (piece, offset, into) => stored.readPart(piece, offset, into),
      give: (childHas) => {
        giving = open.giving.open(childHas)
        return giving
      },
      sent: (bytes) => sent(id, reader, bytes),
      [Symbol.dispose]: () => {
        giving?.[Symbol.dispose]()
        this.#letGo(stored, open)
        lease[Symbol.dispose]()
      },
    }
  }

  /** Takes back what children didn't confirm in time. Call it about once a second. */
  tick(): void {
    for (const { giving } of this.#open.values()) giving.tick()
  }

  /** Waits for a fetch that begins here, if there is one: how it comes here is known only then. */
  async #begun(id: TaskId): Promise<void> {
    const beginning = this.#parts.beginning(id)
    if (beginning === undefined) return
    const over = new AbortController()
    const late = this.#parts.clock.sleep(BEGINNING_MS, { signal: over.signal }).catch(() => {})
    await Promise.race([beginning, late])
    over.abort()
  }

  #hold(stored: StoredTask): Open {
    let open = this.#open.get(stored)
    if (open === undefined || open.losses !== stored.losses) {
      const { clock, random } = this.#parts
      const giving = new Giving(stored.have.size, stored.have, { clock, random })
      const unsubscribe = [
        stored.onPieces((from, count) => giving.known(from, count)),
        stored.onArriving((piece, coming) => giving.arriving(piece, coming)),
      ]
      const end = () => {
        for (const one of unsubscribe) one()
      }
      open = { giving, losses: stored.losses, unsubscribe: end, holds: 0 }
      this.#open.set(stored, open)
    }
    open.holds++
    return open
  }

  #letGo(stored: StoredTask, open: Open): void {
    if (--open.holds > 0) return
    open.unsubscribe()
    open.giving[Symbol.dispose]()
    if (this.#open.get(stored) === open) this.#open.delete(stored)
  }
}
