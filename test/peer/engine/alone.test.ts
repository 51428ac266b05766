import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { unlessAlone } from '../../../peer/engine/alone.ts'
import { ManualClock } from '../../../src/base/clock.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

/** Moves a clock on by steps, letting what wakes run in between. */
async function pass(clock: ManualClock, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 100) {
    clock.advance(100)
    for (let turn = 0; turn < 10; turn++) await Promise.resolve()
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
}

describe('unlessAlone', () => {
  it('ends a fetch that stands still without a supernode', async () => {
    const clock = new ManualClock()
    const parts = { connected: () => false, have: () => 3, clock }
    const running = unlessAlone(500, parts, aborted, { signal: new AbortController().signal })
    const failed = failsWith('TASK_FAILED', running, /supernode is gone/)
    await pass(clock, 700)
    await failed
  })

  it('lets go on what has a supernode, or still gets pieces', async () => {
    for (const growing of [true, false]) {
      const clock = new ManualClock()
      let have = 0
      const parts = { connected: () => !growing, have: () => (growing ? have++ : have), clock }
      const done = Promise.withResolvers<string>()
      const running = unlessAlone(500, parts, (signal) => Promise.race([done.promise, aborted(signal)]), {
        signal: new AbortController().signal,
      })
      await pass(clock, 5000)
      done.resolve('whole')
      assert.equal(await running, 'whole')
    }
  })

  it("passes on the owner's own end, and the work's own failure", async () => {
    const clock = new ManualClock()
    const parts = { connected: () => false, have: () => 0, clock }
    const owner = new AbortController()
    const running = unlessAlone(500, parts, aborted, { signal: owner.signal })
    owner.abort(new Error('left'))
    await assert.rejects(running, /left/)
    const failing = unlessAlone(500, parts, () => Promise.reject(new Error('broken')), {
      signal: new AbortController().signal,
    })
    await assert.rejects(failing, /broken/)
  })
})
