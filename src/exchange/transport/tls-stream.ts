/** A ByteStream over one TLS socket. */
import type { TLSSocket } from 'node:tls'
import type { PeerId } from '../../core/contracts/exchange.ts'
import { DarnerError } from '../../core/errors.ts'
import type { RoundTrip } from '../limits/pace.ts'
import type { ByteStream } from './byte-stream.ts'
import { SendOptions } from './send-options.ts'
import { roundTripOf } from './tcp-round-trip.ts'

/** Bytes that may wait unread before the socket is paused. */
const MAX_HELD_BYTES = 64 * 1024
const LINGER_MS = 1000

interface Reading {
  readonly into: Uint8Array
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  filled: number
}

export class TlsStream implements ByteStream {
  readonly #socket: TLSSocket
  readonly #descriptor: number | undefined
  readonly #sending: SendOptions | undefined
  #remote: PeerId | undefined
  #reading: Reading | undefined
  #held: Uint8Array[] = []
  #heldBytes = 0
  #bytesRead = 0
  #paused = false
  #failure: Error | undefined

  /**
   * Owns `socket`. The maker of the socket passes what arrives to {@link feed}, and knows the descriptor of the connection below, if
   * anybody does.
   */
  constructor(socket: TLSSocket, descriptor?: number) {
    this.#socket = socket
    this.#descriptor = descriptor
    this.#sending = descriptor === undefined ? undefined : new SendOptions(descriptor)
    socket.on('error', (error) => this.#fail(unreachable(this, error)))
    socket.on('end', () => this.#fail(unreachable(this, undefined)))
    socket.on('close', () => this.#fail(unreachable(this, undefined)))
  }

  get remote(): PeerId {
    return this.#remote ?? ('' as PeerId)
  }

  /** Set once, when the certificate was verified. */
  set remote(peer: PeerId) {
    this.#remote = peer
  }

  get bytesRead(): number {
    return this.#bytesRead
  }

  get filling(): number {
    return this.#reading?.filled ?? 0
  }

  /**
   * Takes what arrived. `reused` says that the caller will overwrite `chunk`. Returns false when the socket should stop
   * reading until somebody asks for more.
   */
  feed(chunk: Uint8Array, reused: boolean): boolean {
    this.#bytesRead += chunk.byteLength
    if (this.#failure !== undefined) return true
    const reading = this.#reading
    let rest = chunk
    if (reading !== undefined) {
      const taken = Math.min(chunk.byteLength, reading.into.byteLength - reading.filled)
      reading.into.set(taken === chunk.byteLength ? chunk : chunk.subarray(0, taken), reading.filled)
      reading.filled += taken
      if (reading.filled === reading.into.byteLength) {
        this.#reading = undefined
        reading.resolve()
      }
      if (taken === chunk.byteLength) return true
      rest = chunk.subarray(taken)
    }
    // the read buffer is the socket's own and is about to be filled again, hence the copy
    this.#held.push(reused ? new Uint8Array(rest) : rest)
    this.#heldBytes += rest.byteLength
    if (this.#heldBytes <= MAX_HELD_BYTES) return true
    this.#paused = true
    return false
  }

  fill(into: Uint8Array): boolean {
    if (this.#heldBytes < into.byteLength) return false
    this.#take(into)
    return true
  }

  readExactly(into: Uint8Array): Promise<void> {
    const filled = this.#take(into)
    if (filled === into.byteLength) return Promise.resolve()
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#reading = { into, filled, resolve, reject }
      if (!this.#paused) return
      this.#paused = false
      this.#socket.resume()
    })
  }

  /** Moves what is held into `into`; how many bytes that were. */
  #take(into: Uint8Array): number {
    let filled = 0
    while (filled < into.byteLength) {
      const head = this.#held[0]
      if (head === undefined) break
      const taken = Math.min(head.byteLength, into.byteLength - filled)
      into.set(taken === head.byteLength ? head : head.subarray(0, taken), filled)
      filled += taken
      this.#heldBytes -= taken
      if (taken === head.byteLength) this.#held.shift()
      else this.#held[0] = head.subarray(taken)
    }
    return filled
  }

  roundTrip(): RoundTrip | undefined {
    // a closed descriptor may be somebody else's by now
    if (this.#descriptor === undefined || this.#failure !== undefined || this.#socket.destroyed) return undefined
    return roundTripOf(this.#descriptor)
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    const beganMs = performance.now()
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (error) => {
        if (error) reject(this.#failure ?? unreachable(this, error))
        else {
          this.#sending?.wrote(bytes.byteLength, performance.now() - beganMs)
          resolve()
        }
      })
    })
  }

  end(): void {
    if (this.#failure !== undefined) return
    // the other side gets a moment to read our last words; what it still says is dropped
    this.#socket.end()
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS)
    this.#socket.once('close', () => clearTimeout(timer))
    if (this.#paused) this.#socket.resume()
    this.#settle(new DarnerError('CLOSED', 'lane connection closed'))
  }

  abort(error: Error): void {
    this.#fail(error)
  }

  #fail(error: Error): void {
    this.#settle(error)
    this.#socket.destroy()
  }

  #settle(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    const reading = this.#reading
    this.#reading = undefined
    reading?.reject(error)
  }
}

function unreachable(stream: TlsStream, cause: Error | undefined): DarnerError {
  const seen = cause === undefined ? 'the connection ended' : cause.message
  return new DarnerError('PEER_UNREACHABLE', `lane of peer ${stream.remote || '(not yet known)'}: ${seen}`, { cause })
}
