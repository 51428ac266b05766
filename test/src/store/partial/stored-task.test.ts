import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { digestOf, hexOf } from '../../../../src/core/digest.ts'
import { DarnerError } from '../../../../src/core/errors.ts'
import { blobTask } from '../../../../src/core/task/task.ts'
import { aBlob, aStore, complete, fill, never } from '../../../fixtures/store/a-store.ts'

const signal = never()
const URL_ID = `url:${'a'.repeat(64)}`

describe('StoredTask', () => {
  it('shows a piece to readers and listeners only after its digest matched', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    stored.table.setDigests(0, blob.table)
    const told: [number, number][] = []
    stored.onPieces((from, count) => told.push([from, count]))
    const wrong = blob.piece(2).slice()
    wrong[7] = (wrong[7] ?? 0) ^ 1
    await assert.rejects(stored.write(2, wrong, { signal }), { code: 'PIECE_DIGEST' })
    assert.equal(stored.has(2), false)
    assert.deepEqual(told, [])
    await assert.rejects(stored.read(2 * 4096, new Uint8Array(1)), { code: 'PIECE_ABSENT' })
    assert.equal(await stored.write(2, blob.piece(2), { signal }), true)
    assert.equal(await stored.write(2, blob.piece(2), { signal }), false)
    assert.deepEqual(told, [[2, 1]])
    const into = new Uint8Array(100)
    await stored.read(2 * 4096 + 5, into)
    assert.deepEqual(into, blob.body.slice(2 * 4096 + 5, 2 * 4096 + 105))
    await assert.rejects(stored.read(2 * 4096 + 4000, into), { code: 'PIECE_ABSENT' })
  })

  it('counts what is in doubt again once it is told to be right, and takes the rest anew', async () => {
    await using a = await aStore()
    const [blob, wrong] = [aBlob(), aBlob({ seed: 9 })]
    const stored = await a.store.create(blob.task, { signal })
    await stored.append(0, blob.piece(0))
    await stored.append(1, wrong.piece(1))
    await stored.lay(2, blob.piece(2))
    await stored.lay(3, wrong.piece(3))
    await stored.doubt()
    assert.deepEqual([stored.have.count, stored.doubted, stored.losses], [0, 4, 1])
    assert.equal(stored.haveBytes, 4 * 4096)
    await assert.rejects(stored.read(0, new Uint8Array(1)), { code: 'PIECE_ABSENT' })
    await stored.learn({ signal })
    const heard: number[] = []
    stored.onPieces((from) => heard.push(from))
    assert.deepEqual(stored.told(0, blob.table), { right: [0, 2], wrong: [1, 3] })
    assert.deepEqual([heard, stored.regained, stored.doubted], [[0, 2], 2, 0])
    await fill(a.store, blob)
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('leaves what is in doubt to the digest of the whole where nobody can tell', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    await stored.append(0, blob.piece(0))
    await stored.lay(1, blob.piece(1))
    await stored.append(2, blob.piece(2))
    await stored.doubt()
    await stored.append(2, blob.piece(2))
    stored.trust()
    assert.deepEqual([stored.have.ranges(), stored.doubted], [[[0, 3]], 0])
  })

  it('withholds what is here until it is told to be right, or nothing came of it', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    for (const piece of [0, 1, 2]) await stored.append(piece, blob.piece(piece))
    const back = await stored.withhold()
    stored.trust()
    assert.deepEqual([stored.have.count, stored.doubted], [0, 3])
    back()
    assert.deepEqual([stored.have.ranges(), stored.doubted], [[[0, 3]], 0])
    await stored.withhold()
    await stored.append(0, blob.piece(0))
    await stored.doubt()
    stored.trust()
    assert.deepEqual([stored.have.ranges(), stored.doubted], [[[0, 1]], 2])
    stored.told(0, blob.table)
    assert.deepEqual([stored.have.ranges(), stored.doubted], [[[0, 3]], 0])
  })

  it('withholds what is left of a blob that was whole and rotted, and keeps it where it is only in doubt', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await complete(a.store, blob)
    writeFileSync(stored.path, readFileSync(stored.path).fill(0, 4096, 4100))
    await a.store.scrub({ signal })
    await stored.doubt()
    assert.deepEqual([stored.complete, stored.have.count], [false, 7])
    await stored.withhold()
    stored.trust()
    assert.deepEqual([stored.have.count, stored.doubted], [0, 7])
    await fill(a.store, blob)
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('reads what it was given to keep from memory, for as long as it holds the piece', async () => {
    await using store = await aStore()
    const blob = aBlob()
    const stored = await store.store.create(blob.task, { signal })
    const body: Uint8Array = blob.piece(1).slice()
    const released: Uint8Array[] = []
    stored.keep(1, body, (bytes) => released.push(bytes))
    assert.deepEqual(released, [body], 'a piece that is not here is not kept')
    await stored.append(1, body)
    stored.keep(1, body, (bytes) => released.push(bytes))
    assert.equal(released.length, 1)
    writeFileSync(stored.path, '')
    const into = new Uint8Array(200)
    await stored.read(4096 + 30, into)
    assert.deepEqual(into, body.slice(30, 230))
    stored.fail(new DarnerError('CLOSED', 'over'))
    assert.deepEqual(released, [body, body])
    await assert.rejects(stored.read(4096 + 30, into), { code: 'CLOSED' })
  })

  it('refuses short, long, unknown and out-of-range pieces', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    await assert.rejects(stored.write(0, blob.piece(0), { signal }), { code: 'STATE_INVALID' })
    stored.table.setDigests(0, blob.table)
    await assert.rejects(stored.write(0, blob.piece(0).subarray(1), { signal }), { code: 'PIECE_SHORT' })
    await assert.rejects(stored.write(7, blob.piece(0), { signal }), { code: 'PIECE_SHORT' })
    await assert.rejects(stored.write(8, blob.piece(0), { signal }), { code: 'BAD_ARGUMENT' })
    await assert.rejects(stored.read(blob.body.byteLength - 1, new Uint8Array(2)), { code: 'BAD_ARGUMENT' })
    assert.equal(stored.have.count, 0)
  })

  it('stores a piece once when two parents send it at the same time, and takes the right one when the other lies', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    stored.table.setDigests(0, blob.table)
    let told = 0
    stored.onPieces(() => told++)
    const twice = await Promise.all([0, 1].map(() => stored.write(0, blob.piece(0), { signal })))
    assert.deepEqual(twice, [true, false])
    const [lie, truth] = await Promise.allSettled([
      stored.write(1, new Uint8Array(4096), { signal }),
      stored.write(1, blob.piece(1), { signal }),
    ])
    assert.equal(lie.status, 'rejected')
    assert.deepEqual(truth, { status: 'fulfilled', value: true })
    assert.equal(told, 2)
  })

  it('establishes digests on the seed side and refuses an origin that changes its mind', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    assert.deepEqual(Buffer.from(await stored.append(3, blob.piece(3))), Buffer.from(blob.table.subarray(96, 128)))
    assert.deepEqual(stored.table.known.ranges(), [[3, 1]])
    await assert.rejects(stored.append(3, blob.piece(2)), { code: 'PIECE_DIGEST' })
    assert.throws(() => stored.table.setDigests(2, blob.table.subarray(0, 64)), { code: 'PROTOCOL_VIOLATION' })
    assert.deepEqual(stored.table.known.ranges(), [[3, 1]], 'a refused run leaves nothing')
  })

  it('shows pieces that are laid down without digests, which it can learn from the disk', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    const told: [number, number][] = []
    stored.onPieces((from, count) => told.push([from, count]))
    await stored.lay(1, blob.body.subarray(4096, 4 * 4096))
    assert.deepEqual(told, [[1, 3]])
    const into = new Uint8Array(3 * 4096)
    await stored.read(4096, into)
    assert.deepEqual(into, blob.body.slice(4096, 4 * 4096))
    assert.equal(stored.table.known.count, 0)
    await stored.learn({ signal })
    assert.deepEqual(stored.table.known.ranges(), [[1, 3]])
    stored.table.setDigests(0, blob.table)
    await assert.rejects(
      stored.lay(
        4,
        blob.piece(4).map((byte) => byte ^ 1),
      ),
      { code: 'PIECE_DIGEST' },
    )
    await assert.rejects(stored.lay(7, blob.piece(6)), { code: 'PIECE_SHORT' })
    await assert.rejects(stored.lay(6, blob.body.subarray(5 * 4096)), { code: 'BAD_ARGUMENT' })
  })

  it('keeps a laid blob once the whole digest matched, and nothing of one that is another', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    await stored.lay(0, blob.body)
    assert.equal(await stored.finish({ signal }), blob.digest)
    assert.equal(stored.table.known.count, 0)
    assert.deepEqual((await a.store.cut(stored, { signal })).slice(0, 8), Uint8Array.from(blob.table))
    const wrong = await a.store.create(aBlob({ seed: 2 }).task, { signal })
    await wrong.lay(0, blob.body)
    await assert.rejects(wrong.finish({ signal }), { code: 'DIGEST_MISMATCH' })
    assert.equal(a.store.find(wrong.task.id), undefined)
  })

  it('gives the blob its final name once the whole digest matched, and goes on serving', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await fill(a.store, blob, [0, 1, 2, 3, 4, 5, 6])
    await assert.rejects(stored.finish({ signal }), { code: 'PIECE_ABSENT' })
    await stored.write(7, blob.piece(7), { signal })
    const path = join(a.directory, 'blobs', 'sha256', hexOf(blob.digest))
    assert.equal(existsSync(path), false)
    const reading = Promise.all(
      Array.from({ length: 50 }, async (_, at) => {
        const into = new Uint8Array(512)
        await stored.read(at * 512, into)
        assert.deepEqual(into, blob.body.slice(at * 512, (at + 1) * 512))
      }),
    )
    const digests = await Promise.all([stored.finish({ signal }), stored.finish({ signal })])
    await reading
    assert.deepEqual(digests, [blob.digest, blob.digest])
    assert.equal(stored.complete, true)
    assert.equal(stored.path, path)
    assert.deepEqual(new Uint8Array(readFileSync(path)), blob.body)
    assert.equal(existsSync(join(a.directory, 'partial', `sha256-${hexOf(blob.digest)}`)), false)
    assert.deepEqual(Buffer.from(stored.table.slice(0, 8) ?? []), Buffer.from(blob.table))
  })

  it('hashes a large blob along its prefix whatever the order, sha512 tasks too', async () => {
    await using a = await aStore()
    const blob = aBlob({ pieces: 40, pieceBytes: 65536 })
    const hex = createHash('sha512').update(blob.body).digest('hex')
    const strong = { ...blob.task, id: `sha512:${hex}`, digest: `sha512:${hex}` } as typeof blob.task
    for (const task of [blob.task, strong]) {
      const stored = await a.store.create(task, { signal })
      for (let one = 0; one < 40; one++) await stored.append((one * 7) % 40, blob.piece((one * 7) % 40))
      assert.equal(await stored.finish({ signal }), task.digest)
    }
  })

  it('purges everything when the whole digest is wrong', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const task = {
      ...blob.task,
      id: `sha256:${'0'.repeat(64)}`,
      digest: `sha256:${'0'.repeat(64)}`,
    } as typeof blob.task
    const stored = await a.store.create(task, { signal })
    for (let piece = 0; piece < 8; piece++) await stored.append(piece, blob.piece(piece))
    await assert.rejects(stored.finish({ signal }), { code: 'DIGEST_MISMATCH' })
    assert.equal(a.store.find(task.id), undefined)
    assert.deepEqual([...a.store.tasks()], [])
    await assert.rejects(stored.read(0, new Uint8Array(1)), { code: 'DIGEST_MISMATCH' })
    for (const folder of ['partial', 'trash', 'blobs/sha256'])
      assert.deepEqual(readdirSync(join(a.directory, folder)), [])
    assert.deepEqual([...(await a.restart()).tasks()], [])
  })

  it('makes a URL task findable by digest once complete', async () => {
    await using a = await aStore()
    const blob = aBlob({ id: URL_ID })
    const stored = await fill(a.store, blob)
    assert.equal(a.store.byDigest(blob.digest), undefined)
    assert.equal(await stored.finish({ signal }), blob.digest)
    assert.equal(a.store.byDigest(blob.digest)?.complete, true)
    const store = await a.restart()
    assert.equal(store.byDigest(blob.digest)?.complete, true)
    assert.equal(store.find(blob.task.id)?.digest, blob.digest)
    assert.equal(store.find(blob.task.id)?.table.known.full, true)
  })

  it('tells the digest and gives bytes as soon as the whole matched, before the file has its final name', async () => {
    await using a = await aStore()
    const blob = aBlob({ id: URL_ID })
    const stored = await fill(a.store, blob)
    const order: string[] = []
    const matched = stored.matched({ signal }).then((seen) => {
      order.push('matched')
      assert.equal(stored.complete, false)
      assert.deepEqual([seen, stored.digest, stored.verified], [blob.digest, blob.digest, true])
    })
    const kept = stored.finish({ signal }).then(() => void order.push('kept'))
    await Promise.all([matched, kept])
    assert.deepEqual(order, ['matched', 'kept'])
    assert.equal(stored.complete, true)
    const bytes = new Uint8Array(blob.body.byteLength)
    await stored.read(0, bytes)
    assert.deepEqual(bytes, new Uint8Array(blob.body))
  })

  it('lets many wait for a piece, and tells each of them how it ended', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await fill(a.store, blob, [])
    const waiting = Array.from({ length: 500 }, () => stored.waitFor(4, { signal }))
    const gone = new AbortController()
    const left = stored.waitFor(4, { signal: gone.signal })
    gone.abort(new Error('left'))
    await assert.rejects(left, /left/)
    await stored.write(4, blob.piece(4), { signal })
    await Promise.all(waiting)
    await stored.waitFor(4, { signal })
    const lost = stored.waitFor(5, { signal })
    const refused = assert.rejects(lost, { code: 'TASK_FAILED' })
    await stored.discard(new DarnerError('TASK_FAILED', 'given up'))
    await refused
    await assert.rejects(stored.waitFor(5, { signal }), { code: 'TASK_FAILED' })
    await assert.rejects(stored.write(5, blob.piece(5), { signal }), { code: 'TASK_FAILED' })
    assert.equal(a.store.find(blob.task.id), undefined)
  })

  it('rejects waiters with CLOSED when the store closes, and keeps what was there', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await fill(a.store, blob, [1])
    const refused = assert.rejects(stored.waitFor(5, { signal }), { code: 'CLOSED' })
    const store = await a.restart()
    await refused
    await assert.rejects(stored.write(5, blob.piece(5), { signal }), { code: 'CLOSED' })
    assert.equal((await store.reopen(blob.task.id, { signal }))?.has(1), true)
  })

  it('holds an empty blob', async () => {
    await using a = await aStore()
    const stored = await a.store.create(blobTask(digestOf(''), 0), { signal })
    assert.equal(await stored.finish({ signal }), digestOf(''))
    await stored.read(0, new Uint8Array())
    assert.equal((await a.restart()).byDigest(digestOf(''))?.complete, true)
  })

  it('stops a write that is aborted before anything of it shows', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await fill(a.store, blob, [])
    const gone = new AbortController()
    const writing = stored.write(0, blob.piece(0), { signal: gone.signal })
    gone.abort(new Error('left'))
    await assert.rejects(writing, /left/)
    assert.equal(stored.has(0), false)
    await complete(a.store, blob)
  })
})
