import assert from 'node:assert/strict'
import { type Action, PLAN_DEFAULTS, Plan, type PlanOptions } from '../../../peer/engine/plan.ts'
import { randomBelow, seededRandom } from '../../../src/base/clock.ts'
import { Bitmap } from '../../../src/task/bitmap.ts'

const FOUR = ['a', 'b', 'c', 'd']

function aPlan(pieces: number, options: Partial<PlanOptions> = {}, seed = 1): Plan<string> {
  const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces, pieceBytes: 65536, ...options }, seededRandom(seed))
  plan.pieceKnown(0, pieces)
  return plan
}

/** A plan whose parents hold everything and have been asked for any piece. */
function aPlanOf(pieces: number, parents: readonly string[], options: Partial<PlanOptions> = {}): Plan<string> {
  const plan = aPlan(pieces, options)
  for (const id of parents) plan.parentJoined(id, Bitmap.full(pieces))
  plan.decide(0)
  return plan
}

function asks(actions: Action<string>[]): [parent: string, piece: number][] {
  return actions.flatMap((action) => (action.kind === 'ask' ? [[action.parent, action.piece] as [string, number]] : []))
}

/** What is told to all parents. */
function tells(actions: Action<string>[]): string[] {
  return actions.flatMap((action) =>
    action.kind === 'coming' || action.kind === 'lost' ? [`${action.kind} ${action.piece}`] : [],
  )
}

const cancel = (parent: string, piece: number) => ({ kind: 'cancel', parent, piece }) as const
const askAny = (parent: string) => ({ kind: 'askAny', parent, sure: false }) as const

/** A parent offers a piece, which is taken and begins to come. */
function begin(plan: Plan<string>, parent: string, piece: number, nowMs: number): void {
  assert.equal(plan.pieceOffered(parent, piece, nowMs), true, `${parent} offered ${piece}`)
  plan.pieceStarted(parent, piece, nowMs)
}

describe('Plan', () => {
  it('keeps one question open at each of many parents, and more where there are few', () => {
    const plan = aPlan(100)
    plan.parentJoined('a', undefined)
    assert.equal(plan.decide(0).length, 4)
    const many = aPlan(100)
    for (let n = 0; n < 8; n++) many.parentJoined(`p${n}`, Bitmap.full(100))
    assert.equal(many.decide(0).length, 8)
    assert.deepEqual(many.decide(1), [])
    assert.equal(many.pieceOffered('p0', 3, 1), true)
    assert.deepEqual(many.decide(1), [{ kind: 'coming', piece: 3 }, askAny('p0')])
    many.pieceArrived('p0', 3, 2)
    assert.deepEqual(many.decide(2), [])
  })

  it('asks a parent no more that has nothing left', () => {
    const plan = aPlanOf(10, FOUR)
    plan.parentDrained('a')
    assert.deepEqual(plan.decide(1), [])
    assert.equal(plan.inFlight, 3)
  })

  it('declines what is coming or here, and takes something else for the same question', () => {
    const plan = aPlanOf(100, FOUR)
    assert.equal(plan.pieceOffered('a', 5, 1), true)
    assert.deepEqual(tells(plan.decide(1)), ['coming 5'])
    assert.equal(plan.pieceOffered('b', 5, 2), false)
    assert.deepEqual(plan.decide(2), [])
    plan.pieceArrived('a', 5, 9)
    assert.equal(plan.pieceOffered('b', 5, 9), false)
    assert.equal(plan.pieceOffered('b', 6, 9), true)
    assert.deepEqual([...plan.underWay], [6])
  })

  it('tells the parents of a piece that got lost on its way', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 5, 1)
    plan.decide(1)
    plan.parentLeft('a')
    assert.deepEqual(tells(plan.decide(2)), ['lost 5'])
    assert.deepEqual([...plan.underWay], [])
    begin(plan, 'b', 5, 3)
    assert.deepEqual(tells(plan.decide(3)), ['coming 5'])
  })

  it('lets only parents that lack a piece wait to hear that it is coming, and only where pieces take long', () => {
    const plan = aPlanOf(100, ['a', 'b'])
    plan.parentJoined('c', new Bitmap(100))
    plan.parentJoined('seed', undefined)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 8)
    assert.deepEqual([plan.comingMs('a', 5), plan.comingMs('c', 5), plan.hereMs('a')], [0, 0, 20])
    begin(plan, 'b', 2, 8)
    plan.pieceArrived('b', 2, 2000)
    assert.deepEqual([plan.comingMs('a', 5), plan.comingMs('seed', 5), plan.hereMs('a')], [0, 0, 50])
    assert.ok(plan.comingMs('c', 5) > 0)
    plan.parentHaves('c', 5, 1)
    assert.equal(plan.comingMs('c', 5), 0)
  })

  it('lets others give what began and stands still, and leaves parents alone that had nothing to give', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    begin(plan, 'b', 2, 10)
    plan.decide(10)
    plan.tick(500)
    assert.deepEqual(plan.decide(500), [{ kind: 'lost', piece: 2 }])
    begin(plan, 'c', 2, 600)
    assert.deepEqual(tells(plan.decide(600)), ['coming 2'], 'both may come now')
    assert.equal(plan.pieceOffered('d', 2, 601), false)
    plan.pieceArrived('c', 2, 700)
    assert.deepEqual(plan.decide(700), [cancel('b', 2)])
  })

  it('replaces a parent that goes on standing still', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    begin(plan, 'b', 2, 10)
    plan.decide(10)
    for (const nowMs of [500, 900]) plan.tick(nowMs)
    assert.deepEqual(
      plan.decide(900).filter((action) => action.kind === 'replace'),
      [{ kind: 'replace', parent: 'b', reason: 'stalled' }],
    )
    assert.equal(plan.parents, 3)
  })

  it('asks by name, in order, for what readers wait for, a few at a time, and says so to all', () => {
    const plan = aPlanOf(64, FOUR, { maxNamed: 2 })
    plan.have(41, 1)
    plan.demand(40, 44, 1)
    const actions = plan.decide(1)
    assert.deepEqual(
      asks(actions).map(([, piece]) => piece),
      [40, 42],
    )
    assert.deepEqual(tells(actions), ['coming 40', 'coming 42'])
    const [first] = asks(actions)
    assert.ok(first)
    plan.pieceStarted(first[0], 40, 2)
    plan.pieceArrived(first[0], 40, 3)
    assert.deepEqual(
      asks(plan.decide(3)).map(([, piece]) => piece),
      [43],
    )
    plan.undemand(40, 44)
    plan.demand(0, 64, 1)
    assert.deepEqual(asks(plan.decide(4)), [], 'two are under way')
  })

  it('asks by name for what a reader waits for also of parents that give what they chose', () => {
    const plan = aPlanOf(64, ['a'])
    for (const piece of [1, 2, 3]) assert.equal(plan.pieceOffered('a', piece, 1), true)
    plan.demand(40, 42, 1)
    assert.deepEqual(asks(plan.decide(2)), [
      ['a', 40],
      ['a', 41],
    ])
  })

  it('asks by name only for pieces whose digest is known, and only of parents that said that they have them', () => {
    const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces: 4, pieceBytes: 1 }, seededRandom(1))
    plan.parentJoined('seed', undefined)
    plan.parentJoined('a', new Bitmap(4))
    plan.demand(2, 3, 1)
    assert.deepEqual(asks(plan.decide(0)), [])
    assert.equal(plan.parentHaves('a', 2, 1), true)
    assert.deepEqual(asks(plan.decide(1)), [])
    plan.pieceKnown(2, 1)
    assert.deepEqual(asks(plan.decide(2)), [['a', 2]])
  })

  it('declines an offer of what it asked for by name', () => {
    const plan = aPlanOf(64, FOUR)
    plan.demand(40, 41, 1)
    const [asked] = asks(plan.decide(1))
    assert.ok(asked)
    assert.equal(plan.pieceOffered(FOUR.find((id) => id !== asked[0]) ?? '', 40, 2), false)
  })

  it('asks another for what a reader waits for when its parent stands still', () => {
    const plan = aPlanOf(64, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    plan.demand(40, 41, 1)
    const [asked] = asks(plan.decide(10))
    assert.ok(asked)
    plan.tick(500)
    const [other] = asks(plan.decide(500))
    assert.ok(other && other[0] !== asked[0] && other[1] === 40)
  })

  it('bounds what is on its way by count and by bytes', () => {
    for (const options of [{ maxInFlight: 2 }, { inFlightBytes: 2 * 65536 + 1 }]) {
      const plan = aPlanOf(500, FOUR, options)
      const taken = FOUR.map((id, piece) => plan.pieceOffered(id, piece, 1))
      assert.deepEqual(taken, [true, true, false, false])
      plan.pieceArrived('a', 0, 2)
      assert.equal(plan.pieceOffered('c', 2, 3), true)
    }
  })

  it('drops a parent at its first corrupt piece, so that others give it', () => {
    const plan = aPlanOf(8, ['liar', 'b', 'c', 'd'])
    begin(plan, 'liar', 0, 1)
    plan.decide(1)
    plan.pieceFailed('liar', 0, 'corrupt')
    const actions = plan.decide(2)
    assert.deepEqual(tells(actions), ['lost 0'])
    assert.deepEqual(
      actions.filter(({ kind }) => kind === 'replace'),
      [{ kind: 'replace', parent: 'liar', reason: 'corrupt' }],
    )
  })

  it('believes a parent that says it lacks a piece', () => {
    const plan = aPlanOf(8, ['a'])
    plan.demand(0, 1, 1)
    assert.deepEqual(asks(plan.decide(0)), [['a', 0]])
    plan.pieceFailed('a', 0, 'absent')
    assert.deepEqual(asks(plan.decide(1)), [])
    plan.parentHaves('a', 0, 1)
    assert.deepEqual(asks(plan.decide(2)), [['a', 0]])
  })

  it('asks a second parent for the last pieces when they take longer than usual', () => {
    const plan = aPlanOf(100, FOUR)
    plan.have(0, 98)
    begin(plan, 'a', 98, 0)
    plan.pieceArrived('a', 98, 10)
    begin(plan, 'b', 99, 10)
    assert.deepEqual(asks(plan.decide(15)), [])
    const [second] = asks(plan.decide(30))
    assert.ok(second && second[0] !== 'b' && second[1] === 99)
    assert.deepEqual(asks(plan.decide(60)), [], 'twice is enough')
  })

  it('finishes under failures, and takes nothing twice that it knows to be coming', () => {
    for (let seed = 1; seed <= 60; seed++) playOut(seed)
  })
})

interface Flying {
  readonly parent: string
  piece: number
  started: boolean
}

/** Plays one download against parents that choose by chance, fail, leave and come. */
function playOut(seed: number): void {
  const random = seededRandom(seed)
  const pieces = 20 + randomBelow(random, 200)
  const plan = aPlan(pieces, {}, seed)
  const have = new Bitmap(pieces)
  const flying: Flying[] = []
  const parents = new Map<string, Bitmap>()
  const coming = new Set<number>()
  let names = 0
  const forget = (gone: (one: Flying) => boolean) => {
    for (let at = flying.length - 1; at >= 0; at--) if (flying[at] && gone(flying[at] as Flying)) flying.splice(at, 1)
  }
  const perform = (action: Action<string>) => {
    if (action.kind === 'coming') coming.add(action.piece)
    else if (action.kind === 'lost') coming.delete(action.piece)
    else if (action.kind === 'cancel') forget((one) => one.parent === action.parent && one.piece === action.piece)
    else if (action.kind === 'replace') {
      forget((one) => one.parent === action.parent)
      parents.delete(action.parent)
    } else {
      if (action.kind === 'ask') assert.ok(!have.has(action.piece), `seed ${seed}: asked for a piece that is here`)
      flying.push({ parent: action.parent, piece: action.kind === 'ask' ? action.piece : -1, started: false })
    }
  }
  for (let nowMs = 0; !plan.done; nowMs += 5) {
    assert.ok(nowMs < 60_000, `seed ${seed}: not done after a minute: ${plan.describe()}`)
    if (parents.size < 3 || random() < 0.02) {
      const id = `p${names++}`
      const haves = new Bitmap(pieces)
      for (let piece = 0; piece < pieces; piece++) if (random() < 0.6) haves.add(piece)
      parents.set(id, haves)
      plan.parentJoined(id, haves)
    }
    if (random() < 0.05) plan.demand(randomBelow(random, pieces), pieces, 1)
    plan.tick(nowMs)
    for (const action of plan.decide(nowMs)) perform(action)
    assert.deepEqual(
      [...plan.underWay].filter((piece) => have.has(piece)),
      [],
      `seed ${seed}: under way and here`,
    )
    const one = flying[randomBelow(random, Math.max(1, flying.length))]
    if (!one) continue
    if (!one.started) {
      if (one.piece < 0) {
        const lacks = Array.from({ length: pieces }, (_, piece) => piece).filter(
          (piece) => parents.get(one.parent)?.has(piece) && !have.has(piece) && (!coming.has(piece) || random() < 0.05),
        )
        const piece = lacks[randomBelow(random, lacks.length)]
        if (piece === undefined || !plan.pieceOffered(one.parent, piece, nowMs)) continue
        one.piece = piece
        for (const action of plan.decide(nowMs)) perform(action)
        if (random() < 0.5) continue
      }
      one.started = true
      plan.pieceStarted(one.parent, one.piece, nowMs)
      continue
    }
    const luck = random()
    if (luck < 0.03) {
      forget((other) => other === one)
      plan.pieceFailed(one.parent, one.piece, 'short')
    } else if (luck < 0.04) {
      plan.parentLeft(one.parent)
      parents.delete(one.parent)
      forget((other) => other.parent === one.parent)
    } else {
      forget((other) => other === one)
      plan.pieceArrived(one.parent, one.piece, nowMs)
      have.add(one.piece)
    }
  }
  assert.ok(have.full)
  assert.ok(plan.wasted <= Math.max(2, pieces * 0.05), `seed ${seed}: wasted ${plan.wasted} of ${pieces}`)
}
