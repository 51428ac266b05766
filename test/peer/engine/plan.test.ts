import assert from 'node:assert/strict'
import { type Action, PLAN_DEFAULTS, Plan, type PlanOptions } from '../../../peer/engine/plan.ts'
import { randomBelow, seededRandom } from '../../../src/base/clock.ts'
import { Bitmap } from '../../../src/task/bitmap.ts'

function aPlan(pieces: number, options: Partial<PlanOptions> = {}, seed = 1): Plan<string> {
  const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces, pieceBytes: 65536, ...options }, seededRandom(seed))
  plan.pieceKnown(0, pieces)
  return plan
}

function holding(pieces: number, ...held: number[]): Bitmap {
  const map = new Bitmap(pieces)
  for (const piece of held) map.add(piece)
  return map
}

function asks(actions: Action<string>[]): [parent: string, piece: number][] {
  return actions.flatMap((action) => (action.kind === 'ask' ? [[action.parent, action.piece] as [string, number]] : []))
}

describe('Plan', () => {
  it('asks for the piece that fewest parents have', () => {
    const plan = aPlan(4, { depth: 1, minInFlight: 1 })
    plan.parentJoined('a', false, holding(4, 0, 1, 2))
    plan.parentJoined('b', false, holding(4, 0, 1))
    plan.parentHaves('a', 3, 0, 0)
    const [first] = asks(plan.decide(0))
    if (first?.[0] === 'a') assert.equal(first[1], 2)
    else assert.ok(first && first[1] < 2)
  })

  it('asks normal parents only for pieces whose digest is known', () => {
    const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces: 4, pieceBytes: 1 }, seededRandom(1))
    plan.parentJoined('a', false, Bitmap.full(4))
    assert.deepEqual(plan.decide(0), [])
    plan.pieceKnown(2, 1)
    assert.deepEqual(asks(plan.decide(0)), [['a', 2]])
  })

  it('asks a seed among other parents for any piece, no more than keeps it busy, and not after it has none left', () => {
    const plan = aPlan(10, { perSeed: 2 })
    plan.parentJoined('s', true, undefined)
    plan.parentJoined('a', false, new Bitmap(10))
    assert.deepEqual(plan.decide(0), [
      { kind: 'askAny', parent: 's' },
      { kind: 'askAny', parent: 's' },
    ])
    plan.pieceArrived('s', 7, true, 5)
    assert.equal(plan.decide(5).length, 1)
    plan.seedDrained('s')
    assert.deepEqual(plan.decide(6), [])
  })

  it('keeps one question at each of many parents that choose, and more where there are few', () => {
    const plan = aPlan(100)
    plan.parentJoined('a', true, undefined)
    assert.equal(plan.decide(0).length, 4)
    const many = aPlan(100)
    for (let n = 0; n < 8; n++) many.parentJoined(`p${n}`, true, Bitmap.full(100))
    assert.equal(many.decide(0).length, 8)
    assert.deepEqual(many.decide(1), [])
    assert.equal(many.pieceStarted('p0', 3, 1), true)
    many.pieceArrived('p0', 3, true, 2)
    assert.deepEqual(many.decide(2), [{ kind: 'askAny', parent: 'p0' }])
  })

  it('cancels the second copy of a piece that two parents chose, and asks again', () => {
    const plan = aPlan(100, { perSeed: 1 })
    for (const id of ['a', 'b', 'c', 'd']) plan.parentJoined(id, true, undefined)
    plan.decide(0)
    assert.equal(plan.pieceStarted('a', 5, 1), true)
    assert.equal(plan.pieceStarted('b', 5, 2), false)
    assert.deepEqual(plan.decide(2), [
      { kind: 'cancel', parent: 'b', piece: 5 },
      { kind: 'askAny', parent: 'b' },
    ])
    assert.deepEqual([...plan.underWay], [5])
    plan.pieceArrived('a', 5, true, 9)
    assert.equal(plan.wasted, 0)
  })

  it('lets a second copy come that a seed chose where others do not choose', () => {
    const plan = aPlan(10, { depth: 1, minInFlight: 1 })
    plan.parentJoined('s', true, undefined)
    plan.parentJoined('a', false, holding(10, 4))
    assert.deepEqual(asks(plan.decide(0)), [['a', 4]])
    plan.pieceStarted('a', 4, 1)
    assert.equal(plan.pieceStarted('s', 4, 2), false)
    assert.deepEqual(plan.decide(2), [])
    plan.pieceArrived('a', 4, false, 3)
    assert.deepEqual(plan.decide(3), [
      { kind: 'cancel', parent: 's', piece: 4 },
      { kind: 'askAny', parent: 's' },
    ])
  })

  it('asks by name for what got lost on its way, because the parents that choose think it is here', () => {
    const plan = aPlan(100)
    for (const id of ['a', 'b', 'c', 'd']) plan.parentJoined(id, true, holding(100, ...(id === 'c' ? [5] : [])))
    plan.decide(0)
    plan.pieceStarted('a', 5, 1)
    plan.parentLeft('a')
    assert.deepEqual(asks(plan.decide(2)), [['c', 5]])
    plan.pieceFailed('c', 5, 'absent')
    assert.deepEqual(asks(plan.decide(3)), [])
    assert.equal(plan.parentHaves('d', 5, 1, 4), true)
    assert.deepEqual(asks(plan.decide(4)), [['d', 5]])
  })

  it('asks elsewhere for a piece whose answer began and stands still, and leaves parents alone that had nothing to give', () => {
    const plan = aPlan(100)
    for (const id of ['a', 'b', 'c', 'd']) plan.parentJoined(id, true, Bitmap.full(100))
    plan.decide(0)
    plan.pieceStarted('a', 1, 0)
    plan.pieceArrived('a', 1, true, 10)
    plan.decide(10)
    plan.pieceStarted('b', 2, 10)
    plan.tick(500)
    const [other] = asks(plan.decide(500))
    assert.ok(other && other[0] !== 'b' && other[1] === 2)
    plan.tick(900)
    assert.deepEqual(
      plan.decide(900).filter((action) => action.kind === 'replace'),
      [{ kind: 'replace', parent: 'b', reason: 'stalled' }],
    )
  })

  it('gives readers what they wait for first, in order', () => {
    const plan = aPlan(64, { depth: 3, minInFlight: 3 })
    for (const id of ['a', 'b', 'c']) plan.parentJoined(id, false, Bitmap.full(64))
    plan.demand(40, 43, 1)
    assert.deepEqual(
      asks(plan.decide(0)).map(([, piece]) => piece),
      [40, 41, 42],
    )
  })

  it('bounds what is under way by count and by bytes', () => {
    const plan = aPlan(500, { inFlightBytes: 5 * 65536 })
    for (let n = 0; n < 10; n++) plan.parentJoined(`p${n}`, false, Bitmap.full(500))
    assert.equal(asks(plan.decide(0)).length, 5)
    assert.equal(plan.inFlight, 5)
  })

  it('asks elsewhere for what a lost parent owed, and for nothing more', () => {
    const plan = aPlan(2)
    plan.parentJoined('a', false, Bitmap.full(2))
    assert.equal(asks(plan.decide(0)).length, 2)
    plan.parentLeft('a')
    assert.equal(plan.inFlight, 0)
    plan.parentJoined('b', false, holding(2, 1))
    assert.deepEqual(asks(plan.decide(1)), [['b', 1]])
  })

  it('drops a parent at its first corrupt piece and fetches that elsewhere', () => {
    const plan = aPlan(1)
    plan.parentJoined('liar', false, Bitmap.full(1))
    plan.decide(0)
    plan.pieceFailed('liar', 0, 'corrupt')
    assert.deepEqual(plan.decide(1), [{ kind: 'replace', parent: 'liar', reason: 'corrupt' }])
    plan.parentJoined('b', false, Bitmap.full(1))
    assert.deepEqual(asks(plan.decide(2)), [['b', 0]])
  })

  it('believes a parent that says it lacks a piece', () => {
    const plan = aPlan(1)
    plan.parentJoined('a', false, Bitmap.full(1))
    plan.decide(0)
    plan.pieceFailed('a', 0, 'absent')
    assert.deepEqual(plan.decide(1), [])
    plan.parentHaves('a', 0, 1, 2)
    assert.deepEqual(asks(plan.decide(2)), [['a', 0]])
  })

  it('goes round a stalled parent within a second and replaces it when it stays silent', () => {
    const plan = aPlan(200, { depth: 4, minInFlight: 4 })
    plan.parentJoined('good', false, Bitmap.full(200))
    plan.parentJoined('dead', false, Bitmap.full(200))
    const owed = new Set<number>()
    const again: number[] = []
    let replacedMs = 0
    let waiting = plan.decide(0)
    for (let nowMs = 20; nowMs <= 1000 && replacedMs === 0; nowMs += 20) {
      for (const action of waiting) {
        if (action.kind === 'replace') replacedMs = nowMs
        if (action.kind !== 'ask') continue
        if (action.parent === 'dead') owed.add(action.piece)
        else {
          if (owed.has(action.piece)) again.push(nowMs)
          plan.pieceArrived('good', action.piece, false, nowMs)
        }
      }
      plan.tick(nowMs)
      waiting = plan.decide(nowMs)
    }
    assert.ok(replacedMs > 0, 'the dead parent was never replaced')
    assert.ok(again.length > 0, 'what it owed was never asked elsewhere')
    assert.equal(plan.parents, 1)
  })

  it('moves a waiting question to a new holder, and never one whose answer has begun', () => {
    const plan = aPlan(1)
    plan.parentJoined('a', false, Bitmap.full(1))
    plan.parentJoined('b', false, new Bitmap(1))
    plan.decide(0)
    plan.pieceStarted('a', 0, 0)
    plan.parentHaves('b', 0, 1, 1)
    assert.deepEqual(plan.decide(1), [])
    let moved = 0
    for (let seed = 1; seed <= 20; seed++) {
      const other = aPlan(1, {}, seed)
      other.parentJoined('a', false, Bitmap.full(1))
      other.parentJoined('b', false, new Bitmap(1))
      other.decide(0)
      other.parentHaves('b', 0, 1, 1)
      const actions = other.decide(1)
      if (actions.length === 0) continue
      moved++
      assert.deepEqual(actions, [
        { kind: 'cancel', parent: 'a', piece: 0 },
        { kind: 'ask', parent: 'b', piece: 0 },
      ])
    }
    assert.ok(moved > 0 && moved < 20, `moved ${moved} of 20`)
  })

  it('finishes under failures, asking no piece twice outside the endgame', () => {
    for (let seed = 1; seed <= 40; seed++) playOut(seed)
  })
})

/** Plays one download against parents that fail, leave and come by chance. */
function playOut(seed: number): void {
  const random = seededRandom(seed)
  const pieces = 20 + randomBelow(random, 200)
  const plan = aPlan(pieces, {}, seed)
  const have = new Bitmap(pieces)
  const flying: { parent: string; piece: number }[] = []
  const parents = new Map<string, Bitmap>()
  let names = 0
  let late = 0
  for (let nowMs = 0; !plan.done; nowMs += 5) {
    assert.ok(nowMs < 60_000, `seed ${seed}: not done after a minute: ${plan.describe()}`)
    if (parents.size < 3 || random() < 0.02) {
      const id = `p${names++}`
      const haves = new Bitmap(pieces)
      for (let piece = 0; piece < pieces; piece++) if (random() < 0.6) haves.add(piece)
      parents.set(id, haves)
      plan.parentJoined(id, false, haves)
    }
    plan.tick(nowMs)
    for (const action of plan.decide(nowMs)) {
      if (action.kind === 'cancel' || action.kind === 'replace') {
        for (let at = flying.length - 1; at >= 0; at--) {
          const one = flying[at]
          if (one?.parent === action.parent && (action.kind === 'replace' || one.piece === action.piece))
            flying.splice(at, 1)
        }
        if (action.kind === 'replace') {
          parents.delete(action.parent)
          late++
        }
      } else if (action.kind === 'ask') {
        assert.ok(!have.has(action.piece), `seed ${seed}: asked for a piece that is here`)
        assert.ok(parents.get(action.parent)?.has(action.piece), `seed ${seed}: asked a parent that lacks the piece`)
        const twice = flying.some((one) => one.piece === action.piece)
        const ending = pieces - have.count <= Math.max(2, Math.ceil(pieces * PLAN_DEFAULTS.endgame))
        assert.ok(!twice || ending || late > 0 || nowMs > 250, `seed ${seed}: piece ${action.piece} asked twice`)
        flying.push({ parent: action.parent, piece: action.piece })
      }
    }
    assert.equal(plan.inFlight <= flying.length, true, `seed ${seed}: in flight`)
    const at = randomBelow(random, Math.max(1, flying.length))
    const [one] = flying.splice(at, 1)
    if (!one) continue
    const luck = random()
    if (luck < 0.03) {
      plan.pieceFailed(one.parent, one.piece, 'short')
    } else if (luck < 0.04) {
      plan.parentLeft(one.parent)
      parents.delete(one.parent)
      for (let n = flying.length - 1; n >= 0; n--) if (flying[n]?.parent === one.parent) flying.splice(n, 1)
    } else {
      plan.pieceArrived(one.parent, one.piece, false, nowMs)
      have.add(one.piece)
    }
  }
  assert.ok(have.full)
  assert.ok(plan.wasted <= Math.max(2, pieces * 0.05), `seed ${seed}: wasted ${plan.wasted} of ${pieces}`)
}
