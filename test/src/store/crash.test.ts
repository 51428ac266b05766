import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { systemClock } from '../../../src/core/clock.ts'
import { hexOf } from '../../../src/core/digest.ts'
import { Journal, readJournal } from '../../../src/store/partial/journal.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aBlob, aStore, complete, fill, never, openAt } from '../../fixtures/store/a-store.ts'

const signal = never()
const CHILD = fileURLToPath(new URL('../../fixtures/store/store-child.ts', import.meta.url))
const NODE_ARGS = ['--disable-warning=ExperimentalWarning', CHILD]

function flip(path: string, at: number): void {
  const bytes = readFileSync(path)
  bytes[at] = (bytes[at] ?? 0) ^ 0x40
  writeFileSync(path, bytes)
}

describe('a store whose process was killed', function () {
  this.timeout(60_000)

  /** What a child said to have stored before it was killed. */
  async function killed(what: 'write' | 'lay', directory: string): Promise<number[]> {
    const child = spawn(process.execPath, [...NODE_ARGS, what, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    const told: number[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      told.push(Number(line))
      if (told.length === 150) child.kill('SIGKILL')
    }
    assert.ok(told.length >= 150 && told.length < 400, `${told.length} pieces before the end`)
    return told
  }

  it('has every piece that was stored when kill -9 came, and needs only the others', async () => {
    await using dir = await aDir()
    const told = await killed('write', dir.path)
    const blob = aBlob({ pieces: 400, pieceBytes: 16384 })
    await using store = await openAt(dir.path, {}, systemClock)
    assert.equal(store.find(blob.task.id), undefined, 'nothing counts before it was hashed again')
    const stored = await store.create(blob.task, { signal })
    for (const piece of told) assert.equal(stored.has(piece), true, `piece ${piece}`)
    assert.ok(stored.have.count <= told.length + 1, `${stored.have.count} here, ${told.length} told`)
    stored.table.setDigests(0, blob.table)
    let fetched = 0
    for (let piece = 0; piece < 400; piece++) if (await stored.write(piece, blob.piece(piece), { signal })) fetched++
    assert.ok(fetched >= 400 - told.length - 1 && fetched <= 400 - told.length)
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('has every piece without a digest, too, which it establishes then', async () => {
    await using dir = await aDir()
    const told = await killed('lay', dir.path)
    const blob = aBlob({ pieces: 400, pieceBytes: 16384 })
    await using store = await openAt(dir.path, {}, systemClock)
    const stored = await store.create(blob.task, { signal })
    assert.ok(stored.have.count <= told.length + 4, `${stored.have.count} here, ${told.length} told`)
    for (const piece of told) {
      assert.equal(stored.has(piece), true, `piece ${piece}`)
      assert.deepEqual(stored.table.digest(piece), Uint8Array.from(blob.table.subarray(piece * 32, (piece + 1) * 32)))
    }
    stored.table.setDigests(0, blob.table)
    for (let piece = 0; piece < 400; piece++) await stored.write(piece, blob.piece(piece), { signal })
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('counts no piece without a digest that was stored before the machine started', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await a.store.create(blob.task, { signal })
    await stored.append(0, blob.piece(0))
    await stored.lay(2, blob.piece(2))
    await a.store.close()
    const path = join(a.directory, 'partial', `sha256-${hexOf(blob.digest)}`, 'journal')
    const { pieces } = await readJournal(path)
    const journal = await Journal.begin(path, blob.task)
    for (const [piece, check] of pieces) {
      // the other boot's id: the last byte of it differs
      const other = Uint8Array.from(check)
      if (piece === 2) other[31] = (other[31] ?? 0) ^ 1
      await journal.append(piece, other)
    }
    await journal.close()
    await using store = await openAt(a.directory, {}, systemClock)
    assert.deepEqual((await store.reopen(blob.task.id, { signal }))?.have.ranges(), [[0, 1]])
  })

  it('refuses a second process by the name of the first, and forgets the first when it is killed', async () => {
    await using dir = await aDir()
    const child = spawn(process.execPath, [...NODE_ARGS, 'hold', dir.path], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      await once(child.stdout, 'data')
      await assert.rejects(openAt(dir.path, {}, systemClock), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'STORE_LOCKED')
        assert.match(error.message, new RegExp(`process ${child.pid} `))
        return true
      })
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    assert.equal(existsSync(join(dir.path, 'lock')), true, 'the dead one left its file')
    await using store = await openAt(dir.path, {}, systemClock)
    await assert.rejects(openAt(dir.path, {}, systemClock), {
      code: 'STORE_LOCKED',
      details: { directory: dir.path, pid: process.pid },
    })
    assert.equal(store.usage().blobs, 0)
  })

  it('ignores a torn tail and a damaged record in the journal', async () => {
    await using a = await aStore()
    const blob = aBlob()
    await fill(a.store, blob, [0, 1, 2, 3])
    await a.store.close()
    const journal = join(a.directory, 'partial', `sha256-${hexOf(blob.digest)}`, 'journal')
    truncateSync(journal, 512 + 3 * 40 + 17)
    flip(journal, 512 + 40 + 10)
    await using store = await openAt(a.directory, {}, systemClock)
    const stored = await store.create(blob.task, { signal })
    assert.deepEqual(stored.have.ranges(), [
      [0, 1],
      [2, 1],
    ])
    stored.table.setDigests(0, blob.table)
    await stored.write(3, blob.piece(3), { signal })
    await store.close()
    await using again = await openAt(a.directory, {}, systemClock)
    assert.deepEqual((await again.reopen(blob.task.id, { signal }))?.have.ranges(), [
      [0, 1],
      [2, 2],
    ])
  })

  it('drops a piece that changed on disk, and a record whose piece never got there', async () => {
    await using a = await aStore()
    const blob = aBlob()
    await fill(a.store, blob, [0, 1, 2, 7])
    await a.store.close()
    const data = join(a.directory, 'partial', `sha256-${hexOf(blob.digest)}`, 'data')
    flip(data, 4096 + 11)
    truncateSync(data, 4096 * 3)
    await using store = await openAt(a.directory, {}, systemClock)
    const stored = await store.create(blob.task, { signal })
    assert.deepEqual(stored.have.ranges(), [
      [0, 1],
      [2, 1],
    ])
    assert.equal(stored.table.digest(1), undefined, 'a record that was wrong once proves nothing')
    await complete(store, blob)
    assert.deepEqual(new Uint8Array(readFileSync(stored.path)), blob.body)
  })

  it('starts over when a header is damaged, or the geometry is another', async () => {
    for (const harm of ['header', 'absurd', 'geometry'] as const) {
      await using a = await aStore()
      const blob = aBlob()
      await fill(a.store, blob, [0, 1])
      await a.store.close()
      const journal = join(a.directory, 'partial', `sha256-${hexOf(blob.digest)}`, 'journal')
      if (harm === 'header') flip(journal, 9)
      if (harm === 'absurd') appendFileSync(journal, Buffer.alloc(40 * 100))
      await using store = await openAt(a.directory, {}, systemClock)
      const task = harm === 'geometry' ? { ...blob.task, pieceBytes: 8192 } : blob.task
      const stored = await store.create(task, { signal })
      assert.equal(stored.have.count, 0, harm)
    }
  })

  it('takes in verified blobs that lost their record, and drops records that lost their blob', async () => {
    await using a = await aStore()
    const one = aBlob({ seed: 1 })
    const two = aBlob({ seed: 2 })
    const lost = (await complete(a.store, one)).path
    await complete(a.store, two)
    await a.store.close()
    rmSync(lost)
    let store = await a.restart()
    assert.equal(store.byDigest(one.digest), undefined)
    assert.equal(store.byDigest(two.digest)?.complete, true)
    await store.close()
    rmSync(join(a.directory, 'meta'), { recursive: true })
    store = await a.restart()
    const stored = store.byDigest(two.digest)
    assert.equal(stored?.complete, true)
    assert.equal(stored?.table.known.count, 0)
    assert.ok(stored && (await store.cut(stored, { signal })).known.full)
  })

  it('is not complete when its final name cannot be given, and is once it can', async () => {
    await using a = await aStore()
    const blob = aBlob()
    const stored = await fill(a.store, blob)
    const blobs = join(a.directory, 'blobs')
    renameSync(blobs, `${blobs}.away`)
    await assert.rejects(stored.finish({ signal }))
    assert.equal(stored.complete, false)
    assert.deepEqual(
      [...a.store.tasks()].map((one) => one.state),
      ['partial'],
    )
    mkdirSync(blobs)
    renameSync(join(`${blobs}.away`, 'sha256'), join(blobs, 'sha256'))
    assert.equal(await stored.finish({ signal }), blob.digest)
  })

  it('reports a full disk, marks nothing that did not fit, and has the space back after discard', async function () {
    needs(this, { root: true, programs: ['unshare', 'mount'] })
    await using dir = await aDir()
    const mount = 'mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@"'
    const args = [
      '-m',
      '--propagation',
      'private',
      'sh',
      '-c',
      mount,
      dir.path,
      process.execPath,
      ...NODE_ARGS,
      'fill',
      dir.path,
    ]
    const { stdout } = await promisify(execFile)('unshare', args)
    const seen = JSON.parse(stdout)
    assert.equal(seen.code, 'DISK_FULL')
    assert.equal(seen.marked, false)
    assert.ok(seen.count > 10 && seen.count < 128, `${seen.count} pieces fitted`)
    assert.deepEqual(seen.announced, [[0, seen.count]])
    assert.equal(seen.left, 0)
    assert.equal(seen.after, true)
  })
})
