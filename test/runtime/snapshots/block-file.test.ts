import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { BlockFile } from '../../../runtime/snapshots/block-file.ts'
import { aDir } from '../../fixtures/a-dir.ts'
import { randomBody } from '../../fixtures/an-image.ts'

describe('BlockFile', () => {
  it('writes what it was given, from memory that is used again meanwhile', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'file')
    const body = Buffer.from(randomBody(1, 9_000_001))
    await using file = await BlockFile.create(path)
    const memory = new Uint8Array(700_001)
    for (let at = 0; at < body.byteLength; at += memory.byteLength) {
      const part = body.subarray(at, at + memory.byteLength)
      memory.set(part)
      file.put(memory.subarray(0, part.byteLength))
      memory.fill(0xff)
      await file.room()
    }
    assert.deepEqual(await file.finish(), { crc32: crc32(body), holes: [], bytes: body.byteLength })
    assert.ok((await readFile(path)).equals(body))
  })

  it('leaves holes, which its checksum leaves out', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'file')
    await using file = await BlockFile.create(path)
    file.skip(100_000)
    file.put(Buffer.from('one'))
    file.skip(2_000_000)
    file.skip(5)
    file.put(Buffer.from('two'))
    assert.equal(file.end, 2_100_011)
    const { crc32: sum, holes, bytes } = await file.finish()
    assert.equal(sum, crc32('onetwo'))
    assert.deepEqual(holes, [
      [0, 100_000],
      [100_003, 2_100_003],
      [2_100_003, 2_100_008],
    ])
    assert.equal(bytes, 2_100_011)
    const stored = await readFile(path)
    assert.equal(stored.byteLength, bytes)
    assert.equal(stored.toString('latin1').replaceAll('\0', ''), 'onetwo')
  })

  it('throws where it is waited for what writing threw', async () => {
    await using dir = await aDir()
    await using file = await BlockFile.create(join(dir.path, 'file'))
    file.skip(Number.MAX_SAFE_INTEGER - 1)
    file.put(Buffer.from('beyond what a file may have'))
    await assert.rejects(file.finish(), { code: 'EFBIG' })
  })
})
