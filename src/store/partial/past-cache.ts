/**
 * Writes past the kernel's cache, by open(2)'s O_DIRECT, of bytes that nobody will read soon. On a virtual machine that gives free memory
 * back to its host, new cache memory takes as much processor time as all other work on a blob. But later readers have them from the disk,
 * and they count as written only when the disk has them.
 */
import { isAligned } from '../../core/aligned.ts'
import type { Clock } from '../../core/clock.ts'
import { writeAll } from '../layout.ts'
import type { DataFile } from './data-file.ts'

/** A write that takes longer means that the disk is slow, or the machine busy. Then the cache takes the next writes for a while, */
const SLOW_MS = 25
/** at first for so long, and twice as long each time, */
const SLOW_DISK_MS = 1_000
const MAX_SLOW_DISK_MS = 60_000
/** until so many in a row were quick. */
const QUICK_WRITES = 16
/** As many at once, and one after a rest. Each blocks one of Node's four threads, and the file's other writes may wait for it. */
const MAX_WRITES = 3

export class PastCache {
  readonly #clock: Clock
  #writes = 0
  #most = MAX_WRITES
  #quick = 0
  #restMs = SLOW_DISK_MS
  #restsUntilMs = Number.NEGATIVE_INFINITY

  constructor({ clock }: { clock: Clock }) {
    this.#clock = clock
  }

  /** Writes all of `bytes`, if they can go this way, and now; false where nothing was done. Throws as a write does. */
  async write(file: DataFile, bytes: Uint8Array, position: number): Promise<boolean> {
    const beganMs = this.#clock.monotonicMs()
    if (this.#writes >= this.#most || beganMs < this.#restsUntilMs || !isAligned(bytes, position)) return false
    this.#writes++
    try {
      return await file.usePast((handle) => writeAll(handle, bytes, position))
    } finally {
      this.#writes--
      this.#took(beganMs)
    }
  }

  #took(beganMs: number): void {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - beganMs <= SLOW_MS) {
      this.#most = MAX_WRITES
      if (++this.#quick >= QUICK_WRITES) this.#restMs = SLOW_DISK_MS
      return
    }
    this.#quick = 0
    this.#most = 1
    // what was under way beside another slow one says nothing new
    if (nowMs < this.#restsUntilMs) return
    this.#restsUntilMs = nowMs + this.#restMs
    this.#restMs = Math.min(MAX_SLOW_DISK_MS, 2 * this.#restMs)
  }
}
