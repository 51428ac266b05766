/** Cuts an origin's byte stream into pieces. The stage between the origin and the store in `origin | cut | ingest`. */
import { DarnerError } from '../../core/errors.ts'
import { pieceCount, pieceRange, type Task } from '../../core/task/task.ts'
import type { PiecePool } from './piece-pool.ts'

const NOTHING = new Uint8Array(0)

export interface CutPiece {
  readonly number: number
  readonly body: Uint8Array
}

/**
 * Pieces of `task` from piece `first` on; `source` begins at byte `skip` before that piece's first byte. Each body is the
 * reader's: a buffer of exactly the piece's length, from `pool` where there is one. A chunk isn't needed any more when the next
 * is asked for. Throws SIZE_MISMATCH when the source has more bytes than the task, ORIGIN_TRUNCATED when it ends early.
 */
export function cut(
  task: Task,
  options: { first: number; skip: number; pool?: PiecePool },
): (source: AsyncIterable<Uint8Array>) => AsyncGenerator<CutPiece> {
  const memory = (bytes: number): Uint8Array => options.pool?.get(bytes) ?? new Uint8Array(bytes)
  return async function* (source) {
    const pieces = pieceCount(task)
    let number = options.first
    let skip = options.skip
    let body = number < pieces ? memory(lengthOf(task, number)) : NOTHING
    let filled = 0
    for await (let chunk of source) {
      if (skip > 0) {
        const drop = Math.min(skip, chunk.byteLength)
        skip -= drop
        chunk = chunk.subarray(drop)
      }
      while (chunk.byteLength > 0) {
        if (number >= pieces) {
          throw new DarnerError('SIZE_MISMATCH', `${task.id}: expected ${task.bytes} bytes, the origin sent more`)
        }
        const part = chunk.subarray(0, body.byteLength - filled)
        body.set(part, filled)
        filled += part.byteLength
        chunk = chunk.subarray(part.byteLength)
        if (filled < body.byteLength) continue
        yield { number, body }
        number++
        filled = 0
        body = number < pieces ? memory(lengthOf(task, number)) : NOTHING
      }
    }
    if (number < pieces) {
      const seen = pieceRange(task, number).from + filled
      throw new DarnerError(
        'ORIGIN_TRUNCATED',
        `${task.id}: expected ${task.bytes} bytes, the origin ended after ${seen}`,
      )
    }
  }
}

function lengthOf(task: Task, number: number): number {
  const { from, to } = pieceRange(task, number)
  return to - from
}
