/** Piece numbers that wait to be sent, as merged runs: much small news becomes one frame. */
import { addRun, type PieceRun } from '../core/task/runs.ts'
import { MAX_RUNS, type Run } from './transport/lane-frames.ts'

export class PendingRuns {
  #runs: PieceRun[] = []
  #pieces = 0

  get pieces(): number {
    return this.#pieces
  }

  add(from: number, count: number): void {
    if (count < 1) return
    addRun(this.#runs, from, count)
    this.#pieces += count
  }

  /** Takes all that waits, in batches that fit a frame. */
  take(): Run[][] {
    const runs = this.#runs
    this.#runs = []
    this.#pieces = 0
    const batches: Run[][] = []
    for (let at = 0; at < runs.length; at += MAX_RUNS) batches.push(runs.slice(at, at + MAX_RUNS))
    return batches
  }
}
