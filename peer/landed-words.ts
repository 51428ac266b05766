/** The answer to a `get` by file: which ranges landed. The bytes stay where they are, and words are few, since each wakes the command. */

import { landedFrame } from '../src/api/get-frames.ts'
import { abortable } from '../src/core/signals.ts'
import { addRun, type PieceRun } from '../src/core/task/runs.ts'
import { pieceRange } from '../src/core/task/task.ts'
import type { OpenContent } from './downloader/open-content.ts'

/** Landed bytes are reported when they are so many; fewer wait for the next progress. */
const WORD_BYTES = 8 * 1024 * 1024

export class LandedWords {
  readonly #content: OpenContent
  #runs: PieceRun[] = []

  constructor(content: OpenContent) {
    this.#content = content
  }

  /** Frames for what landed since this was last called, neighbours in one. */
  take(): Uint8Array[] {
    const { task } = this.#content.stored
    const runs: PieceRun[] = []
    for (const [from, count] of this.#runs.sort(([a], [b]) => a - b)) addRun(runs, from, count)
    this.#runs = []
    return runs.map(([first, count]) => {
      const { from } = pieceRange(task, first)
      return landedFrame(from, pieceRange(task, first + count - 1).to - from)
    })
  }

  /** Calls `tell`, which takes, when enough is there for a word, and for the last. Resolves after that; throws what fails the fetch. */
  async all(tell: () => void, signal: AbortSignal): Promise<void> {
    const { stored } = this.#content
    const { task, have } = stored
    const { promise: whole, resolve } = Promise.withResolvers<void>()
    let [left, untold] = [have.size, 0]
    const landed = (from: number, count: number) => {
      this.#runs.push([from, count])
      left -= count
      untold += count * task.pieceBytes
      if (left > 0 && untold < WORD_BYTES) return
      untold = 0
      tell()
      if (left === 0) resolve()
    }
    const stop = stored.onPieces(landed)
    try {
      for (const [from, count] of have.ranges()) landed(from, count)
      if (left > 0) await abortable(whole, this.#content.unlessFailed(signal))
    } finally {
      stop()
    }
  }
}
