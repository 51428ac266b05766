import assert from 'node:assert/strict'
import { ManualClock } from '../../../src/core/clock.ts'
import { Turns } from '../../../src/protocol/turns.ts'

const never = new AbortController().signal

/** Turns of a thread that is as busy as `load.share` says, with a clock that is moved by hand. */
function someTurns() {
  const clock = new ManualClock()
  const load = { share: 0 }
  const turns = new Turns({ clock, busy: () => load.share })
  const given: string[] = []
  const ask = (address: string, gone: AbortSignal = never) =>
    void turns.take(address, gone).then((mine) => void given.push(mine ? address : `${address} left`))
  /** Lets `steps` steps of 20 ms pass. */
  const pass = async (steps: number) => {
    for (let step = 0; step < steps; step++) {
      clock.advance(20)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { load, given, ask, pass }
}

describe('Turns', () => {
  it('gives a turn to an address that asks once before most of one that asks a thousand times', async () => {
    const { given, ask, pass } = someTurns()
    for (let n = 0; n < 1000; n++) ask('flood')
    ask('honest')
    await pass(1)
    assert.ok(given.includes('honest'), given.join())
    assert.equal(given.length, 8, 'four at once, and four more after a step')
    await pass(400)
    assert.equal(given.length, 1001)
  })

  it('gives few turns while the thread is busy, but never none', async () => {
    const { load, given, ask, pass } = someTurns()
    load.share = 1
    for (let n = 0; n < 100; n++) ask('crowd')
    await pass(0)
    assert.equal(given.length, 4)
    await pass(100)
    assert.equal(given.length, 14)
    load.share = 0
    await pass(30)
    assert.equal(given.length, 100)
  })

  it('gives no turn to a connection that is gone', async () => {
    const { given, ask, pass } = someTurns()
    for (let n = 0; n < 4; n++) ask('first')
    const gone = new AbortController()
    ask('gone', gone.signal)
    ask('last')
    gone.abort()
    await pass(2)
    assert.deepEqual(given.slice(4).sort(), ['gone left', 'last'])
  })
})
