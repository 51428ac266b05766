/** Memory that a disk can take bytes from itself: open(2) with O_DIRECT wants it at a multiple of the disk's block. */
import koffi from 'koffi'

/** A page, and no disk's block is longer. */
export const ALIGN_BYTES = 4096

/** `bytes` bytes at a multiple of {@link ALIGN_BYTES}, in memory of its own; what it holds is of no meaning. */
export function alignedBuffer(bytes: number): Buffer<ArrayBuffer> {
  const memory = Buffer.allocUnsafeSlow(bytes + ALIGN_BYTES)
  const at = (ALIGN_BYTES - offBy(memory)) % ALIGN_BYTES
  return memory.subarray(at, at + bytes)
}

/** Whether a disk can take these bytes, as they lie in memory, for `position` in a file. */
export function isAligned(bytes: Uint8Array, position: number): boolean {
  return position % ALIGN_BYTES === 0 && bytes.byteLength % ALIGN_BYTES === 0 && offBy(bytes) === 0
}

function offBy(bytes: Uint8Array): number {
  return Number(koffi.address(bytes) % BigInt(ALIGN_BYTES))
}
