import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { type Page, Tail } from '../../../peer/downloader/tail.ts'
import { PiecePool } from '../../../src/store/partial/piece-pool.ts'

const PAGE = 256 * 1024
const PACED = { pace: true, signal: new AbortController().signal }
const UNPACED = { ...PACED, pace: false }

function bytesOf(value: number, length = PAGE): Uint8Array {
  return new Uint8Array(length).fill(value)
}

/** Pushes a whole page. */
function page(tail: Tail, value: number): Page {
  const { taken, page: pushed, full } = tail.push(bytesOf(value), () => PAGE)
  assert.deepEqual([taken, full], [PAGE, true])
  return pushed
}

describe('Tail', () => {
  it('hands out what came, as far as it came, and is filled by copy', () => {
    const tail = new Tail(1000, new PiecePool())
    const chunk = bytesOf(7, 100)
    const { taken, full } = tail.push(chunk, () => PAGE)
    assert.deepEqual([taken, full], [100, false])
    chunk.fill(0)
    assert.equal(tail.end, 1100)
    assert.equal(tail.from(999), undefined)
    assert.equal(tail.from(1100), undefined)
    assert.deepEqual([...(tail.from(1090)?.bytes ?? [])], Array(10).fill(7))
  })

  it('takes no more than its page has room for', () => {
    const tail = new Tail(0, new PiecePool())
    assert.equal(tail.push(bytesOf(1, 70), () => 100).taken, 70)
    const { taken, page, full } = tail.push(bytesOf(2, 70), () => 100)
    assert.deepEqual([taken, full], [30, true])
    assert.deepEqual([...page.body], [...Array(70).fill(1), ...Array(30).fill(2)])
    assert.equal(tail.push(bytesOf(2, 40), () => 50).taken, 40)
    assert.equal(tail.from(0)?.bytes.byteLength, 100)
  })

  it('keeps a page until it is on the disk, however far behind', () => {
    const tail = new Tail(0, new PiecePool())
    const first = page(tail, 1)
    for (let more = 0; more < 20; more++) tail.written(page(tail, 2))
    assert.equal(tail.from(0)?.bytes[0], 1)
    tail.written(first)
    assert.equal(tail.from(0)?.bytes[0], undefined)
  })

  it('does not use the memory again that a reader has, and does afterwards', () => {
    const tail = new Tail(0, new PiecePool())
    const first = page(tail, 1)
    const lent = tail.from(0) ?? assert.fail('nothing there')
    tail.written(first)
    const bodies = new Set<Uint8Array>()
    const goOn = () => {
      for (let more = 0; more < 20; more++) {
        const next = page(tail, 2)
        bodies.add(next.body)
        tail.written(next)
      }
    }
    goOn()
    assert.ok(!bodies.has(first.body))
    assert.equal(lent.bytes[PAGE - 1], 1)
    lent[Symbol.dispose]()
    goOn()
    assert.ok(bodies.has(first.body))
  })

  it('never uses memory again that a reader keeps', () => {
    const tail = new Tail(0, new PiecePool())
    const first = page(tail, 1)
    const lent = tail.from(0) ?? assert.fail('nothing there')
    lent.keep()
    lent[Symbol.dispose]()
    tail.written(first)
    for (let more = 0; more < 30; more++) tail.written(page(tail, 2))
    assert.equal(lent.bytes[0], 1)
  })

  it('lends no more once slow readers hold much of what is past', () => {
    const tail = new Tail(0, new PiecePool())
    for (let more = 0; more < 80; more++) {
      const next = page(tail, 1)
      tail.from(next.at)
      tail.written(next)
    }
    assert.equal(tail.from(tail.end - 1), undefined)
  })

  it('wakes who waits for more, and who waits when no more comes', async () => {
    const tail = new Tail(0, new PiecePool())
    using reader = tail.follow(0, UNPACED)
    const more = reader.reached(tail.end + 1)
    page(tail, 1)
    await more
    const last = reader.reached(tail.end + 1)
    tail.close()
    await last
    assert.equal(tail.growing, false)
    await reader.reached(tail.end + 1)
  })

  it('wakes who waits for a place in it there, or at its end', async () => {
    const tail = new Tail(0, new PiecePool())
    const woken: string[] = []
    const near = tail
      .follow(0, UNPACED)
      .reached(2 * PAGE)
      .then(() => woken.push('near'))
    const far = tail
      .follow(0, UNPACED)
      .reached(9 * PAGE)
      .then(() => woken.push('far'))
    page(tail, 1)
    await new Promise(setImmediate)
    assert.deepEqual(woken, [])
    page(tail, 1)
    await near
    assert.deepEqual(woken, ['near'])
    tail.close()
    await far
  })

  it('wakes a reader whose signal aborts with its reason, and lets it wait no more', async () => {
    const tail = new Tail(0, new PiecePool())
    const leaving = new AbortController()
    using reader = tail.follow(0, { pace: false, signal: leaving.signal })
    const waiting = reader.reached(1)
    leaving.abort(new Error('it left'))
    await assert.rejects(waiting, /it left/)
    await assert.rejects(reader.reached(1), /it left/)
  })

  it('waits for no reader that does not ask for it', () => {
    const tail = new Tail(0, new PiecePool())
    for (let more = 0; more < 8; more++) page(tail, 1)
    using reader = tail.follow(0, UNPACED)
    reader.moved(PAGE)
    assert.equal(tail.ahead, false)
  })

  it('gives its memory to the next once it is closed', () => {
    const memory = new PiecePool()
    const tail = new Tail(0, memory)
    const only = page(tail, 1)
    tail.written(only)
    tail.close()
    assert.equal(page(new Tail(0, memory), 2).body, only.body)
  })

  it('waits for the foremost of its readers, as far behind as that is, and for none that is gone', async () => {
    const tail = new Tail(0, new PiecePool())
    for (let more = 0; more < 8; more++) page(tail, 1)
    assert.equal(tail.ahead, false)
    const slow = tail.follow(0, PACED)
    assert.equal(tail.ahead, true)
    const fast = tail.follow(0, PACED)
    const paced = tail.paced()
    fast.moved(5 * PAGE)
    assert.equal(tail.ahead, true)
    fast.moved(6 * PAGE)
    assert.equal(tail.ahead, false)
    await paced
    fast[Symbol.dispose]()
    assert.equal(tail.ahead, true)
    const again = tail.paced()
    slow[Symbol.dispose]()
    await again
    assert.equal(tail.ahead, false)
  })

  it('keeps in memory what a reader that it waits for needs next', () => {
    const tail = new Tail(0, new PiecePool())
    const reader = tail.follow(0, PACED)
    for (let at = 0; at < 40 * PAGE; at += PAGE) {
      while (!tail.ahead) tail.written(page(tail, 1))
      const lent = tail.from(at) ?? assert.fail(`byte ${at} is on the disk only`)
      lent[Symbol.dispose]()
      reader.moved(at + PAGE)
    }
  })

  it('has little patience with readers that take nothing, and less each time', async () => {
    const tail = new Tail(0, new PiecePool(), { patienceMs: 1 })
    const reader = tail.follow(0, PACED)
    for (let more = 0; more < 80; more++) page(tail, 1)
    let waits = 0
    for (; tail.ahead; waits++) {
      await tail.paced()
      assert.equal(tail.ahead, false)
      reader.moved(waits * PAGE)
    }
    assert.equal(waits, 4)
  })
})
