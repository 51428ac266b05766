import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { digestOf, hexOf } from '../../../src/core/digest.ts'
import type { Damage } from '../../../src/store/blobs/scrub.ts'
import type { Store } from '../../../src/store/store.ts'
import { type AStore, aBlob, aStore, type Blob, complete, fill, never } from '../../fixtures/store/a-store.ts'

const signal = never()
const idsOf = (store: Store) => [...store.tasks()].map((one) => one.task.id).sort()

async function* chunks(...parts: Uint8Array[]) {
  yield* parts
}

describe('Store', function () {
  this.timeout(30_000)

  it('gives the same task to all who create it, and refuses another geometry', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const [one, two] = await Promise.all([a.store.create(blob.task, { signal }), a.store.create(blob.task, { signal })])
    assert.equal(one, two)
    await assert.rejects(a.store.create({ ...blob.task, pieceBytes: 8192 }, { signal }), { code: 'CONFLICT' })
    await complete(a.store, blob)
    await assert.rejects(a.store.create({ ...blob.task, bytes: 5 }, { signal }), { code: 'SIZE_MISMATCH' })
    const absurd = { ...blob.task, id: `url:${'b'.repeat(64)}` as typeof blob.task.id, bytes: 2 ** 42, pieceBytes: 1 }
    await assert.rejects(a.store.create(absurd, { signal }), { code: 'BAD_ARGUMENT' })
    const outside = { ...blob.task, id: '../../etc' as typeof blob.task.id }
    await assert.rejects(a.store.create(outside, { signal }), { code: 'BAD_ARGUMENT' })
  })

  it('knows a complete blob under every name that leads to it, restart or not, and forgets all of them together', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const other = aBlob({ id: `url:${'c'.repeat(64)}` })
    await complete(a.store, blob)
    const named = await a.store.create({ ...other.task, digest: blob.digest }, { signal })
    assert.equal(named.complete, true)
    const store = await a.restart()
    assert.equal(store.find(other.task.id)?.digest, blob.digest)
    assert.deepEqual(idsOf(store), [blob.task.id, other.task.id].sort())
    assert.equal(store.usage().completeBytes, blob.body.byteLength, 'the bytes are there once')
    const lease = store.lease(other.task.id, 'reader')
    assert.deepEqual((await store.collect({ targetBytes: 0 })).victims, [])
    lease[Symbol.dispose]()
    await store.collect({ targetBytes: 0 })
    assert.equal(store.find(other.task.id), undefined)
    assert.equal(store.find(blob.task.id), undefined)
  })

  it('never promises more than maxBytes, however many ask at once', async () => {
    await using a = await aStore({ maxBytes: 80_000 })
    const asked = await Promise.allSettled([1, 2, 3].map((seed) => a.store.create(aBlob({ seed }).task, { signal })))
    assert.deepEqual(asked.map((one) => (one.status === 'fulfilled' ? 'made' : one.reason.code)).sort(), [
      'DISK_FULL',
      'made',
      'made',
    ])
    const refused = asked.find((one) => one.status === 'rejected')
    assert.match(String(refused?.reason.message), / of 80000 are in use or promised$/)
  })

  it('collects half-done tasks that nobody has touched for long, left from this run or an earlier one', async () => {
    for (const restart of [false, true]) {
      await using a = await aStore({ partialIdleMs: 1000 })
      await fill(a.store, aBlob(), [0, 1])
      const store = restart ? await a.restart() : a.store
      assert.deepEqual((await store.collect()).victims, [])
      if (!restart) assert.deepEqual((await store.collect({ targetBytes: 0 })).victims, [], 'somebody may be at it')
      assert.equal(store.usage().partialBytes, 8192)
      a.clock.advance(Date.now())
      const gone = await store.collect({ targetBytes: 0 })
      assert.deepEqual(
        gone.victims.map((one) => one.state),
        [restart ? 'dormant' : 'partial'],
      )
      assert.deepEqual(readdirSync(join(a.directory, 'partial')), [])
    }
  })

  it('gives half-done tasks that were left up when room is asked for, after all else', async () => {
    await using a = await aStore()
    const [one, other] = [aBlob(), aBlob({ seed: 2 })]
    await fill(a.store, one, [0, 1])
    const { id } = one.task
    const whole = await a.store.put(other.body, { signal })
    const stored = a.store.find(id)
    if (stored) a.store.left(stored)
    assert.deepEqual((await a.store.collect()).victims, [])
    const [first, second] = (await a.store.collect({ targetBytes: 0 })).victims
    assert.deepEqual([first?.task.id, second?.task.id], [whole.task.id, id])
    assert.deepEqual(readdirSync(join(a.directory, 'partial')), [])
  })

  it('says at once that the rest of a half-done task does not fit', async () => {
    let free = 1 << 20
    await using a = await aStore({}, { freeBytes: async () => free })
    const blob = aBlob()
    await fill(a.store, blob, [0, 1])
    const { id } = blob.task
    free = 1
    await assert.rejects(a.store.create(blob.task, { signal }), { code: 'DISK_FULL' })
    assert.equal(a.store.find(id)?.haveBytes, 8192, 'what is here stays')
  })

  it('takes whole blobs straight in, with their media type and piece table', async () => {
    await using a = await aStore()
    const body = new TextEncoder().encode('{"schemaVersion":2}')
    const stored = await a.store.put(body, { mediaType: 'application/vnd.oci.image.manifest.v1+json', signal })
    assert.equal(stored.digest, digestOf(body))
    assert.equal(stored.table.known.full, true)
    const store = await a.restart()
    assert.deepEqual(
      [...store.tasks()].map((one) => one.mediaType),
      ['application/vnd.oci.image.manifest.v1+json'],
    )
    const big = aBlob({ pieces: 40, pieceBytes: 65536 })
    const whole = await store.ingest(chunks(big.body.subarray(0, 100), big.body.subarray(100)), { signal })
    assert.equal(whole.digest, big.digest)
    assert.deepEqual(Buffer.from(whole.table.slice(0, 40) ?? []), Buffer.from(big.table))
  })

  it('leaves nothing of a stream that is too long, wrong or broken', async () => {
    await using a = await aStore()
    const { body } = aBlob()
    await assert.rejects(a.store.ingest(chunks(body), { maxBytes: 100, signal }), { code: 'LIMIT_EXCEEDED' })
    const expectedDigest = digestOf('other')
    await assert.rejects(a.store.ingest(chunks(body), { expectedDigest, signal }), { code: 'DIGEST_MISMATCH' })
    const broken = (async function* () {
      yield body
      throw new Error('cut off')
    })()
    await assert.rejects(a.store.ingest(broken, { signal }), /cut off/)
    assert.deepEqual(readdirSync(join(a.directory, 'ingest')), [])
    assert.deepEqual(idsOf(a.store), [])
  })

  describe('collect', () => {
    /** Four blobs of about 32 KiB, used one second apart, oldest first. */
    async function fourBlobs(a: Awaited<ReturnType<typeof aStore>>): Promise<Blob[]> {
      const blobs = [1, 2, 3, 4].map((seed) => aBlob({ seed }))
      for (const blob of blobs) {
        await complete(a.store, blob)
        a.clock.advance(1000)
      }
      return blobs
    }

    it('lets the least recently used go, exactly as a dry run said, restart or not', async () => {
      await using a = await aStore()
      const [one, two, three, four] = await fourBlobs(a)
      await a.store.byDigest(one?.digest ?? digestOf(''))?.read(0, new Uint8Array(1))
      const store = await a.restart()
      const dry = await store.collect({ dryRun: true, targetBytes: 70_000 })
      assert.equal(idsOf(store).length, 4)
      const run = await store.collect({ targetBytes: 70_000 })
      assert.deepEqual(run.victims, dry.victims)
      assert.equal(run.freedBytes, dry.freedBytes)
      assert.deepEqual(
        run.victims.map((gone) => gone.task.id),
        [two?.task.id, three?.task.id],
      )
      assert.deepEqual(idsOf(store), [one?.task.id, four?.task.id].sort())
      assert.equal(readdirSync(join(a.directory, 'blobs', 'sha256')).length, 2)
      assert.deepEqual(readdirSync(join(a.directory, 'trash')), [])
      assert.deepEqual(idsOf(await a.restart()), [one?.task.id, four?.task.id].sort())
    })

    it('never takes what is pinned, leased, being listened to or freshly half done', async () => {
      await using a = await aStore()
      const [one, two, three, four] = await fourBlobs(a)
      if (!one || !two || !three || !four) throw new Error('four blobs')
      await a.store.pin(one.task.id, 'image a')
      const lease = a.store.lease(two.task.id, 'reader')
      const stop = a.store.find(three.task.id)?.onPieces(() => {})
      const half = aBlob({ seed: 5 })
      await fill(a.store, half, [0])
      const gone = await a.store.collect({ targetBytes: 0 })
      assert.deepEqual(
        gone.victims.map((victim) => victim.task.id),
        [four.task.id],
      )
      await assert.rejects(a.store.remove(one.task.id), { code: 'CONFLICT' })
      lease[Symbol.dispose]()
      stop?.()
      a.clock.advance(3_600_001)
      assert.equal((await a.store.collect({ targetBytes: 0 })).victims.length, 3)
      const store = await a.restart()
      assert.equal((await store.collect({ targetBytes: 0 })).victims.length, 0, 'a pin outlives a restart')
      assert.equal(store.usage().pinnedBytes, one.body.byteLength)
      await store.unpin(one.task.id, 'image a')
      assert.equal((await store.collect({ targetBytes: 0 })).victims.length, 1)
      assert.deepEqual(idsOf(await a.restart()), [])
    })

    it('starts above the high mark and stops at the low one', async () => {
      await using a = await aStore({ maxBytes: 160_000, high: 0.8, low: 0.5 })
      const blobs = await fourBlobs(a)
      assert.ok(a.store.usage().completeBytes <= 128_000)
      assert.ok(idsOf(a.store).length < 4, 'the fourth made room for itself')
      assert.equal(a.store.byDigest(blobs[3]?.digest ?? digestOf(''))?.complete, true)
      assert.deepEqual((await a.store.collect()).victims, [], 'below the high mark nothing goes')
      const big = aBlob({ pieces: 64, seed: 9 })
      for (const blob of blobs) await a.store.pin(blob.task.id, 'image')
      await assert.rejects(a.store.create(big.task, { signal }), { code: 'DISK_FULL' })
      assert.equal(existsSync(join(a.directory, 'partial', `sha256-${hexOf(big.digest)}`)), false)
    })

    it('makes room beside a half-done task, which is promised more than it has on the disk', async () => {
      await using a = await aStore({ maxBytes: 100_000, high: 0.9, low: 0.8 })
      await fill(a.store, aBlob({ pieces: 16, seed: 1 }), [0]) // and whoever fetched it has left
      const old = aBlob({ pieces: 8, seed: 2 })
      await complete(a.store, old)
      assert.equal((await complete(a.store, aBlob({ pieces: 8, seed: 3 }))).complete, true)
      assert.equal(a.store.byDigest(old.digest), undefined)
      assert.equal(a.store.usage().partials, 1)
    })

    it('keeps to the marks of what the file system has left, where that is less than the quota or there is none', async () => {
      const disk = { bytes: 160_000 }
      const place: { a: AStore | undefined } = { a: undefined }
      const used = () => place.a?.store.usage().completeBytes ?? 0
      const free = async () => Math.max(0, disk.bytes - used())
      await using a = await aStore({ high: 0.8, low: 0.5 }, { freeBytes: free })
      place.a = a
      const blobs = await fourBlobs(a)
      assert.ok(used() <= 128_000 && idsOf(a.store).length < 4, 'the fourth made room for itself')
      assert.equal(a.store.byDigest(blobs[3]?.digest ?? digestOf(''))?.complete, true)
      assert.deepEqual((await a.store.collect()).victims, [], 'below the high mark nothing goes')
      // others write to the same disk
      disk.bytes = used() + 5_000
      const dry = await a.store.collect({ dryRun: true })
      const gone = await a.store.collect()
      assert.deepEqual(dry, gone)
      assert.ok(gone.victims.length > 0 && used() <= 0.5 * disk.bytes)
      const { freeBytes, highBytes, lowBytes } = await a.store.room()
      assert.deepEqual([freeBytes, highBytes, lowBytes], [disk.bytes - used(), disk.bytes * 0.8, disk.bytes * 0.5])
    })

    it('refuses a task that the disk has no room for, with nothing of it left, and takes it once there is room', async () => {
      let free = 20_000
      await using a = await aStore({}, { freeBytes: async () => free })
      const blob = aBlob({ pieces: 8 })
      await assert.rejects(a.store.create(blob.task, { signal }), { code: 'DISK_FULL' })
      assert.deepEqual(readdirSync(join(a.directory, 'partial')), [])
      free = 40_000
      assert.equal((await complete(a.store, blob)).complete, true)
      // bytes that are written already need no more room
      free = 0
      const stored = await a.store.put(Buffer.from('a manifest'), { signal })
      assert.equal(stored.complete, true)
    })

    it('ends reads of what was collected with PIECE_ABSENT, and lets it be fetched again', async () => {
      await using a = await aStore()
      const blob = aBlob()
      const stored = await complete(a.store, blob)
      await a.store.collect({ targetBytes: 0 })
      await assert.rejects(stored.read(0, new Uint8Array(1)), { code: 'PIECE_ABSENT' })
      assert.equal((await complete(a.store, blob)).complete, true)
      assert.equal((await a.restart()).byDigest(blob.digest)?.complete, true)
    })
  })

  describe('scrub', () => {
    it('drops the rotten pieces of a complete blob, keeps the rest, says which, and heals', async () => {
      await using a = await aStore()
      const blob = aBlob()
      const sound = aBlob({ seed: 2 })
      const stored = await complete(a.store, blob)
      await complete(a.store, sound)
      const bytes = readFileSync(stored.path)
      bytes[3 * 4096 + 1] = (bytes[3 * 4096 + 1] ?? 0) ^ 1
      writeFileSync(stored.path, bytes)
      const told: Damage[] = []
      a.store.onDamage((damage) => told.push(damage))
      const report = await a.store.scrub({ signal })
      assert.equal(report.blobs, 2)
      assert.deepEqual(
        told.map((one) => [one.digest, one.pieces]),
        [[blob.digest, [3]]],
      )
      assert.deepEqual(report.damaged, told)
      assert.equal(stored.complete, false)
      await assert.rejects(stored.read(3 * 4096, new Uint8Array(1)), { code: 'PIECE_ABSENT' })
      const into = new Uint8Array(4096)
      await stored.read(0, into)
      assert.deepEqual(into, blob.body.slice(0, 4096))
      assert.equal(existsSync(join(a.directory, 'blobs', 'sha256', hexOf(blob.digest))), false)
      const store = await a.restart()
      const healing = await store.create(blob.task, { signal })
      assert.equal(healing.have.count, 7)
      healing.table.setDigests(0, blob.table)
      assert.equal(await healing.write(3, blob.piece(3), { signal }), true)
      assert.equal(await healing.finish({ signal }), blob.digest)
      assert.deepEqual((await store.scrub({ signal })).damaged, [])
    })

    it('gives a blob that was laid down its piece table, and tells of one that has rotted before that', async () => {
      await using a = await aStore()
      const told: Damage[] = []
      a.store.onDamage((damage) => told.push(damage))
      const [sound, rotten] = [aBlob(), aBlob({ seed: 2 })]
      for (const blob of [sound, rotten]) {
        const stored = await a.store.create(blob.task, { signal })
        await stored.lay(0, blob.body)
        await stored.finish({ signal })
      }
      const path = a.store.byDigest(rotten.digest)?.path ?? ''
      writeFileSync(path, readFileSync(path).fill(0, 4096, 4100))
      await a.store.scrub({ signal })
      assert.equal(a.store.byDigest(sound.digest)?.table.known.full, true)
      assert.deepEqual(
        told.map((one) => [one.digest, one.pieces.length]),
        [[rotten.digest, 8]],
      )
      assert.equal(a.store.byDigest(rotten.digest), undefined)
    })

    it('forgets a blob whose file is gone, so that it can be fetched again', async () => {
      await using a = await aStore()
      const blob = aBlob()
      rmSync((await complete(a.store, blob)).path)
      assert.deepEqual(
        (await a.store.scrub({ signal })).damaged.map((one) => one.pieces.length),
        [8],
      )
      assert.equal(a.store.byDigest(blob.digest), undefined)
      await complete(a.store, blob)
      assert.deepEqual((await a.store.scrub({ signal })).damaged, [])
    })

    it('deletes a rotten blob whose pieces were never cut', async () => {
      await using a = await aStore()
      const name = '1'.repeat(64)
      await a.store.close()
      mkdirSync(join(a.directory, 'blobs', 'sha256'), { recursive: true })
      writeFileSync(join(a.directory, 'blobs', 'sha256', name), 'not what its name says')
      const store = await a.restart()
      assert.equal(store.usage().blobs, 1)
      assert.equal((await store.scrub({ signal })).damaged.length, 1)
      assert.equal(store.usage().blobs, 0)
    })
  })
})
