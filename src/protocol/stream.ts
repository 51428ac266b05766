/**
 * The only file that touches libp2p's Stream. It turns the event target into exact reads and writes with backpressure both ways. Reading
 * stops the remote through the yamux window; writing waits for the muxer to drain.
 */
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { DarnerError } from '../core/errors.ts'
import { STREAM_CHUNK_BYTES } from './constants.ts'

/** Bytes held here before the remote must stop. Beyond them, one yamux window may still arrive. */
const PAUSE_ABOVE_BYTES = 64 * 1024

/** How long a stream that was ended and let go may stay half open before it is reset. */
const LINGER_MS = 10_000

interface PendingRead {
  readonly target: Uint8Array
  filled: number
  readonly done: () => void
  readonly fail: (error: unknown) => void
}

/** One byte stream to a peer. One reader and one writer at a time. Disposing resets it, unless it was ended. */
export class PeerStream implements AsyncDisposable {
  /** Resolves once neither side can send any more: undefined after an orderly end, else why. */
  readonly closed: Promise<Error | undefined>

  readonly #stream: Stream
  readonly #name: string
  readonly #held: Uint8Array[] = []
  readonly #closing = Promise.withResolvers<Error | undefined>()
  #heldBytes = 0
  #heardMs = performance.now()
  #pending: PendingRead | undefined
  #finSeen: boolean
  #ended = false
  #failure: Error | undefined
  #writing = false
  #writeEnded = false
  #discarding = false

  constructor(stream: Stream, name: string) {
    this.#stream = stream
    this.#name = name
    this.closed = this.#closing.promise
    this.#finSeen = stream.remoteWriteStatus === 'closed' && (stream.status === 'open' || stream.status === 'closing')
    stream.addEventListener('remoteCloseWrite', () => {
      this.#finSeen = true
    })
    stream.addEventListener('end', () => this.#onEnd())
    stream.addEventListener('close', (event) => this.#onClose(event))
    stream.addEventListener('message', (event) => this.#onMessage(event))
    if (stream.readableEnded) this.#onEnd()
    if (stream.status !== 'open' && stream.status !== 'closing') this.#onGone(undefined)
  }

  /** The protocol that both sides agreed on. */
  get protocol(): string {
    return this.#stream.protocol
  }

  /** When bytes last arrived, on the scale of `performance.now()`. */
  get heardMs(): number {
    return this.#heardMs
  }

  /** Bytes that arrived and nobody asked for yet, here and in the muxer. */
  get waitingBytes(): number {
    return this.#heldBytes + this.#stream.readBufferLength
  }

  /** Bytes handed to {@link write} that have not left for the socket yet. */
  get unsentBytes(): number {
    return this.#stream.writeBufferLength
  }

  /**
   * The next `bytes` bytes: a view when they arrived in one piece, else a fresh buffer. Throws CLOSED when the stream ends first
   * (`details.got` is the number of bytes that came). Throws PEER_UNREACHABLE when it is reset or the connection is lost, or the signal's
   * reason. After an abort nothing is lost: the next read starts where this one did.
   */
  async readExactly(bytes: number, options: { signal: AbortSignal }): Promise<Uint8Array> {
    const first = this.#held[0]
    if (this.#pending === undefined && first !== undefined && first.byteLength >= bytes) {
      options.signal.throwIfAborted()
      return this.#take(first, bytes)
    }
    // room for what a sender promised is only taken here, so callers bound `bytes` before they ask
    const target = new Uint8Array(bytes)
    await this.readInto(target, options)
    return target
  }

  /** Fills all of `target`. Throws as {@link readExactly} does. */
  async readInto(target: Uint8Array, { signal }: { signal: AbortSignal }): Promise<void> {
    if (this.#pending !== undefined) throw new DarnerError('INTERNAL', `${this.#name}: read while another read waits`)
    signal.throwIfAborted()
    let filled = 0
    while (filled < target.byteLength) {
      const chunk = this.#held[0]
      if (chunk === undefined) break
      const part = this.#take(chunk, Math.min(chunk.byteLength, target.byteLength - filled))
      target.set(part, filled)
      filled += part.byteLength
    }
    if (filled === target.byteLength) return
    if (this.#failure !== undefined) throw this.#failure
    if (this.#ended) throw this.#short(filled, target.byteLength)
    const waiting = Promise.withResolvers<void>()
    const pending: PendingRead = { target, filled, done: waiting.resolve, fail: waiting.reject }
    const onAbort = () => {
      if (this.#pending !== pending) return
      this.#pending = undefined
      if (pending.filled > 0) this.#putBack(target.slice(0, pending.filled)) // a copy: the target is the caller's
      waiting.reject(signal.reason)
    }
    this.#pending = pending
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      this.#resume()
      await waiting.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /**
   * Sends `bytes`, waiting while the remote or the socket is behind; at return at most one chunk of them waits in the muxer. The buffer
   * must be left alone afterwards. Throws PEER_UNREACHABLE when the stream is gone, CLOSED after {@link end}, or the signal's reason. Then
   * an unknown part was sent and the stream is only good for {@link abort}.
   */
  async write(bytes: Uint8Array, { signal }: { signal: AbortSignal }): Promise<void> {
    if (this.#writing) throw new DarnerError('INTERNAL', `${this.#name}: write while another write waits`)
    this.#writing = true
    try {
      signal.throwIfAborted()
      for (let at = 0; at < bytes.byteLength; at += STREAM_CHUNK_BYTES) {
        if (this.#mustWait()) await this.#drained(signal)
        this.#send(bytes.byteLength <= STREAM_CHUNK_BYTES ? bytes : bytes.subarray(at, at + STREAM_CHUNK_BYTES))
      }
    } finally {
      this.#writing = false
    }
  }

  /** Says that nothing more will be written, after all that was. Throws the signal's reason or PEER_UNREACHABLE. */
  async end({ signal }: { signal: AbortSignal }): Promise<void> {
    this.#writeEnded = true
    if (this.#failure !== undefined) throw this.#failure
    signal.throwIfAborted()
    try {
      await this.#stream.close({ signal })
    } catch (error) {
      signal.throwIfAborted()
      throw this.#failure ?? new DarnerError('PEER_UNREACHABLE', `${this.#name}: could not end`, { cause: error })
    }
  }

  /** Resets the stream: both sides' reads and writes fail at once, and what was not read or sent is dropped. */
  abort(error: Error): void {
    this.#stream.abort(error)
    this.#onGone(error)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#writeEnded) return this.abort(new DarnerError('CLOSED', `${this.#name}: let go`))
    this.#discarding = true
    this.#held.length = 0
    this.#heldBytes = 0
    this.#resume()
    const timer = setTimeout(
      () => this.abort(new DarnerError('CLOSED', `${this.#name}: the other side never ended`)),
      LINGER_MS,
    )
    timer.unref()
    void this.closed.then(() => clearTimeout(timer))
  }

  #mustWait(): boolean {
    return (
      this.#failure === undefined &&
      (this.#stream.writableNeedsDrain || this.#stream.writeBufferLength > STREAM_CHUNK_BYTES)
    )
  }

  /** One listener per wait: the library's own promise for this resolves only once in a stream's life. */
  async #drained(signal: AbortSignal): Promise<void> {
    const stream = this.#stream
    while (this.#mustWait()) {
      const waiting = Promise.withResolvers<void>()
      const onAbort = () => waiting.reject(signal.reason)
      const wake = () => waiting.resolve()
      signal.throwIfAborted()
      signal.addEventListener('abort', onAbort, { once: true })
      for (const event of ['drain', 'idle', 'close'] as const) stream.addEventListener(event, wake)
      try {
        await waiting.promise
        // the stream sends its queue in a microtask of its own after a drain
        await Promise.resolve()
      } finally {
        signal.removeEventListener('abort', onAbort)
        for (const event of ['drain', 'idle', 'close'] as const) stream.removeEventListener(event, wake)
      }
    }
  }

  #send(chunk: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#writeEnded) throw new DarnerError('CLOSED', `${this.#name}: write after the end`)
    try {
      this.#stream.send(chunk)
    } catch (error) {
      throw this.#failure ?? new DarnerError('PEER_UNREACHABLE', `${this.#name}: cannot be written`, { cause: error })
    }
  }

  #onMessage({ data }: StreamMessageEvent): void {
    this.#heardMs = performance.now()
    if (this.#discarding) return
    if (data instanceof Uint8Array) this.#accept(data)
    else for (const chunk of data) this.#accept(chunk)
    if (this.#heldBytes > PAUSE_ABOVE_BYTES && this.#pending === undefined) this.#pause()
  }

  #accept(chunk: Uint8Array): void {
    const pending = this.#pending
    if (pending === undefined) {
      this.#held.push(chunk)
      this.#heldBytes += chunk.byteLength
      return
    }
    const wanted = pending.target.byteLength - pending.filled
    pending.target.set(chunk.byteLength <= wanted ? chunk : chunk.subarray(0, wanted), pending.filled)
    pending.filled += Math.min(wanted, chunk.byteLength)
    if (pending.filled < pending.target.byteLength) return
    this.#pending = undefined
    pending.done()
    if (chunk.byteLength > wanted) this.#accept(chunk.subarray(wanted))
  }

  #take(first: Uint8Array, bytes: number): Uint8Array {
    if (first.byteLength === bytes) this.#held.shift()
    else this.#held[0] = first.subarray(bytes)
    this.#heldBytes -= bytes
    return first.byteLength === bytes ? first : first.subarray(0, bytes)
  }

  #putBack(bytes: Uint8Array): void {
    this.#held.unshift(bytes)
    this.#heldBytes += bytes.byteLength
  }

  #pause(): void {
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  #resume(): void {
    if (this.#stream.readStatus !== 'paused') return
    try {
      this.#stream.resume()
    } catch (error) {
      // the bytes are out already; only telling a remote that is gone failed
      if (this.#stream.status === 'open') throw error
    }
  }

  #onEnd(): void {
    // a read buffer also "ends" when the connection went away; only the remote's own end of writing is an orderly one
    if (!this.#finSeen) return
    this.#ended = true
    const pending = this.#pending
    this.#pending = undefined
    pending?.fail(this.#short(pending.filled, pending.target.byteLength))
  }

  #onClose(event: StreamCloseEvent): void {
    this.#onGone(event.error)
  }

  #onGone(cause: Error | undefined): void {
    if (this.#failure !== undefined) return
    if (cause === undefined && this.#finSeen) {
      // both sides said their end: what still waits in the muxer can be read
      this.#writeEnded = true
      this.#closing.resolve(undefined)
      return
    }
    this.#failure = cause instanceof DarnerError ? cause : this.#lost(cause)
    this.#held.length = 0
    this.#heldBytes = 0
    const pending = this.#pending
    this.#pending = undefined
    pending?.fail(this.#failure)
    this.#closing.resolve(this.#failure)
  }

  #lost(cause: Error | undefined): DarnerError {
    const what =
      cause === undefined
        ? 'connection lost'
        : cause.name === 'StreamResetError'
          ? 'reset by the other side'
          : cause.message
    return new DarnerError('PEER_UNREACHABLE', `${this.#name}: ${what}`, { cause })
  }

  #short(got: number, wanted: number): DarnerError {
    return new DarnerError('CLOSED', `${this.#name}: ended after ${got} of ${wanted} bytes`, {
      details: { got, wanted },
    })
  }
}
