import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GrowingFile } from '../../../runtime/snapshots/growing-file.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'

describe('GrowingFile', () => {
  it('has what was written, around holes and beyond what is synced at once', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'file')
    const body = Buffer.from(randomBody(1, 35_000_000))
    await using file = await GrowingFile.create(path)
    await file.write(body)
    file.skip(100_000)
    await file.write(Buffer.from('end'))
    await file.finish()
    assert.equal(file.bytes, 35_100_003)
    assert.ok((await readFile(path)).equals(Buffer.concat([body, Buffer.alloc(100_000), Buffer.from('end')])))
  })

  it('has its whole length where it ends with a hole', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'file')
    await using file = await GrowingFile.create(path)
    await file.write(Buffer.from('one'))
    file.skip(5)
    await file.write(Buffer.alloc(0))
    await file.finish()
    assert.equal((await readFile(path)).toString(), 'one\0\0\0\0\0')
  })

  it('throws what writing threw', async () => {
    await using dir = await aDir()
    await using file = await GrowingFile.create(join(dir.path, 'file'))
    file.skip(Number.MAX_SAFE_INTEGER - 1)
    await assert.rejects(file.write(Buffer.from('beyond what a file may have')), { code: 'EFBIG' })
  })
})
