/**
 * How pieces get into a half-done task's file: checked against the table, or noted in it, or unchecked for this host's own readers. A piece
 * is written by one at a time, and visible once its bytes are in the file and the journal has it.
 */
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import type { Bitmap } from '../../core/task/bitmap.ts'
import { pieceCount, pieceRange, type Task } from '../../core/task/task.ts'
import { sha256 } from '../hash/hasher.ts'
import { writeAll } from '../layout.ts'
import { SMALL_BYTES, type Whole } from './blob-verifier.ts'
import type { DataFile } from './data-file.ts'
import type { Journal } from './journal.ts'
import { bootCheck } from './journal-check.ts'
import type { PastCache } from './past-cache.ts'
import { type PieceTable, same } from './piece-table.ts'
import type { SetAside } from './unverified.ts'

export interface PieceWritesParts {
  readonly file: DataFile
  readonly past: PastCache
  readonly have: Bitmap
  readonly aside: SetAside
  readonly whole: Whole
  /** As they are now. */
  readonly table: () => PieceTable
  readonly journal: () => Journal | undefined
  /** Why nothing more is stored. */
  readonly failure: () => DarnerError | undefined
  /** Pieces can be read from now on. */
  readonly stored: (from: number, count: number) => void
}

export class PieceWrites {
  readonly #task: Task
  readonly #parts: PieceWritesParts
  readonly #writing = new Map<number, Promise<void>>()

  constructor(task: Task, parts: PieceWritesParts) {
    this.#task = task
    this.#parts = parts
  }

  get busy(): boolean {
    return this.#writing.size > 0
  }

  /** Resolves once nothing is being written. */
  async settled(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing.values())
  }

  /**
   * Stores a piece whose digest the table knows; false when it was there. Leave `body` alone until this settles. Throws
   * PIECE_SHORT (another length), PIECE_DIGEST, DISK_FULL, STATE_INVALID (digest not known yet); then nothing is visible.
   */
  async write(piece: number, body: Uint8Array, { signal }: { signal: AbortSignal }): Promise<boolean> {
    this.#check(piece, body)
    for (let other = this.#writing.get(piece); other; other = this.#writing.get(piece)) {
      await abortable(
        other.catch(() => {}),
        signal,
      )
    }
    this.#alive()
    const { have, whole, table } = this.#parts
    if (have.has(piece)) return false
    const expected = table().digest(piece)
    if (!expected) throw new DarnerError('STATE_INVALID', `store ${this.#name(piece)}: its digest is not known yet`)
    await this.#once(piece, async () => {
      const linked = await whole.links.leads(piece, body)
      const actual = linked ? expected : await sha256(body)
      signal.throwIfAborted()
      if (!same(actual, expected)) {
        const seen = Buffer.from(actual).toString('hex')
        throw new DarnerError('PIECE_DIGEST', `${this.#name(piece)}: its bytes hash to sha256:${seen}`, {
          details: { piece },
        })
      }
      await this.#store(piece, body, { digest: expected, linked })
    })
    return true
  }

  /**
   * Stores a piece from the origin and establishes its digest, which is returned. A digest known before must agree
   * (PIECE_DIGEST). For a piece that is here already its digest is returned. Of pieces that are appended in order from the first on, the
   * table gets the states too. Throws PIECE_SHORT, DISK_FULL.
   */
  async append(piece: number, body: Uint8Array): Promise<Uint8Array> {
    this.#check(piece, body)
    await this.#writing.get(piece)?.catch(() => {})
    const { have, whole, table } = this.#parts
    const linking = this.#task.bytes > SMALL_BYTES ? whole.links.extend(piece, body) : undefined
    const [actual, linked] = await Promise.all([sha256(body), linking])
    this.#alive()
    const known = table().digest(piece)
    if (known ? !same(known, actual) : linked === false) {
      throw new DarnerError('PIECE_DIGEST', `${this.#name(piece)}: the origin sent other bytes than before`, {
        details: { piece },
      })
    }
    if (!have.has(piece) && !this.#writing.has(piece)) {
      await this.#once(piece, async () => {
        await this.#store(piece, body, { digest: actual, linked: linked === true })
      })
    } else await this.#writing.get(piece)
    return actual
  }

  /**
   * Stores pieces from the origin, from `piece` on, without their digests: only the whole digest says whether they are right. They are for
   * this host's own readers, and for hosts that have the digests from elsewhere. If digests of the task were published, it checks as {@link
   * append} does. `past` the kernel's cache go bytes that nobody will read soon, if they can. Throws PIECE_SHORT, PIECE_DIGEST, DISK_FULL.
   */
  async lay(piece: number, body: Uint8Array, { past = false }: { past?: boolean } = {}): Promise<void> {
    const { pieceBytes } = this.#task
    const count = Math.max(1, Math.ceil(body.byteLength / pieceBytes))
    this.#check(piece, body, count)
    if (!this.#untouched(piece, count)) {
      for (let at = 0; at < count; at++)
        await this.append(piece + at, body.subarray(at * pieceBytes, (at + 1) * pieceBytes))
      return
    }
    await this.#once(piece, () => this.#store(piece, body, { count, past }), count)
  }

  /** True while nothing is here of these pieces, on its way here, or known of them. */
  #untouched(piece: number, count: number): boolean {
    const { have, table } = this.#parts
    for (let at = piece; at < piece + count; at++)
      if (have.has(at) || this.#writing.has(at) || table().known.has(at)) return false
    return true
  }

  async #once(piece: number, work: () => Promise<void>, count = 1): Promise<void> {
    const running = work()
    for (let at = piece; at < piece + count; at++) this.#writing.set(at, running)
    try {
      await running
    } finally {
      for (let at = piece; at < piece + count; at++) this.#writing.delete(at)
    }
  }

  /** One piece, or `count` from `piece` on that weren't checked. */
  async #store(
    piece: number,
    body: Uint8Array,
    {
      digest,
      linked = false,
      count = 1,
      past = false,
    }: { digest?: Uint8Array; linked?: boolean; count?: number; past?: boolean },
  ): Promise<void> {
    this.#alive()
    const { have, aside, whole, table, failure, stored } = this.#parts
    const journal = this.#parts.journal()
    if (!journal) throw new DarnerError('STATE_INVALID', `store ${this.#name(piece)}: the task is not open for writing`)
    aside.drop(piece, count)
    try {
      const writing = this.#bytes(body, pieceRange(this.#task, piece).from, past)
      if (digest === undefined) {
        await writing
        await journal.append(piece, bootCheck(), count)
      } else {
        // side by side: a record without its bytes is found out when the piece is hashed again at the next start
        await Promise.all([writing, journal.append(piece, digest)])
      }
    } catch (error) {
      throw failure() ?? asDarnerError(error, `store ${this.#name(piece)}`)
    }
    this.#alive()
    if (digest !== undefined) table().setDigests(piece, digest)
    have.addRange(piece, count)
    if (linked) whole.links.made(piece)
    stored(piece, count)
  }

  async #bytes(body: Uint8Array, at: number, past: boolean): Promise<void> {
    const { file } = this.#parts
    if (past && (await this.#parts.past.write(file, body, at))) return
    await file.use((handle) => writeAll(handle, body, at))
  }

  #check(piece: number, body: Uint8Array, count = 1): void {
    this.#alive()
    checkPiece(this.#task, piece)
    checkPiece(this.#task, piece + count - 1)
    const { from } = pieceRange(this.#task, piece)
    const { to } = pieceRange(this.#task, piece + count - 1)
    if (body.byteLength !== to - from) {
      const text = `${this.#name(piece)}: expected ${to - from} bytes, got ${body.byteLength}`
      throw new DarnerError('PIECE_SHORT', text, { details: { piece, bytes: body.byteLength } })
    }
  }

  #alive(): void {
    const failure = this.#parts.failure()
    if (failure) throw failure
  }

  #name(piece: number): string {
    return pieceName(this.#task, piece)
  }
}

/** Throws BAD_ARGUMENT where the task has no such piece. */
export function checkPiece(task: Task, piece: number): void {
  const pieces = pieceCount(task)
  if (!Number.isInteger(piece) || piece < 0 || piece >= pieces) {
    throw new DarnerError('BAD_ARGUMENT', `${pieceName(task, piece)}: it has ${pieces} pieces`)
  }
}

/** A piece as messages call it. */
export function pieceName(task: Task, piece: number): string {
  return `piece ${piece} of ${task.id}`
}
