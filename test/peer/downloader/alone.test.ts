import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { unlessAlone, untilBack } from '../../../peer/downloader/alone.ts'
import { ManualClock } from '../../../src/core/clock.ts'
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
    const parts = { connected: () => false, have: () => 3, neighbours: () => 0, clock }
    const running = unlessAlone(500, parts, aborted, { signal: new AbortController().signal })
    const failed = failsWith('TASK_FAILED', running, /supernode is gone/)
    await pass(clock, 700)
    await failed
  })

  it('gives hosts that still know each other the time in which one of them reads for all', async () => {
    const clock = new ManualClock()
    const parts = { connected: () => false, have: () => 3, neighbours: () => 2, clock }
    let over = false
    const running = unlessAlone(500, parts, aborted, { signal: new AbortController().signal }).finally(() => {
      over = true
    })
    const failed = failsWith('TASK_FAILED', running, /supernode is gone/)
    await pass(clock, 29_000)
    assert.equal(over, false)
    await pass(clock, 2_000)
    await failed
  })

  it('lets go on what has a supernode, or still gets pieces', async () => {
    for (const growing of [true, false]) {
      const clock = new ManualClock()
      let have = 0
      const parts = { connected: () => !growing, have: () => (growing ? have++ : have), neighbours: () => 0, clock }
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
    const parts = { connected: () => false, have: () => 0, neighbours: () => 0, clock }
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

describe('untilBack', () => {
  it('hands a read back once there has been a supernode for so long', async () => {
    const clock = new ManualClock()
    let connected = false
    const { signal } = new AbortController()
    let over: string | undefined
    const running = untilBack(1_000, { connected: () => connected, clock }, aborted, { signal }).then((how) => {
      over = how as string
    })
    await pass(clock, 5_000)
    connected = true
    await pass(clock, 800)
    connected = false
    await pass(clock, 800)
    connected = true
    await pass(clock, 800)
    assert.equal(over, undefined, 'a supernode that came and went is no way back')
    await pass(clock, 500)
    await running
    assert.equal(over, 'handedBack')
  })

  it('leaves what is done, what fails by itself, and what nobody wants any more, as they are', async () => {
    const clock = new ManualClock()
    const parts = { connected: () => false, clock }
    const own = new AbortController()
    const { signal } = own
    assert.deepEqual(await untilBack(1_000, parts, async () => 'whole', { signal }), { done: 'whole' })
    const broken = untilBack(1_000, parts, () => Promise.reject(new Error('origin broke')), { signal })
    await assert.rejects(broken, /origin broke/)
    const left = untilBack(1_000, parts, aborted, { signal })
    own.abort(new Error('nobody reads'))
    await assert.rejects(left, /nobody reads/)
  })
})
