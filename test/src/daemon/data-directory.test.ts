import assert from 'node:assert/strict'
import { chmod, chown, mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { silentLog } from '../../../src/core/log.ts'
import { openDataDirectory } from '../../../src/daemon/data-directory.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aBlob, aStore, complete, fill } from '../../fixtures/store/a-store.ts'
import { aSupernodeProcess } from '../../fixtures/swarm/a-daemon.ts'

const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

/** Everything below a folder, itself included, that other users could read or enter. */
async function openToOthers(folder: string): Promise<string[]> {
  const names = ['', ...(await readdir(folder, { recursive: true }))]
  const seen = await Promise.all(names.map(async (name) => ({ name, mode: (await stat(join(folder, name))).mode })))
  return seen.filter(({ mode }) => (mode & 0o077) !== 0).map(({ name }) => name)
}

describe('openDataDirectory (row 13)', () => {
  it('makes it, and those above it, for this user only', async () => {
    await using dir = await aDir()
    await openDataDirectory(join(dir.path, 'a/b'), silentLog())
    assert.deepEqual([await modeOf(join(dir.path, 'a')), await modeOf(join(dir.path, 'a/b'))], ['700', '700'])
  })

  for (const content of [[], ['store'], ['engine', 'notes'], ['identity.key']])
    it(`closes one that is open to others and holds ${content.join(' and ') || 'nothing'}`, async () => {
      await using dir = await aDir()
      const data = join(dir.path, 'data')
      await mkdir(data)
      await chmod(data, 0o755)
      for (const name of content) await writeFile(join(data, name), '')
      await openDataDirectory(data, silentLog())
      assert.equal(await modeOf(data), '700')
    })

  it('leaves one alone that was named by mistake, and says so', async () => {
    await using dir = await aDir()
    const data = join(dir.path, 'tmp')
    await mkdir(join(data, 'of-others'), { recursive: true })
    await chmod(data, 0o1777)
    await failsWith('HOST_UNABLE', openDataDirectory(data, silentLog()), /open to other users and holds something else/)
    assert.equal(await modeOf(data), '777')
  })

  it('refuses one that belongs to somebody else', async function () {
    needs(this, { root: true })
    await using dir = await aDir()
    const data = join(dir.path, 'data')
    await mkdir(data, { mode: 0o700 })
    await chown(data, 1234, 1234)
    await failsWith('HOST_UNABLE', openDataDirectory(data, silentLog()), /belongs to user 1234/)
  })

  it('is what a daemon does with the StateDirectory that systemd made, before anything is in it', async () => {
    await using dir = await aDir()
    const data = join(dir.path, 'supernode')
    await mkdir(data)
    await chmod(data, 0o755)
    await using daemon = await aSupernodeProcess(dir.path)
    assert.equal(await modeOf(data), '700')
    assert.match(daemon.log(), /the data directory was open to other users/)
  })
})

describe('a store (row 13)', () => {
  it('keeps whole blobs, half-done ones and their folders from other users', async () => {
    await using store = await aStore()
    await complete(store.store, aBlob())
    await fill(store.store, aBlob({ seed: 2 }), [0])
    const others = (await openToOthers(store.directory)).filter((name) => !name.startsWith('meta/') && name !== 'meta')
    assert.deepEqual(
      others.filter((name) => name !== ''),
      [],
    )
  })
})
