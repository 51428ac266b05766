import assert from 'node:assert/strict'
import { type Action, PLAN_DEFAULTS, Plan } from '../../../peer/downloader/plan.ts'
import { seededRandom } from '../../../src/core/clock.ts'
import { Bitmap } from '../../../src/core/task/bitmap.ts'

const PIECES = 400

/** The plan of a host in a line, and what it does. */
function aPlan(): Plan<string> {
  const plan = new Plan<string>({ ...PLAN_DEFAULTS, pieces: PIECES, pieceBytes: 65536 }, seededRandom(1))
  plan.pieceKnown(0, PIECES)
  return plan
}

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
})
