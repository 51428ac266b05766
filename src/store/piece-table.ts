/** The SHA-256 of each piece of a task, known for any subset of them. A known digest never changes. */
import { DarnerError } from '../base/errors.ts'
import { Bitmap, type ReadonlyBitmap } from '../task/bitmap.ts'

export const DIGEST_BYTES = 32

export class PieceTable {
  readonly #digests: Uint8Array
  readonly #known: Bitmap

  constructor(pieces: number) {
    this.#digests = new Uint8Array(pieces * DIGEST_BYTES)
    this.#known = new Bitmap(pieces)
  }

  /** A table that is known whole, from its bytes: 32 per piece. Throws STORE_CORRUPT when the length doesn't fit. */
  static whole(pieces: number, bytes: Uint8Array): PieceTable {
    if (bytes.byteLength !== pieces * DIGEST_BYTES) {
      throw new DarnerError('STORE_CORRUPT', `piece table of ${pieces} pieces: has ${bytes.byteLength} bytes`)
    }
    const table = new PieceTable(pieces)
    table.#digests.set(bytes)
    table.#known.addRange(0, pieces)
    return table
  }

  /** Which digests are known. */
  get known(): ReadonlyBitmap {
    return this.#known
  }

  get size(): number {
    return this.#known.size
  }

  /** A view of the piece's 32 bytes, or undefined. */
  digest(piece: number): Uint8Array | undefined {
    return this.#known.has(piece) ? this.#digests.subarray(piece * DIGEST_BYTES, (piece + 1) * DIGEST_BYTES) : undefined
  }

  /**
   * Takes digests of the pieces from `from` on, 32 bytes each. All or nothing: throws PROTOCOL_VIOLATION when the range
   * doesn't fit the task, or when one contradicts what is known already.
   */
  setDigests(from: number, digests: Uint8Array): void {
    const count = digests.byteLength / DIGEST_BYTES
    if (!Number.isInteger(count) || !Number.isInteger(from) || from < 0 || from + count > this.size) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece digests from ${from}: ${digests.byteLength} bytes do not fit a table of ${this.size} pieces`,
      )
    }
    for (let at = 0; at < count; at++) {
      const known = this.digest(from + at)
      if (known && !same(known, digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES))) {
        throw new DarnerError('PROTOCOL_VIOLATION', `digest of piece ${from + at} contradicts the one known before`)
      }
    }
    this.#digests.set(digests, from * DIGEST_BYTES)
    this.#known.addRange(from, count)
  }

  /** A copy of the known run `[from, from + count)`, 32 bytes each, or undefined when one of them isn't known. */
  slice(from: number, count: number): Uint8Array | undefined {
    const gap = this.#known.nextClear(from)
    if (gap >= 0 && gap < from + count) return undefined
    return this.#digests.slice(from * DIGEST_BYTES, (from + count) * DIGEST_BYTES)
  }
}

/** Equal content. Digests are public, so time may tell. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
