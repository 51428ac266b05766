import assert from 'node:assert/strict'
import { randomBelow, seededRandom } from '../../../../src/core/clock.ts'
import { Bitmap } from '../../../../src/core/task/bitmap.ts'
import { Handout, type Seat } from '../../../../src/exchange/handout/handout.ts'

const OPTIONS = { slots: 2, mostSlots: 2, confirmMs: 1000, incoming: 2 }

function aHandout(pieces: number, known = pieces, options: Partial<typeof OPTIONS> = {}): Handout<string> {
  const handout = new Handout<string>(pieces, { ...OPTIONS, mostSlots: options.slots ?? 2, ...options })
  handout.known(0, known)
  return handout
}

/** Gives one piece to a child, which then counts as sent. */
function given(handout: Handout<string>, seat: Seat<string>, nowMs = 0): number {
  const one = handout.give([seat], nowMs)
  assert.ok(one, `expected a piece for ${seat.child}`)
  handout.sent(seat, one.piece, nowMs)
  return one.piece
}

function told(handout: Handout<string>, seat: Seat<string>, ...pieces: number[]): void {
  for (const piece of pieces) handout.holds(seat, piece)
}

describe('Handout', () => {
  it('gives each piece once before any twice', () => {
    const handout = aHandout(6)
    const seats = ['a', 'b', 'c'].map((child) => handout.join(child, new Bitmap(6)))
    assert.deepEqual(
      [...seats, ...seats].map((seat) => given(handout, seat)),
      [0, 1, 2, 3, 4, 5],
    )
  })

  it('does not wait for the words of a child that takes whatever it is given, unlike those of others', () => {
    for (const [sure, expected] of [
      [true, [0, 1, 2, 3, 4, 5]],
      [false, [0, 1]],
    ] as const) {
      const handout = aHandout(6)
      const seat = handout.join('a', new Bitmap(6))
      handout.asks(seat, { sure, early: false })
      const pieces: number[] = []
      for (let one = handout.give([seat], 0); one; one = handout.give([seat], 0)) {
        pieces.push(one.piece)
        handout.sent(seat, one.piece, 0)
      }
      assert.deepEqual(pieces, expected, sure ? 'sure' : 'offered')
    }
  })

  it('gives what is still coming, in order, to a child that takes such, until it isn’t coming any more', () => {
    const handout = aHandout(6, 1)
    const [early, other] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(6)))
    assert.ok(early && other)
    handout.asks(early, { sure: true, early: true })
    handout.asks(other, { sure: true, early: false })
    for (const seat of [early, other]) assert.equal(given(handout, seat), 0)
    handout.arriving(1, true)
    handout.arriving(2, true)
    assert.equal(handout.give([other], 0), undefined)
    assert.equal(handout.give([other, early], 0)?.piece, 1)
    handout.arriving(2, false)
    assert.equal(handout.give([early], 0), undefined)
    handout.failed(early, 1)
    assert.equal(handout.give([early], 0)?.piece, 1, 'one that failed is given again while it comes')
    handout.known(1, 1)
    handout.arriving(1, false)
    assert.equal(given(handout, other), 1)
  })

  it('then gives the piece with the fewest known holders', () => {
    const handout = aHandout(3)
    const [a, b] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(3)))
    assert.ok(a && b)
    for (let piece = 0; piece < 3; piece++) told(handout, a, given(handout, a))
    handout.release(handout.join('c', Bitmap.full(3)))
    told(handout, handout.join('d', new Bitmap(3)), 0, 1)
    assert.equal(given(handout, b), 2)
  })

  it('gives nothing while nothing that the child lacks is known, and goes on when more is', () => {
    const handout = aHandout(2, 1)
    const a = handout.join('a', new Bitmap(2))
    told(handout, a, given(handout, a))
    assert.equal(handout.give([a], 0), undefined)
    handout.known(1, 1)
    told(handout, a, given(handout, a))
    assert.equal(handout.held(a), 2)
    assert.equal(handout.give([a], 0), undefined)
  })

  it('never gives more than its slots at once', () => {
    const handout = aHandout(9)
    const [a, b, c] = ['a', 'b', 'c'].map((child) => handout.join(child, new Bitmap(9)))
    assert.ok(a && b && c)
    assert.equal(handout.give([a], 0)?.piece, 0)
    assert.equal(handout.give([b], 0)?.piece, 1)
    assert.equal(handout.give([c], 0), undefined)
    handout.sent(a, 0, 1)
    assert.equal(handout.give([c], 0)?.piece, 2)
    assert.equal(handout.busy, 2)
  })

  it('has more under way where children answer late, and never more than the most', () => {
    const handout = aHandout(99, 99, { mostSlots: 6, incoming: 99 })
    const a = handout.join('a', new Bitmap(99))
    let nowMs = 0
    /** Pieces that take 10 ms each, whose child answers after `answerMs`. */
    const slotsAfter = (answerMs: number) => {
      for (let n = 0; n < 80; n++) {
        const one = handout.give([a], nowMs)
        assert.ok(one)
        nowMs += answerMs
        handout.taken(a, one.piece, nowMs)
        nowMs += 10
        handout.sent(a, one.piece, nowMs)
        handout.lost(a, one.piece)
      }
      return handout.slots
    }
    assert.equal(slotsAfter(1), 2)
    assert.equal(slotsAfter(25), 4)
    assert.equal(slotsAfter(900), 6)
  })

  it('lets others have the uplink of a piece that waits for its child', () => {
    const handout = aHandout(2, 2, { slots: 1 })
    const [a, b] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(2)))
    assert.ok(a && b)
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.yields(a, 0)
    assert.equal(handout.give([b], 0)?.piece, 1)
  })

  it('gives nothing while the uplink is busy with what children asked for by name', () => {
    const handout = aHandout(9, 9, { slots: 1 })
    const a = handout.join('a', new Bitmap(9))
    handout.named(a, 4, 0)
    assert.equal(handout.give([a], 0), undefined)
    handout.failed(a, 4)
    assert.equal(handout.busy, 0)
    assert.equal(given(handout, a), 0, 'the child told, or will tell, whether it gets 4 from elsewhere')
  })

  it('gives again what a dead child did not confirm', () => {
    const handout = aHandout(3)
    const [a, b] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(3)))
    assert.ok(a && b)
    assert.equal(given(handout, a), 0)
    handout.release(a)
    handout.release(a)
    assert.equal(given(handout, b), 0)
    assert.equal(handout.children, 1)
  })

  it('gives again what a child said nothing of in time, or what failed', () => {
    const handout = aHandout(3)
    const [a, b] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(3)))
    assert.ok(a && b)
    assert.equal(handout.give([a], 0)?.piece, 0)
    assert.equal(handout.expire(999), false)
    assert.equal(handout.expire(1000), true)
    assert.equal(handout.busy, 0)
    assert.equal(handout.give([b], 1000)?.piece, 0)
    handout.failed(b, 0)
    assert.equal(handout.give([a], 1000)?.piece, 0)
  })

  it('takes the slot, and not the piece, from a child that gets it slowly', () => {
    const handout = aHandout(2, 2, { slots: 1 })
    const [a, b] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(2)))
    assert.ok(a && b)
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.coming(a, 0)
    assert.equal(handout.give([b], 0), undefined)
    assert.equal(handout.expire(1000), true)
    assert.equal(given(handout, b), 1)
    assert.equal(given(handout, a), 1, 'it still gets 0')
  })

  it('gives none of what a child is getting from elsewhere, even when its own copy was cancelled', () => {
    const handout = aHandout(2)
    const a = handout.join('a', new Bitmap(2))
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.coming(a, 0)
    handout.failed(a, 0)
    assert.equal(handout.busy, 0)
    assert.equal(given(handout, a), 1)
    assert.equal(handout.give([a], 0), undefined)
  })

  it('gives what a child told isn’t coming after all, and nothing twice for it', () => {
    const handout = aHandout(2)
    const a = handout.join('a', new Bitmap(2))
    handout.coming(a, 0)
    handout.coming(a, 1)
    assert.equal(handout.give([a], 0), undefined)
    handout.lost(a, 1)
    handout.lost(a, 1)
    assert.equal(given(handout, a), 1)
    told(handout, a, 1)
    handout.lost(a, 1)
    assert.equal(handout.give([a], 0), undefined)
    assert.equal(handout.held(a), 1)
  })

  it('gives again what came to nothing before the child heard of it', () => {
    const handout = aHandout(1)
    const a = handout.join('a', new Bitmap(1))
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.failed(a, 0)
    assert.equal(handout.give([a], 0)?.piece, 0)
  })

  it('serves the waiting child that has the fewest pieces on their way, who asked first among equals', () => {
    const handout = aHandout(8, 8, { slots: 8 })
    const [a, b, c] = ['a', 'b', 'c'].map((child) => handout.join(child, new Bitmap(8)))
    assert.ok(a && b && c)
    handout.coming(a, 7)
    assert.deepEqual(handout.give([a, b, c], 0), { at: 1, piece: 0 })
    assert.deepEqual(handout.give([a, c], 0), { at: 1, piece: 1 })
    assert.equal(handout.give([a], 0)?.at, 0)
    assert.equal(handout.give([a], 0), undefined, 'two pieces are on their way to it')
    handout.holds(a, 7)
    assert.equal(handout.give([a], 0)?.at, 0)
  })

  it('gives a child that takes whatever comes the lowest first, though others hold them and it has chance', () => {
    const handout = new Handout<string>(40, { ...OPTIONS, incoming: 40, random: seededRandom(3) })
    handout.known(2, 38)
    told(handout, handout.join('b', new Bitmap(40)), 2, 3, 4)
    const a = handout.join('a', new Bitmap(40))
    handout.asks(a, { sure: true, early: false })
    handout.coming(a, 3)
    assert.deepEqual([given(handout, a), given(handout, a)], [2, 4])
    handout.known(0, 2)
    assert.deepEqual([given(handout, a), given(handout, a), given(handout, a)], [0, 1, 5])
  })

  it('has room for a child that takes whatever comes though others take long, and no more than for one', () => {
    const handout = aHandout(9, 9, { incoming: 9 })
    const [a, b, c] = ['a', 'b', 'c'].map((child) => handout.join(child, new Bitmap(9)))
    assert.ok(a && b && c)
    for (const _ of [0, 1]) handout.give([a], 0)
    handout.asks(b, { sure: true, early: false })
    assert.equal(handout.give([a, c], 0), undefined)
    assert.deepEqual(handout.give([a, c, b], 0), { at: 2, piece: 0 })
    assert.deepEqual(handout.give([a, c, b], 0), { at: 2, piece: 1 })
    assert.equal(handout.give([a, c, b], 0), undefined)
    assert.equal(handout.busy, 4)
    handout.sent(b, 0, 1)
    assert.deepEqual(handout.give([a, c, b], 1), { at: 2, piece: 2 })
    assert.equal(handout.give([a, c], 1), undefined, 'their slots are taken')
    handout.asks(b, { sure: false, early: false })
    handout.sent(b, 1, 2)
    assert.equal(handout.give([b], 2), undefined)
  })

  it('knows before it looks at children that none can be given anything', () => {
    const handout = aHandout(4, 3, { slots: 1, incoming: 9 })
    assert.equal(handout.gives, false, 'there are none')
    const [a, b] = ['a', 'b'].map((child) => handout.join(child, new Bitmap(4)))
    assert.ok(a && b)
    const gave: boolean[] = []
    const say = () => gave.push(handout.gives)
    for (const seat of [a, b]) for (const piece of [0, 1, 2]) handout.coming(seat, piece)
    say()
    handout.lost(a, 1)
    say()
    assert.equal(handout.give([a], 0)?.piece, 1)
    handout.known(3, 1)
    say()
    handout.sent(a, 1, 1)
    say()
    handout.coming(a, 3)
    handout.release(b)
    handout.coming(b, 3)
    say()
    handout.lost(a, 0)
    say()
    handout.coming(a, 0)
    handout.asks(a, { sure: true, early: false })
    say()
    handout.release(a)
    say()
    assert.deepEqual(gave, [false, true, false, true, false, true, true, false])
  })

  it('gives nothing twice to a child that takes whatever comes and says nothing of it, however long that takes', () => {
    const handout = aHandout(3, 3, { incoming: 3 })
    const a = handout.join('a', new Bitmap(3))
    handout.asks(a, { sure: true, early: false })
    assert.equal(handout.give([a], 0)?.piece, 0)
    assert.equal(given(handout, a), 1)
    assert.equal(handout.expire(1000), true)
    assert.deepEqual([handout.busy, given(handout, a, 1000)], [0, 2])
    assert.equal(handout.give([a], 1000), undefined)
    handout.sent(a, 0, 1001)
    told(handout, a, 0, 1, 2)
    assert.deepEqual([handout.held(a), a.granted, handout.busy], [3, 0, 0])
  })

  it('gives a child that takes whatever comes again what it couldn’t be sent, or lost', () => {
    const handout = aHandout(3)
    const a = handout.join('a', new Bitmap(3))
    handout.asks(a, { sure: true, early: false })
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.failed(a, 0)
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.lost(a, 0)
    assert.equal(handout.give([a], 0)?.piece, 1, 'it is still being sent')
    handout.failed(a, 0)
    handout.coming(a, 1)
    handout.failed(a, 1)
    assert.equal(handout.give([a], 0)?.piece, 0)
    assert.equal(handout.give([a], 0)?.piece, 2, 'it told that 1 comes from elsewhere')
  })

  it('counts once that a child is gone, though what it was sent fails after that', () => {
    const handout = aHandout(2, 1)
    told(handout, handout.join('b', new Bitmap(2)), 0)
    const a = handout.join('a', new Bitmap(2))
    assert.equal(handout.give([a], 0)?.piece, 0)
    handout.release(a)
    handout.failed(a, 0)
    handout.known(1, 1)
    assert.equal(given(handout, handout.join('c', new Bitmap(2))), 1)
    assert.equal(handout.busy, 0)
  })

  it('breaks ties by chance where it is given chance', () => {
    const firsts = new Set<unknown>()
    for (let seed = 1; seed <= 20; seed++) {
      const handout = new Handout<string>(64, { ...OPTIONS, random: seededRandom(seed) })
      handout.known(0, 64)
      firsts.add(handout.give([handout.join('a', new Bitmap(64))], 0)?.piece)
    }
    assert.ok(firsts.size > 5, `${firsts.size} different of 20`)
  })

  it('keeps its slots and finishes every child, whatever happens in between', () => {
    for (let seed = 1; seed <= 60; seed++) playOut(seed)
  })
})

/** Plays children that come, leave, fail and say too much. */
function playOut(seed: number): void {
  const random = seededRandom(seed)
  const pieces = 1 + randomBelow(random, 40)
  const handout = new Handout<number>(pieces, OPTIONS)
  const seats = new Map<number, { seat: Seat<number>; have: Bitmap }>()
  const sending: { seat: Seat<number>; piece: number }[] = []
  let known = 0
  for (let step = 0; step < 4000; step++) {
    const child = randomBelow(random, 4)
    const place = seats.get(child)
    if (random() < 0.3 && known < pieces) handout.known(known++, 1)
    if (!place) {
      seats.set(child, { seat: handout.join(child, new Bitmap(pieces)), have: new Bitmap(pieces) })
    } else if (random() < 0.01 && step < 2000) {
      seats.delete(child)
      handout.release(place.seat)
      for (let at = sending.length - 1; at >= 0; at--) if (sending[at]?.seat === place.seat) sending.splice(at, 1)
    } else {
      const one = handout.give([place.seat], step)
      if (one) {
        assert.ok(!place.have.has(one.piece), `seed ${seed}: piece ${one.piece} given to one that has it`)
        if (random() < 0.5) handout.coming(place.seat, one.piece)
        sending.push({ seat: place.seat, piece: one.piece })
      }
    }
    const done = random() < 0.6 ? sending.shift() : undefined
    if (done && random() < 0.2) {
      handout.lost(done.seat, done.piece)
      handout.failed(done.seat, done.piece)
    } else if (done) {
      handout.sent(done.seat, done.piece, step)
      seats.get(done.seat.child)?.have.add(done.piece)
      handout.holds(done.seat, done.piece)
    }
    assert.equal(handout.busy, sending.length, `seed ${seed}: slots`)
    assert.ok(handout.busy <= OPTIONS.slots)
  }
  for (const { have } of seats.values()) assert.ok(have.full, `seed ${seed}: a child lacks pieces`)
}
