import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { ManualClock } from '../../../../src/core/clock.ts'
import { RateLimits } from '../../../../src/exchange/limits/limits.ts'

const never = new AbortController().signal
const flow = { direction: 'in', priority: 'interactive', task: 't', peer: 'p', signal: never } as const

/** Steps the clock and lets what it woke run. */
async function step(clock: ManualClock, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 5) {
    clock.advance(5)
    await setImmediate()
  }
}

describe('RateLimits', () => {
  it('costs nothing where nothing is limited', async () => {
    await using limits = new RateLimits({ clock: new ManualClock() })
    assert.equal(limits.take(1e9, flow), undefined)
    limits.set({ on: 'task', task: 'another' }, { bytesPerSec: 10 })
    assert.equal(limits.take(1e9, flow), undefined)
  })

  it('lets bytes go at the pace of the limit', async () => {
    const clock = new ManualClock()
    await using limits = new RateLimits({ clock })
    limits.set({ on: 'host' }, { bytesPerSec: 100_000 })
    let moved = 0
    const ended = new AbortController()
    const mover = (async () => {
      for (;;) {
        await limits.take(1000, { ...flow, signal: ended.signal })
        moved += 1000
      }
    })().catch(() => undefined)
    await step(clock, 2000)
    ended.abort()
    await mover
    assert.ok(moved >= 190_000 && moved <= 210_000, `${moved} bytes in 2 s`)
  })

  it('wakes those who wait when a limit is lifted', async () => {
    await using limits = new RateLimits({ clock: new ManualClock() })
    limits.set({ on: 'host' }, { bytesPerSec: 1 })
    await limits.take(1_000_000, flow) // the first may overdraw
    const waiting = limits.take(1, flow)
    let heard = 0
    limits.onChange(() => heard++)
    limits.set({ on: 'host' }, undefined)
    await waiting
    assert.equal(heard, 1)
  })

  it('gives up with the reason of the caller, and takes nothing', async () => {
    const clock = new ManualClock()
    await using limits = new RateLimits({ clock })
    limits.set({ on: 'host' }, { bytesPerSec: 1000 })
    await limits.take(2000, flow)
    const caller = new AbortController()
    const waiting = limits.take(1_000_000, { ...flow, signal: caller.signal })
    caller.abort(new Error('enough'))
    await assert.rejects(async () => waiting, /enough/)
    await assert.rejects(async () => limits.take(1, { ...flow, signal: caller.signal }), /enough/)
    const next = limits.take(1, flow)
    await step(clock, 1100)
    await next
  })

  it('ends all waits when it is closed', async () => {
    const limits = new RateLimits({ clock: new ManualClock() })
    limits.set({ on: 'host' }, { bytesPerSec: 1 })
    await limits.take(5000, flow)
    const waiting = limits.take(1, flow)
    await limits[Symbol.asyncDispose]()
    await assert.rejects(async () => waiting)
  })
})
