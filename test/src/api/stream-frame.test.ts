import assert from 'node:assert/strict'
import { CHANNEL, encodeFrame, FrameDecoder, MAX_FRAME_BYTES } from '../../../src/api/stream-frame.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

describe('FrameDecoder', () => {
  it('finds frames however the bytes are cut', () => {
    const bytes = Buffer.concat([
      encodeFrame(CHANNEL.stdout, Buffer.from('hello')),
      encodeFrame(CHANNEL.stdin, new Uint8Array(0)),
      encodeFrame(CHANNEL.end, Buffer.from('{}')),
    ])
    for (let size = 1; size <= bytes.byteLength; size++) {
      const decoder = new FrameDecoder()
      const seen: string[] = []
      for (let from = 0; from < bytes.byteLength; from += size) {
        for (const { channel, bytes: text } of decoder.push(bytes.subarray(from, from + size)))
          seen.push(`${channel}:${Buffer.from(text)}`)
      }
      assert.deepEqual(seen, ['1:hello', '0:', '3:{}'])
      assert.equal(decoder.partial, false)
    }
  })

  it('refuses unknown channels, dirty padding and lengths above the bound', () => {
    const tooLong = Buffer.alloc(8)
    tooLong.writeUInt8(1, 0)
    tooLong.writeUInt32BE(MAX_FRAME_BYTES + 1, 4)
    const bad = [Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]), Buffer.from([1, 0, 0, 1, 0, 0, 0, 0]), tooLong]
    for (const bytes of bad) throwsWith('PROTOCOL_VIOLATION', () => [...new FrameDecoder().push(bytes)])
  })
})
