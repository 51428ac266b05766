/** docker's framing of stdout and stderr on one stream. */

/** The stream's number, three zeros, the length, the bytes. */
export function framed(stream: number, bytes: Uint8Array): Buffer {
  const frame = Buffer.alloc(8 + bytes.byteLength)
  frame[0] = stream
  frame.writeUInt32BE(bytes.byteLength, 4)
  frame.set(bytes, 8)
  return frame
}
