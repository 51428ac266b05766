import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { LeadTurns } from '../../../peer/downloader/lead-turns.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { never } from '../../fixtures/store/a-store.ts'

function someTurns(atWork: () => number) {
  const clock = new ManualClock(1000)
  return { clock, turns: new LeadTurns({ clock, atWork }) }
}

/** Lets a promise that waits for nothing but others go on. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

describe('LeadTurns', () => {
  it('lets the earlier layer go first, whichever began first, and the next one when that has come', async () => {
    const { turns } = someTurns(() => 1)
    const third = turns.begin(3)
    const first = turns.begin(1)
    const nowhere = turns.begin()
    const second = turns.begin(2)
    assert.deepEqual(
      [first, second, third, nowhere].map(({ waits }) => waits),
      [false, true, true, true],
    )
    const came: string[] = []
    const coming = [
      third.come({ signal: never() }).then(() => came.push('third')),
      second.come({ signal: never() }).then(() => came.push('second')),
      nowhere.come({ signal: never() }).then(() => came.push('nowhere')),
    ]
    await settled()
    assert.deepEqual(came, [])
    for (const turn of [first, second, third]) {
      turn[Symbol.dispose]()
      await settled()
    }
    await Promise.all(coming)
    assert.deepEqual(came, ['second', 'third', 'nowhere'])
  })

  it('lets the one that began first go first where their order says nothing', () => {
    const { turns } = someTurns(() => 1)
    const [one, other] = [turns.begin(1), turns.begin(1)]
    assert.deepEqual([one.waits, other.waits], [false, true])
  })

  it('keeps none waiting while this thread has time to spare', async () => {
    let atWork = 0.5
    const { turns, clock } = someTurns(() => atWork)
    turns.begin(1)
    const second = turns.begin(2)
    assert.equal(second.waits, false)
    atWork = 1
    clock.advance(10)
    assert.equal(second.waits, true)
    const coming = second.come({ signal: never() })
    atWork = 0.5
    clock.advance(10)
    await coming
  })

  it('keeps none waiting for long', async () => {
    const { turns, clock } = someTurns(() => 1)
    turns.begin(1)
    const second = turns.begin(2)
    let came = false
    const coming = second.come({ signal: never() }).then(() => {
      came = true
    })
    for (let ms = 0; ms < 2_900; ms += 10) {
      clock.advance(10)
      await settled()
    }
    assert.equal(came, false)
    for (let ms = 0; ms < 100; ms += 10) {
      clock.advance(10)
      await settled()
    }
    await coming
    assert.equal(second.waits, false)
  })

  it('keeps none waiting whom nobody waits for any more', async () => {
    const { turns } = someTurns(() => 1)
    turns.begin(1)
    const left = new AbortController()
    const coming = turns.begin(2).come({ signal: left.signal })
    left.abort(new Error('the client left'))
    await assert.rejects(coming, /the client left/)
  })
})
