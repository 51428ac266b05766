import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { Containers } from '../../../runtime/containers/containers.ts'
import type { Entry } from '../../../runtime/containers/entry.ts'
import type { Execs } from '../../../runtime/containers/execs.ts'
import {
  checkOf,
  type Health,
  HealthMonitor,
  LEAST_IMAGE_INTERVAL_MS,
  nextHealth,
  nextPauseMs,
} from '../../../runtime/containers/health.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { silentLog } from '../../../src/core/log.ts'

const start: Health = { status: 'starting', failingStreak: 0 }
const late = { inStartPeriod: false, retries: 2 }

describe('nextHealth', () => {
  it('is unhealthy after as many failures in a row as there are retries', () => {
    const once = nextHealth(start, false, late)
    assert.deepEqual(once, { status: 'starting', failingStreak: 1 })
    assert.deepEqual(nextHealth(once, false, late), { status: 'unhealthy', failingStreak: 2 })
    assert.deepEqual(nextHealth({ status: 'unhealthy', failingStreak: 9 }, true, late), {
      status: 'healthy',
      failingStreak: 0,
    })
  })

  it('forgives failures in the start period, until the first success', () => {
    const early = { inStartPeriod: true, retries: 1 }
    assert.deepEqual(nextHealth(start, false, early), start)
    const healthy = nextHealth(start, true, early)
    assert.equal(nextHealth(healthy, false, early).status, 'unhealthy')
  })
})

describe('checkOf', () => {
  const ofImage = (health: object | undefined) => {
    const Healthcheck = { Test: ['CMD', 'true'], Interval: 1e6, StartInterval: 1e6, StartPeriod: 5e9, Timeout: 1e6 }
    const record = { request: { image: 'x', ...(health ? { health } : {}) }, imageConfig: { config: { Healthcheck } } }
    return checkOf({ record } as unknown as Entry)
  }

  it('lets an image ask for a check each second at most, since each is a process', () => {
    const { intervalMs, startIntervalMs, startPeriodMs, timeoutMs } = ofImage(undefined) ?? assert.fail()
    assert.deepEqual([intervalMs, startIntervalMs], [LEAST_IMAGE_INTERVAL_MS, LEAST_IMAGE_INTERVAL_MS])
    assert.deepEqual([startPeriodMs, timeoutMs], [5000, 1])
  })

  it('leaves the flags of a container as they are', () => {
    assert.equal(ofImage({ test: ['INHERIT'], intervalMs: 50 })?.intervalMs, 50)
    assert.equal(ofImage({ test: ['CMD', 'x'], intervalMs: 50 })?.intervalMs, 50)
  })
})

describe('nextPauseMs', () => {
  const check = { test: ['CMD', 'true'], intervalMs: 30_000, startPeriodMs: 60_000, startIntervalMs: 2000 }

  it('is the start interval while it is starting within the start period, where one was asked for', () => {
    assert.equal(nextPauseMs(start, 0, check), 2000)
    assert.equal(nextPauseMs(start, 60_000, check), 30_000)
    assert.equal(nextPauseMs({ status: 'healthy', failingStreak: 0 }, 0, check), 30_000)
    const { startIntervalMs: _none, ...plain } = check
    assert.equal(nextPauseMs(start, 0, plain), 30_000)
  })
})

describe('HealthMonitor', () => {
  it('keeps results for as long as the container is there, and not for one that was removed', async () => {
    const clock = new ManualClock()
    const told = new Map<string, PromiseWithResolvers<void>>()
    const containers = {
      setHealth: async ({ id }: Entry) => told.get(id)?.resolve(),
    }
    const execs = {
      create: () => assert.fail('no shell'),
    }
    await using monitor = new HealthMonitor({
      containers: containers as unknown as Containers,
      execs: execs as unknown as Execs,
      clock,
      log: silentLog(),
    })
    const anEntry = (id: string) =>
      ({
        id,
        record: { status: 'running', request: { health: { test: ['CMD', 'true'] } }, imageConfig: {} },
      }) as unknown as Entry
    const begin = async (id: string) => {
      const begun = Promise.withResolvers<void>()
      told.set(id, begun)
      monitor.started(anEntry(id))
      await begun.promise
    }
    await begin('first')
    const checked = Promise.withResolvers<void>()
    told.set('first', checked)
    await new Promise((resolve) => setImmediate(resolve))
    clock.advance(30_000)
    await checked.promise
    monitor.ended(anEntry('first'))
    await begin('second')
    assert.equal(monitor.results('first').length, 1, 'it may be inspected still')
    monitor.removed(anEntry('first'))
    assert.deepEqual(monitor.results('first'), [])
  })
})
