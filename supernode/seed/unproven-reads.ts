/** Reads under way through places that have proven nothing, by the host that named the place: each host may have a few. */
import { DarnerError } from '../../src/core/errors.ts'

/** More than any host reads at once; the reads of a host that names slow places take no more of the supernode. */
export const MOST_UNPROVEN = 64

export class UnprovenReads {
  readonly #most: number
  readonly #byHost = new Map<string, number>()

  constructor(most: number = MOST_UNPROVEN) {
    this.#most = most
  }

  /** Counts a read until the answer is called. Nobody's reads have no bound. Throws LIMIT_EXCEEDED. */
  begin(by: string | undefined): () => void {
    if (by === undefined) return () => {}
    const reads = this.#byHost.get(by) ?? 0
    if (reads >= this.#most)
      throw new DarnerError(
        'LIMIT_EXCEEDED',
        `${by}: ${reads} blobs are read for it through places that are not proven`,
      )
    this.#byHost.set(by, reads + 1)
    let over = false
    return () => {
      if (over) return
      over = true
      const left = (this.#byHost.get(by) ?? 1) - 1
      if (left > 0) this.#byHost.set(by, left)
      else this.#byHost.delete(by)
    }
  }
}
