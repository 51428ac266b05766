/** A connection to what a process writes and reads, through conmon's attach socket: packets that start with 2 (stdout) or 3 (stderr). */
import { join } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'
import type { Bundle } from './bundle.ts'
import { connectSeqpacket, type SeqpacketSocket } from './seqpacket.ts'

export interface OutputChunk {
  readonly stream: 'stdout' | 'stderr'
  readonly bytes: Uint8Array
}

/** conmon reads its attach clients with a buffer of this size; what is beyond it in a packet is lost. */
const MOST_INPUT_BYTES = 8192
/** So much output waits for a slow reader before conmon, and with it the process, is held up. */
const HOLD_BYTES = 256 * 1024
const STDOUT_MARK = 2
const STDERR_MARK = 3

/** One attached client. Iterate `output` once; it ends when the process did or `close` was called. */
export class Attached implements AsyncDisposable {
  readonly #queue: OutputChunk[] = []
  #queuedBytes = 0
  #ended = false
  #paused = false
  #wake: (() => void) | undefined
  #socket: SeqpacketSocket | undefined
  #sending: Promise<void> = Promise.resolve()

  /** Connects to the attach socket in a bundle. Throws CLOSED when no conmon listens. */
  static async open(bundle: Bundle): Promise<Attached> {
    const attached = new Attached()
    attached.#socket = await connectSeqpacket(join(bundle.path, 'attach'), {
      packet: (bytes) => attached.#take(bytes),
      end: () => attached.#end(),
    })
    return attached
  }

  /** Sends input in order. Throws CLOSED when the process has ended. */
  write(bytes: Uint8Array): Promise<void> {
    const sent = this.#sending.then(async () => {
      for (let at = 0; at < bytes.byteLength; at += MOST_INPUT_BYTES) {
        if (!this.#socket || this.#ended) throw new DarnerError('CLOSED', 'the attached process has ended')
        await this.#socket.send(bytes.subarray(at, at + MOST_INPUT_BYTES))
      }
    })
    this.#sending = sent.catch(() => {})
    return sent
  }

  /** End of input, after all that was written. */
  async endInput(): Promise<void> {
    await this.#sending
    this.#socket?.endWriting()
  }

  async *output(): AsyncGenerator<OutputChunk> {
    for (;;) {
      const chunk = this.#queue.shift()
      if (chunk) {
        this.#queuedBytes -= chunk.bytes.byteLength
        if (this.#paused && this.#queuedBytes < HOLD_BYTES / 2) {
          this.#paused = false
          this.#socket?.resume()
        }
        yield chunk
        continue
      }
      if (this.#ended) return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Leaves: the process goes on. */
  close(): void {
    this.#socket?.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  #take(packet: Buffer): void {
    const stream = packet[0] === STDOUT_MARK ? 'stdout' : packet[0] === STDERR_MARK ? 'stderr' : undefined
    if (stream === undefined || packet.byteLength < 2) return
    this.#queue.push({ stream, bytes: packet.subarray(1) })
    this.#queuedBytes += packet.byteLength - 1
    if (this.#queuedBytes > HOLD_BYTES && !this.#paused) {
      this.#paused = true
      this.#socket?.pause()
    }
    this.#notify()
  }

  #end(): void {
    this.#ended = true
    this.#notify()
  }

  #notify(): void {
    this.#wake?.()
    this.#wake = undefined
  }
}
