import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/core/errors.ts'
import { encodeFrame, type FrameSource, readFrame } from '../../../src/protocol/frame.ts'

const within = () => ({ signal: AbortSignal.timeout(1000) })

function sourceOf(bytes: Uint8Array): FrameSource & { readonly asked: number[] } {
  let at = 0
  const asked: number[] = []
  return {
    asked,
    readExactly: async (wanted) => {
      asked.push(wanted)
      at += wanted
      return bytes.subarray(at - wanted, at)
    },
  }
}

describe('encodeFrame', () => {
  it('puts the length in front, big endian', () => {
    assert.deepEqual(encodeFrame(new Uint8Array([7, 8, 9])), new Uint8Array([0, 0, 0, 3, 7, 8, 9]))
    assert.deepEqual(encodeFrame(new Uint8Array(0)), new Uint8Array(4))
  })

  it('refuses a payload beyond the bound', () => {
    assert.throws(
      () => encodeFrame(new Uint8Array(11), 10),
      (error) => isDarnerError(error, 'LIMIT_EXCEEDED'),
    )
  })
})

describe('readFrame', () => {
  it('reads frames one after another, as views', async () => {
    const bytes = Buffer.concat([
      encodeFrame(new Uint8Array([1, 2])),
      encodeFrame(new Uint8Array(0)),
      encodeFrame(new Uint8Array([3])),
    ])
    const source = sourceOf(bytes)
    const first = await readFrame(source, 10, within())
    assert.deepEqual([...first], [1, 2])
    assert.equal(first.buffer, bytes.buffer)
    assert.equal((await readFrame(source, 10, within())).byteLength, 0)
    assert.deepEqual([...(await readFrame(source, 10, within()))], [3])
  })

  it('refuses a length beyond the bound without reading on', async () => {
    const source = sourceOf(new Uint8Array([0xff, 0xff, 0xff, 0xff, 0]))
    await assert.rejects(readFrame(source, 1024, within()), (error) => isDarnerError(error, 'PROTOCOL_VIOLATION'))
    assert.deepEqual(source.asked, [4])
  })
})
