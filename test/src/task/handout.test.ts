import assert from 'node:assert/strict'
import { randomBelow, seededRandom } from '../../../src/base/clock.ts'
import { Bitmap } from '../../../src/task/bitmap.ts'
import { Handout } from '../../../src/task/handout.ts'

const OPTIONS = { slots: 2, confirmMs: 1000, incoming: 2 }

function aHandout(pieces: number, children: string[], known = pieces): Handout<string> {
  const handout = new Handout<string>(pieces, OPTIONS)
  handout.known(0, known)
  for (const child of children) handout.join(child, new Bitmap(pieces))
  return handout
}

/** Gives one piece to a child and takes it as sent. */
function give(handout: Handout<string>, child: string, nowMs = 0): number {
  const piece = handout.next(child, nowMs)
  assert.ok(typeof piece === 'number', `expected a piece for ${child}, got ${piece}`)
  handout.sent(child, piece)
  return piece
}

describe('Handout', () => {
  it('gives each piece once before any twice', () => {
    const handout = aHandout(6, ['a', 'b', 'c'])
    const given = ['a', 'b', 'c', 'a', 'b', 'c'].map((child) => give(handout, child))
    assert.deepEqual(given, [0, 1, 2, 3, 4, 5])
  })

  it('then gives the piece with the fewest known holders', () => {
    const handout = aHandout(3, ['a', 'b'])
    for (const child of ['a', 'a', 'a']) handout.confirmed(child, give(handout, child), 1)
    handout.join('c', Bitmap.full(3))
    handout.release('c')
    handout.join('d', new Bitmap(3))
    handout.confirmed('d', 0, 2)
    assert.equal(give(handout, 'b'), 2)
  })

  it('makes children wait while nothing unread is known, and goes on when more is', () => {
    const handout = aHandout(2, ['a'], 1)
    handout.confirmed('a', give(handout, 'a'), 1)
    assert.equal(handout.next('a', 0), 'wait')
    handout.known(1, 1)
    handout.confirmed('a', give(handout, 'a'), 1)
    assert.equal(handout.next('a', 0), 'none')
  })

  it('never sends more than its slots at once', () => {
    const handout = aHandout(9, ['a', 'b', 'c'])
    assert.equal(handout.next('a', 0), 0)
    assert.equal(handout.next('b', 0), 1)
    assert.equal(handout.next('c', 0), 'wait')
    handout.sent('a', 0)
    assert.equal(handout.next('c', 0), 2)
    assert.equal(handout.busy, 2)
  })

  it('gives again what a dead child did not confirm', () => {
    const handout = aHandout(3, ['a', 'b'])
    assert.equal(give(handout, 'a'), 0)
    handout.release('a')
    assert.equal(give(handout, 'b'), 0)
  })

  it('gives again what was not confirmed in time, or failed', () => {
    const handout = aHandout(3, ['a', 'b'])
    assert.equal(handout.next('a', 0), 0)
    assert.deepEqual(handout.expire(999), [])
    assert.deepEqual(handout.expire(1000), [{ child: 'a', piece: 0 }])
    assert.equal(handout.busy, 0)
    assert.equal(handout.next('b', 1000), 0)
    handout.failed('b', 0)
    assert.equal(handout.next('a', 1000), 0)
  })

  it('gives none of what a child is getting from elsewhere, even when its own copy was cancelled', () => {
    const handout = aHandout(2, ['a'])
    assert.equal(handout.next('a', 0), 0)
    handout.coming('a', 0)
    handout.failed('a', 0)
    assert.equal(handout.busy, 0)
    assert.equal(give(handout, 'a'), 1)
    assert.equal(handout.next('a', 0), 'wait')
    handout.confirmed('a', 0, 2)
    assert.equal(handout.next('a', 0), 'none')
  })

  it('gives again what came to nothing before the child heard of it', () => {
    const handout = aHandout(1, ['a'])
    assert.equal(handout.next('a', 0), 0)
    handout.failed('a', 0)
    assert.equal(handout.next('a', 0), 0)
  })

  it('serves the waiting child that has the fewest pieces on their way, who asked first among equals', () => {
    const handout = new Handout<string>(8, { ...OPTIONS, slots: 8 })
    handout.known(0, 8)
    const [a, b, c] = ['a', 'b', 'c'].map((child) => handout.join(child, new Bitmap(8)))
    assert.ok(a && b && c)
    handout.comingTo(a, 7)
    assert.deepEqual(handout.give([a, b, c], 0), { at: 1, piece: 0 })
    assert.deepEqual(handout.give([a, c], 0), { at: 1, piece: 1 })
    assert.equal(handout.give([a], 0)?.at, 0)
    assert.equal(handout.give([a], 0), undefined, 'two pieces are on their way to it')
    handout.heldBy(a, 7)
    assert.equal(handout.give([a], 0)?.at, 0)
  })

  it('breaks ties by chance where it is given chance', () => {
    const firsts = new Set<unknown>()
    for (let seed = 1; seed <= 20; seed++) {
      const handout = new Handout<string>(64, { ...OPTIONS, random: seededRandom(seed) })
      handout.known(0, 64)
      handout.join('a', new Bitmap(64))
      firsts.add(handout.next('a', 0))
    }
    assert.ok(firsts.size > 5, `${firsts.size} different of 20`)
  })

  it('keeps its slots and finishes every child, whatever happens in between', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = seededRandom(seed)
      const pieces = 1 + randomBelow(random, 40)
      const handout = new Handout<number>(pieces, OPTIONS)
      const haves = new Map<number, Bitmap>()
      const sending: { child: number; piece: number }[] = []
      let known = 0
      for (let step = 0; step < 4000; step++) {
        const child = randomBelow(random, 4)
        const have = haves.get(child)
        if (random() < 0.3 && known < pieces) handout.known(known++, 1)
        if (!have) {
          haves.set(child, new Bitmap(pieces))
          handout.join(child, new Bitmap(pieces))
        } else if (random() < 0.01 && step < 2000) {
          haves.delete(child)
          handout.release(child)
          for (let at = sending.length - 1; at >= 0; at--) if (sending[at]?.child === child) sending.splice(at, 1)
        } else {
          const piece = handout.next(child, step)
          if (typeof piece === 'number') {
            assert.ok(!have.has(piece), `seed ${seed}: piece ${piece} given to one that has it`)
            sending.push({ child, piece })
          }
        }
        const done = random() < 0.6 ? sending.shift() : undefined
        if (done) {
          handout.sent(done.child, done.piece)
          haves.get(done.child)?.add(done.piece)
          handout.confirmed(done.child, done.piece, 1)
        }
        assert.equal(handout.busy, sending.length, `seed ${seed}: slots`)
        assert.ok(handout.busy <= OPTIONS.slots)
      }
      for (const have of haves.values()) assert.ok(have.full, `seed ${seed}: a child lacks pieces`)
    }
  })
})
