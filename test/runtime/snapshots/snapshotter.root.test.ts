import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  appendFileSync,
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { crc32 } from 'node:zlib'
import { getXattr } from '../../../runtime/linux/syscalls.ts'
import { unmountAll } from '../../../runtime/snapshots/mounts.ts'
import { mountByText } from '../../../runtime/snapshots/overlay.ts'
import { openSnapshotter } from '../../../runtime/snapshots/snapshotter.ts'
import { silentLog } from '../../../src/core/log.ts'
import { snapshotterContract } from '../../contract/snapshotter.ts'
import { aSnapshotter, listing } from '../../fixtures/engine/a-snapshotter.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { aFailingDisk, FAILING_DISK_NEEDS } from '../../fixtures/host/a-failing-disk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aTar, type TarEntry } from '../../fixtures/images/a-tar.ts'

const KINDS = ['erofs', 'directory'] as const
for (const kind of KINDS) snapshotterContract(kind)

describe('openSnapshotter', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { programs: ['fsck.erofs'] })
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

  it('holds in both formats what fills more than a block of a directory, an inode or a link, and what comes behind holes', async () => {
    const chunks = [
      { at: 0, body: 'a'.repeat(5) },
      { at: 100_000, body: 'b'.repeat(700) },
      { at: 300_000, body: 'c'.repeat(1024) },
    ]
    const note = (bytes: number) => ({ 'user.note': 'n'.repeat(bytes), 'user.other': 'o' })
    const many = Array.from({ length: 2000 }, (_, at): TarEntry => {
      const name = `many/${String(at * 7919).slice(0, 5)}-${'x'.repeat(at % 200)}`
      return { name, body: String(at) }
    })
    // the last name of a folder ends at each place of a block
    const ends = Array.from({ length: 64 }, (_, at) =>
      [...Array.from({ length: 45 }, (_, one) => `n${one}`), 'z'.repeat(at + 1)].map(
        (name): TarEntry => ({ name: `ends-${at}/${name}`, body: '' }),
      ),
    )
    const entries: TarEntry[] = [
      { name: './', mode: 0o755, xattrs: note(3000) },
      ...['!', '#a', '-', '+b', '...', '.a', '..b', '~', 'é', 'n'.repeat(255)].map((name) => ({ name, body: name })),
      ...many,
      ...ends.flat(),
      { name: 'none', body: '' },
      { name: 'block', body: 'x'.repeat(512) },
      { name: 'noted', body: 'x'.repeat(513), xattrs: note(1001) },
      { name: 'noted-dir/', xattrs: note(600), mtime: 2 ** 32 + 5 },
      { name: 'noted-dir/in', body: 'y' },
      { name: 'short', type: 'symlink', link: 'l'.repeat(448) },
      { name: 'longer', type: 'symlink', link: 'l'.repeat(449) },
      { name: 'longest', type: 'symlink', link: `${'l'.repeat(200)}/`.repeat(20) },
      { name: 'disk', type: 'block', major: 300, minor: 70_000, uid: 2 ** 31 + 1 },
      ...(['gnu', 'pax-0.0', 'pax-0.1', 'pax-1.0'] as const).flatMap((style): TarEntry[] => [
        { name: `holes/${style}`, sparse: { style, bytes: 400_001, chunks } },
        { name: `holes/${style}-next`, body: style.repeat(100) },
      ]),
      { name: 'holes/all', sparse: { style: 'gnu', bytes: 70_000, chunks: [] } },
      { name: 'linked', body: 'first' },
      { name: 'also', type: 'link', link: 'linked' },
      { name: 'again', type: 'link', link: 'linked' },
      { name: 'linked', body: 'second' },
      { name: 'gone/deep/er', body: 'z' },
      { name: 'gone', body: 'now a file' },
      { name: `${'deep/'.repeat(300)}end`, body: 'end' },
    ]
    const shown = []
    for (const kind of KINDS) {
      await using held = await aSnapshotter(kind)
      const layer = await held.add(entries)
      const root = await held.stack('r', [layer], { readonly: true })
      const sums = ['-c', 'find . -type f -print0 | sort -z | xargs -0 sha256sum']
      shown.push({
        listing: listing(root),
        sums: execFileSync('sh', sums, { cwd: root, maxBuffer: 2 ** 24 }).toString('latin1'),
        attributes: ['', 'noted', 'noted-dir'].map((name) =>
          Buffer.from(getXattr(join(root, name), 'user.note') ?? []).toString(),
        ),
        links: lstatSync(join(root, 'also')).nlink,
      })
      if (kind === 'directory') continue
      await held.snapshotter.scrub(layer.diffId, { signal: AbortSignal.timeout(30_000) })
      const [image, data] = ['layer.erofs', 'layer.tar'].map((name) =>
        join(held.directory, 'erofs/layers', layer.diffId.replace(':', '-'), name),
      )
      execFileSync('fsck.erofs', [`--device=${data}`, image ?? ''])
    }
    assert.deepEqual(shown[0], shown[1])
    assert.deepEqual(shown[0]?.attributes, ['n'.repeat(3000), 'n'.repeat(1001), 'n'.repeat(600)])
    assert.equal(shown[0]?.links, 2)
  })

  it('refuses a layer of more holes than its record would list', async () => {
    await using held = await aSnapshotter('erofs')
    const chunks = Array.from({ length: 80_000 }, (_, at) => ({ at: at * 2 + 1, body: 'x' }))
    const one = aTar([{ name: 'holes', sparse: { style: 'pax-0.1', bytes: 200_000, chunks } }], { end: false })
    await failsWith('LIMIT_EXCEEDED', held.add(Buffer.concat(Array.from({ length: 14 }, () => one))))
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

  it('takes for rot what the disk doesn’t give back', async function () {
    needs(this, FAILING_DISK_NEEDS)
    await using disk = await aFailingDisk()
    await using held = await aSnapshotter('erofs', { directory: join(disk.path, 'layers') })
    const body = randomBytes(64 * 1024)
    const { diffId } = await held.add([{ name: 'a', body }])
    await disk.lose(
      join(held.directory, 'erofs/layers', diffId.replace(':', '-'), 'layer.tar'),
      body.subarray(8192, 12288),
    )
    const scrubbed = held.snapshotter.scrub(diffId, { signal: AbortSignal.timeout(30_000) })
    await assert.rejects(scrubbed, { code: 'STORE_CORRUPT', message: /layer\.tar: EIO/ })
  })

  it('knows by its checksum a data file that is no archive as it came', async () => {
    await using held = await aSnapshotter('erofs')
    const signal = AbortSignal.timeout(30_000)
    const { diffId } = await held.add([{ name: 'a', body: 'x'.repeat(3000) }])
    const folder = join(held.directory, 'erofs/layers', diffId.replace(':', '-'))
    const [record, data] = [join(folder, 'record.json'), join(folder, 'layer.tar')]
    appendFileSync(data, 'y')
    const { format, ...facts } = JSON.parse(readFileSync(record, 'utf8'))
    const all = readFileSync(data)
    const older = { ...format, dataBytes: all.byteLength, dataCrc32: crc32(all) }
    writeFileSync(record, JSON.stringify({ ...facts, format: older }))
    await (await held.reopen()).scrub(diffId, { signal })
    writeFileSync(data, 'z', { flag: 'r+' })
    await failsWith('STORE_CORRUPT', (await held.reopen()).scrub(diffId, { signal }))
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
