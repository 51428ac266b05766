import assert from 'node:assert/strict'
import { mkdir, readdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { trimCode } from '../../../src/daemon/trim-code.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const DAY_MS = 24 * 3_600_000
const NOW_MS = Date.parse('2026-11-26T00:00:00Z')

/** A version's folder whose one file was written and read so many days ago; the folder itself is as old. */
async function aVersion(folder: string, name: string, days: { written: number; read: number }): Promise<void> {
  const path = join(folder, name)
  await mkdir(path)
  await writeFile(join(path, 'ab12'), 'code')
  const ago = (many: number) => new Date(NOW_MS - many * DAY_MS)
  await utimes(join(path, 'ab12'), ago(days.read), ago(days.written))
  await utimes(path, ago(days.written), ago(days.written))
}

describe('trimCode', () => {
  it('takes away what nobody used for a month, and nothing else', async () => {
    await using dir = await aDir()
    await aVersion(dir.path, 'v24.1.0-x64-aaaa-0', { written: 90, read: 31 })
    await aVersion(dir.path, 'v24.2.0-x64-bbbb-0', { written: 90, read: 2 }) // an older version that still runs
    await aVersion(dir.path, 'v24.3.0-x64-cccc-0', { written: 0, read: 0 })
    await aVersion(dir.path, 'somebody', { written: 90, read: 90 })
    assert.deepEqual(await trimCode(dir.path, NOW_MS), ['v24.1.0-x64-aaaa-0'])
    assert.deepEqual((await readdir(dir.path)).sort(), ['somebody', 'v24.2.0-x64-bbbb-0', 'v24.3.0-x64-cccc-0'])
  })

  it('is content where there is no cache', async () => {
    await using dir = await aDir()
    assert.deepEqual(await trimCode(join(dir.path, 'none'), NOW_MS), [])
  })

  it('does not take its own look for a use', async () => {
    await using dir = await aDir()
    await aVersion(dir.path, 'v24.1.0-x64-aaaa-0', { written: 20, read: 20 })
    assert.deepEqual(await trimCode(dir.path, NOW_MS), [])
    assert.deepEqual(await trimCode(dir.path, NOW_MS + 11 * DAY_MS), ['v24.1.0-x64-aaaa-0'])
  })

  it('does not go through the files of a folder that was written to lately', async () => {
    await using dir = await aDir()
    await aVersion(dir.path, 'v24.1.0-x64-aaaa-0', { written: 1, read: 1 })
    const path = join(dir.path, 'v24.1.0-x64-aaaa-0')
    await symlink('circle', join(path, 'circle')) // ELOOP for whoever looks at it
    await utimes(path, new Date(NOW_MS), new Date(NOW_MS))
    assert.deepEqual(await trimCode(dir.path, NOW_MS), [])
  })
})
