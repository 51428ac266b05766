import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Absence } from '../../peer/absence.ts'
import { ManualClock } from '../../src/core/clock.ts'

const never = () => new AbortController().signal

/** Fetches that wait in this absence, and when each of them went on. */
function fetches(absence: Absence, clock: ManualClock) {
  const wentOnMs: number[] = []
  const begin = (signal = never()) => absence.waited({ signal }).then(() => void wentOnMs.push(clock.now()))
  const pass = async (ms: number) => {
    for (let at = 0; at < ms; at += 10) {
      for (let turn = 0; turn < 10; turn++) await Promise.resolve()
      clock.advance(10)
    }
    for (let turn = 0; turn < 10; turn++) await Promise.resolve()
  }
  return { wentOnMs, begin, pass }
}

function anAbsence({ lost, chance = 1 }: { lost: boolean; chance?: number }) {
  const clock = new ManualClock()
  return { clock, absence: new Absence({ clock, random: () => chance, lost }) }
}

describe('Absence', () => {
  it('keeps no fetch waiting once a dial has failed, at the start of an agent', async () => {
    const { clock, absence } = anAbsence({ lost: false })
    absence.dialFailed()
    await absence.waited({ signal: never() })
    assert.equal(clock.now(), 0)
  })

  it('lets all fetches share one wait of a second at most while the first dial is under way', async () => {
    const { clock, absence } = anAbsence({ lost: false })
    const { wentOnMs, begin, pass } = fetches(absence, clock)
    const first = begin()
    await pass(600)
    const second = begin()
    await pass(400)
    await Promise.all([first, second])
    assert.deepEqual(wentOnMs, [1000, 1000])
    await begin()
    assert.equal(clock.now(), 1000)
  })

  it('ends the wait of a fetch with the dial', async () => {
    const { clock, absence } = anAbsence({ lost: false })
    const { wentOnMs, begin, pass } = fetches(absence, clock)
    const one = begin()
    await pass(100)
    absence.dialFailed()
    await one
    assert.deepEqual(wentOnMs, [100])
  })

  it('spreads over a second the hosts that lost the same supernode, and delays none of them after that', async () => {
    for (const [chance, atMs] of [
      [0, 0],
      [0.3, 300],
      [0.999, 1000],
    ] as const) {
      const { clock, absence } = anAbsence({ lost: true, chance })
      const { wentOnMs, begin, pass } = fetches(absence, clock)
      absence.dialFailed()
      const one = begin()
      await pass(1000)
      await one
      assert.deepEqual(wentOnMs, [atMs])
      await begin()
      assert.equal(clock.now(), 1000)
    }
  })

  it("rejects with a fetch's own end, and leaves the others waiting", async () => {
    const { clock, absence } = anAbsence({ lost: true })
    const { wentOnMs, begin, pass } = fetches(absence, clock)
    const leaving = new AbortController()
    const left = begin(leaving.signal)
    const stays = begin()
    leaving.abort(new Error('left'))
    await assert.rejects(left, /left/)
    assert.deepEqual(wentOnMs, [])
    await pass(1000)
    await stays
    assert.deepEqual(wentOnMs, [1000])
  })
})
