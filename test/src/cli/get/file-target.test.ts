import assert from 'node:assert/strict'
import { link, lstat, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { FileTarget } from '../../../../src/cli/get/file-target.ts'
import { failsWith } from '../../../fixtures/fails-with.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'
import { randomBody } from '../../../fixtures/images/an-image.ts'

const MIB = 1024 * 1024
const body = randomBody(81, 2 * MIB + 10)
const done = { mtimeMs: undefined }

describe('FileTarget', () => {
  it('shows nothing under the name before it is finished, and nothing beside it after', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'out')
    await writeFile(path, 'old')
    {
      await using target = await FileTarget.open(path)
      await target.restart({ key: 'k', version: {} })
      target.write(body)
      assert.equal(String(await readFile(path)), 'old')
      await target.finish(done)
    }
    assert.deepEqual(await readFile(path), Buffer.from(body))
    assert.deepEqual(await readdir(dir.path), ['out'])
  })

  it('gives back what was kept of the same content, chunk by chunk, and of no other', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'out')
    {
      await using target = await FileTarget.open(path)
      await target.restart({ key: 'k', version: { etag: '"1"' } })
      target.write(body)
      target.keep()
    }
    {
      await using target = await FileTarget.open(path)
      assert.equal(await target.kept('other', () => assert.fail()), undefined)
      const seen: Uint8Array[] = []
      const kept = await target.kept('k', (bytes) => seen.push(Uint8Array.from(bytes)))
      assert.deepEqual(kept, { bytes: 2 * MIB, version: { etag: '"1"' } })
      assert.deepEqual(Buffer.concat(seen), Buffer.from(body.subarray(0, 2 * MIB)))
      target.write(body.subarray(2 * MIB))
      await target.finish(done)
    }
    assert.deepEqual(await readFile(path), Buffer.from(body))
    assert.deepEqual(await readdir(dir.path), ['out'])
  })

  it('lets two write the same name, each a draft of its own', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'out')
    await using first = await FileTarget.open(path)
    await using second = await FileTarget.open(path)
    await first.restart()
    await second.restart()
    first.write(body)
    second.write(Buffer.from('second'))
    await second.finish(done)
    await first.finish(done)
    assert.deepEqual(await readFile(path), Buffer.from(body))
  })

  it('writes through a link to where it leads, and trusts no draft that somebody else laid there', async () => {
    await using dir = await aDir()
    const [real, named, victim] = ['real', 'named', 'victim'].map((name) => join(dir.path, name)) as [
      string,
      string,
      string,
    ]
    await writeFile(real, 'old')
    await symlink(real, named)
    await writeFile(victim, 'untouched')
    for (const lay of [symlink, link]) {
      await lay(victim, join(dir.path, '.real.darner-part'))
      await using target = await FileTarget.open(named)
      await target.restart()
      target.write(Buffer.from('new'))
      await target.finish(done)
      assert.equal(String(await readFile(victim)), 'untouched')
    }
    assert.ok((await lstat(named)).isSymbolicLink())
    assert.equal(String(await readFile(real)), 'new')
  })

  it('takes names that leave no room for more, and sets the time', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'n'.repeat(255))
    {
      await using target = await FileTarget.open(path)
      await target.restart()
      await target.finish({ mtimeMs: 1_583_208_306_000 })
    }
    assert.equal((await stat(path)).mtimeMs, 1_583_208_306_000)
  })

  it('refuses a folder that is not there', async () => {
    await failsWith('BAD_ARGUMENT', FileTarget.open('/nowhere/at/all'), /^cannot write \/nowhere\/at\/all: ENOENT$/)
  })
})
