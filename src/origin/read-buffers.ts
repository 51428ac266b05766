/**
 * Memory that origins' bodies are read into, used again once their reader says that it is done with it. Node takes fresh memory for
 * each read otherwise, of which 64 MiB make the garbage collector go through the whole heap.
 */
import type { OnReadOpts, Socket } from 'node:net'

/** One buffer; a fast connection fills it in one read. */
const BUFFER_BYTES = 256 * 1024
/** With less room than this a buffer gets no further read. One TLS record fits. */
const LEAST_ROOM_BYTES = 16 * 1024
/** Buffers kept for later. */
const MAX_FREE = 32

interface Use {
  /** Of the buffer, handed to connections' readers so far. */
  handed: number
  /** Of those, no longer needed. */
  done: number
  /** No further read goes there. */
  full: boolean
}

export class ReadBuffers {
  readonly #free: Buffer<ArrayBuffer>[] = []
  readonly #uses = new WeakMap<ArrayBufferLike, Use>()
  /** What a connection goes on with, whose read has just been handled. */
  #next: Buffer | undefined

  /** For `net.connect` and `tls.connect`; any number of connections at once. */
  readonly onread: OnReadOpts = {
    // Node asks for the next buffer right after it has handled a read, with nothing in between
    buffer: () => {
      const next = this.#next ?? this.#take()
      this.#next = undefined
      return next
    },
    callback: this.#callback(),
  }

  /** The reader of `chunk`, which came through here or didn't, has no use for it any more, nor has anybody else. Say it once. */
  done(chunk: Uint8Array): void {
    const use = this.#uses.get(chunk.buffer)
    if (use === undefined) return
    use.done += chunk.byteLength
    if (use.full && use.done === use.handed) this.#give(chunk.buffer as ArrayBuffer)
  }

  #callback(): OnReadOpts['callback'] {
    const handed = (bytes: number, view: Uint8Array) => this.#handed(bytes, view)
    return function (this: Socket, bytes: number, view: Uint8Array): boolean {
      const more = this.push(view.subarray(0, bytes))
      handed(bytes, view)
      return more
    } as OnReadOpts['callback']
  }

  #handed(bytes: number, view: Uint8Array): void {
    const use = this.#uses.get(view.buffer)
    if (use === undefined) return
    use.handed += bytes
    const room = view.byteLength - bytes
    if (room < LEAST_ROOM_BYTES) {
      use.full = true
      // its reader may have been done with it within the read
      if (use.done === use.handed) this.#give(view.buffer as ArrayBuffer)
    } else this.#next = Buffer.from(view.buffer, view.byteOffset + bytes, room)
  }

  #take(): Buffer {
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES)
    this.#uses.set(buffer.buffer, { handed: 0, done: 0, full: false })
    return buffer
  }

  #give(memory: ArrayBuffer): void {
    this.#uses.delete(memory)
    if (this.#free.length < MAX_FREE) this.#free.push(Buffer.from(memory))
  }
}
