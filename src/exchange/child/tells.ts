/** A child's news about its pieces that may wait for other frames: what is coming, what isn't after all, what is here. */

import { PendingRuns } from '../runs.ts'
import type { Run } from '../transport/lane-frames.ts'

/** Each in batches that fit a frame, to be sent in this order. */
export interface Tells {
  readonly lost: Run[][]
  readonly coming: Run[][]
  readonly here: Run[][]
}

/** Of each piece only the last state counts. What the parent needn't know is never sent. */
export class PendingTells {
  readonly #lost = new Set<number>()
  readonly #coming = new Set<number>()
  readonly #here = new PendingRuns()

  coming(piece: number): void {
    if (!this.#lost.delete(piece)) this.#coming.add(piece)
  }

  lost(piece: number): void {
    if (!this.#coming.delete(piece)) this.#lost.add(piece)
  }

  here(from: number, count: number): void {
    for (let piece = from; piece < from + count; piece++) {
      this.#lost.delete(piece)
      this.#coming.delete(piece)
    }
    this.#here.add(from, count)
  }

  /** Takes all that waits. */
  take(): Tells {
    return { lost: batches(this.#lost), coming: batches(this.#coming), here: this.#here.take() }
  }
}

function batches(pieces: Set<number>): Run[][] {
  const runs = new PendingRuns()
  for (const piece of pieces) runs.add(piece, 1)
  pieces.clear()
  return runs.take()
}
