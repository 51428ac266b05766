/** A set of piece numbers, one bit each: bit `n` is `bytes[n >> 3] & (0x80 >> (n & 7))`, as on the wire and on disk. */
import { DarnerError } from '../errors.ts'

/** What readers of a bitmap may do. */
export interface ReadonlyBitmap {
  readonly size: number
  readonly count: number
  readonly full: boolean
  has(number: number): boolean
  /** The first number at or after `from` that is (or is not) in the set; -1 when there is none. */
  nextSet(from: number): number
  nextClear(from: number): number
  /** Runs of numbers in the set, as `[from, count]`, ascending. */
  ranges(): [from: number, count: number][]
  toBytes(): Uint8Array
}

export class Bitmap implements ReadonlyBitmap {
  readonly size: number
  readonly #bytes: Uint8Array
  #count = 0

  constructor(size: number) {
    this.size = size
    this.#bytes = new Uint8Array(Math.ceil(size / 8))
  }

  /** Reads a bitmap of `size` bits; throws PROTOCOL_VIOLATION when length or padding bits don't fit. */
  static fromBytes(size: number, bytes: Uint8Array): Bitmap {
    const expected = Math.ceil(size / 8)
    if (bytes.byteLength !== expected) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `bitmap of ${size} pieces: expected ${expected} bytes, got ${bytes.byteLength}`,
      )
    }
    const map = new Bitmap(size)
    map.#bytes.set(bytes)
    const padding = map.#bytes.byteLength * 8 - size
    if (padding > 0 && ((map.#bytes.at(-1) ?? 0) & ((1 << padding) - 1)) !== 0) {
      throw new DarnerError('PROTOCOL_VIOLATION', `bitmap of ${size} pieces: bits set after the last piece`)
    }
    for (let byte of map.#bytes) for (; byte !== 0; byte &= byte - 1) map.#count++
    return map
  }

  static full(size: number): Bitmap {
    const map = new Bitmap(size)
    map.addRange(0, size)
    return map
  }

  get count(): number {
    return this.#count
  }

  get full(): boolean {
    return this.#count === this.size
  }

  has(number: number): boolean {
    return number >= 0 && number < this.size && ((this.#bytes[number >> 3] ?? 0) & (0x80 >> (number & 7))) !== 0
  }

  /** Adds a number; false when it was there. */
  add(number: number): boolean {
    if (number < 0 || number >= this.size || !Number.isInteger(number))
      throw new RangeError(`piece ${number} of ${this.size}`)
    if (this.has(number)) return false
    this.#bytes[number >> 3] = (this.#bytes[number >> 3] ?? 0) | (0x80 >> (number & 7))
    this.#count++
    return true
  }

  addRange(from: number, count: number): void {
    for (let number = from; number < from + count; number++) this.add(number)
  }

  /** Takes a number out; false when it was not there. */
  remove(number: number): boolean {
    if (!this.has(number)) return false
    this.#bytes[number >> 3] = (this.#bytes[number >> 3] ?? 0) & ~(0x80 >> (number & 7))
    this.#count--
    return true
  }

  nextSet(from: number): number {
    for (let number = from; number < this.size; number++) {
      if ((number & 7) === 0 && this.#bytes[number >> 3] === 0) number += 7
      else if (this.has(number)) return number
    }
    return -1
  }

  nextClear(from: number): number {
    for (let number = from; number < this.size; number++) {
      if ((number & 7) === 0 && this.#bytes[number >> 3] === 0xff) number += 7
      else if (!this.has(number)) return number
    }
    return -1
  }

  ranges(): [from: number, count: number][] {
    const runs: [number, number][] = []
    for (let from = this.nextSet(0); from >= 0; ) {
      const end = this.nextClear(from)
      const to = end < 0 ? this.size : end
      runs.push([from, to - from])
      from = this.nextSet(to)
    }
    return runs
  }

  toBytes(): Uint8Array {
    return this.#bytes.slice()
  }
}
