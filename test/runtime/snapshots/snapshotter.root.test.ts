import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { unmountAll } from '../../../runtime/snapshots/mounts.ts'
import { mountByText } from '../../../runtime/snapshots/overlay.ts'
import { openSnapshotter } from '../../../runtime/snapshots/snapshotter.ts'
import { silentLog } from '../../../src/base/log.ts'
import { snapshotterContract } from '../../contract/snapshotter.ts'
import { aDir } from '../../fixtures/a-dir.ts'
import { aSnapshotter, listing } from '../../fixtures/a-snapshotter.ts'
import { onStage } from '../../fixtures/a-stage.ts'
import type { TarEntry } from '../../fixtures/a-tar.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const KINDS = ['erofs', 'directory'] as const
for (const kind of KINDS) snapshotterContract(kind)

describe('openSnapshotter', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['mkfs.erofs'] })
  })

  it('holds the same files in both formats', async () => {
    const entries: TarEntry[] = [
      { name: './', mode: 0o755, mtime: 1_500_000_000 },
      { name: 'bin/', mode: 0o755, mtime: 1_500_000_001 },
      { name: 'bin/a', body: 'x'.repeat(5000), mode: 0o4755, uid: 1000 },
      { name: 'bin/b', type: 'link', link: 'bin/a' },
      { name: 'implied/deeper/file', body: 'x', mtime: -5 },
      { name: Buffer.from([0x62, 0xff, 0xfe]), body: 'odd' },
      { name: 's', type: 'symlink', link: 'bin/a', mtime: 1_400_000_000.5 },
      { name: 'dev/tty', type: 'char', major: 5, minor: 0 },
      { name: 'hole', sparse: { style: 'pax-1.0', bytes: 10_000_000, chunks: [{ at: 9_000_000, body: 'end' }] } },
      { name: 'f/', mode: 0o500 },
      { name: '.wh.lower', body: '' },
    ]
    const listings = []
    for (const kind of KINDS) {
      await using held = await aSnapshotter(kind)
      listings.push(listing(await held.stack('r', [await held.add(entries)], { readonly: true })))
    }
    assert.deepEqual(listings[0], listings[1])
    assert.equal(listings[0]?.length, 13)
  })

  it('makes the same EROFS image from the same layer', async () => {
    const images = []
    for (let time = 0; time < 2; time++) {
      await using held = await aSnapshotter('erofs')
      const { diffId } = await held.add([
        { name: 'a', body: 'x' },
        { name: 'b/c', body: 'y' },
      ])
      images.push((await held.snapshotter.layer(diffId))?.format)
    }
    assert.deepEqual(images[0], images[1])
  })

  it('notices a flipped byte in an image and in its data', async () => {
    await using held = await aSnapshotter('erofs')
    const signal = AbortSignal.timeout(30_000)
    const sparse = { style: 'gnu', bytes: 50_000_000, chunks: [{ at: 40_000_000, body: 'x' }] } as const
    const { diffId } = await held.add([
      { name: 'a', body: 'x'.repeat(3000) },
      { name: 'h', sparse },
    ])
    await held.snapshotter.scrub(diffId, { signal })
    const folder = join(held.directory, 'erofs/layers', diffId.replace(':', '-'))
    for (const [file, at, byte] of [
      ['layer.tar', 700, 'x'],
      ['layer.erofs', 1100, undefined],
    ] as const) {
      const fd = openSync(join(folder, file), 'r+')
      writeSync(fd, Buffer.from([1]), 0, 1, at)
      await failsWith('STORE_CORRUPT', held.snapshotter.scrub(diffId, { signal }))
      if (byte !== undefined) writeSync(fd, byte, at)
      closeSync(fd)
    }
  })

  it('mounts by loop devices where files cannot be mounted directly, and frees the devices', async () => {
    // a file on tmpfs can't be mounted without a block device
    const directory = await mkdtemp('/dev/shm/darner-loop-')
    await using held = await aSnapshotter('erofs', { directory })
    const layer = await held.add([{ name: 'f', body: 'x'.repeat(5000) }])
    const root = await held.stack('one', [layer])
    assert.equal(readFileSync(join(root, 'f'), 'utf8').length, 5000)
    const devices = () => execFileSync('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE']).toString()
    assert.match(devices(), new RegExp(directory))
    await held.snapshotter.remove('one')
    assert.doesNotMatch(devices(), new RegExp(directory))
  })

  it('chooses EROFS by itself where the host can', async () => {
    await using dir = await aDir()
    assert.equal((await openSnapshotter({ directory: dir.path, kind: 'auto' }, { log: silentLog() })).kind, 'erofs')
  })

  for (const kind of KINDS) {
    it(`shows nothing of a layer whose unpacking was killed, and cleans it up (${kind})`, async () => {
      await using held = await aSnapshotter(kind)
      const child = fileURLToPath(new URL('unpack-child.ts', import.meta.url))
      const running = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', child, held.directory, kind], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(running.stdout, 'data')
      running.kill('SIGKILL')
      await once(running, 'exit')
      const again = await held.reopen()
      assert.deepEqual(await again.layers(), [])
      assert.equal(readdirSync(join(held.directory, kind, 'ingest')).length, 1)
      assert.equal((await again.recover(new Set())).length, 1)
      assert.deepEqual(readdirSync(join(held.directory, kind, 'ingest')), [])
    })
  }
})

describe('unmountAll', () => {
  before(function () {
    onStage(this)
  })

  it('takes away all that is stacked on a folder, and others go on meanwhile', async () => {
    await using dir = await aDir()
    for (let count = 0; count < 3; count++) execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', dir.path])
    let others = false
    setImmediate(() => {
      others = true
    })
    assert.equal(await unmountAll(dir.path), true)
    assert.equal(others, true)
    assert.equal(await unmountAll(dir.path), false)
    assert.equal(await unmountAll(join(dir.path, 'absent')), false)
  })

  it('lets a busy one go with its last user', async () => {
    await using dir = await aDir()
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', dir.path])
    const fd = openSync(dir.path, 'r')
    assert.equal(await unmountAll(dir.path), true)
    closeSync(fd)
  })
})

describe('mountByText', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this)
  })

  it('stacks 100 layers in one page of options', async () => {
    await using held = await aSnapshotter('directory')
    const lowers = []
    for (let at = 0; at < 100; at++) {
      const { diffId } = await held.add([{ name: `f${at}`, body: '' }])
      lowers.push(join(held.directory, 'directory/layers', diffId.replace(':', '-'), 'tree'))
    }
    const target = join(held.directory, 'directory', 'empty')
    mountByText({ lowers, target })
    assert.equal(readdirSync(target).length, 100)
    await unmountAll(target)
  })
})
