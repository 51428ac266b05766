import assert from 'node:assert/strict'
import { type Action, PLAN_DEFAULTS, Plan, type PlanOptions } from '../../../peer/downloader/plan.ts'
import { randomBelow, seededRandom } from '../../../src/core/clock.ts'
import { Bitmap } from '../../../src/core/task/bitmap.ts'

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
/** In a line the first parent's piece 1 stands still, and begins to come from the second. */
function firstIsLate(plan: Plan<string>): void {
  bring(plan, 'a', 0, 5)
  begin(plan, 'a', 1, 10)
  plan.decide(10)
  plan.tick(500)
  plan.decide(500)
  begin(plan, 'b', 1, 505)
}

const askAny = (parent: string, sure = false) => ({ kind: 'askAny', parent, sure, early: sure, ahead: 8 }) as const

/** A parent offers a piece, which is taken and begins to come. */
function begin(plan: Plan<string>, parent: string, piece: number, nowMs: number): void {
  assert.equal(plan.pieceOffered(parent, piece, nowMs), true, `${parent} offered ${piece}`)
  plan.pieceStarted(parent, piece, nowMs)
}

/** A parent gives these pieces, one after the other. */
function gives(plan: Plan<string>, parent: string, pieces: readonly number[], nowMs: number): void {
  for (const piece of pieces) {
    begin(plan, parent, piece, nowMs)
    plan.pieceArrived(parent, piece, nowMs)
    plan.decide(nowMs)
  }
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

  it('lets a parent wait no longer to hear that a piece is here than pieces take to come', () => {
    const plan = aPlanOf(100, ['a'])
    assert.equal(plan.hereMs('a'), 20)
    for (let piece = 0; piece < 50; piece++) {
      plan.decide(4 * piece)
      begin(plan, 'a', piece, 4 * piece)
      plan.pieceArrived('a', piece, 4 * piece + 4)
    }
    // else eight that it takes for still under way would keep it from giving more
    assert.equal(plan.hereMs('a'), 4)
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
    assert.deepEqual([plan.comingMs('a', 5), plan.comingMs('seed', 5), plan.hereMs('a')], [0, 0, 250])
    assert.ok(plan.comingMs('c', 5) > 0)
    plan.parentHaves('c', 5, 1)
    assert.equal(plan.comingMs('c', 5), 0)
  })

  it('lets others give what stands still while they give more, and leaves parents alone that had nothing to give', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    plan.tick(10)
    begin(plan, 'b', 2, 10)
    plan.decide(10)
    gives(plan, 'a', [10, 11, 12], 20)
    plan.tick(500)
    assert.deepEqual(tells(plan.decide(500)), [], 'others gave too little to tell')
    gives(plan, 'a', [13], 510)
    plan.tick(520)
    assert.deepEqual(tells(plan.decide(520)), ['lost 2'])
    begin(plan, 'c', 2, 600)
    assert.deepEqual(tells(plan.decide(600)), ['coming 2'], 'both may come now')
    assert.equal(plan.pieceOffered('d', 2, 601), false)
    plan.pieceArrived('c', 2, 700)
    assert.deepEqual(
      plan.decide(700).filter(({ kind }) => kind === 'cancel'),
      [cancel('b', 2)],
    )
  })

  it('takes no parent for late whose bytes come, however slowly, until others gave far more', () => {
    const plan = aPlanOf(200, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    let moved = 0
    const tick = (nowMs: number) => plan.tick(nowMs, (id) => (id === 'b' ? moved++ : 0))
    tick(10)
    begin(plan, 'b', 2, 10)
    plan.decide(10)
    for (let piece = 10; piece < 40; piece++) {
      gives(plan, 'a', [piece], 100 * piece)
      tick(100 * piece)
      assert.deepEqual(tells(plan.decide(100 * piece)), [])
    }
    for (let piece = 40; piece < 44; piece++) gives(plan, 'a', [piece], 100 * piece)
    tick(4500)
    assert.deepEqual(tells(plan.decide(4500)), ['lost 2'])
  })

  it('gives nobody up while nothing comes from anybody, but lets others give what is under way', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    plan.decide(10)
    for (const [at, id] of FOUR.entries()) begin(plan, id, 10 + at, 20)
    plan.decide(20)
    plan.tick(2900)
    assert.deepEqual(plan.decide(2900), [])
    plan.tick(3100)
    assert.deepEqual(tells(plan.decide(3100)).sort(), ['lost 10', 'lost 11', 'lost 12', 'lost 13'])
    plan.tick(6200)
    assert.deepEqual(tells(plan.decide(6200)), [], 'the next time is twice as long')
    for (let nowMs = 6300; nowMs < 120_000; nowMs += 100) {
      plan.tick(nowMs)
      assert.ok(plan.decide(nowMs).every(({ kind }) => kind !== 'replace'))
    }
    assert.equal(plan.parents, 4)
    plan.pieceArrived('c', 12, 120_000)
    plan.decide(120_000)
    assert.equal(plan.haveCount, 2, 'what comes late counts')
    assert.equal(plan.pieceOffered('c', 50, 120_001), true, 'and its parent may give more')
  })

  it('replaces a parent that goes on standing still while others give', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    plan.tick(10)
    begin(plan, 'b', 2, 10)
    plan.decide(10)
    gives(plan, 'a', [10, 11, 12, 13], 20)
    plan.tick(500)
    plan.decide(500)
    const more = Array.from({ length: 16 }, (_, at) => 20 + at)
    gives(plan, 'a', more.slice(1), 510)
    plan.tick(900)
    assert.equal(plan.parents, 4)
    gives(plan, 'a', more.slice(0, 1), 910)
    plan.tick(920)
    assert.deepEqual(
      plan.decide(920).filter((action) => action.kind === 'replace'),
      [{ kind: 'replace', parent: 'b', reason: 'stalled' }],
    )
    assert.equal(plan.parents, 3)
  })

  it('asks a parent again whose piece others gave, and replaces it when that goes on', () => {
    const plan = aPlanOf(100, FOUR)
    begin(plan, 'a', 1, 0)
    plan.pieceArrived('a', 1, 10)
    let nowMs = 10
    for (let time = 0; time < 3; time++) {
      assert.equal(plan.parents, 4)
      plan.tick(nowMs)
      const owed = 2 + time
      begin(plan, 'b', owed, nowMs)
      plan.decide(nowMs)
      const from = 20 + 10 * time
      gives(plan, 'a', [from, from + 1, from + 2, from + 3], nowMs + 10)
      nowMs += 600
      plan.tick(nowMs)
      assert.deepEqual(tells(plan.decide(nowMs)), [`lost ${owed}`])
      gives(plan, 'c', [owed], nowMs)
      plan.decide(nowMs)
      plan.tick(++nowMs)
      plan.decide(nowMs)
    }
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
      [{ kind: 'replace', parent: 'liar', reason: 'corrupt', piece: 0 }],
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

/** A plan in a line whose parents, of these turns, hold everything; the first has been asked. */
function aLine(
  pieces: number,
  turns: Readonly<Record<string, number>>,
  options: Partial<PlanOptions> = {},
): Plan<string> {
  const plan = aPlan(pieces, options)
  for (const [id, turn] of Object.entries(turns)) plan.parentJoined(id, Bitmap.full(pieces), turn)
  plan.decide(0)
  return plan
}

/** The parents that are asked for any piece, once for each question, with a mark where nothing is offered first. */
function asked(actions: Action<string>[]): string[] {
  return actions.flatMap((action) =>
    action.kind === 'askAny' ? [action.sure ? `${action.parent}!` : action.parent] : [],
  )
}

function replaced(actions: Action<string>[]): string[] {
  return actions.flatMap((action) => (action.kind === 'replace' ? [`${action.parent} ${action.reason}`] : []))
}

/** A piece comes from a parent, which took `tookMs` for it. */
function bring(plan: Plan<string>, parent: string, piece: number, nowMs: number, tookMs = 5): Action<string>[] {
  begin(plan, parent, piece, nowMs - tookMs)
  plan.pieceArrived(parent, piece, nowMs)
  return plan.decide(nowMs)
}

describe('Plan in a line', () => {
  it('gives up one that stands still, though another gives what it owed', () => {
    const plan = aPlan(100)
    for (const [id, turn] of [
      ['a', 1],
      ['b', 2],
    ] as const)
      plan.parentJoined(id, Bitmap.full(100), turn)
    for (const nowMs of [0, 0]) plan.decide(nowMs)
    firstIsLate(plan)
    plan.pieceArrived('b', 1, 510)
    plan.decide(510)
    const gone: string[] = []
    for (let piece = 2; piece < 40; piece++) {
      gone.push(...replaced(bring(plan, 'b', piece, 500 + 20 * piece)))
      plan.tick(500 + 20 * piece)
    }
    assert.deepEqual(gone, ['a slow'])
  })

  it('asks only the parent whose turn it is, for whatever that gives', () => {
    const plan = aPlan(100)
    for (const [id, turn] of [
      ['c', 3],
      ['a', 1],
      ['b', 2],
    ] as const)
      plan.parentJoined(id, Bitmap.full(100), turn)
    assert.deepEqual(plan.decide(0), Array(4).fill(askAny('a', true)))
    begin(plan, 'a', 0, 5)
    assert.deepEqual(plan.decide(5), [{ kind: 'coming', piece: 0, from: 'a' }, askAny('a', true)])
    plan.pieceArrived('a', 0, 9)
    assert.deepEqual(plan.decide(9), [])
  })

  it('asks the next when the first leaves, has nothing left, or is late', () => {
    const ways: Record<string, (plan: Plan<string>) => void> = {
      leaves: (plan) => plan.parentLeft('a'),
      drained: (plan) => plan.parentDrained('a'),
      late: (plan) => {
        begin(plan, 'a', 1, 10)
        plan.decide(10)
        plan.tick(500)
      },
    }
    for (const [way, happens] of Object.entries(ways)) {
      const plan = aLine(100, { a: 1, b: 2, c: 3 })
      bring(plan, 'a', 0, 5)
      happens(plan)
      assert.deepEqual(asked(plan.decide(500)), Array(4).fill('b!'), way)
    }
  })

  it('doesn’t soon take a parent for late that waits for the rest of a piece itself, but once it has that', () => {
    const begun = (waits: boolean) => {
      const plan = aLine(100, { a: 1, b: 2 })
      bring(plan, 'a', 0, 5)
      begin(plan, 'a', 1, 10)
      plan.pieceWaits('a', 1, { steps: 1, waits: true }, 100)
      plan.pieceWaits('a', 1, { steps: 2, waits }, 200)
      plan.decide(200)
      return plan
    }
    const late = (plan: Plan<string>, nowMs: number) => {
      plan.tick(nowMs)
      return asked(plan.decide(nowMs)).includes('b!')
    }
    assert.deepEqual([late(begun(false), 440), late(begun(false), 460)], [false, true])
    assert.deepEqual([late(begun(true), 1190), late(begun(true), 1210)], [false, true])
    const moving = begun(true)
    moving.pieceWaits('a', 1, { steps: 3, waits: true }, 1100)
    assert.equal(late(moving, 2000), false)
    assert.equal(late(moving, 2110), true)
    moving.tick(5000)
    assert.equal(moving.parents, 2)
    moving.tick(5200)
    assert.ok(moving.decide(5200).some(({ kind }) => kind === 'replace'))
  })

  it('takes a parent for late that waits for the rest, it says, and brings less than a step, or says now this and now that', () => {
    for (const waits of [() => true, (nowMs: number) => nowMs % 1000 === 0]) {
      const plan = aLine(100, { a: 1, b: 2 })
      bring(plan, 'a', 0, 5)
      begin(plan, 'a', 1, 10)
      plan.pieceWaits('a', 1, { steps: 1, waits: true }, 100)
      plan.decide(100)
      for (let nowMs = 500; plan.parents === 2; nowMs += 500) {
        assert.ok(nowMs < 6000)
        plan.pieceWaits('a', 1, { steps: 1, waits: waits(nowMs) }, nowMs)
        plan.tick(nowMs)
      }
    }
  })

  it('learns how long a piece takes from its first bytes on, whatever its parent waited for', () => {
    const plan = aLine(100, { a: 1, b: 2 })
    begin(plan, 'a', 0, 100)
    plan.pieceWaits('a', 0, { steps: 1, waits: true }, 200)
    plan.pieceWaits('a', 0, { steps: 2, waits: false }, 299)
    plan.pieceArrived('a', 0, 300)
    assert.match(plan.describe(), /parent a asked \S+ 200 ms/)
  })

  it('asks a parent that withdraws again and again for whole pieces only, and blames it for nothing', () => {
    const plan = aLine(100, { a: 1, b: 2 })
    bring(plan, 'a', 0, 5)
    plan.decide(5)
    const again = () => plan.decide(10).filter(({ kind }) => kind !== 'coming' && kind !== 'lost')
    for (const early of [true, true, false, false]) {
      begin(plan, 'a', 1, 10)
      plan.pieceFailed('a', 1, 'withdrawn')
      assert.deepEqual(again(), [{ kind: 'askAny', parent: 'a', sure: true, early, ahead: 8 }])
    }
    for (let piece = 1; piece < 32; piece++) {
      begin(plan, 'a', piece, 10)
      plan.pieceArrived('a', piece, 10)
      assert.deepEqual(
        again(),
        [{ kind: 'askAny', parent: 'a', sure: true, early: piece > 18, ahead: 8 }],
        `${piece} whole ones later`,
      )
    }
  })

  it('asks the first again, and the next no more, once that answers', () => {
    const plan = aLine(100, { a: 1, b: 2 })
    firstIsLate(plan)
    assert.deepEqual(asked(plan.decide(505)), ['b!'])
    plan.pieceArrived('a', 1, 510)
    assert.deepEqual(plan.decide(510), [cancel('b', 1)])
    begin(plan, 'a', 2, 515)
    begin(plan, 'b', 3, 515)
    assert.deepEqual(asked(plan.decide(515)), ['a!'])
  })

  it('follows its parents to other turns, and out of the line', () => {
    const plan = aLine(100, { a: 1, b: 2 })
    plan.parentTurn('a', 2)
    plan.parentTurn('b', 1)
    assert.deepEqual(asked(plan.decide(1)), Array(4).fill('b!'))
    const apart = aLine(100, { a: 1, b: 2 })
    for (const id of ['a', 'b']) apart.parentTurn(id, 0)
    assert.deepEqual(asked(apart.decide(1)), ['b', 'b'])
  })

  it('has pieces offered where more than one parent is asked', () => {
    const plan = aPlan(100)
    for (const id of ['a', 'b']) plan.parentJoined(id, Bitmap.full(100), 3)
    plan.decide(0)
    assert.deepEqual(asked(plan.decide(250)), ['a', 'a', 'b', 'b'])
  })

  it('takes what comes without an offer also where another was asked for it, and the first of the two', () => {
    const plan = aLine(64, { a: 1, b: 2 })
    firstIsLate(plan)
    plan.pieceArrived('b', 1, 510)
    assert.deepEqual(
      plan.decide(510).filter(({ kind }) => kind === 'cancel'),
      [cancel('a', 1)],
    )
    assert.equal(plan.wasted, 0)
  })

  it('declines what is here when it is offered all the same', () => {
    const plan = aLine(64, { a: 1 })
    bring(plan, 'a', 0, 5)
    assert.equal(plan.pieceOffered('a', 0, 6), false)
    assert.equal(plan.pieceOffered('a', 1, 6), true)
  })

  it('asks half as much where pieces take long', () => {
    const plan = aLine(64, { a: 1 })
    assert.deepEqual(asked(bring(plan, 'a', 0, 200, 200)), [])
    begin(plan, 'a', 1, 210)
    assert.deepEqual(asked(plan.decide(210)), [])
    begin(plan, 'a', 2, 220)
    assert.deepEqual(asked(plan.decide(220)), ['a!'])
  })

  it('asks for no more than may be on its way, since it can decline nothing', () => {
    for (const options of [{ maxInFlight: 2 }, { inFlightBytes: 2 * 65536 + 1 }]) {
      const plan = aPlan(64, options)
      plan.parentJoined('a', Bitmap.full(64), 1)
      assert.deepEqual(asked(plan.decide(0)), ['a!', 'a!'])
      begin(plan, 'a', 0, 1)
      begin(plan, 'a', 1, 1)
      assert.deepEqual(asked(plan.decide(1)), [])
      plan.pieceArrived('a', 0, 2)
      assert.deepEqual(asked(plan.decide(2)), ['a!'])
    }
  })

  it('lets parents whose turn hasn’t come wait for its words', () => {
    const plan = aLine(64, { a: 1, b: 2 })
    assert.deepEqual([plan.comingMs('a', 5), plan.hereMs('a')], [0, 50])
    assert.deepEqual([plan.comingMs('b', 5), plan.hereMs('b')], [1000, 1000])
    plan.parentLeft('a')
    plan.decide(1)
    assert.deepEqual([plan.comingMs('b', 5), plan.hereMs('b')], [0, 50])
  })

  it('asks by name for what readers wait for, of any parent, only beyond the next pieces', () => {
    const plan = aLine(64, { a: 1, b: 2 }, { maxNamed: 3 })
    plan.demand(0, 64, 1)
    assert.deepEqual(
      asks(plan.decide(1)).map(([, piece]) => piece),
      [8, 9, 10],
    )
    plan.undemand(0, 64)
    const near = aLine(64, { a: 1, b: 2 })
    near.demand(3, 8, 1)
    assert.deepEqual(asks(near.decide(1)), [])
  })

  it('asks by name for the next pieces, too, when no parent is asked for any', () => {
    const plan = aLine(64, { a: 1 })
    plan.parentDrained('a')
    plan.demand(0, 1, 1)
    assert.deepEqual(asks(plan.decide(1)), [['a', 0]])
  })

  it('asks no second parent for the last pieces', () => {
    const plan = aLine(100, { a: 1, b: 2 })
    plan.have(0, 98)
    bring(plan, 'a', 98, 10, 10)
    begin(plan, 'a', 99, 10)
    assert.deepEqual(asks(plan.decide(60)), [])
  })

  it('replaces a parent that sends what is here again and again, and bears a few', () => {
    const again = (plan: Plan<string>, times: number): string[] => {
      const gone: string[] = []
      for (let n = 0; n < times; n++) {
        assert.equal(plan.pieceOffered('a', 0, 10), false)
        plan.pieceArrived('a', 0, 11)
        gone.push(...replaced(plan.decide(11)))
      }
      return gone
    }
    const plan = aLine(100, { a: 1, b: 2 })
    bring(plan, 'a', 0, 5)
    assert.deepEqual(again(plan, 16), [])
    assert.deepEqual(again(plan, 1), ['a slow'])
    assert.equal(plan.wasted, 17)
    const useful = aLine(100, { a: 1, b: 2 })
    for (let piece = 0; piece < 40; piece++) bring(useful, 'a', piece, 5)
    assert.deepEqual(again(useful, 26), [])
    assert.deepEqual(again(useful, 1), ['a slow'])
  })

  it('knows what is under way after a parent sent one piece for two questions', () => {
    const plan = aLine(100, { a: 1 })
    begin(plan, 'a', 0, 1)
    plan.decide(1)
    assert.equal(plan.pieceOffered('a', 0, 1), false)
    for (const nowMs of [2, 3]) plan.pieceArrived('a', 0, nowMs)
    assert.deepEqual(asked(plan.decide(3)), ['a!'])
    assert.deepEqual([plan.inFlight, plan.wasted], [4, 1])
  })

  it('finishes though turns change and parents stand still, leave and come', () => {
    for (let seed = 1; seed <= 60; seed++) playOutInLine(seed)
  })
})

/** A plan that has asked `a` in a line, and then `b`; both hold the first ten pieces of 200. */
function aRivalry(turns: Readonly<Record<string, number>> = { a: 1, b: 2 }): Plan<string> {
  const plan = aPlan(200)
  const have = new Bitmap(200)
  have.addRange(0, 10)
  for (const [id, turn] of Object.entries(turns)) plan.parentJoined(id, id === 'seed' ? undefined : have, turn)
  plan.decide(0)
  plan.decide(0)
  return plan
}

describe('Plan with a doubtful parent in a line', () => {
  it('asks one that gets far more beside it, for its last pieces, and has that in its place once it gave far more', () => {
    const plan = aRivalry()
    plan.parentHaves('b', 10, 7)
    assert.deepEqual(plan.decide(100), [])
    plan.parentHaves('b', 17, 1)
    const beside = plan.decide(100)
    assert.deepEqual(asks(beside), [
      ['b', 17],
      ['b', 16],
    ])
    assert.deepEqual(tells(beside), ['coming 17', 'coming 16'])
    for (const piece of [17, 16, 15, 14]) {
      plan.pieceArrived('b', piece, 200)
      assert.deepEqual(replaced(plan.decide(200)), [])
    }
    plan.pieceArrived('b', 13, 300)
    const actions = plan.decide(300)
    assert.deepEqual(replaced(actions), ['a slow'])
    assert.deepEqual(asked(actions), Array(4).fill('b!'))
  })

  it('leaves one alone that gets pieces itself, or that is ahead', () => {
    const plan = aRivalry()
    plan.parentHaves('a', 10, 2)
    plan.parentHaves('b', 10, 20)
    assert.deepEqual(asks(plan.decide(100)), [])
    const ahead = aPlan(200)
    ahead.parentJoined('a', Bitmap.full(200), 1)
    ahead.parentJoined('b', new Bitmap(200), 2)
    for (const nowMs of [0, 0]) ahead.decide(nowMs)
    ahead.parentHaves('b', 0, 100)
    assert.deepEqual(asks(ahead.decide(100)), [])
  })

  it('leaves one alone that gives as much, and what a slow host gets little of', () => {
    const plan = aRivalry()
    plan.parentHaves('b', 10, 20)
    assert.equal(asks(plan.decide(100)).length, 2)
    for (const piece of [0, 1]) bring(plan, 'a', piece, 200)
    for (const piece of [29, 28, 27, 26, 25]) {
      plan.pieceArrived('b', piece, 300)
      assert.deepEqual(replaced(plan.decide(300)), [])
    }
    const slow = aRivalry()
    slow.parentHaves('b', 10, 20)
    slow.decide(100)
    for (const piece of [29, 28, 27, 26]) slow.pieceArrived('b', piece, 900)
    assert.deepEqual(replaced(slow.decide(900)), [])
  })

  it('asks another beside one that gets pieces and gives none, and has that in its place once it gave far more', () => {
    const gets = (plan: Plan<string>) => {
      for (const id of ['a', 'b']) plan.parentHaves(id, 10, 20)
    }
    const plan = aRivalry()
    gets(plan)
    assert.deepEqual(asks(plan.decide(249)), [])
    assert.equal(asks(plan.decide(250)).length, 2)
    const gone: string[] = []
    for (const piece of [29, 28, 27, 26, 25]) {
      plan.pieceArrived('b', piece, 300)
      gone.push(...replaced(plan.decide(300)))
    }
    assert.deepEqual(gone, ['a slow'])
    const giving = aRivalry()
    gets(giving)
    for (const piece of [0, 1]) bring(giving, 'a', piece, 200)
    assert.deepEqual(asks(giving.decide(300)), [])
    const ahead = aPlan(200)
    ahead.have(0, 25)
    for (const id of ['a', 'b']) ahead.parentJoined(id, new Bitmap(200), id === 'a' ? 1 : 2)
    for (const nowMs of [0, 0]) ahead.decide(nowMs)
    for (const id of ['a', 'b']) ahead.parentHaves(id, 0, 30)
    assert.deepEqual(asks(ahead.decide(300)), [], 'it has nearly all of that')
  })

  it('does not take for slow who just came in another’s place, which still gives what it was asked for', () => {
    const plan = aRivalry()
    for (const piece of [0, 1, 2, 3]) begin(plan, 'a', piece, 10)
    plan.decide(10)
    for (const piece of [4, 5]) begin(plan, 'a', piece, 10)
    plan.parentTurn('a', 2)
    plan.parentJoined('c', Bitmap.full(200), 1)
    plan.decide(20)
    for (const piece of [0, 1, 2, 3, 4, 5]) {
      plan.pieceArrived('a', piece, 30 + piece)
      assert.deepEqual(replaced(plan.decide(30 + piece)), [])
    }
  })

  it('doubts it three times', () => {
    const plan = aRivalry()
    const doubts: number[] = []
    let nowMs = 0
    for (let from = 10; from < 60; from += 10) {
      plan.parentHaves('b', from, 10)
      const questions = asks(plan.decide(nowMs + 500))
      doubts.push(questions.length)
      for (const [, piece] of questions) plan.pieceArrived('b', piece, nowMs + 600)
      nowMs += 1001
      for (const [, piece] of asks(plan.decide(nowMs))) plan.pieceArrived('b', piece, nowMs)
    }
    assert.deepEqual(doubts, [2, 2, 2, 0, 0])
  })

  it('has no doubt less after a time in which nobody got anything', () => {
    const plan = aRivalry()
    let nowMs = 0
    for (let quiet = 0; quiet < 5; quiet++) {
      nowMs += 1001
      plan.decide(nowMs)
    }
    plan.parentHaves('b', 10, 10)
    assert.equal(asks(plan.decide(nowMs + 1)).length, 2)
  })

  it('asks a seed beside one that gets nothing at first', () => {
    const plan = aRivalry({ a: 1, seed: 2 })
    assert.deepEqual(asked(plan.decide(249)), [])
    assert.deepEqual(asked(plan.decide(250)), ['seed', 'seed'])
    for (const piece of [20, 21, 22, 23]) assert.deepEqual(replaced(bring(plan, 'seed', piece, 300)), [])
    assert.deepEqual(replaced(bring(plan, 'seed', 24, 300)), ['a slow'])
    const later = aRivalry({ a: 1, seed: 2 })
    later.parentHaves('a', 10, 5)
    later.decide(1001)
    assert.deepEqual(asked(later.decide(1900)), [], 'it got pieces')
  })

  it('goes on asking a seed beside one that gives little, until it is clear which gives more', () => {
    const doubted = () => {
      const plan = aRivalry({ a: 1, seed: 2 })
      plan.decide(250)
      for (const piece of [20, 21, 22]) assert.deepEqual(replaced(bring(plan, 'seed', piece, 300)), [])
      plan.parentHaves('a', 10, 3)
      return plan
    }
    const slow = doubted()
    bring(slow, 'a', 10, 400)
    assert.deepEqual(asked(bring(slow, 'seed', 23, 420)), ['seed'])
    assert.deepEqual(replaced(bring(slow, 'seed', 24, 440)), ['a slow'])
    const late = doubted()
    for (const piece of [10, 11]) bring(late, 'a', piece, 400)
    assert.ok(!asked(bring(late, 'seed', 23, 420)).includes('seed'), 'it gives half as much')
    assert.deepEqual(replaced(bring(late, 'seed', 24, 440)), [])
  })

  it('never doubts a seed', () => {
    const plan = aRivalry({ seed: 1, b: 2 })
    plan.parentHaves('b', 10, 20)
    assert.deepEqual([asks(plan.decide(500)), replaced(plan.decide(5_000))], [[], []])
  })

  it('asks beside it only for pieces whose digest is known', () => {
    const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces: 200, pieceBytes: 65536 }, seededRandom(1))
    plan.pieceKnown(0, 12)
    for (const [id, turn] of [
      ['a', 1],
      ['b', 2],
    ] as const)
      plan.parentJoined(id, new Bitmap(200), turn)
    for (const nowMs of [0, 0]) plan.decide(nowMs)
    plan.parentHaves('b', 0, 20)
    assert.deepEqual(asks(plan.decide(100)), [
      ['b', 11],
      ['b', 10],
    ])
  })

  it('doesn’t take what was here already for given', () => {
    const plan = aRivalry()
    plan.parentHaves('b', 10, 20)
    plan.decide(100)
    bring(plan, 'a', 0, 150)
    for (let times = 0; times < 4; times++) {
      plan.pieceOffered('a', 0, 200)
      plan.pieceArrived('a', 0, 200)
    }
    for (const piece of [29, 28, 27, 26, 25]) {
      plan.pieceArrived('b', piece, 300)
      plan.decide(300)
    }
    assert.equal(plan.parents, 1)
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

/** Plays one download in a line whose parents give in order what they know to lack, stand still, leave, come, and change turns. */
function playOutInLine(seed: number): void {
  const random = seededRandom(seed)
  const pieces = 20 + randomBelow(random, 200)
  const plan = aPlan(pieces, {}, seed)
  /** Questions in order, and what each parent knows to be here or coming. */
  const parents = new Map<string, { asks: { piece: number; sure: boolean }[]; knows: Bitmap; still: boolean }>()
  const have = new Bitmap(pieces)
  let names = 0
  const perform = (action: Action<string>) => {
    const from = 'parent' in action ? parents.get(action.parent) : undefined
    if (action.kind === 'ask') from?.asks.push({ piece: action.piece, sure: false })
    else if (action.kind === 'askAny') from?.asks.push({ piece: -1, sure: action.sure })
    else if (action.kind === 'replace') parents.delete(action.parent)
    else if (action.kind === 'cancel') {
      const at = from?.asks.findIndex(({ piece }) => piece === action.piece) ?? -1
      if (at >= 0) from?.asks.splice(at, 1)
    } else
      for (const { knows } of parents.values())
        if (action.kind === 'coming') knows.add(action.piece)
        else knows.remove(action.piece)
  }
  for (let nowMs = 0; !plan.done; nowMs += 5) {
    assert.ok(nowMs < 60_000, `seed ${seed}: not done after a minute: ${plan.describe()}`)
    if (parents.size < 3) {
      const id = `p${names++}`
      const knows = Bitmap.fromBytes(pieces, have.toBytes())
      for (const piece of plan.underWay) knows.add(piece)
      parents.set(id, { asks: [], knows, still: random() < 0.2 })
      plan.parentJoined(id, Bitmap.full(pieces), 1 + randomBelow(random, 3))
    }
    const ids = [...parents.keys()]
    const id = ids[randomBelow(random, ids.length)] ?? ''
    if (random() < 0.02) plan.parentTurn(id, randomBelow(random, 4))
    if (random() < 0.01) plan.demand(randomBelow(random, pieces), pieces, 1)
    if (random() < 0.005) {
      plan.parentLeft(id)
      parents.delete(id)
    }
    plan.tick(nowMs)
    for (const action of plan.decide(nowMs)) perform(action)
    for (const [giver, { asks, knows, still }] of parents) {
      const ask = asks[0]
      if (!ask || (still && random() < 0.99)) continue
      const piece = ask.piece < 0 ? knows.nextClear(0) : ask.piece
      if (piece < 0) continue
      const any = ask.piece < 0
      if (any && !plan.pieceOffered(giver, piece, nowMs) && !ask.sure) {
        knows.add(piece)
        continue
      }
      ask.piece = piece
      knows.add(piece)
      plan.pieceStarted(giver, piece, nowMs)
      for (const action of plan.decide(nowMs)) perform(action)
      if (asks[0] !== ask || random() < 0.3) continue
      asks.shift()
      plan.pieceArrived(giver, piece, nowMs + 3)
      have.add(piece)
      for (const other of parents.values()) other.knows.add(piece)
      for (const action of plan.decide(nowMs + 3)) perform(action)
    }
  }
  assert.ok(plan.wasted <= Math.max(8, pieces * 0.1), `seed ${seed}: wasted ${plan.wasted} of ${pieces}`)
}
