/**
 * Frames of attach, exec and log streams, in the layout of docker's multiplexed output. A frame has one byte channel, three zero bytes,
 * four bytes length (big endian), payload. Two more channels let one connection carry a whole session.
 */
import { DarnerError } from '../core/errors.ts'

/** What attach, run and exec-start upgrade to. */
export const STREAM_PROTOCOL = 'darner-stream'

export const CHANNEL = {
  /** Client to server; an empty frame is end of input. */
  stdin: 0,
  stdout: 1,
  stderr: 2,
  /** Server to client, the last frame: JSON `{"exitCode":N}` or `{"error":{code,message}}`. */
  end: 3,
  /** Client to server: JSON `{"rows":N,"columns":N}`. */
  resize: 4,
} as const

export type Channel = (typeof CHANNEL)[keyof typeof CHANNEL]

export interface Frame {
  readonly channel: Channel
  readonly bytes: Uint8Array
}

const HEADER_BYTES = 8
/** No honest sender goes above it: longer output is cut into several frames. */
export const MAX_FRAME_BYTES = 1 << 20

/** Header and payload of one frame. */
export function encodeFrame(channel: Channel, bytes: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(HEADER_BYTES + bytes.byteLength)
  out.writeUInt32BE(channel << 24, 0)
  out.writeUInt32BE(bytes.byteLength, 4)
  out.set(bytes, HEADER_BYTES)
  return out
}

/** Collects bytes and gives the whole frames in them. Throws PROTOCOL_VIOLATION on an unknown channel or an oversized frame. */
export class FrameDecoder {
  #held: Buffer = Buffer.alloc(0)

  /** True while a frame has begun but isn't whole. */
  get partial(): boolean {
    return this.#held.byteLength > 0
  }

  *push(chunk: Uint8Array): Generator<Frame> {
    const view = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    this.#held = this.#held.byteLength === 0 ? view : Buffer.concat([this.#held, view])
    while (this.#held.byteLength >= HEADER_BYTES) {
      const head = this.#held.readUInt32BE(0)
      const length = this.#held.readUInt32BE(4)
      if ((head & 0xff_ffff) !== 0 || head >>> 24 > CHANNEL.resize || length > MAX_FRAME_BYTES) {
        throw new DarnerError('PROTOCOL_VIOLATION', `stream frame: ${this.#held.toString('hex', 0, 8)} is not a header`)
      }
      if (this.#held.byteLength < HEADER_BYTES + length) return
      const bytes = this.#held.subarray(HEADER_BYTES, HEADER_BYTES + length)
      this.#held = this.#held.subarray(HEADER_BYTES + length)
      yield { channel: (head >>> 24) as Channel, bytes }
    }
  }
}
