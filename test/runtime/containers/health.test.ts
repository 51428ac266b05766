import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { type Health, nextHealth } from '../../../runtime/containers/health.ts'

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
