import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { ManualClock } from '../../../../src/core/clock.ts'
import {
  LEAST_BYTES_PER_SEC,
  Pace,
  type RoundTrip,
  SpareRate,
  TARGET_MS,
} from '../../../../src/exchange/limits/pace.ts'

const never = new AbortController().signal
const LOOKS_PER_SEC = 20
const LINK = 12.5e6

/** A link with a queue of 50 ms at most, on which others send at a fixed rate. */
class Link {
  queueMs = 0
  othersBytesPerSec = 0

  /** One look of a sender that sends by `rate`; what got through, in bytes per second. */
  look(rate: SpareRate): number {
    const wanted = rate.bytesPerSec + this.othersBytesPerSec
    this.queueMs = Math.min(50, Math.max(0, this.queueMs + ((wanted - LINK) / LINK) * (1000 / LOOKS_PER_SEC)))
    const sent = Math.min(rate.bytesPerSec, (rate.bytesPerSec / wanted) * LINK)
    rate.look(this.queueMs, sent)
    return sent
  }

  /** The mean over some seconds. */
  mean(rate: SpareRate, seconds: number): number {
    let sum = 0
    for (let look = 0; look < seconds * LOOKS_PER_SEC; look++) sum += this.look(rate)
    return sum / (seconds * LOOKS_PER_SEC)
  }
}

describe('SpareRate', () => {
  it('fills a link that nobody else uses, all but a tenth, and keeps its queue short', () => {
    const [link, rate] = [new Link(), new SpareRate()]
    link.mean(rate, 2)
    assert.ok(link.mean(rate, 10) > 0.9 * LINK)
    let longest = 0
    for (let look = 0; look < 200; look++) {
      link.look(rate)
      longest = Math.max(longest, link.queueMs)
    }
    assert.ok(longest < 6 * TARGET_MS, `${longest} ms`)
  })

  it('takes what a steady stream leaves', () => {
    const [link, rate] = [new Link(), new SpareRate()]
    link.othersBytesPerSec = 0.6 * LINK
    link.mean(rate, 2)
    const mean = link.mean(rate, 10)
    assert.ok(mean > 0.3 * LINK && mean <= 0.4 * LINK, `${mean / LINK} of the link`)
  })

  it('leaves the link to a stream that fills queues, within seconds, and takes it back when that is over', () => {
    const [link, rate] = [new Link(), new SpareRate()]
    link.mean(rate, 3)
    for (let look = 0; look < 3 * LOOKS_PER_SEC; look++) rate.look(30, rate.bytesPerSec)
    assert.equal(rate.bytesPerSec, LEAST_BYTES_PER_SEC)
    link.queueMs = 0
    link.mean(rate, 2)
    assert.ok(link.mean(rate, 2) > 0.8 * LINK)
  })

  it('learns nothing from a rate that is not used', () => {
    const rate = new SpareRate()
    const before = rate.bytesPerSec
    for (let look = 0; look < 100; look++) rate.look(0, before / 10)
    assert.equal(rate.bytesPerSec, before)
  })
})

describe('Pace', () => {
  /** Sends for `ms` by `pace`, as much as it lets; how many bytes that were. */
  async function sent(pace: Pace, clock: ManualClock, ms: number): Promise<number> {
    let bytes = 0
    const ended = new AbortController()
    const sender = (async () => {
      for (;;) {
        const chunk = Math.min(pace.chunkBytes, 1024 * 1024)
        await pace.take(chunk, { signal: ended.signal })
        ended.signal.throwIfAborted()
        bytes += chunk
      }
    })().catch(() => undefined)
    for (let at = 0; at < ms; at += 2) {
      clock.advance(2)
      await setImmediate()
    }
    ended.abort()
    await sender
    return bytes
  }

  it('sends no more than its least rate while bytes wait in a queue, and more when they do not', async () => {
    const clock = new ManualClock()
    let trip: RoundTrip = { nowMs: 40, leastMs: 1 }
    const pace = new Pace({ clock, roundTrip: () => trip })
    await sent(pace, clock, 3000)
    const held = await sent(pace, clock, 2000)
    assert.ok(held <= 2.2 * LEAST_BYTES_PER_SEC && held >= 1.8 * LEAST_BYTES_PER_SEC, `${held} bytes in 2 s`)
    trip = { nowMs: 1, leastMs: 1 }
    await sent(pace, clock, 1000)
    assert.ok((await sent(pace, clock, 1000)) > 8 * LEAST_BYTES_PER_SEC)
  })

  it('begins anew after a pause, though the kernel still says what was before it', async () => {
    const clock = new ManualClock()
    const pace = new Pace({ clock, roundTrip: () => ({ nowMs: 40, leastMs: 1 }) })
    await sent(pace, clock, 3000)
    const before = await sent(pace, clock, 160)
    clock.advance(5000)
    const after = await sent(pace, clock, 160)
    assert.ok(before < 2 * 0.16 * LEAST_BYTES_PER_SEC && after > 5 * 0.16 * LEAST_BYTES_PER_SEC, `${before}, ${after}`)
  })

  it('holds nothing back where nobody can tell how long bytes take', () => {
    const pace = new Pace({ clock: new ManualClock(), roundTrip: () => undefined })
    assert.equal(pace.chunkBytes, Number.POSITIVE_INFINITY)
    assert.equal(pace.take(1e12, { signal: never }), undefined)
    assert.equal(pace.take(1e12, { signal: never }), undefined)
  })

  it('remembers the shortest way though the kernel forgot it, and takes to a longer one in half an hour', async () => {
    const clock = new ManualClock()
    let trip: RoundTrip = { nowMs: 1, leastMs: 1 }
    const pace = new Pace({ clock, roundTrip: () => trip })
    await sent(pace, clock, 200)
    trip = { nowMs: 40, leastMs: 40 }
    clock.advance(10 * 60_000)
    await sent(pace, clock, 4000)
    assert.ok((await sent(pace, clock, 1000)) < 1.2 * LEAST_BYTES_PER_SEC)
    for (const minutes of [10, 20]) {
      clock.advance(minutes * 60_000)
      await sent(pace, clock, 200)
    }
    await sent(pace, clock, 2000)
    assert.ok((await sent(pace, clock, 1000)) > 8 * LEAST_BYTES_PER_SEC)
  })

  it('gives up with the reason of the caller', async () => {
    const clock = new ManualClock()
    const pace = new Pace({ clock, roundTrip: () => ({ nowMs: 1, leastMs: 1 }) })
    const caller = new AbortController()
    void pace.take(10 * 1024 * 1024, { signal: caller.signal })
    const waiting = pace.take(1, { signal: caller.signal })
    assert.ok(waiting)
    caller.abort(new Error('enough'))
    await assert.rejects(waiting, /enough/)
  })
})
