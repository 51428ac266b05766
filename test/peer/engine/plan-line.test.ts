import assert from 'node:assert/strict'
import { type Action, PLAN_DEFAULTS, Plan } from '../../../peer/engine/plan.ts'
import { seededRandom } from '../../../src/base/clock.ts'
import { Bitmap } from '../../../src/task/bitmap.ts'

const PIECES = 400

/** The plan of a host in a line. */
function aPlan(pieces = PIECES): Plan<string> {
  const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces, pieceBytes: 65536 }, seededRandom(1))
  plan.pieceKnown(0, pieces)
  return plan
}

/** A parent that gets a piece each so many milliseconds, and gives one in the same time; a seed has all, and gives what others lack. */
interface Giver {
  readonly turn: number
  readonly everyMs: number
  readonly seed?: boolean
  readonly fromMs?: number
}

/** Plays a plan's parents until `untilMs`, or until it gives one up. Who was given up, when, and how much each gave. */
function play(plan: Plan<string>, givers: Record<string, Giver>, pieces: number, untilMs: number) {
  const all = new Map(
    Object.entries(givers).map(([id, giver]) => [id, { ...giver, has: 0, open: [] as number[], freeMs: 0, gave: 0 }]),
  )
  const here = new Set<number>()
  for (let nowMs = 0; nowMs <= untilMs; nowMs += 2) {
    for (const [id, one] of all) {
      const { fromMs = 0, everyMs, seed = false, turn } = one
      if (nowMs === fromMs) plan.parentJoined(id, seed ? undefined : new Bitmap(pieces), turn)
      if (nowMs < fromMs) continue
      const has = seed ? pieces : Math.min(pieces, Math.floor(nowMs / everyMs))
      if (has > one.has && !seed) plan.parentHaves(id, one.has, has - one.has)
      one.has = has
      if (one.open.length === 0 || nowMs < one.freeMs) continue
      const [asked = -1] = one.open
      let piece = asked
      if (piece < 0) {
        const under = new Set(plan.underWay)
        for (piece = seed ? pieces >> 1 : 0; here.has(piece) || under.has(piece); piece++);
      }
      if (piece >= has) continue
      one.open.shift()
      one.freeMs = nowMs + everyMs
      one.gave++
      if (asked < 0) plan.pieceOffered(id, piece, nowMs)
      plan.pieceStarted(id, piece, nowMs)
      plan.pieceArrived(id, piece, nowMs)
      here.add(piece)
    }
    if (nowMs % 100 === 0) plan.tick(nowMs)
    for (const action of plan.decide(nowMs)) {
      if (action.kind === 'replace') return { gone: action.parent, nowMs, gave: gaveOf(all) }
      if (action.kind === 'ask') all.get(action.parent)?.open.push(action.piece)
      if (action.kind === 'askAny') all.get(action.parent)?.open.push(-1)
    }
  }
  return { gone: undefined, nowMs: untilMs, gave: gaveOf(all) }
}

const gaveOf = (all: ReadonlyMap<string, { readonly gave: number }>): { readonly seed?: number } =>
  Object.fromEntries([...all].map(([id, { gave }]) => [id, gave]))

const askedOf = (actions: readonly Action<string>[]) =>
  actions.flatMap((action) => (action.kind === 'askAny' || action.kind === 'ask' ? [action.parent] : []))

describe('Plan in a line', () => {
  it('does not ask the second parent while the first may still open its channel', () => {
    const plan = aPlan()
    plan.parentJoined('second', new Bitmap(PIECES), 2)
    assert.deepEqual(plan.decide(0), [])
    assert.deepEqual(plan.decide(60), [])
    plan.parentJoined('first', new Bitmap(PIECES), 1)
    assert.deepEqual(new Set(askedOf(plan.decide(61))), new Set(['first']))
    assert.deepEqual(plan.decide(400), [])
  })

  it('asks the second parent when the first takes long to open its channel, or is gone', () => {
    const plan = aPlan()
    plan.parentJoined('second', new Bitmap(PIECES), 2)
    plan.decide(0)
    assert.deepEqual(new Set(askedOf(plan.decide(250))), new Set(['second']))
    const left = aPlan()
    left.parentJoined('first', new Bitmap(PIECES), 1)
    left.parentJoined('second', new Bitmap(PIECES), 2)
    left.decide(0)
    left.parentLeft('first')
    assert.deepEqual(new Set(askedOf(left.decide(1))), new Set(['second']))
  })

  it('has as many questions open as hide the way to its parent and back', () => {
    for (const [wayMs, expected] of [
      [4, 4],
      [60, 11],
      [2000, PLAN_DEFAULTS.maxInFlight],
    ] as const) {
      const plan = aPlan()
      plan.parentJoined('first', Bitmap.full(PIECES), 1)
      // when each open question was put
      const open = askedOf(plan.decide(0)).map(() => 0)
      assert.equal(open.length, 4)
      let nowMs = 0
      for (let piece = 0; piece < 80; piece++) {
        const fromMs = Math.max(nowMs, (open.shift() ?? Number.NaN) + wayMs)
        assert.equal(plan.pieceOffered('first', piece, fromMs), true)
        plan.pieceStarted('first', piece, fromMs)
        open.push(...askedOf(plan.decide(fromMs)).map(() => fromMs))
        nowMs = fromMs + 6
        plan.pieceArrived('first', piece, nowMs)
        open.push(...askedOf(plan.decide(nowMs)).map(() => nowMs))
      }
      assert.equal(open.length, expected, `${wayMs} ms`)
    }
  })

  it('gives up a first host that is slow, found by a piece of the seed, and leaves a fast one alone', () => {
    const seed = { turn: 2, everyMs: 8, seed: true }
    const slow = play(aPlan(1000), { first: { turn: 1, everyMs: 84 }, seed }, 1000, 3000)
    assert.equal(slow.gone, 'first')
    const fast = play(aPlan(1000), { first: { turn: 1, everyMs: 8 }, seed }, 1000, 3000)
    assert.equal(fast.gone, undefined)
    assert.equal(fast.gave.seed, 0)
    const long = play(aPlan(9000), { first: { turn: 1, everyMs: 8 }, seed }, 9000, 6000)
    assert.equal(long.gone, undefined)
    assert.ok((long.gave.seed ?? 0) <= 5)
  })

  it('gives up one that is slow behind another such, once one is known that is not', () => {
    const { gone, nowMs } = play(
      aPlan(1000),
      {
        first: { turn: 1, everyMs: 84 },
        second: { turn: 2, everyMs: 84 },
        third: { turn: 3, everyMs: 8, fromMs: 4000 },
      },
      1000,
      6000,
    )
    assert.equal(gone, 'first')
    assert.ok(nowMs < 5500)
  })

  it('asks the next parent while the first has far less than we have ourselves', () => {
    const plan = aPlan()
    plan.have(0, 100)
    plan.parentJoined('late', new Bitmap(PIECES), 1)
    plan.parentJoined('early', Bitmap.full(PIECES), 2)
    assert.deepEqual(new Set(askedOf(plan.decide(200))), new Set(['early']))
    plan.parentHaves('late', 0, 110)
    assert.ok(askedOf(plan.decide(300)).includes('late'))
  })
})
