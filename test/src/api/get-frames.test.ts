import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { dataHead, type GetFrame, jsonFrame, landedFrame, readGetStream } from '../../../src/api/get-frames.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const from = { origin: 0, supernode: 3, peers: 0 }
const summary = { digest: 'sha256:00', bytes: 3, seconds: 0.1, pieces: 1, from }

async function* inChunks(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes)
}

async function framesOf(body: Uint8Array, chunkBytes = body.byteLength): Promise<GetFrame[]> {
  const frames: GetFrame[] = []
  for await (const frame of readGetStream(inChunks(body, chunkBytes))) frames.push(frame)
  return frames
}

const whole = Buffer.concat([
  jsonFrame('progress', { bytes: 3, have: 0, from }),
  landedFrame(2 ** 40, 2 ** 33),
  dataHead(7, 3),
  Buffer.from('abc'),
  jsonFrame('summary', summary),
])

describe('readGetStream', () => {
  it('reads every kind of frame, however the body is cut', async () => {
    for (const chunkBytes of [1, 2, 7, whole.byteLength]) {
      const frames = await framesOf(whole, chunkBytes)
      assert.deepEqual(frames[0], { kind: 'progress', body: { bytes: 3, have: 0, from } })
      assert.deepEqual(frames[1], { kind: 'landed', offset: 2 ** 40, length: 2 ** 33 })
      const data = frames.flatMap((frame) => (frame.kind === 'data' ? [frame] : []))
      assert.equal(data[0]?.offset, 7)
      assert.equal(Buffer.concat(data.map(({ bytes }) => bytes)).toString(), 'abc')
      assert.deepEqual(frames.at(-1), { kind: 'summary', body: summary })
    }
  })

  it('says when the body was cut off', async () => {
    await failsWith('CLOSED', framesOf(whole.subarray(0, whole.byteLength - 1)))
    await failsWith('CLOSED', framesOf(jsonFrame('progress', { bytes: 3, have: 0, from })))
  })

  for (const [what, frame] of [
    ['an oversized frame', Buffer.from([2, 0xff, 0xff, 0xff, 0xff])],
    ['an unknown kind', Buffer.from([9, 0, 0, 0, 2, 0x7b, 0x7d])],
    ['a landed frame of another length', Buffer.from([5, 0, 0, 0, 1, 0])],
    ['a data frame without an offset', Buffer.from([1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])],
    ['a payload that is no JSON', Buffer.from([3, 0, 0, 0, 1, 0x7b])],
    ['a summary of another shape', Buffer.from([3, 0, 0, 0, 2, 0x7b, 0x7d])],
  ] as const) {
    it(`refuses ${what}`, async () => {
      await failsWith('PROTOCOL_VIOLATION', framesOf(frame))
    })
  }
})
