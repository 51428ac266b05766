import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { type StrayRecords, Strays } from '../../peer/origin-read-log.ts'
import { ManualClock } from '../../src/core/clock.ts'
import { silentLog } from '../../src/core/log.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { aBlob } from '../fixtures/store/a-store.ts'

const { task } = aBlob()

/** Records in memory, a clock that stands, and a supernode that is told when the test says so. */
function aBook() {
  const kept = new Map<string, unknown>()
  const records: StrayRecords = {
    put: async (key, value) => void kept.set(key, value),
    del: async (key) => void kept.delete(key),
    iterator: async function* () {
      yield* [...kept].sort(([one], [other]) => (one < other ? -1 : 1))
    },
  }
  const clock = new ManualClock(1_000_000)
  const heard: [task: TaskId, bytes: number, reason: string][] = []
  const waiting: (() => void)[] = []
  const open = () =>
    new Strays({
      records,
      clock,
      log: silentLog(),
      tell: (...[id, bytes, reason, told]) => {
        heard.push([id, bytes, reason])
        waiting.push(told)
      },
    })
  const told = () => {
    for (const one of waiting.splice(0)) one()
  }
  return { kept, clock, heard, told, open }
}

describe('reads at origins on one’s own', () => {
  it('are told when they are over, and on record until somebody heard', async () => {
    const book = aBook()
    await using strays = book.open()
    const stray = strays.begin(task.id, 'SUPERNODE_UNREACHABLE: none answers')
    stray.read(1000)
    stray.read(24)
    assert.deepEqual(book.heard, [])
    stray[Symbol.dispose]()
    assert.deepEqual(book.heard, [[task.id, 1024, 'SUPERNODE_UNREACHABLE: none answers']])
    await strays[Symbol.asyncDispose]()
    assert.deepEqual(
      [...book.kept.values()],
      [{ task: task.id, bytes: 1024, reason: 'SUPERNODE_UNREACHABLE: none answers' }],
    )
    book.told()
    await strays[Symbol.asyncDispose]()
    assert.equal(book.kept.size, 0)
  })

  it('leave no word when not a byte came', async () => {
    const book = aBook()
    await using strays = book.open()
    strays.begin(task.id, 'SUPERNODE_UNREACHABLE: none answers')[Symbol.dispose]()
    await strays[Symbol.asyncDispose]()
    assert.deepEqual([book.heard.length, book.kept.size], [0, 0])
  })

  it('are told by the next run when this one is killed, all but the last half second', async () => {
    const book = aBook()
    const strays = book.open()
    const stray = strays.begin(task.id, 'SUPERNODE_UNREACHABLE: none answers')
    stray.read(1000)
    book.clock.advance(499)
    stray.read(1000)
    book.clock.advance(1)
    stray.read(1000)
    stray.read(1000)
    await strays[Symbol.asyncDispose]()
    await using next = book.open()
    await next.resume()
    assert.deepEqual(book.heard, [[task.id, 3000, 'SUPERNODE_UNREACHABLE: none answers']])
    book.told()
    await next[Symbol.asyncDispose]()
    assert.equal(book.kept.size, 0)
  })

  it('lose what on record can’t be read, and the oldest of too many', async () => {
    const book = aBook()
    book.kept
      .set('0', 'nonsense')
      .set('1', { task: '../etc', bytes: 1, reason: '' })
      .set('2', { task: task.id, bytes: 0 })
    for (let at = 0; at < 1024; at++) book.kept.set(`3-${at}`, { task: task.id, bytes: 1 + at, reason: 'r' })
    await using strays = book.open()
    await strays.resume()
    assert.equal(book.heard.length, 1024)
    await strays[Symbol.asyncDispose]()
    assert.equal(book.kept.size, 1024)
  })
})
