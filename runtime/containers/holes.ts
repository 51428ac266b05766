/** Zeros of a file, kept as holes: a few bytes of an archive may stand for more of them than the disk has room for. */
import { writeSync } from 'node:fs'

/** The least that a hole is worth: what file systems allocate at once. */
const BLOCK = 4096
const ZEROS = Buffer.alloc(BLOCK)

/** Writes `chunk` at `at` into a file that has nothing there yet, leaving out blocks of zeros; how many bytes it wrote. */
export function writeAroundHoles(file: number, chunk: Uint8Array, at: number): number {
  let written = 0
  let from = 0
  const write = (to: number) => {
    for (let here = from; here < to; ) here += writeSync(file, chunk, here, to - here, at + here)
    written += to - from
  }
  for (let here = 0; here < chunk.byteLength; ) {
    const end = Math.min(chunk.byteLength, here + BLOCK - ((at + here) % BLOCK))
    if (isZero(chunk, here, end)) {
      write(here)
      from = end
    }
    here = end
  }
  write(chunk.byteLength)
  return written
}

/** Looks at no byte twice: what isn't zero shows in the first one mostly. */
const isZero = (chunk: Uint8Array, from: number, to: number): boolean =>
  chunk[from] === 0 && Buffer.compare(chunk.subarray(from, to), ZEROS.subarray(0, to - from)) === 0
