/** What every Snapshotter does, whatever way it holds layers. Runs as root on a stage. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFileSync, lstatSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { getXattr } from '../../runtime/linux/syscalls.ts'
import { mountsBelow } from '../../runtime/snapshots/mounts.ts'
import { digestOf } from '../../src/core/digest.ts'
import { aSnapshotter, LIMITS, listing } from '../fixtures/engine/a-snapshotter.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { onStage } from '../fixtures/host/a-stage.ts'
import { aTar, inChunks, type SparseSpec, type TarEntry } from '../fixtures/images/a-tar.ts'

const GIB = 1024 ** 3
const never = new AbortController().signal
const text = (path: string | Buffer): string => readFileSync(path, 'utf8')

export function snapshotterContract(kind: 'erofs' | 'directory'): void {
  describe(`a snapshotter that holds layers as ${kind}`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this)
    })

    it('gives back what a layer holds: modes, owners, times, links, devices, attributes', async () => {
      await using held = await aSnapshotter(kind)
      const capability = Buffer.from([1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
      const layer = await held.add([
        { name: './', mode: 0o751, uid: 7, gid: 8, mtime: 1_500_000_000 },
        { name: 'tmp/', mode: 0o1777, mtime: 1_400_000_000, xattrs: { 'user.dir': 'yes' } },
        {
          name: 'bin/su',
          body: 'setuid',
          mode: 0o4755,
          uid: 100_000,
          gid: 3_000_000,
          pax: { mtime: '1234567890.123456789' },
        },
        {
          name: 'bin/ping',
          body: 'caps',
          mode: 0o755,
          xattrs: { 'security.capability': capability, 'user.note': Buffer.from([0, 255, 10]) },
        },
        { name: 'bin/also', type: 'link', link: 'bin/su' },
        { name: 'etc/link', type: 'symlink', link: '../../../../etc/passwd', uid: 5 },
        { name: 'dev/null', type: 'char', major: 1, minor: 3, mode: 0o666 },
        { name: 'dev/disk', type: 'block', major: 8, minor: 300, mode: 0o660, gid: 6 },
        { name: 'run/pipe', type: 'fifo', mode: 0o600 },
        { name: 'empty', body: '' },
      ])
      const root = await held.stack('one', [layer])
      const top = statSync(root)
      assert.deepEqual([top.mode & 0o7777, top.uid, top.gid, top.mtimeMs], [0o751, 7, 8, 1_500_000_000_000])
      assert.deepEqual(
        [lstatSync(join(root, 'tmp')).mode & 0o7777, lstatSync(join(root, 'tmp')).mtimeMs],
        [0o1777, 1_400_000_000_000],
      )
      assert.equal(Buffer.from(getXattr(join(root, 'tmp'), 'user.dir') ?? []).toString(), 'yes')
      const su = lstatSync(join(root, 'bin/su'), { bigint: true })
      assert.deepEqual(
        [su.mode & 0o7777n, su.uid, su.gid, su.mtimeNs, su.nlink],
        [0o4755n, 100_000n, 3_000_000n, 1_234_567_890_123_456_789n, 2n],
      )
      assert.equal(lstatSync(join(root, 'bin/also'), { bigint: true }).ino, su.ino)
      assert.deepEqual(getXattr(join(root, 'bin/ping'), 'security.capability'), new Uint8Array(capability))
      assert.deepEqual(getXattr(join(root, 'bin/ping'), 'user.note'), new Uint8Array([0, 255, 10]))
      assert.equal(readlinkSync(join(root, 'etc/link')), '../../../../etc/passwd')
      assert.equal(lstatSync(join(root, 'etc/link')).uid, 5)
      assert.equal(execFileSync('stat', ['-c', '%t:%T %a', join(root, 'dev/disk')]).toString(), '8:12c 660\n')
      assert.equal(lstatSync(join(root, 'dev/null')).isCharacterDevice(), true)
      assert.equal(lstatSync(join(root, 'run/pipe')).isFIFO(), true)
      assert.equal(lstatSync(join(root, 'empty')).size, 0)
    })

    it('keeps names of 255 bytes, names that are no UTF-8, and paths of more than 256 bytes', async () => {
      await using held = await aSnapshotter(kind)
      const long = 'n'.repeat(255)
      const odd = Buffer.from([0xff, 0xfe, 0x20, 0x0a, 0x5c])
      const deep = Buffer.from(Array.from({ length: 12 }, () => 'd'.repeat(200)).join('/'))
      const layer = await held.add([
        { name: long, body: 'long' },
        { name: odd, body: 'odd' },
        { name: Buffer.concat([Buffer.from(`${'q'.repeat(250)}`), Buffer.from([0xf0])]), body: 'both', format: 'gnu' },
        { name: deep, body: 'deep' },
        { name: 'to-deep', type: 'symlink', link: deep },
      ])
      const root = await held.stack('one', [layer])
      const inRoot = (name: Buffer) => Buffer.concat([Buffer.from(`${root}/`), name])
      assert.equal(text(join(root, long)), 'long')
      assert.equal(text(inRoot(odd)), 'odd')
      assert.equal(text(inRoot(deep)), 'deep')
      assert.equal(text(join(root, 'to-deep')), 'deep')
      assert.equal(readdirSync(root, { encoding: 'buffer' }).length, 5)
    })

    it('hides what whiteouts and opaque directories of upper layers hide', async () => {
      await using held = await aSnapshotter(kind)
      const lower = await held.add([
        { name: 'gone', body: '1' },
        { name: 'kept', body: '1' },
        { name: 'dir/a', body: '1' },
        { name: 'dir/b', body: '1' },
        { name: 'opaque/old', body: '1' },
        { name: 'again/old', body: '1' },
        { name: 'tree/x/y', body: '1' },
      ])
      const upper = await held.add([
        { name: '.wh.gone', body: '' },
        { name: 'dir/.wh.a', body: '' },
        { name: 'opaque/new', body: '2' },
        { name: 'opaque/.wh..wh..opq', body: '' },
        { name: '.wh.again', body: '' },
        { name: 'again/new', body: '2' },
        { name: 'tree/.wh.x', body: '' },
        { name: '.wh..wh.plnk/', type: 'dir' },
        { name: '.wh.never-was', body: '' },
      ])
      const root = await held.stack('one', [lower, upper])
      assert.deepEqual(readdirSync(root).sort(), ['again', 'dir', 'kept', 'opaque', 'tree'])
      assert.deepEqual(readdirSync(join(root, 'dir')), ['b'])
      assert.deepEqual(readdirSync(join(root, 'opaque')), ['new'])
      assert.deepEqual(readdirSync(join(root, 'again')), ['new'])
      assert.deepEqual(readdirSync(join(root, 'tree')), [])
    })

    it('shows a directory that an upper layer only implies as a lower layer states it', async () => {
      await using held = await aSnapshotter(kind)
      const base = await held.add([
        { name: './', mode: 0o711 },
        { name: 'tmp/', mode: 0o1777, gid: 9, mtime: 1_300_000_000, xattrs: { 'user.note': 'kept' } },
        { name: 'srv/', mode: 0o700 },
      ])
      const stated = await held.add([
        { name: 'srv/', mode: 0o750 },
        { name: 'tmp/y', body: 'y' },
      ])
      const implied = await held.add([
        { name: 'tmp/deep/x', body: 'x' },
        { name: 'srv/x', body: 'x' },
      ])
      for (const readonly of [false, true]) {
        const root = await held.stack(`r${readonly}`, [base, stated, implied], { readonly })
        const tmp = lstatSync(join(root, 'tmp'))
        assert.deepEqual([tmp.mode & 0o7777, tmp.gid, tmp.mtimeMs], [0o1777, 9, 1_300_000_000_000])
        assert.equal(Buffer.from(getXattr(join(root, 'tmp'), 'user.note') ?? []).toString(), 'kept')
        assert.equal(lstatSync(join(root, 'srv')).mode & 0o7777, 0o750)
        assert.equal(lstatSync(root).mode & 0o7777, 0o711)
        assert.deepEqual(readdirSync(join(root, 'tmp')).sort(), ['deep', 'y'])
      }
    })

    it('lists no names that an opaque directory need not hide', async () => {
      await using held = await aSnapshotter(kind)
      const lower = await held.add([
        { name: 'opaque/in/old', body: '1' },
        { name: 'again/old', body: '1' },
      ])
      const upper = await held.add([
        { name: 'opaque/.wh..wh..opq', body: '' },
        { name: 'opaque/.wh.old', body: '' },
        { name: 'opaque/in/.wh.old', body: '' },
        { name: '.wh.again', body: '' },
        { name: 'again/.wh.old', body: '' },
      ])
      const root = await held.stack('one', [lower, upper], { readonly: true })
      assert.deepEqual(readdirSync(join(root, 'opaque')), ['in'])
      for (const name of ['opaque/in', 'again']) assert.deepEqual(readdirSync(join(root, name)), [], name)
    })

    it('lists no names that are hidden where there is nothing to hide', async () => {
      await using held = await aSnapshotter(kind)
      const gone: TarEntry[] = [
        { name: '.wh.gone', body: '' },
        { name: 'stated/', mode: 0o1770, uid: 7, gid: 8, mtime: 1_000_000_000 },
        { name: 'stated/.wh.gone', body: '' },
        { name: 'stated/here', body: '' },
        { name: 'implied/deep/.wh.gone', body: '' },
        { name: 'implied/deep/here', body: '' },
        { name: 'late/deep/.wh.gone', body: '' },
        { name: 'late/deep/here', body: '' },
        { name: 'late/.wh..wh..opq', body: '' },
      ]
      const other: TarEntry[] = [{ name: 'late/deep/old', body: '' }]
      const [hiding, plain] = [await held.add(gone), await held.add(other)]
      const cover = await held.add([
        { name: 'stated/.wh.here', body: '' },
        { name: '.wh.implied', body: '' },
      ])
      for (const readonly of [false, true]) {
        for (const [name, layers] of [
          ['alone', [hiding]],
          ['lowest', [hiding, plain]],
          ['highest', [plain, hiding]],
        ] as const) {
          const root = await held.stack(`${name}-${readonly}`, layers, { readonly })
          assert.deepEqual(readdirSync(root).sort(), ['implied', 'late', 'stated'], name)
          for (const folder of ['stated', 'implied/deep']) assert.deepEqual(readdirSync(join(root, folder)), ['here'])
          const both = name === 'lowest' ? ['here', 'old'] : ['here']
          assert.deepEqual(readdirSync(join(root, 'late/deep')).sort(), both, name)
          const { mode, uid, gid, mtimeMs } = statSync(join(root, 'stated'))
          assert.deepEqual([mode & 0o7777, uid, gid, mtimeMs], [0o1770, 7, 8, 1e12])
          const { mode: plainMode, mtimeMs: plainTime } = statSync(join(root, 'implied/deep'))
          assert.deepEqual([plainMode & 0o7777, plainTime], [0o755, 0])
        }
        const covered = await held.stack(`covered-${readonly}`, [hiding, cover], { readonly })
        assert.deepEqual([readdirSync(covered).sort(), readdirSync(join(covered, 'stated'))], [['late', 'stated'], []])
      }
    })

    it('looks for what states a directory no further down than it is seen', async () => {
      await using held = await aSnapshotter(kind)
      const base = await held.add([
        { name: 'gone/in/', mode: 0o700 },
        { name: 'new/in/', mode: 0o700 },
        { name: 'deep/er/in/', mode: 0o700 },
      ])
      const implied = await held.add([
        { name: 'gone/in/x', body: 'x' },
        { name: '.wh.new', body: '' },
        { name: 'new/in/x', body: 'x' },
        { name: 'deep/er/in/x', body: 'x' },
      ])
      const above = await held.add([{ name: 'gone/.wh..wh..opq', body: '' }])
      const root = await held.stack('one', [base, implied, above], { readonly: true })
      assert.deepEqual(readdirSync(join(root, 'gone')), [])
      assert.equal(lstatSync(join(root, 'new/in')).mode & 0o7777, 0o755)
      assert.equal(lstatSync(join(root, 'deep/er/in')).mode & 0o7777, 0o700)
      for (const name of ['deep', 'deep/er']) assert.equal(lstatSync(join(root, name)).mtimeMs, 0, name)
    })

    it('shows nothing of what is below an opaque root', async () => {
      await using held = await aSnapshotter(kind)
      const below = await held.add([
        { name: './', mode: 0o700 },
        { name: 'old', body: '1' },
        { name: 'dir/', mode: 0o700 },
        { name: 'dir/old', body: '1' },
      ])
      const opaque = await held.add([
        { name: '.wh..wh..opq', body: '' },
        { name: 'dir/new', body: '2' },
      ])
      const above = await held.add([{ name: 'above', body: '3' }])
      for (const readonly of [false, true]) {
        const root = await held.stack(`r${readonly}`, [below, opaque, above], { readonly })
        assert.deepEqual(readdirSync(root).sort(), ['above', 'dir'])
        assert.deepEqual(readdirSync(join(root, 'dir')), ['new'])
        for (const name of ['', 'dir']) assert.equal(lstatSync(join(root, name)).mode & 0o7777, 0o755)
      }
    })

    for (const style of ['gnu', 'pax-0.0', 'pax-0.1', 'pax-1.0'] as const) {
      it(`keeps the holes of a sparse file of 9 GiB in the ${style} form`, async () => {
        await using held = await aSnapshotter(kind)
        const chunks = Array.from({ length: 30 }, (_, at) => ({
          at: at * 300 * 1024 * 1024 + 4096,
          body: `part ${at}`.padEnd(4096, '.'),
        }))
        const sparse: SparseSpec = { style, bytes: 9 * GIB + 17, chunks }
        const layer = await held.add([
          { name: 'before', body: 'b' },
          { name: 'disk.img', sparse, mode: 0o640 },
          { name: 'after', body: 'a' },
        ])
        assert.ok(layer.bytes < 4 * 1024 * 1024, `${layer.bytes} bytes on disk`)
        const root = await held.stack('one', [layer])
        assert.equal(lstatSync(join(root, 'disk.img')).size, 9 * GIB + 17)
        const peek = (at: number, count: number) =>
          execFileSync('dd', [
            `if=${join(root, 'disk.img')}`,
            'iflag=skip_bytes,count_bytes',
            `skip=${at}`,
            `count=${count}`,
            'status=none',
          ])
        assert.equal(peek(29 * 300 * 1024 * 1024 + 4096, 7).toString(), 'part 29')
        assert.deepEqual(peek(8 * GIB, 64), Buffer.alloc(64))
        assert.deepEqual(peek(9 * GIB, 99), Buffer.alloc(17))
        assert.equal(text(join(root, 'after')), 'a')
      })
    }

    it('takes the last of several entries with one name', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([
        { name: 'f', body: 'first' },
        { name: 'keeps', type: 'link', link: 'f' },
        { name: 'f', body: 'second, longer' },
        { name: 'was-dir/x/y', body: 'y' },
        { name: 'was-dir', body: 'now a file' },
        { name: 'd/', mode: 0o700 },
        { name: 'd/in', body: 'in' },
        { name: 'd/', mode: 0o755, mtime: 1_450_000_000 },
        { name: 's', type: 'symlink', link: '/nowhere' },
        { name: 's', body: 'plain' },
      ])
      const root = await held.stack('one', [layer])
      assert.equal(text(join(root, 'f')), 'second, longer')
      assert.equal(text(join(root, 'keeps')), 'first')
      assert.equal(text(join(root, 'was-dir')), 'now a file')
      assert.equal(text(join(root, 's')), 'plain')
      assert.deepEqual(
        [lstatSync(join(root, 'd')).mode & 0o7777, lstatSync(join(root, 'd')).mtimeMs],
        [0o755, 1_450_000_000_000],
      )
      assert.equal(text(join(root, 'd/in')), 'in')
    })

    it('puts a directory where a file stood', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([
        { name: 'x', body: 'file' },
        { name: 'x/', mode: 0o711 },
        { name: 'x/y', body: 'y' },
      ])
      const root = await held.stack('one', [layer])
      assert.equal(text(join(root, 'x/y')), 'y')
      assert.equal(lstatSync(join(root, 'x')).mode & 0o7777, 0o711)
    })

    it('keeps symlinks on the way to an entry inside the layer', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([
        { name: 'abs', type: 'symlink', link: '/etc' },
        { name: 'abs/inside-1', body: '1' },
        { name: 'up', type: 'symlink', link: '../../../../../../tmp' },
        { name: 'up/inside-2', body: '2' },
        { name: '/rooted', body: '3' },
        { name: './/a/./b/../c', body: '4' },
      ])
      const root = await held.stack('one', [layer])
      assert.equal(text(join(root, 'etc/inside-1')), '1')
      assert.equal(text(join(root, 'tmp/inside-2')), '2')
      assert.equal(text(join(root, 'rooted')), '3')
      assert.equal(text(join(root, 'a/c')), '4')
      assert.throws(() => statSync('/etc/inside-1'))
      assert.throws(() => statSync('/tmp/inside-2'))
    })

    const hostile: Record<string, TarEntry[]> = {
      'a name above the root': [{ name: '../escape', body: 'x' }],
      'a deep name above the root': [{ name: 'a/../../escape', body: 'x' }],
      'a hard link above the root': [{ name: 'l', type: 'link', link: '../../etc/passwd' }],
      'a hard link to a file of the host': [{ name: 'l', type: 'link', link: '/etc/passwd' }],
      'a hard link through a symlink to the host': [
        { name: 's', type: 'symlink', link: '/etc' },
        { name: 'l', type: 'link', link: 's/passwd' },
      ],
      'hard links in a circle': [
        { name: 'a', type: 'link', link: 'b' },
        { name: 'b', type: 'link', link: 'a' },
      ],
      'a hard link to itself': [
        { name: 'a', body: 'x' },
        { name: 'a', type: 'link', link: 'a' },
      ],
      'a hard link to a directory': [{ name: 'd/' }, { name: 'l', type: 'link', link: 'd' }],
      'symlinks in a circle on the way': [
        { name: 'a', type: 'symlink', link: 'b' },
        { name: 'b', type: 'symlink', link: 'a' },
        { name: 'a/x', body: '' },
      ],
      'a file as a parent': [
        { name: 'f', body: 'x' },
        { name: 'f/g', body: 'y' },
      ],
      'a name of 256 bytes': [{ name: 'n'.repeat(256), body: '' }],
      'a path of 5000 bytes': [{ name: 'd/'.repeat(2500), type: 'dir' }],
      'a name with a NUL': [{ name: 'x', pax: { path: Buffer.from('a\0b') }, body: '' }],
      'a whiteout of the parent': [{ name: '.wh...', body: '' }],
      'the root as a symlink': [{ name: './', type: 'symlink', link: '/' }],
      'a damaged header': [{ name: 'x', body: '', badChecksum: true }],
      'a negative size': [{ name: 'x', statedBytes: -5 }],
      'a device number out of range': [{ name: 'x', type: 'char', major: 0o177777, minor: 1 }],
      'a size larger than the archive': [{ name: 'x', body: 'short', statedBytes: 9 * GIB }],
    }
    for (const [what, entries] of Object.entries(hostile)) {
      it(`refuses ${what} and keeps nothing of it`, async () => {
        await using held = await aSnapshotter(kind)
        await failsWith('LAYER_INVALID', held.add(entries))
        assert.deepEqual(await held.snapshotter.layers(), [])
        assert.deepEqual(readdirSync(join(held.directory, kind, 'ingest')), [])
      })
    }

    it('drops overlayfs bookkeeping and security labels that an image brings', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([
        {
          name: 'd/',
          xattrs: { 'trusted.overlay.redirect': '/other', 'trusted.overlay.opaque': 'y', 'user.kept': '1' },
        },
        { name: 'f', body: 'x', xattrs: { 'security.selinux': 'system_u', 'trusted.kept': '2' } },
      ])
      const root = await held.stack('one', [layer])
      assert.equal(getXattr(join(root, 'd'), 'trusted.overlay.redirect'), undefined)
      assert.equal(Buffer.from(getXattr(join(root, 'd'), 'user.kept') ?? []).toString(), '1')
      assert.equal(getXattr(join(root, 'f'), 'security.selinux'), undefined)
      assert.equal(Buffer.from(getXattr(join(root, 'f'), 'trusted.kept') ?? []).toString(), '2')
    })

    it('refuses bytes that are no tar, a cut archive, a wrong digest, and too much of anything', async () => {
      await using held = await aSnapshotter(kind)
      const tar = aTar([
        { name: 'a', body: 'x'.repeat(5000) },
        { name: 'b', body: 'y' },
      ])
      await failsWith('LAYER_INVALID', held.add(Buffer.alloc(4096, 'no tar')))
      await failsWith('LAYER_INVALID', held.add(tar.subarray(0, 3000)))
      await failsWith(
        'DIGEST_MISMATCH',
        held.snapshotter.unpack(digestOf('other'), inChunks(tar), { limits: LIMITS, signal: never }),
      )
      await failsWith('LIMIT_EXCEEDED', held.add(tar, { limits: { bytes: 2048, entries: 10 } }))
      await failsWith('LIMIT_EXCEEDED', held.add(tar, { limits: { bytes: 1e6, entries: 1 } }))
      const sparse: SparseSpec = { style: 'pax-1.0', bytes: 2 ** 50, chunks: [] }
      await failsWith('LIMIT_EXCEEDED', held.add([{ name: 'huge', sparse }]))
      assert.deepEqual(await held.snapshotter.layers(), [])
    })

    it('holds 100 000 entries', async () => {
      await using held = await aSnapshotter(kind, {
        directory: execFileSync('mktemp', ['-d', '/dev/shm/darner-XXXXXX']).toString().trim(),
      })
      const entries = Array.from({ length: 100_000 }, (_, at): TarEntry => ({ name: `d${at % 100}/f${at}`, body: '' }))
      const layer = await held.add(entries)
      const root = await held.stack('one', [layer])
      assert.equal(readdirSync(join(root, 'd7')).length, 1000)
    })

    it('stacks 128 layers, highest on top', async () => {
      // syncing a shared disk once for each layer of files takes long and shows nothing here
      const memory = () => execFileSync('mktemp', ['-d', '/dev/shm/darner-XXXXXX']).toString().trim()
      await using held = await aSnapshotter(kind, kind === 'directory' ? { directory: memory() } : {})
      const layers = []
      for (let at = 0; at < 128; at++)
        layers.push(
          await held.add([
            { name: 'top', body: `${at}` },
            { name: `l${at}`, body: '' },
          ]),
        )
      const root = await held.stack('one', layers)
      assert.equal(text(join(root, 'top')), '127')
      assert.equal(readdirSync(root).length, 129)
    })

    it('writes to the writable layer alone, keeps it across unmount, and deletes it with its id', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([{ name: 'f', body: 'image' }])
      const { path, upper } = await held.snapshotter.mount('one', [layer.diffId], { readonly: false, signal: never })
      const second = await held.stack('two', [layer])
      writeFileSync(join(path, 'f'), 'mine')
      assert.equal(text(join(upper, 'f')), 'mine')
      assert.equal(text(join(second, 'f')), 'image')
      await held.snapshotter.unmount('one')
      await held.snapshotter.unmount('one')
      assert.equal(text(join(await held.stack('one', [layer]), 'f')), 'mine')
      await held.snapshotter.remove('one')
      assert.equal(text(join(await held.stack('one', [layer]), 'f')), 'image')
      const other = await held.add([{ name: 'g', body: '' }])
      await held.snapshotter.unmount('one')
      await failsWith('CONFLICT', held.stack('one', [other]))
      await failsWith('CONFLICT', held.snapshotter.removeLayer(layer.diffId))
    })

    it('mounts a volatile root file system again with what was written, volatile or not', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([{ name: 'f', body: 'image' }])
      for (const volatile of [true, true, false, true]) {
        const { path } = await held.snapshotter.mount('one', [layer.diffId], {
          readonly: false,
          volatile,
          signal: never,
        })
        appendFileSync(join(path, 'f'), '+')
        await held.snapshotter.unmount('one')
      }
      assert.equal(text(join(await held.stack('one', [layer]), 'f')), 'image++++')
    })

    it('mounts read-only without a writable layer, also no layer at all', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([{ name: 'f', body: 'image' }])
      const root = await held.stack('ro', [layer], { readonly: true })
      assert.throws(() => writeFileSync(join(root, 'f'), 'x'), { code: 'EROFS' })
      writeFileSync(join(await held.stack('scratch', []), 'f'), 'x')
      await failsWith(
        'NOT_FOUND',
        held.snapshotter.mount('no', [digestOf('absent')], { readonly: true, signal: never }),
      )
      await failsWith('BAD_ARGUMENT', held.snapshotter.mount('../x', [], { readonly: true, signal: never }))
    })

    it('leaves no mount behind when the last user goes', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([{ name: 'f', body: 'x' }])
      await held.stack('one', [layer])
      await held.stack('two', [layer])
      await held.snapshotter.remove('one')
      assert.equal(text(join(held.directory, kind, 'rootfs/two/root/f')), 'x')
      await held.snapshotter.remove('two')
      assert.deepEqual(await mountsBelow(held.directory), [])
      await held.snapshotter.removeLayer(layer.diffId)
      assert.deepEqual(await held.snapshotter.layers(), [])
    })

    it('unpacks once for two who ask at the same time, and for the second when the first gives up', async () => {
      await using held = await aSnapshotter(kind)
      const bytes = aTar([{ name: 'f', body: 'x' }])
      let opened = 0
      const counted = async function* () {
        opened++
        yield* inChunks(bytes, 512)
      }
      const both = await Promise.all(
        [1, 2].map(() => held.snapshotter.unpack(digestOf(bytes), counted(), { limits: LIMITS, signal: never })),
      )
      assert.equal(both[0]?.diffId, both[1]?.diffId)
      assert.equal(opened, 1)
      await held.snapshotter.removeLayer(digestOf(bytes))
      const leaving = new AbortController()
      const stuck = async function* () {
        yield bytes.subarray(0, 512)
        await new Promise((resolve) => leaving.signal.addEventListener('abort', resolve, { once: true }))
        leaving.signal.throwIfAborted()
      }
      const first = held.snapshotter.unpack(digestOf(bytes), stuck(), { limits: LIMITS, signal: leaving.signal })
      const second = held.snapshotter.unpack(digestOf(bytes), counted(), { limits: LIMITS, signal: never })
      leaving.abort(new Error('gave up'))
      await assert.rejects(first, /gave up/)
      assert.equal((await second).diffId, digestOf(bytes))
    })

    it('finds after a restart what it had: layers, mounts, owners; cleans what has none', async () => {
      await using held = await aSnapshotter(kind)
      const layer = await held.add([{ name: 'f', body: 'x' }])
      const root = await held.stack('owned', [layer])
      await held.stack('lost', [layer])
      const again = await held.reopen()
      assert.deepEqual(
        (await again.layers()).map((one) => one.diffId),
        [layer.diffId],
      )
      const mended = await again.recover(new Set(['owned']))
      assert.equal(mended.length, 1)
      assert.equal(text(join(root, 'f')), 'x')
      assert.deepEqual(readdirSync(join(held.directory, kind, 'rootfs')), ['owned'])
      assert.deepEqual(await again.recover(new Set(['owned'])), [])
    })

    it('says DISK_FULL on a full disk and leaves nothing of the layer', async () => {
      const small = execFileSync('mktemp', ['-d', '/tmp/darner-small-XXXXXX']).toString().trim()
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small])
      try {
        await using held = await aSnapshotter(kind, { directory: join(small, 'snapshots') })
        await failsWith('DISK_FULL', held.add([{ name: 'big', body: Buffer.alloc(2 * 1024 * 1024, 'x') }]))
        assert.deepEqual(await held.snapshotter.layers(), [])
        assert.deepEqual(readdirSync(join(held.directory, kind, 'ingest')), [])
        await held.add([{ name: 'little', body: 'x' }])
      } finally {
        execFileSync('umount', [small])
        execFileSync('rmdir', [small])
      }
    })

    it('gives the same listing for the same archive each time', async () => {
      await using one = await aSnapshotter(kind)
      await using two = await aSnapshotter(kind)
      const entries: TarEntry[] = [
        { name: 'a/', mtime: 5 },
        { name: 'a/f', body: 'x' },
        { name: 'b/g', body: 'y' },
        { name: 'l', type: 'link', link: 'a/f' },
      ]
      const listings = []
      for (const held of [one, two])
        listings.push(listing(await held.stack('r', [await held.add(entries)], { readonly: true })))
      assert.deepEqual(listings[0], listings[1])
      assert.equal(listings[0]?.length, 6)
    })
  })
}
