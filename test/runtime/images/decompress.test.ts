import assert from 'node:assert/strict'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import { openDecoder } from '../../../runtime/images/decoders.ts'
import { decompress as decompressBy } from '../../../runtime/images/decompress.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { inChunks } from '../../fixtures/images/a-tar.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'

const signal = new AbortController().signal
const all = async (source: AsyncIterable<Uint8Array>): Promise<Buffer> => {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}
function skippable(bytes: number): Buffer {
  const frame = Buffer.alloc(8 + bytes, 0x28)
  frame.writeUInt32LE(0x184d2a53, 0)
  frame.writeUInt32LE(bytes, 4)
  return frame
}
const body = Buffer.from(randomBody(1, 700_000))

for (const [how, open] of [
  ["Node's own functions", openDecoder],
  ["Node's streams", () => undefined],
] as const) {
  const decompress = (
    source: AsyncIterable<Uint8Array>,
    options: { lend?: boolean; judged?: boolean; signal: AbortSignal },
  ) => decompressBy(source, { ...options, open })

  describe(`decompress, by ${how}`, () => {
    for (const [what, packed] of [
      ['plain', body],
      ['gzip', gzipSync(body)],
      ['zstd', zstdCompressSync(body)],
      ['two gzip members', Buffer.concat([gzipSync(body.subarray(0, 1000)), gzipSync(body.subarray(1000))])],
      [
        'two zstd frames',
        Buffer.concat([zstdCompressSync(body.subarray(0, 1000)), zstdCompressSync(body.subarray(1000))]),
      ],
      [
        'zstd frames with skippable and empty ones between',
        Buffer.concat([
          zstdCompressSync(Buffer.alloc(0)),
          skippable(0),
          zstdCompressSync(body.subarray(0, 400_000), { params: { [constants.ZSTD_c_checksumFlag]: 1 } }),
          skippable(1000),
          zstdCompressSync(body.subarray(400_000)),
          skippable(7),
        ]),
      ],
    ] as const) {
      it(`gives back what was packed: ${what}, in chunks of any size`, async () => {
        for (const size of [97, 4099, 65536]) {
          assert.ok((await all(decompress(inChunks(packed, size), { signal }))).equals(body))
        }
      })
    }

    it('reads byte by byte', async () => {
      const little = body.subarray(0, 50)
      for (const packed of [
        little,
        gzipSync(little),
        Buffer.concat([
          skippable(3),
          zstdCompressSync(little),
          zstdCompressSync(Buffer.alloc(0)),
          zstdCompressSync(Buffer.alloc(9999)),
        ]),
      ]) {
        const out = await all(decompress(inChunks(packed, 1), { signal }))
        assert.ok(out.subarray(0, 50).equals(little))
      }
    })

    it('passes what is shorter than a magic number', async () => {
      assert.equal((await all(decompress(inChunks(Buffer.from('ab')), { signal }))).toString(), 'ab')
      assert.equal((await all(decompress(inChunks(Buffer.alloc(0)), { signal }))).length, 0)
    })

    for (const [what, packed] of [
      ['gzip', gzipSync(body)],
      // without a checksum a frame of stored bytes hides damage; the DiffID sees it then
      ['zstd', zstdCompressSync(body, { params: { [constants.ZSTD_c_checksumFlag]: 1 } })],
    ] as const) {
      it(`refuses damaged and cut ${what} data`, async () => {
        const damaged = Buffer.from(packed)
        damaged.fill(0x55, 5000, 5200)
        await failsWith('LAYER_INVALID', all(decompress(inChunks(damaged), { signal })))
        await failsWith('LAYER_INVALID', all(decompress(inChunks(packed.subarray(0, 300_000)), { signal })))
      })
    }

    it('passes the failure of its source on as it is', async () => {
      const source = async function* () {
        yield gzipSync(body).subarray(0, 1000)
        throw new Error('the line broke')
      }
      await assert.rejects(all(decompress(source(), { signal })), /the line broke/)
    })

    it('stops reading when its reader stops, and does not run ahead of it', async () => {
      let read = 0
      let closed = false
      const packed = gzipSync(randomBody(2, 8 * 1024 * 1024), { level: 1 })
      const source = async function* () {
        try {
          for await (const chunk of inChunks(packed, 4096)) {
            read += chunk.byteLength
            yield chunk
          }
        } finally {
          closed = true
        }
      }
      for await (const chunk of decompress(source(), { signal })) {
        assert.ok(chunk.byteLength <= 1024 * 1024)
        break
      }
      assert.equal(closed, true)
      assert.ok(read < packed.byteLength, `${read} of ${packed.byteLength}`)
    })

    it('ends with the reason of its signal', async () => {
      const ending = new AbortController()
      const source = async function* () {
        yield gzipSync(body).subarray(0, 1000)
        ending.abort(new Error('enough'))
        yield gzipSync(body).subarray(1000)
      }
      await assert.rejects(all(decompress(source(), { signal: ending.signal })), /enough/)
    })

    it('ignores zeros behind a gzip member, and refuses anything else there', async () => {
      const packed = gzipSync(body)
      assert.ok((await all(decompress(inChunks(Buffer.concat([packed, Buffer.alloc(700)])), { signal }))).equals(body))
      const followed = Buffer.concat([packed, Buffer.from('no gzip')])
      await failsWith('LAYER_INVALID', all(decompress(inChunks(followed), { signal })))
    })

    it('leaves it to a digest whether gzip data is right, if told so', async () => {
      const text = Buffer.alloc(300_000, 'a line of text\n')
      for (const packed of [gzipSync(text), Buffer.concat([gzipSync(text), gzipSync(text)])]) {
        const judged = await all(decompress(inChunks(packed), { judged: true, signal }))
        assert.equal(judged.byteLength % text.byteLength, 0)
        assert.ok(judged.subarray(-text.byteLength).equals(text))
        await failsWith('LAYER_INVALID', all(decompress(inChunks(packed.subarray(0, -9)), { judged: true, signal })))
      }
    })

    it('lends what it gives until the next but one is asked for, if told so', async () => {
      const large = Buffer.from(randomBody(1, 5_000_000))
      for (const packed of [gzipSync(large, { level: 1 }), zstdCompressSync(large), large]) {
        const parts: Buffer[] = []
        let before: Uint8Array = new Uint8Array(0)
        for await (const chunk of decompress(lent(packed, 77_777), { lend: true, signal })) {
          parts.push(Buffer.from(before))
          before = chunk
        }
        assert.ok(Buffer.concat([...parts, before]).equals(large))
      }
    })
  })
}

/** Each chunk is good only until the next is asked for. */
async function* lent(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  const memory = new Uint8Array(size)
  for (let at = 0; at < bytes.byteLength; at += size) {
    const part = bytes.subarray(at, at + size)
    memory.fill(0xff)
    memory.set(part)
    yield memory.subarray(0, part.byteLength)
  }
}

it('looks at the checksum of zstd data, unless a digest judges it', async () => {
  const packed = zstdCompressSync(Buffer.alloc(300_000, 'text'), { params: { [constants.ZSTD_c_checksumFlag]: 1 } })
  packed[packed.byteLength - 1] = (packed.at(-1) ?? 0) ^ 1
  const unpacked = async (judged: boolean) => (await all(decompressBy(inChunks(packed), { judged, signal }))).byteLength
  await failsWith('LAYER_INVALID', unpacked(false))
  assert.equal(await unpacked(true), 300_000)
})

it('Node lets others at its decoders', () => {
  assert.ok(openDecoder('gzip') && openDecoder('zstd'))
})
