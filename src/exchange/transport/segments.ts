/** Buffers for segments on their way out, with room in front for the frame header and for small frames: one write, no copy. */
import { HEADER_BYTES, MAX_SEGMENT_BYTES } from './lane-frames.ts'

const MAX_KEPT = 32
/** Small frames that may leave in the same write. */
export const SMALL_FRAMES_BYTES = 512
/** Where a segment's bytes begin in its buffer. */
export const SEGMENT_AT = SMALL_FRAMES_BYTES + HEADER_BYTES

export class SegmentPool {
  readonly #free: Buffer[] = []

  /** A buffer of the room, a header and the largest segment; its content is whatever was there before. */
  get(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(SEGMENT_AT + MAX_SEGMENT_BYTES)
  }

  put(buffer: Buffer): void {
    if (this.#free.length < MAX_KEPT) this.#free.push(buffer)
  }
}
