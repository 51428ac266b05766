import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { LayerThread } from '../../../runtime/snapshots/layer-thread.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aTar, inChunks } from '../../fixtures/images/a-tar.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'

const never = new AbortController().signal
const limits = { bytes: 64 * 1024 ** 2, entries: 100 }
const tarOf = (seed: number, bytes: number) =>
  aTar([
    { name: 'one', body: randomBody(seed, bytes) },
    { name: 'folder/two', body: randomBody(seed + 1, 100_000) },
  ])
/** Goes by the thread, and is more than is handed over ahead of it. */
const large = tarOf(1, 9_000_000)
const order = (tar: Uint8Array, staging: string) => ({ diffId: digestOf(tar), kind: 'erofs', staging, limits }) as const

describe('LayerThread', () => {
  for (const [size, tar] of [
    ['small', tarOf(3, 10_000)],
    ['large', large],
  ] as const) {
    for (const [what, blob] of [
      ['plain', tar],
      ['gzip', gzipSync(tar, { level: 1 })],
      ['zstd', zstdCompressSync(tar)],
    ] as const) {
      it(`writes a ${size} layer: ${what}, from chunks whose memory is used again`, async () => {
        await using dir = await aDir()
        const { written, ...facts } = await new LayerThread().write(order(tar, dir.path), lent(blob), { signal: never })
        assert.deepEqual(facts, {
          tarBytes: tar.byteLength,
          entries: 3,
          implied: ['', 'folder'],
          hiding: [],
          opaque: false,
        })
        const stored = await readFile(join(dir.path, 'layer.tar'))
        assert.equal(written.dataBytes, stored.byteLength)
        const file = size === 'large' ? randomBody(1, 9_000_000) : randomBody(3, 10_000)
        assert.ok(stored.includes(Buffer.from(file)))
      })
    }
  }

  it('says nothing where the agent logs', async () => {
    await using dir = await aDir()
    const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
    const script = `const { LayerThread } = await import(${module('../../../runtime/snapshots/layer-thread.ts')})
      const { aTar, inChunks } = await import(${module('../../fixtures/images/a-tar.ts')})
      const { digestOf } = await import(${module('../../../src/core/digest.ts')})
      const tar = aTar([{ name: 'folder/one', body: Buffer.alloc(9_000_000), uid: process.getuid(), gid: process.getgid() }])
      const order = { diffId: digestOf(tar), kind: 'directory', staging: ${JSON.stringify(dir.path)}, limits: ${JSON.stringify(limits)} }
      await new LayerThread().write(order, inChunks(tar), { signal: new AbortController().signal })`
    await writeFile(join(dir.path, 'write.mjs'), script)
    const args = ['--disable-warning=ExperimentalWarning', join(dir.path, 'write.mjs')]
    assert.equal((await promisify(execFile)(process.execPath, args)).stderr, '')
  })

  it('is there before the large layer that it was told of, and keeps no program that never gets it', async () => {
    await using dir = await aDir()
    const module = JSON.stringify(new URL('../../../runtime/snapshots/layer-thread.ts', import.meta.url).href)
    const script = `const { LayerThread } = await import(${module})
      let begun = 0
      process.on('worker', () => begun++)
      const thread = new LayerThread()
      for (const bytes of [10_000, 9_000_000, 9_000_000]) {
        thread.expect(bytes)
        await new Promise(setImmediate)
        console.log(begun)
      }`
    await writeFile(join(dir.path, 'expect.mjs'), script)
    const args = ['--disable-warning=ExperimentalWarning', join(dir.path, 'expect.mjs')]
    assert.equal((await promisify(execFile)(process.execPath, args)).stdout, '0\n1\n1\n')
  })

  it('writes several layers at once', async () => {
    const thread = new LayerThread()
    await Promise.all(
      [11, 12, 13].map(async (seed) => {
        await using dir = await aDir()
        const tar = tarOf(seed, 3_000_000)
        const { tarBytes } = await thread.write(order(tar, dir.path), inChunks(tar), { signal: never })
        assert.equal(tarBytes, tar.byteLength)
      }),
    )
  })

  it('tells what is wrong with a layer by its code, and goes on with others', async () => {
    const thread = new LayerThread()
    await using dir = await aDir()
    const options = { signal: never }
    const wrong = { ...order(large, join(dir.path)), diffId: digestOf('other') }
    await failsWith('DIGEST_MISMATCH', thread.write(wrong, inChunks(large), options))
    await using second = await aDir()
    const bounded = { ...order(large, second.path), limits: { ...limits, bytes: 2_000_000 } }
    await failsWith('LIMIT_EXCEEDED', thread.write(bounded, inChunks(large), options))
    await using third = await aDir()
    const damaged = Buffer.from(large).fill(1, 0, 512)
    await failsWith('LAYER_INVALID', thread.write(order(damaged, third.path), inChunks(damaged), options))
    await using fourth = await aDir()
    await thread.write(order(large, fourth.path), inChunks(large), options)
  })

  it('throws what the source throws', async () => {
    await using dir = await aDir()
    const source = async function* () {
      yield* inChunks(large.subarray(0, 6_000_000))
      throw new Error('the line broke')
    }
    await assert.rejects(new LayerThread().write(order(large, dir.path), source(), { signal: never }), /the line broke/)
  })

  it('ends with the reason of its signal, also when the source is stuck', async () => {
    await using dir = await aDir()
    const ending = new AbortController()
    const source = async function* () {
      yield* inChunks(large.subarray(0, 6_000_000))
      ending.abort(new Error('enough'))
      await new Promise(() => {})
    }
    await assert.rejects(new LayerThread().write(order(large, dir.path), source(), { signal: ending.signal }), /enough/)
  })
})

/** Each chunk is good only until the next is asked for. */
async function* lent(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  const memory = new Uint8Array(65536)
  for (let at = 0; at < bytes.byteLength; at += memory.byteLength) {
    const part = bytes.subarray(at, at + memory.byteLength)
    memory.fill(0xff)
    memory.set(part)
    yield memory.subarray(0, part.byteLength)
  }
}
