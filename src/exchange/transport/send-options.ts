/**
 * How a connection sends pieces, by two socket options of tcp(7).
 *
 * `TCP_NOTSENT_LOWAT` bounds what waits in the kernel to be sent. Without the bound a write is over once its bytes are copied, seconds
 * before a slow link has carried them. The parent then offers the next piece to the next child, and all links carry queues that nobody
 * chose. With it a write ends about when its bytes leave.
 *
 * `TCP_CONGESTION` chooses cubic. BBR takes the burst that a token bucket lets pass for the rate of the link. Pieces are about as long as
 * such bursts, so it sends at a hundred times that rate, and most of it is dropped.
 */
import koffi from 'koffi'

const IPPROTO_TCP = 6
const TCP_CONGESTION = 13
const CUBIC = Buffer.from('cubic')
const TCP_NOTSENT_LOWAT = 25
/** The bound: as many bytes as leave in this time, within limits. */
const AHEAD_MS = 10
const LEAST_BYTES = 16 * 1024
const MOST_BYTES = 1024 * 1024
/** A shorter write says nothing of the rate at which bytes leave. */
const MEASURED_BYTES = 16 * 1024
const SMOOTHING = 0.3

let setsockopt: ((fd: number, level: number, name: number, value: Buffer, length: number) => number) | undefined
const value = Buffer.alloc(4)

export class SendOptions {
  readonly #descriptor: number
  #bytesPerMs = 0
  #boundBytes = 0

  /** `descriptor` is that of a TCP socket, which the caller keeps open while it calls. */
  constructor(descriptor: number) {
    this.#descriptor = descriptor
    this.#bound(LEAST_BYTES)
    this.#set(TCP_CONGESTION, CUBIC)
  }

  /** A write of `bytes` was taken by the kernel `ms` after it began. */
  wrote(bytes: number, ms: number): void {
    if (bytes < MEASURED_BYTES) return
    const rate = bytes / Math.max(0.01, ms)
    this.#bytesPerMs = this.#bytesPerMs === 0 ? rate : this.#bytesPerMs + SMOOTHING * (rate - this.#bytesPerMs)
    const wanted = Math.min(MOST_BYTES, Math.max(LEAST_BYTES, this.#bytesPerMs * AHEAD_MS))
    if (wanted > this.#boundBytes * 2 || wanted < this.#boundBytes / 2) this.#bound(wanted)
  }

  #bound(bytes: number): void {
    this.#boundBytes = bytes
    value.writeInt32LE(Math.round(bytes))
    this.#set(TCP_NOTSENT_LOWAT, value)
  }

  /** A kernel that doesn't know an option, or doesn't allow it, sends as before. */
  #set(name: number, to: Buffer): void {
    setsockopt ??= koffi
      .load(null)
      .func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)')
    setsockopt(this.#descriptor, IPPROTO_TCP, name, to, to.byteLength)
  }
}
