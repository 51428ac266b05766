/**
 * Stored bytes in memory, shared by readers at about the same place. Of many clients that pull one image at once, one reads from the disk.
 * Memory is bounded; a reader that finds all of it in use has a small block for itself.
 */
import type { StoredTask } from '../../src/store/store.ts'
import type { Lent } from './tail.ts'

/** A block lies within one piece: pieces are as long, or longer by a power of two. */
const BLOCK_BYTES = 128 * 1024
const MAX_BLOCKS = 128
const OWN_BYTES = 32 * 1024
/** Small blocks kept for the next reader without a place: each made anew is garbage outside the heap. */
const MAX_FREE = 256

interface Block {
  readonly key: string
  /** What it is of: a blob that turned out wrong is fetched anew under the same id, and none of it must be seen then. */
  readonly stored: StoredTask
  readonly body: Uint8Array
  readonly ready: Promise<void>
  readers: number
}

export class Blocks {
  /** Least recently asked for first. */
  readonly #blocks = new Map<string, Block>()
  readonly #free: Uint8Array[] = []

  /** Verified bytes from `at` on, up to the end of their block, or `to`. Throws what reading throws. */
  async take(stored: StoredTask, at: number, to: number): Promise<Lent> {
    const { task } = stored
    const blockBytes = Math.min(BLOCK_BYTES, task.pieceBytes)
    const from = Math.floor(at / blockBytes) * blockBytes
    const key = `${task.id} ${from}`
    const known = this.#blocks.get(key)
    if (known !== undefined && known.stored !== stored) this.#forget(known)
    const block = this.#blocks.get(key) ?? this.#read(stored, key, from, Math.min(task.bytes, from + blockBytes))
    if (block === undefined) return await this.#own(stored, at, Math.min(to, from + blockBytes))
    this.#blocks.delete(key)
    this.#blocks.set(key, block)
    block.readers++
    try {
      await block.ready
    } catch (error) {
      block.readers--
      throw error
    }
    let over = false
    return {
      bytes: block.body.subarray(at - from, to - from),
      keep: () => this.#forget(block),
      [Symbol.dispose]: () => {
        if (over) return
        over = true
        block.readers--
      },
    }
  }

  async #own(stored: StoredTask, at: number, to: number): Promise<Lent> {
    const body = this.#free.pop() ?? Buffer.allocUnsafeSlow(OWN_BYTES)
    const bytes = body.subarray(0, Math.min(OWN_BYTES, to - at))
    let over = false
    const give = () => {
      if (!over && this.#free.length < MAX_FREE) this.#free.push(body)
      over = true
    }
    try {
      await stored.read(at, bytes)
    } catch (error) {
      give()
      throw error
    }
    const keep = () => {
      over = true
    }
    return { bytes, keep, [Symbol.dispose]: give }
  }

  /** Undefined where there is no room. */
  #read(stored: StoredTask, key: string, from: number, to: number): Block | undefined {
    let memory: Uint8Array | undefined
    if (this.#blocks.size >= MAX_BLOCKS) {
      const idle = this.#blocks.values().find(({ readers }) => readers === 0)
      if (idle === undefined) return undefined
      this.#forget(idle)
      if (idle.body.byteLength === to - from) memory = idle.body
    }
    const body = memory ?? Buffer.allocUnsafeSlow(to - from)
    const block: Block = { key, stored, body, ready: stored.read(from, body), readers: 0 }
    block.ready.catch(() => this.#forget(block))
    this.#blocks.set(key, block)
    return block
  }

  #forget(block: Block): void {
    if (this.#blocks.get(block.key) === block) this.#blocks.delete(block.key)
  }
}
