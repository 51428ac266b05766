import assert from 'node:assert/strict'
import { closeSync, mkdirSync, readdirSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { extractInto } from '../../../runtime/containers/extract.ts'
import { AT_FDCWD, O, openAt } from '../../../runtime/linux/syscalls.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'

const MTIME = 1_577_836_800

/** Copies `tar` in, `meanwhile` being done by the container once so many bytes of it were taken. */
async function copiedIn(folder: string, tar: Buffer, { after, meanwhile }: { after: number; meanwhile: () => void }) {
  const root = openAt(AT_FDCWD, folder, O.PATH | O.DIRECTORY)
  async function* parts() {
    yield tar.subarray(0, after)
    meanwhile()
    yield tar.subarray(after)
  }
  try {
    await extractInto(root, root, parts(), { keepKind: false, idBase: 0, signal: new AbortController().signal })
  } finally {
    closeSync(root)
  }
}

describe('a copy into a container whose processes exchange what was just made for a link out of it', () => {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mtime: MTIME }

  it('changes nothing there: a file', async () => {
    await using dir = await aDir()
    const [inside, outside] = [join(dir.path, 'inside'), join(dir.path, 'outside')]
    mkdirSync(inside)
    writeFileSync(outside, "the host's", { mode: 0o600 })
    const tar = aTar([{ name: 'file', body: 'x'.repeat(4096), mode: 0o777, ...own }])
    const meanwhile = () => {
      renameSync(join(inside, 'file'), join(inside, 'away'))
      symlinkSync(outside, join(inside, 'file'))
    }
    await copiedIn(inside, tar, { after: 1024, meanwhile })
    const { mode, mtimeMs } = statSync(outside)
    assert.equal(mode & 0o7777, 0o600)
    assert.notEqual(mtimeMs, MTIME * 1000)
    assert.equal(await readFile(outside, 'utf8'), "the host's")
    assert.equal(await readFile(join(inside, 'away'), 'utf8'), 'x'.repeat(4096))
    assert.equal(statSync(join(inside, 'away')).mode & 0o7777, 0o777)
  })

  it('puts owner, mode and time on what it made, be it read, written or neither', async () => {
    await using dir = await aDir()
    const tar = aTar([
      { name: 'folder/', mode: 0o711, ...own },
      { name: 'folder/file', body: 'x', mode: 0o4751, ...own },
      { name: 'fifo', type: 'fifo', mode: 0o622, ...own },
    ])
    await copiedIn(dir.path, tar, { after: 512, meanwhile: () => {} })
    const modes = ['folder', 'folder/file', 'fifo'].map((name) => statSync(join(dir.path, name)))
    assert.deepEqual(
      modes.map(({ mode, mtimeMs }) => [(mode & 0o7777).toString(8), mtimeMs]),
      [
        ['711', MTIME * 1000],
        ['4751', MTIME * 1000],
        ['622', MTIME * 1000],
      ],
    )
  })
})

describe('a copy into a container', () => {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mtime: MTIME }
  const openNow = () => readdirSync('/proc/self/fd').length

  it('holds no descriptor for each of its folders', async () => {
    await using dir = await aDir()
    const folders = Array.from({ length: 500 }, (_, at) => ({ name: `${at}/`, mode: 0o755, ...own }))
    const tar = aTar([...folders, { name: '0/file', body: 'x', ...own }])
    const before = openNow()
    let most = 0
    const meanwhile = () => {
      most = openNow()
    }
    await copiedIn(dir.path, tar, { after: 499 * 512, meanwhile })
    assert.ok(most - before < 10, `${most - before} more than before`)
    for (const at of [0, 499]) assert.equal(statSync(join(dir.path, String(at))).mtimeMs, MTIME * 1000)
    assert.equal(openNow(), before)
  })

  it('that breaks off leaves none open', async () => {
    await using dir = await aDir()
    const tar = aTar([
      { name: 'folder/', ...own },
      { name: 'folder/file', body: 'x'.repeat(4096), ...own },
    ])
    const before = openNow()
    const meanwhile = () => {
      throw new Error('the client left')
    }
    await assert.rejects(copiedIn(dir.path, tar, { after: 1500, meanwhile }), /the client left/)
    assert.equal(openNow(), before)
  })
})
