/** Frames: a length of four bytes, big endian, then as many bytes of payload. An empty frame is legal and means "still here". */
import { DarnerError } from '../core/errors.ts'
import { MAX_FRAME_BYTES } from './constants.ts'

/** Bytes of the length in front of each frame. */
export const FRAME_HEADER_BYTES = 4

/** What frames are read from. `readExactly` may return a view of a larger buffer. */
export interface FrameSource {
  readExactly(bytes: number, options: { signal: AbortSignal }): Promise<Uint8Array>
}

const EMPTY = new Uint8Array(0)

/** One frame around a payload, as one buffer. Throws LIMIT_EXCEEDED when it is longer than `maxBytes`. */
export function encodeFrame(payload: Uint8Array, maxBytes: number = MAX_FRAME_BYTES): Uint8Array {
  if (payload.byteLength > maxBytes) {
    throw new DarnerError('LIMIT_EXCEEDED', `frame of ${payload.byteLength} bytes: the protocol allows ${maxBytes}`)
  }
  // one copy, so that header and payload leave in one piece
  const frame = new Uint8Array(FRAME_HEADER_BYTES + payload.byteLength)
  new DataView(frame.buffer).setUint32(0, payload.byteLength)
  frame.set(payload, FRAME_HEADER_BYTES)
  return frame
}

/** The payload of the next frame: a view, valid for as long as it is referenced. Throws PROTOCOL_VIOLATION above `maxBytes`. */
export async function readFrame(
  source: FrameSource,
  maxBytes: number,
  options: { signal: AbortSignal },
): Promise<Uint8Array> {
  const header = await source.readExactly(FRAME_HEADER_BYTES, options)
  const bytes = new DataView(header.buffer, header.byteOffset, FRAME_HEADER_BYTES).getUint32(0)
  if (bytes > maxBytes) {
    throw new DarnerError('PROTOCOL_VIOLATION', `frame of ${bytes} bytes: the protocol allows ${maxBytes}`, {
      details: { bytes, maxBytes },
    })
  }
  return bytes === 0 ? EMPTY : source.readExactly(bytes, options)
}
