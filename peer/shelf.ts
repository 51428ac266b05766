/** What this peer shows to its children: every verified piece it holds, complete blobs and growing ones alike. */
import type { Clock } from '../src/base/clock.ts'
import { DarnerError } from '../src/base/errors.ts'
import type { PeerId, Shelf, ShelfTask } from '../src/contracts/exchange.ts'
import type { Store } from '../src/store/store.ts'
import type { TaskId } from '../src/task/task.ts'
import { checkPass, opens } from '../src/wire/pass.ts'

/** A half-done task of an earlier run is hashed again before it is served; longer than this and the child asks elsewhere. */
const REOPEN_MS = 30_000

export interface PeerShelfOptions {
  /** The supernode, whose passes count. */
  readonly issuer: () => PeerId
}

export interface PeerShelfParts {
  readonly store: Store
  readonly clock: Clock
  /** False for peers that were revoked or banned. */
  readonly admitted: (peer: PeerId) => boolean
  /** The scope of our own pass for a task; undefined when an earlier run got it. */
  readonly heldUnder: (task: TaskId) => string | undefined
  /** Bytes that left for a child. */
  readonly sent: (task: TaskId, child: PeerId, bytes: number) => void
}

export class PeerShelf implements Shelf {
  readonly #options: PeerShelfOptions
  readonly #parts: PeerShelfParts

  constructor(options: PeerShelfOptions, parts: PeerShelfParts) {
    this.#options = options
    this.#parts = parts
  }

  async open(id: TaskId, reader: PeerId, pass: Uint8Array): Promise<ShelfTask> {
    const { store, clock, admitted, sent } = this.#parts
    if (!admitted(reader))
      throw new DarnerError('CAPABILITY_REFUSED', `${reader} is not admitted`, { details: { reader } })
    const { scope } = checkPass(pass, { issuer: this.#options.issuer(), reader, task: id, nowMs: clock.now() })
    if (!opens(scope, this.#parts.heldUnder(id)))
      throw new DarnerError('CAPABILITY_REFUSED', `${id}: ${reader} shows a pass of a place that never served it whole`)
    const stored = store.find(id) ?? (await store.reopen(id, { signal: AbortSignal.timeout(REOPEN_MS) }))
    if (stored === undefined) throw new DarnerError('PIECE_ABSENT', `${id}: not held here`)
    const lease = store.lease(id, `peer ${reader}`)
    return {
      task: stored.task,
      have: stored.have,
      onPieces: (listener) => stored.onPieces(listener),
      read: (piece, offset, into) => stored.read(piece * stored.task.pieceBytes + offset, into),
      sent: (_piece, bytes) => sent(id, reader, bytes),
      unsent: () => {},
      [Symbol.dispose]: () => lease[Symbol.dispose](),
    }
  }
}
