import assert from 'node:assert/strict'
import { ManualClock, seededRandom } from '../../../../src/core/clock.ts'
import { DarnerError } from '../../../../src/core/errors.ts'
import { Bitmap } from '../../../../src/core/task/bitmap.ts'
import { Giving } from '../../../../src/exchange/handout/giving.ts'
import { HANDOUT_DEFAULTS } from '../../../../src/exchange/handout/handout.ts'

const signal = new AbortController().signal

function aGiving(
  pieces: number,
  slots = 1,
  have: Bitmap = Bitmap.full(pieces),
): { giving: Giving; clock: ManualClock } {
  const clock = new ManualClock()
  return {
    giving: new Giving(pieces, have, {
      clock,
      random: seededRandom(1),
      handout: { ...HANDOUT_DEFAULTS, slots, mostSlots: slots },
    }),
    clock,
  }
}

describe('Giving', () => {
  it('gives children different pieces, one at a time, until each has all', async () => {
    const { giving } = aGiving(2)
    const a = giving.open(new Bitmap(2))
    const b = giving.open(new Bitmap(2))
    const first = await a.choose({ signal })
    const later = b.choose({ signal })
    assert.ok(first !== undefined)
    a.sent(first)
    a.told(first, 1)
    const second = await later
    assert.notEqual(second, first)
    a.told(0, 2)
    assert.equal(await a.choose({ signal }), undefined)
  })

  it('lets a child wait until something it lacks is here', async () => {
    const { giving } = aGiving(3, 1, new Bitmap(3))
    const child = giving.open(new Bitmap(3))
    const waiting = child.choose({ signal })
    child.coming(0)
    giving.known(0, 1)
    giving.known(2, 1)
    assert.equal(await waiting, 2)
  })

  it('wakes a child that takes what is still coming, and no other', async () => {
    const { giving } = aGiving(3, 2, new Bitmap(3))
    const other = giving.open(new Bitmap(3)).choose({ signal, sure: true })
    const early = giving.open(new Bitmap(3)).choose({ signal, sure: true, early: true })
    giving.arriving(1, true)
    assert.equal(await early, 1)
    giving.known(2, 1)
    assert.equal(await other, 2)
  })

  it('chooses when the uplink is free, so that it knows what came meanwhile', async () => {
    const { giving } = aGiving(2)
    const a = giving.open(new Bitmap(2))
    const b = giving.open(new Bitmap(2))
    const first = await a.choose({ signal })
    const later = b.choose({ signal })
    assert.ok(first !== undefined)
    b.coming(1 - first)
    a.sent(first)
    assert.equal(await later, first)
  })

  it('frees what a child was given that left, gave up waiting, or never confirmed', async () => {
    const { giving, clock } = aGiving(1)
    const a = giving.open(new Bitmap(1))
    assert.equal(await a.choose({ signal }), 0)
    const b = giving.open(new Bitmap(1))
    const stop = new AbortController()
    const given = b.choose({ signal: stop.signal })
    stop.abort(new Error('enough'))
    await assert.rejects(given, /enough/)
    const again = b.choose({ signal })
    a[Symbol.dispose]()
    assert.equal(await again, 0)
    const c = giving.open(new Bitmap(1))
    const last = c.choose({ signal })
    clock.advance(60_000)
    giving.tick()
    assert.equal(await last, 0)
    assert.equal(giving.children, 2)
  })

  it('gives what a child told isn’t coming after all', async () => {
    const { giving } = aGiving(1)
    const child = giving.open(new Bitmap(1))
    child.coming(0)
    const waiting = child.choose({ signal })
    child.lost(0)
    assert.equal(await waiting, 0)
  })

  it('gives a child that takes whatever comes the lowest piece, and lets it wait for nobody', async () => {
    const { giving } = aGiving(40)
    const a = giving.open(new Bitmap(40))
    const b = giving.open(new Bitmap(40))
    const first = await a.choose({ signal })
    assert.ok(first !== undefined)
    assert.equal(await b.choose({ signal, sure: true }), 0)
    const second = b.choose({ signal, sure: true })
    b.sent(0)
    assert.equal(await second, 1)
    b.sent(1)
    const waits = b.choose({ signal })
    b.coming(2)
    a.sent(first)
    assert.ok(Number(await waits) > 2, 'asked like others it waits for the uplink, and hears of what it lacks')
  })

  it('chooses again what a child that takes whatever comes wasn’t sent', async () => {
    const { giving } = aGiving(2)
    const child = giving.open(new Bitmap(2))
    for (const _ of [0, 1]) {
      assert.equal(await child.choose({ signal, sure: true }), 0)
      child.unsent(0)
    }
  })

  it('gives nothing while a named piece has the uplink', async () => {
    const { giving } = aGiving(2)
    const a = giving.open(new Bitmap(2))
    const b = giving.open(new Bitmap(2))
    a.named(1)
    const waiting = b.choose({ signal })
    b.coming(0)
    a.sent(1)
    assert.equal(await waiting, 1)
  })

  it('tells those who wait why nothing more will come', async () => {
    const { giving } = aGiving(1, 1, new Bitmap(1))
    const waiting = giving.open(new Bitmap(1)).choose({ signal })
    giving.fail(new DarnerError('ORIGIN_FAILED', 'the origin is gone'))
    await assert.rejects(waiting, /the origin is gone/)
  })

  it('ends the waiting of a child that closed the task, and of all when it ends', async () => {
    const { giving } = aGiving(1, 1, new Bitmap(1))
    const a = giving.open(new Bitmap(1))
    const b = giving.open(new Bitmap(1))
    const waiting = [a.choose({ signal }), b.choose({ signal })]
    a[Symbol.dispose]()
    giving[Symbol.dispose]()
    assert.deepEqual(await Promise.all(waiting), [undefined, undefined])
  })
})
