import assert from 'node:assert/strict'
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { reserveOf, roomOn } from '../../../runtime/volumes/fill-room.ts'
import { prepareMounts } from '../../../runtime/volumes/mounts.ts'
import { Volumes } from '../../../runtime/volumes/volumes.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'

const MTIME = 1_577_836_800
const NAMES = Array.from({ length: 300 }, (_, at) => `file-${at}`)

/** An image that has `fill` at /data, and a volume for it that is empty. */
async function aPlace(dir: string, fill: (folder: string) => void) {
  const rootfs = join(dir, 'rootfs')
  mkdirSync(join(rootfs, 'data'), { recursive: true })
  fill(join(rootfs, 'data'))
  const volumes = new Volumes(join(dir, 'volumes'))
  const { path } = await volumes.ensure('kept', { now: 0 })
  const prepared = (signal = new AbortController().signal) =>
    prepareMounts([{ type: 'volume', source: 'kept', target: '/data' }], {
      ...{ volumes, rootfs, now: 0, idBase: 0, signal },
    })
  return { path, prepared }
}

describe('a volume that is filled from the image', () => {
  before(function () {
    needs(this, { root: true, programs: ['tar'] })
  })

  it('has its files, links, modes, owners and times, and those of the folder', async () => {
    await using dir = await aDir()
    const { path, prepared } = await aPlace(dir.path, (folder) => {
      mkdirSync(join(folder, 'sub'), { mode: 0o710 })
      writeFileSync(join(folder, 'sub/file'), 'body', { mode: 0o640 })
      symlinkSync('sub/file', join(folder, 'link'))
      utimesSync(join(folder, 'sub/file'), MTIME, MTIME)
    })
    await prepared()
    assert.equal(readFileSync(join(path, 'link'), 'utf8'), 'body')
    const { mode, mtimeMs } = statSync(join(path, 'sub/file'))
    assert.deepEqual([mode & 0o7777, mtimeMs], [0o640, MTIME * 1000])
    assert.equal(statSync(join(path, 'sub')).mode & 0o7777, 0o710)
    writeFileSync(join(path, 'sub/file'), 'changed')
    await prepared()
    assert.equal(readFileSync(join(path, 'sub/file'), 'utf8'), 'changed', 'one that has something is left alone')
  })

  it('keeps the holes of a sparse file, and makes holes of zeros (row 10)', async () => {
    await using dir = await aDir()
    const GIB = 2 ** 30
    const { path, prepared } = await aPlace(dir.path, (folder) => {
      writeFileSync(join(folder, 'sparse'), 'head')
      truncateSync(join(folder, 'sparse'), 64 * GIB)
      writeFileSync(join(folder, 'zeros'), Buffer.alloc(32 << 20))
      writeFileSync(
        join(folder, 'between'),
        Buffer.concat([Buffer.alloc(5000), Buffer.from('x'), Buffer.alloc(100_000)]),
      )
      writeFileSync(join(folder, 'empty'), '')
    })
    await prepared()
    const of = (name: string) => statSync(join(path, name))
    assert.deepEqual(
      ['sparse', 'zeros', 'empty'].map((name) => of(name).size),
      [64 * GIB, 32 << 20, 0],
    )
    for (const name of ['sparse', 'zeros', 'between']) assert.ok(of(name).blocks * 512 <= 64 * 1024, name)
    const between = readFileSync(join(path, 'between'))
    assert.deepEqual(
      [between.length, between.indexOf('x'), between.findLastIndex((byte) => byte !== 0)],
      [105_001, 5000, 5000],
    )
  })

  it('takes no more of a disk than leaves the host its reserve (row 10)', () => {
    let freeBytes = 200 << 20
    const room = roomOn('/here', () => ({ bytes: 1 << 30, freeBytes }))
    const step = 16 << 20
    throwsWith(
      'DISK_FULL',
      () => {
        for (; ; freeBytes -= step) room(step)
      },
      /\/here has \d+ bytes left, of which 53687091 are kept/,
    )
    assert.ok(freeBytes > 53_687_091 - step, String(freeBytes))
    assert.equal(reserveOf(2 ** 50), 2 ** 30)
  })

  it('is whole afterwards, also when its first filling was cut off, or two containers are started with it at once', async () => {
    await using dir = await aDir()
    const { path, prepared } = await aPlace(dir.path, (folder) => {
      for (const name of NAMES) writeFileSync(join(folder, name), "the image's ".repeat(5000))
    })
    const cut = new AbortController()
    const filling = prepared(cut.signal)
    while (readdirSync(path).length === 0) await new Promise((resolve) => setImmediate(resolve))
    cut.abort(new Error('cut off'))
    await assert.rejects(filling)
    assert.ok(readdirSync(path).length < NAMES.length)
    await Promise.all([prepared(), prepared()])
    assert.deepEqual(readdirSync(path).sort(), [...NAMES].sort())
    for (const name of NAMES) assert.equal(statSync(join(path, name)).size, 60_000, name)
  })

  it('is filled through no link that somebody who has it already puts there meanwhile', async () => {
    await using dir = await aDir()
    const outside = join(dir.path, 'outside')
    mkdirSync(outside)
    for (const name of NAMES) writeFileSync(join(outside, name), "the host's", { mode: 0o600 })
    const { path, prepared } = await aPlace(dir.path, (folder) => {
      for (const name of NAMES) writeFileSync(join(folder, name), "the image's ".repeat(5000), { mode: 0o777 })
    })
    let over = false
    const filling = prepared().finally(() => {
      over = true
    })
    while (readdirSync(path).length === 0 && !over) await new Promise((resolve) => setImmediate(resolve))
    for (const name of NAMES) {
      if (lstatSync(join(path, name), { throwIfNoEntry: false })) continue
      try {
        symlinkSync(join(outside, name), join(path, name))
      } catch {} // EEXIST: it has just come
    }
    await filling.catch(() => {}) // it may be refused
    for (const name of NAMES) {
      assert.equal(readFileSync(join(outside, name), 'utf8'), "the host's", name)
      assert.equal(statSync(join(outside, name)).mode & 0o7777, 0o600, name)
    }
  })
})
