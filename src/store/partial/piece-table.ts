/**
 * The SHA-256 of each piece of a task, known for any subset of them. Also the states of the blob's own SHA-256 after each piece
 * (hash-chain.ts), as far as they were published. Some tasks have the states after each step of a piece, except the last. What is known
 * never changes.
 */
import { DarnerError } from '../../core/errors.ts'
import { Bitmap, type ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { STEPS_BYTES } from '../../core/task/task.ts'

export const DIGEST_BYTES = 32

export class PieceTable {
  readonly #digests: Entries
  readonly #states: Entries
  readonly #steps: Entries

  constructor(pieces: number) {
    this.#digests = new Entries(pieces, 'digest')
    this.#states = new Entries(pieces, 'state after')
    this.#steps = new Entries(pieces, 'states inside', STEPS_BYTES)
  }

  /** A table that is known whole, from what {@link whole} gave. Undefined when the length doesn't fit. */
  static fromBytes(pieces: number, bytes: Uint8Array): PieceTable | undefined {
    const length = pieces * DIGEST_BYTES
    const whole = 2 * length + pieces * STEPS_BYTES
    if (bytes.byteLength !== length && bytes.byteLength !== 2 * length && bytes.byteLength !== whole) return undefined
    const table = new PieceTable(pieces)
    table.setDigests(0, bytes.subarray(0, length))
    table.setStates(0, bytes.subarray(length, 2 * length))
    table.setSteps(0, bytes.subarray(2 * length))
    return table
  }

  /** Which digests are known. */
  get known(): ReadonlyBitmap {
    return this.#digests.known
  }

  get size(): number {
    return this.known.size
  }

  /** A view of the piece's 32 bytes, or undefined. */
  digest(piece: number): Uint8Array | undefined {
    return this.#digests.get(piece)
  }

  /** A view of the 32 bytes of the state after a piece, or undefined. */
  state(piece: number): Uint8Array | undefined {
    return this.#states.get(piece)
  }

  /**
   * Takes digests of the pieces from `from` on, 32 bytes each. All or nothing: throws PROTOCOL_VIOLATION when the range
   * doesn't fit the task, or when one contradicts what is known already.
   */
  setDigests(from: number, digests: Uint8Array): void {
    this.#digests.set(from, digests)
  }

  /** The same for the states after the pieces from `from` on. */
  setStates(from: number, states: Uint8Array): void {
    this.#states.set(from, states)
  }

  /** A view of the states inside a piece, 32 bytes each, or undefined. Of a short one those that it has not are zeros. */
  steps(piece: number): Uint8Array | undefined {
    return this.#steps.get(piece)
  }

  /** The same for the states inside the pieces from `from` on. */
  setSteps(from: number, steps: Uint8Array): void {
    this.#steps.set(from, steps)
  }

  /** A copy of the known run `[from, from + count)`, 32 bytes each, or undefined when one of them isn't known. */
  slice(from: number, count: number): Uint8Array | undefined {
    return this.#digests.run(from, count) < count ? undefined : this.#digests.copy(from, count)
  }

  /** A copy of the states after the pieces from `from` on, up to the first that isn't known, of `count` at most. */
  states(from: number, count: number): Uint8Array {
    return this.#states.copy(from, this.#states.run(from, count))
  }

  /** The same of the states inside them. */
  stepsOf(from: number, count: number): Uint8Array {
    return this.#steps.copy(from, this.#steps.run(from, count))
  }

  /** All digests, the states where all are known, and those inside pieces where these are too; undefined while a digest isn't. */
  whole(): Uint8Array | undefined {
    const { size } = this
    const digests = this.slice(0, size)
    if (digests === undefined || !this.#states.known.full) return digests
    return Buffer.concat([digests, this.states(0, size), this.#steps.known.full ? this.stepsOf(0, size) : NOTHING])
  }
}

const NOTHING = new Uint8Array()

/** As many bytes of each piece, as far as they are known. */
class Entries {
  readonly #what: string
  readonly #entryBytes: number
  readonly #known: Bitmap
  #bytes: Uint8Array | undefined

  constructor(pieces: number, what: string, entryBytes = DIGEST_BYTES) {
    this.#what = what
    this.#entryBytes = entryBytes
    this.#known = new Bitmap(pieces)
  }

  get known(): ReadonlyBitmap {
    return this.#known
  }

  get(piece: number): Uint8Array | undefined {
    if (!this.#known.has(piece)) return undefined
    return this.#bytes?.subarray(piece * this.#entryBytes, (piece + 1) * this.#entryBytes)
  }

  set(from: number, entries: Uint8Array): void {
    const { size } = this.#known
    const count = entries.byteLength / this.#entryBytes
    if (!Number.isInteger(count) || !Number.isInteger(from) || from < 0 || from + count > size) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `each piece's ${this.#what} from ${from}: ${entries.byteLength} bytes do not fit a table of ${size} pieces`,
      )
    }
    for (let at = 0; at < count; at++) {
      const known = this.get(from + at)
      if (known && !same(known, entries.subarray(at * this.#entryBytes, (at + 1) * this.#entryBytes))) {
        throw new DarnerError(
          'PROTOCOL_VIOLATION',
          `${this.#what} of piece ${from + at} contradicts the one known before`,
          { details: { contradicted: from + at } },
        )
      }
    }
    if (count === 0) return
    this.#bytes ??= new Uint8Array(size * this.#entryBytes)
    this.#bytes.set(entries, from * this.#entryBytes)
    this.#known.addRange(from, count)
  }

  /** How many from `from` on are known in a row, of `count` at most. */
  run(from: number, count: number): number {
    const gap = this.#known.nextClear(from)
    return gap < 0 ? Math.min(count, this.#known.size - from) : Math.min(count, gap - from)
  }

  copy(from: number, count: number): Uint8Array {
    return this.#bytes?.slice(from * this.#entryBytes, (from + count) * this.#entryBytes) ?? new Uint8Array()
  }
}

/** Equal content. Digests are public, so time may tell. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}
