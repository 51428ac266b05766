import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { spreadFolders } from '../../../runtime/linux/spread-folders.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'

const EXT4 = 0xef53
const SHARED_MEMORY = '/dev/shm'

describe('spreadFolders', () => {
  it('marks a folder on ext4 as the top of folders that have nothing to do with each other, and leaves its other marks', async function () {
    await using dir = await aDir()
    const other = () => (statfsSync(dir.path).type === EXT4 ? undefined : `needs ext4 at ${dir.path}`)
    needs(this, { programs: ['lsattr', 'chattr'], other })
    const marks = () => execFileSync('lsattr', ['-d', dir.path]).toString().split(' ')[0] ?? ''
    execFileSync('chattr', ['+A', dir.path])
    const before = marks()
    spreadFolders(dir.path)
    spreadFolders(dir.path)
    assert.ok(!before.includes('T'))
    assert.match(marks(), /A.*T|T.*A/)
  })

  it('does nothing where the file system knows no such mark', function () {
    needs(this, { files: [SHARED_MEMORY] })
    const folder = mkdtempSync(join(SHARED_MEMORY, 'spread-'))
    try {
      spreadFolders(folder)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  it('says that there is no such folder', async () => {
    await using dir = await aDir()
    assert.throws(() => spreadFolders(join(dir.path, 'absent')), { code: 'ENOENT' })
  })
})
