/**
 * Memory of pieces that its readers gave back. A fresh piece costs more in page faults than its bytes cost to receive and decrypt. 64 MiB
 * of such garbage make the collector go through the whole heap. Reuse keeps both speed and memory even.
 */
import { alignedBuffer } from '../../core/aligned.ts'

const MAX_KEPT_BYTES = 32 * 1024 * 1024

export class PiecePool {
  readonly #free: Buffer<ArrayBuffer>[] = []
  readonly #most: number
  readonly #aligned: boolean
  /** What was made here and lies within a larger buffer. */
  readonly #made = new WeakMap<ArrayBuffer, Buffer<ArrayBuffer>>()
  #keptBytes = 0

  /** Keeps at most `most` bytes; `aligned` ones can go to a disk past the kernel's cache. */
  constructor({ most = MAX_KEPT_BYTES, aligned = false }: { most?: number; aligned?: boolean } = {}) {
    this.#most = most
    this.#aligned = aligned
  }

  /** A buffer of exactly `bytes` bytes with memory of its own; what it holds is of no meaning. */
  get(bytes: number): Buffer<ArrayBuffer> {
    const at = this.#free.findLastIndex(({ byteLength }) => byteLength === bytes)
    const [found] = at < 0 ? [] : this.#free.splice(at, 1)
    if (found === undefined) return this.#make(bytes)
    this.#keptBytes -= bytes
    return found
  }

  /** Takes memory back. What is no whole buffer, is here already, or is one too many is left to the collector. */
  put(body: Uint8Array): void {
    const { buffer, byteLength } = body
    if (!(buffer instanceof ArrayBuffer) || byteLength > this.#most) return
    const made = this.#made.get(buffer)
    if ((made ?? buffer).byteLength !== byteLength) return
    if (this.#free.some((one) => one.buffer === buffer)) return
    while (this.#keptBytes + byteLength > this.#most) this.#keptBytes -= this.#free.shift()?.byteLength ?? 0
    this.#free.push(made ?? (Buffer.isBuffer(body) ? (body as Buffer<ArrayBuffer>) : Buffer.from(buffer)))
    this.#keptBytes += byteLength
  }

  #make(bytes: number): Buffer<ArrayBuffer> {
    if (!this.#aligned) return Buffer.allocUnsafeSlow(bytes)
    const body = alignedBuffer(bytes)
    this.#made.set(body.buffer, body)
    return body
  }
}
