import assert from 'node:assert/strict'
import { type TarEntry as Read, TarReader } from '../../../runtime/snapshots/tar.ts'
import { seededRandom } from '../../../src/core/clock.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { aTar, paxBlocks, type TarEntry } from '../../fixtures/images/a-tar.ts'

interface Found {
  readonly entry: Read
  readonly body: string
}

function read(tar: Uint8Array, chunkBytes = tar.byteLength || 1): Found[] {
  const found: Found[] = []
  let current: Read | undefined
  let body = ''
  const reader = new TarReader({
    entry(entry) {
      current = entry
      body = ''
    },
    data: (at, chunk) => {
      body += `${at}:${Buffer.from(chunk).toString('latin1')};`
    },
    endEntry() {
      if (current !== undefined) found.push({ entry: current, body })
    },
  })
  for (let at = 0; at < tar.byteLength; at += chunkBytes) reader.push(tar.subarray(at, at + chunkBytes))
  reader.finish()
  return found
}
const one = (entry: TarEntry): Found => read(aTar([entry]))[0] ?? assert.fail('no entry')

describe('TarReader', () => {
  it('reads the same entries whatever the chunks are', () => {
    const tar = aTar([
      { name: 'a'.repeat(150), body: 'hello', xattrs: { 'user.x': 'y' } },
      { name: 'b'.repeat(150), body: '', format: 'gnu' },
      { name: 's', type: 'symlink', link: 'l'.repeat(120), format: 'gnu' },
      {
        name: 'hole',
        sparse: {
          style: 'gnu',
          bytes: 9000,
          chunks: [
            { at: 100, body: 'x' },
            { at: 8000, body: 'yz' },
          ],
        },
      },
    ])
    const plain = (found: Found[]) =>
      found.map(({ entry, body }) => [
        entry.path.toString(),
        entry.link.toString(),
        entry.bytes,
        body.replaceAll(/;\d+:/g, ''),
      ])
    const whole = plain(read(tar))
    assert.equal(whole.length, 4)
    for (const size of [1, 7, 511, 513, 1024]) assert.deepEqual(plain(read(tar, size)).slice(0, 3), whole.slice(0, 3))
  })

  it('reads numbers in octal, in base-256 and in pax records', () => {
    assert.equal(one({ name: 'x', type: 'dir', mtime: -1 }).entry.mtime.seconds, -1)
    assert.equal(one({ name: 'x', type: 'dir', uid: 2 ** 31 }).entry.uid, 2 ** 31)
    assert.equal(one({ name: 'x', type: 'dir', pax: { uid: '4294967294', mtime: '1.25' } }).entry.uid, 4_294_967_294)
    assert.deepEqual(one({ name: 'x', type: 'dir', pax: { mtime: '1.25' } }).entry.mtime, {
      seconds: 1,
      nanoseconds: 250_000_000,
    })
    assert.deepEqual(one({ name: 'x', type: 'dir', pax: { mtime: '-0.25' } }).entry.mtime, {
      seconds: -1,
      nanoseconds: 750_000_000,
    })
  })

  it('puts data of sparse files at its place', () => {
    for (const style of ['gnu', 'pax-0.0', 'pax-0.1', 'pax-1.0'] as const) {
      const chunks = Array.from({ length: 50 }, (_, at) => ({ at: at * 1000, body: `${at % 10}` }))
      const { entry, body } = one({ name: 'hole', sparse: { style, bytes: 100_000, chunks } })
      assert.equal(entry.path.toString(), 'hole', style)
      assert.equal(entry.bytes, 100_000)
      assert.equal(body, chunks.map(({ at, body }) => `${at}:${body};`).join(''), style)
    }
    assert.equal(one({ name: 'all-hole', sparse: { style: 'pax-1.0', bytes: 5, chunks: [] } }).body, '')
  })

  it('reads a map of as many parts as it takes', () => {
    const chunks = Array.from({ length: 262_143 }, (_, at) => ({ at: at * 2 + 1, body: 'x' }))
    const { entry, body } = one({ name: 'holes', sparse: { style: 'pax-1.0', bytes: 524_287, chunks } })
    assert.equal(entry.sparse?.length, 262_144)
    assert.equal(body, chunks.map(({ at, body }) => `${at}:${body};`).join(''))
  })

  it('skips what it does not know, volume labels and global headers among it', () => {
    const found = read(
      aTar([
        { name: 'label', type: 'V' },
        { name: 'odd', type: 'Z', body: 'skipped' },
        { name: 'large', type: 'Z', body: 'skipped', statedBytes: 0, pax: { size: '7' } },
        { name: 'g', type: 'g', body: '11 path=no\n' },
        { name: 'kept', body: 'x' },
      ]),
    )
    assert.deepEqual(
      found.map(({ entry }) => entry.path.toString()),
      ['kept'],
    )
  })

  it('ends at two zero blocks, and takes an archive without them', () => {
    assert.equal(read(Buffer.concat([aTar([{ name: 'a', body: 'x' }]), Buffer.from('anything at all')])).length, 1)
    assert.equal(read(aTar([{ name: 'a', body: 'x' }], { end: false })).length, 1)
    assert.deepEqual(read(Buffer.alloc(0)), [])
  })

  it('refuses malformed archives', () => {
    const sparse = (map: string, bytes = '10') =>
      aTar([{ name: 'x', body: 'abc', pax: { 'GNU.sparse.size': bytes, 'GNU.sparse.map': map } }])
    const bad: Record<string, Uint8Array> = {
      'a bad checksum': aTar([{ name: 'a', badChecksum: true }]),
      'an end inside a body': aTar([{ name: 'a', body: 'x'.repeat(999) }]).subarray(0, 900),
      'an end inside a header': aTar([{ name: 'a' }]).subarray(0, 100),
      'a pax header without its entry': aTar([{ name: 'a', pax: { path: 'b' } }]).subarray(0, 1024),
      'a pax record longer than its header': aTar([{ name: 'p', type: 'x', body: '99 path=a\n' }]),
      'a pax record of no length': aTar([{ name: 'p', type: 'x', body: '0 path=a\n' }]),
      'a pax size that is no number': aTar([{ name: 'a', pax: { size: '1e9' } }]),
      'an overlapping sparse map': sparse('0,2,1,1'),
      'a sparse map beyond the file': sparse('0,1,9,2'),
      'a sparse map of other data': sparse('0,1'),
      'an odd sparse map': sparse('0,3,4'),
      'a part of a multi-volume archive': aTar([{ name: 'm', type: 'M', body: 'x' }]),
    }
    for (const [what, tar] of Object.entries(bad)) {
      assert.ok(
        throwsWith('LAYER_INVALID', () => read(tar)),
        what,
      )
    }
    throwsWith('LIMIT_EXCEEDED', () => read(aTar([{ name: 'p', type: 'x', statedBytes: 2 ** 30 }])))
    const half = paxBlocks({ comment: 'c'.repeat(600_000) })
    throwsWith('LIMIT_EXCEEDED', () => read(Buffer.concat([...half, ...half, aTar([{ name: 'a' }])])))
  })

  it('throws nothing but DarnerErrors on archives with random damage', () => {
    const seed = 20_261_124
    const random = seededRandom(seed)
    const tar = aTar([
      { name: 'a'.repeat(150), body: 'hello', xattrs: { 'user.x': 'y' } },
      { name: 'hole', sparse: { style: 'pax-1.0', bytes: 9000, chunks: [{ at: 100, body: 'x' }] } },
      { name: 'old', sparse: { style: 'gnu', bytes: 9000, chunks: [{ at: 100, body: 'x' }] } },
    ])
    for (let round = 0; round < 3000; round++) {
      const spoilt = Buffer.from(tar)
      const block = Math.floor((random() * tar.length) / 512) * 512
      for (let count = 0; count < 4; count++) spoilt[block + Math.floor(random() * 512)] = Math.floor(random() * 256)
      if (random() < 0.8) fixChecksum(spoilt.subarray(block, block + 512))
      try {
        read(spoilt, 700)
      } catch (error) {
        assert.ok(error instanceof DarnerError, `seed ${seed}, round ${round}: ${String(error)}`)
      }
    }
  })
})

function fixChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}
