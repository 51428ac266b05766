import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { TAR_END, tarHeader, tarPadding } from '../../../runtime/images/tar-writer.ts'
import { TarReader } from '../../../runtime/snapshots/tar.ts'

interface Seen {
  readonly kind: string
  readonly path: string
  readonly bytes: number
  readonly mode: number
}

function read(tar: Uint8Array): Seen[] {
  const seen: Seen[] = []
  const reader = new TarReader({
    entry: ({ kind, path, bytes, mode }) => seen.push({ kind, path: path.toString(), bytes, mode }),
    data: () => {},
    endEntry: () => {},
  })
  reader.push(tar)
  reader.finish()
  return seen
}

describe('tarHeader', () => {
  it('writes what a reader reads back: folders, long names, names that are no ASCII', () => {
    const long = `${'folder/'.repeat(30)}.wh.file`
    const body = Buffer.from('hello')
    const tar = Buffer.concat([
      tarHeader({ name: 'blobs/', bytes: 0 }),
      tarHeader({ name: 'blobs/a', bytes: 5, mode: 0o600 }),
      body,
      tarPadding(5),
      tarHeader({ name: long, bytes: 0, mode: 0 }),
      tarHeader({ name: 'grüße/…', bytes: 0 }),
      TAR_END,
    ])
    assert.deepEqual(read(tar), [
      { kind: 'dir', path: 'blobs/', bytes: 0, mode: 0o755 },
      { kind: 'file', path: 'blobs/a', bytes: 5, mode: 0o600 },
      { kind: 'file', path: long, bytes: 0, mode: 0 },
      { kind: 'file', path: 'grüße/…', bytes: 0, mode: 0o644 },
    ])
  })

  it('states lengths beyond 8 GiB by a pax record', () => {
    const head = tarHeader({ name: 'big', bytes: 2 ** 40 })
    assert.equal(head.byteLength, 3 * 512)
    assert.match(head.toString('latin1'), /\d+ size=1099511627776\n/)
  })

  it('pads to whole blocks', () => {
    assert.deepEqual(
      [0, 1, 511, 512, 513].map((bytes) => tarPadding(bytes).byteLength),
      [0, 511, 1, 0, 511],
    )
  })
})
