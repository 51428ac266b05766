/** Buffers for segments on their way out, with room for the frame header in front: one write, no copy. */
import { HEADER_BYTES, MAX_SEGMENT_BYTES } from '../../src/wire/lane.ts'

const MAX_KEPT = 32

export class SegmentPool {
  readonly #free: Buffer[] = []

  /** A buffer of a header and the largest segment; its content is whatever was there before. */
  get(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(HEADER_BYTES + MAX_SEGMENT_BYTES)
  }

  put(buffer: Buffer): void {
    if (this.#free.length < MAX_KEPT) this.#free.push(buffer)
  }
}
