/** How verified bytes of a task are read: from memory where they just came, else from its file. */
import { DarnerError, isDarnerError } from '../../core/errors.ts'
import type { ReadonlyBitmap } from '../../core/task/bitmap.ts'
import type { Task } from '../../core/task/task.ts'
import { unreadableFile } from '../hash/hasher.ts'
import { readAll } from '../layout.ts'
import type { Arrivals } from './arrivals.ts'
import type { DataFile } from './data-file.ts'
import { pieceName } from './piece-writes.ts'
import type { RecentOf } from './recent-pieces.ts'

export interface PieceReadsParts {
  readonly file: DataFile
  readonly have: ReadonlyBitmap
  readonly recent: RecentOf
  readonly arrivals: Arrivals
  /** Why nothing more can be had of the task. */
  readonly failure: () => DarnerError | undefined
  /** Somebody reads it. */
  readonly touched: () => void
  /** Something of it could not be read. */
  readonly suspect: () => void
}

export class PieceReads {
  readonly #task: Task
  readonly #parts: PieceReadsParts

  constructor(task: Task, parts: PieceReadsParts) {
    this.#task = task
    this.#parts = parts
  }

  /** Fills `into` with verified bytes from `offset` on. Throws PIECE_ABSENT when one of its pieces isn't here. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    if (into.byteLength === 0) return
    const { file, have, recent, failure } = this.#parts
    const over = failure()
    if (over) throw over
    const { bytes, pieceBytes } = this.#task
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + into.byteLength > bytes) {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `read ${into.byteLength} bytes at ${offset} of ${this.#task.id}: it has ${bytes}`,
      )
    }
    const first = Math.floor(offset / pieceBytes)
    const gap = have.nextClear(first)
    if (gap >= 0 && gap * pieceBytes < offset + into.byteLength) {
      throw new DarnerError('PIECE_ABSENT', `read ${pieceName(this.#task, gap)}: it is not here`, {
        details: { piece: gap },
      })
    }
    this.#parts.touched()
    const at = offset - first * pieceBytes
    const kept = recent.get(first)?.body
    if (kept !== undefined && at + into.byteLength <= kept.byteLength) {
      into.set(kept.subarray(at, at + into.byteLength))
      return
    }
    try {
      const got = await file.use((handle) => readAll(handle, into, offset))
      if (got < into.byteLength) throw new Error(`it ends at ${offset + got} instead of ${bytes}`)
    } catch (error) {
      if (isDarnerError(error)) throw failure() ?? error
      const { path } = file
      this.#parts.suspect()
      throw unreadableFile(path, error)
    }
  }

  /** As {@link read}, of one piece, and also while it is still coming. */
  async readPart(piece: number, offset: number, into: Uint8Array): Promise<void> {
    const { have, arrivals } = this.#parts
    if (!have.has(piece) && arrivals.read(piece, offset, into)) return
    await this.read(piece * this.#task.pieceBytes + offset, into)
  }
}
