/** The last bytes of a stream, in memory, for readers that keep up with it: they need not wait for the disk. */
import { abortable } from '../../src/base/signals.ts'

/** What is kept for those who are a little behind. */
const KEPT_BYTES = 2 * 1024 * 1024

export class Tail {
  readonly #chunks: { readonly at: number; readonly bytes: Uint8Array }[] = []
  #start: number
  #end: number
  #grown = Promise.withResolvers<void>()
  #closed = false

  /** `at` is where the stream begins in the blob. */
  constructor(at: number) {
    this.#start = at
    this.#end = at
  }

  /** Where the next bytes go. */
  get end(): number {
    return this.#end
  }

  /** False once no more will come. */
  get growing(): boolean {
    return !this.#closed
  }

  /** The stream went on. The bytes are shared with readers: nobody may change them. */
  push(bytes: Uint8Array): void {
    if (bytes.byteLength === 0) return
    this.#chunks.push({ at: this.#end, bytes })
    this.#end += bytes.byteLength
    for (let first = this.#chunks[0]; first !== undefined; first = this.#chunks[0]) {
      if (this.#end - first.at - first.bytes.byteLength < KEPT_BYTES) break
      this.#chunks.shift()
      this.#start = first.at + first.bytes.byteLength
    }
    this.#wake()
  }

  /** Nothing more comes by this way, be it whole or not. */
  close(): void {
    this.#closed = true
    this.#wake()
  }

  /** What is here from `at` on, in one piece as it came; undefined where that is elsewhere. */
  from(at: number): Uint8Array | undefined {
    if (at < this.#start || at >= this.#end) return undefined
    const chunk = this.#chunks.findLast((one) => one.at <= at)
    return chunk?.bytes.subarray(at - chunk.at)
  }

  /** Resolves when more has come, or nothing will. Throws the signal's reason. */
  async more({ signal }: { signal: AbortSignal }): Promise<void> {
    if (this.#closed) return
    await abortable(this.#grown.promise, signal)
  }

  #wake(): void {
    this.#grown.resolve()
    this.#grown = Promise.withResolvers()
  }
}
