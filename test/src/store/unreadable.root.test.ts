import assert from 'node:assert/strict'
import { join } from 'node:path'
import { systemClock } from '../../../src/core/clock.ts'
import { isDarnerError, systemCode } from '../../../src/core/errors.ts'
import type { Damage } from '../../../src/store/blobs/scrub.ts'
import { aFailingDisk, FAILING_DISK_NEEDS } from '../../fixtures/host/a-failing-disk.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aBlob, complete, fill, never, openAt } from '../../fixtures/store/a-store.ts'

const signal = never()

describe('a store on a disk that lost a part of a file', () => {
  before(function () {
    needs(this, FAILING_DISK_NEEDS)
  })

  it('finds by a scrub which piece that is, goes on to the next blob, and has the piece fetched again', async () => {
    await using disk = await aFailingDisk()
    await using store = await openAt(join(disk.path, 'store'), {}, systemClock)
    const [lossy, rotten] = [aBlob(), aBlob({ seed: 2 })]
    const stored = await complete(store, lossy)
    await disk.lose(stored.path, lossy.piece(3))
    await disk.lose((await complete(store, rotten)).path, rotten.piece(7))
    const { damaged } = await store.scrub({ signal })
    assert.deepEqual(
      damaged.map((one) => [one.digest, one.pieces]),
      [
        [lossy.digest, [3]],
        [rotten.digest, [7]],
      ],
    )
    assert.equal(await stored.write(3, lossy.piece(3), { signal }), true)
    assert.equal(await stored.finish({ signal }), lossy.digest)
    assert.deepEqual((await store.scrub({ signal })).damaged, [])
  })

  it('says of a read what failed and what to do, looks at the blob at once and tells of the damage; the rest stays', async () => {
    await using disk = await aFailingDisk()
    await using store = await openAt(join(disk.path, 'store'), {}, systemClock)
    const blob = aBlob()
    const stored = await complete(store, blob)
    const { path } = stored
    const told = new Promise<Damage>((resolve) => store.onDamage(resolve))
    await disk.lose(path, blob.piece(3))
    const into = new Uint8Array(4096)
    await assert.rejects(Promise.all([stored.read(3 * 4096, into), stored.read(3 * 4096, into)]), (error) => {
      assert.ok(isDarnerError(error, 'STORE_CORRUPT'))
      assert.match(error.message, new RegExp(`^read ${path}: EIO`))
      assert.match(error.way ?? '', /try again/)
      assert.equal(systemCode(error), 'EIO')
      return true
    })
    assert.deepEqual((await told).pieces, [3])
    await stored.read(0, into)
    assert.deepEqual(into, Uint8Array.from(blob.piece(0)))
    assert.equal(await stored.write(3, blob.piece(3), { signal }), true)
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('drops of a half-done task, when it is opened again, only what can’t be read', async () => {
    await using disk = await aFailingDisk()
    const blob = aBlob()
    {
      await using store = await openAt(join(disk.path, 'store'), {}, systemClock)
      const stored = await fill(store, blob, [0, 1, 2, 5])
      await stored.flush()
      await disk.lose(stored.path, blob.piece(2))
    }
    await using store = await openAt(join(disk.path, 'store'), {}, systemClock)
    const again = await store.create(blob.task, { signal })
    assert.deepEqual(
      [0, 1, 2, 5].map((piece) => again.has(piece)),
      [true, true, false, true],
    )
  })

  for (const [what, pieceBytes] of [
    ['small', 4096],
    ['large', 128 * 1024],
  ] as const) {
    it(`lets a ${what} task that can’t be read back start over`, async () => {
      await using disk = await aFailingDisk()
      await using store = await openAt(join(disk.path, 'store'), {}, systemClock)
      const blob = aBlob({ pieceBytes })
      const stored = await store.create(blob.task, { signal })
      await stored.lay(0, blob.body.subarray(0, 4 * pieceBytes))
      await disk.lose(stored.path, blob.piece(0).subarray(0, 4096))
      await stored.lay(4, blob.body.subarray(4 * pieceBytes))
      await assert.rejects(stored.finish({ signal }), { code: 'STORE_CORRUPT' })
      assert.equal(store.byDigest(blob.digest), undefined)
      assert.equal((await complete(store, blob)).complete, true)
    })
  }
})
