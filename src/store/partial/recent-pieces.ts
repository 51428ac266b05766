/**
 * Bytes of the pieces that were stored last. In a swarm a piece is passed on just after it arrived. From memory that costs a copy, from its
 * file a turn of the thread pool for each part.
 */

interface Kept {
  readonly of: RecentOf
  readonly piece: number
  readonly body: Uint8Array
  readonly release: ((body: Uint8Array) => void) | undefined
}

/** One task's. */
export type RecentOf = Map<number, Kept>

export class RecentPieces {
  readonly #mostBytes: number
  readonly #order = new Set<Kept>()
  #bytes = 0

  /** `mostBytes` over all tasks. */
  constructor(options: { mostBytes: number }) {
    this.#mostBytes = options.mostBytes
  }

  /** Keeps a piece's bytes, which nobody else may change until `release` gets them. That may be at once. */
  keep(of: RecentOf, piece: number, body: Uint8Array, release?: (body: Uint8Array) => void): void {
    if (of.has(piece) || body.byteLength > this.#mostBytes) {
      release?.(body)
      return
    }
    const kept: Kept = { of, piece, body, release }
    of.set(piece, kept)
    this.#order.add(kept)
    this.#bytes += body.byteLength
    for (const oldest of this.#order) {
      if (this.#bytes <= this.#mostBytes) break
      this.#drop(oldest)
    }
  }

  /** Lets go of all of a task's. */
  dropAll(of: RecentOf): void {
    for (const kept of [...of.values()]) this.#drop(kept)
  }

  #drop(kept: Kept): void {
    kept.of.delete(kept.piece)
    this.#order.delete(kept)
    this.#bytes -= kept.body.byteLength
    kept.release?.(kept.body)
  }
}
