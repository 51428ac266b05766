import assert from 'node:assert/strict'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import type { KeyValue } from '../../supernode/seed/access-book.ts'
import { WhyBook } from '../../supernode/why.ts'

const MIB = 1024 * 1024
const TASK = 'sha256:a' as TaskId
const SELF = 'self' as PeerId

/** Records that hold each write until it is let go. */
class SlowRecords implements KeyValue {
  readonly kept = new Map<string, unknown>()
  readonly #writes: (() => void)[] = []
  #asked = Promise.withResolvers<void>()

  async get(key: string): Promise<unknown> {
    return structuredClone(this.kept.get(key))
  }

  async put(key: string, value: unknown): Promise<void> {
    const written = Promise.withResolvers<void>()
    this.#writes.push(written.resolve)
    this.#asked.resolve()
    await written.promise
    this.kept.set(key, structuredClone(value))
  }

  async del(key: string): Promise<void> {
    this.kept.delete(key)
  }

  /** Waits for the next write, and lets it go. */
  async write(): Promise<void> {
    while (this.#writes.length === 0) {
      this.#asked = Promise.withResolvers()
      await this.#asked.promise
    }
    this.#writes.shift()?.()
  }
}

describe('WhyBook', () => {
  it('writes by itself once a kill would lose more than a MiB', async () => {
    const records = new SlowRecords()
    const book = new WhyBook(records)
    for (let n = 0; n < 7; n++) book.add(TASK, SELF, MIB / 8, 'first read', n)
    assert.equal(records.kept.size, 0)
    book.add(TASK, SELF, MIB / 8, 'first read', 8)
    await records.write()
    await book.save()
    assert.deepEqual(records.kept.get(TASK), [{ peer: SELF, reason: 'first read', bytes: MIB, atMs: 8 }])
  })

  it('loses nothing of what is counted while it writes', async () => {
    const records = new SlowRecords()
    const book = new WhyBook(records)
    book.add(TASK, SELF, 1, 'first read', 1)
    const first = book.save()
    book.add(TASK, SELF, 2, 'first read', 2)
    const second = book.save()
    await records.write()
    await first
    book.add(TASK, SELF, 4, 'retry', 3)
    const third = book.save()
    await records.write()
    await Promise.all([second, third])
    assert.deepEqual(
      (await book.of(TASK)).map(({ reason, bytes }) => [reason, bytes]),
      [
        ['first read', 3],
        ['retry', 4],
      ],
    )
  })

  it('has a few rows of one host, however many reasons it gives, and loses no byte of them (row 16)', async () => {
    const book = new WhyBook(new SlowRecords())
    book.add(TASK, SELF, 1, 'first read', 1)
    for (let n = 0; n < 1000; n++) book.add(TASK, 'loud' as PeerId, 1, `reason ${n}`, n)
    book.add(TASK, 'late' as PeerId, 1, 'first to ask, for all', 2)
    const rows = await book.of(TASK)
    const loud = rows.filter(({ peer }) => peer === 'loud')
    assert.equal(loud.length, 17)
    assert.equal(
      loud.reduce((sum, { bytes }) => sum + bytes, 0),
      1000,
    )
    assert.deepEqual(
      rows.filter(({ peer }) => peer !== 'loud').map(({ peer }) => peer),
      [SELF, 'late'],
    )
  })

  it('forgets a blob, what it is just writing of it included (row 16)', async () => {
    const records = new SlowRecords()
    const book = new WhyBook(records)
    book.add(TASK, SELF, 1, 'first read', 1)
    const saving = book.save()
    await new Promise((resolve) => setImmediate(resolve)) // it writes now
    book.add(TASK, SELF, 2, 'retry', 2)
    const forgotten = book.forget(TASK)
    await records.write()
    await Promise.all([saving, forgotten])
    await book.save()
    assert.deepEqual(await book.of(TASK), [])
    assert.equal(records.kept.size, 0)
  })
})
