import assert from 'node:assert/strict'
import { seededRandom } from '../../../src/core/clock.ts'
import { type Code, DarnerError } from '../../../src/core/errors.ts'
import { RETRY_LIMITS, retryPlan } from '../../../src/origin/retry-plan.ts'

const failed = (code: Code, options = {}) => new DarnerError(code, 'x', options)
const least = () => 0
const most = () => 1 - Number.EPSILON

describe('retryPlan', () => {
  it('waits a random share of a span that doubles up to a cap', () => {
    const spans = [1, 2, 3, 4, 5].map((attempt) => [
      retryPlan(failed('ORIGIN_FAILED'), attempt, least),
      retryPlan(failed('ORIGIN_FAILED'), attempt, most),
    ])
    assert.deepEqual(spans, [
      [125, 250],
      [250, 500],
      [500, 1000],
      [1000, 2000],
      [2000, 4000],
    ])
    assert.equal(retryPlan(failed('ORIGIN_FAILED'), 19, most, { ...RETRY_LIMITS, attempts: 20 }), RETRY_LIMITS.capMs)
  })

  it('spreads many waiters', () => {
    const random = seededRandom(7)
    const waits = new Set(
      Array.from({ length: 100 }, () => retryPlan(failed('ORIGIN_BUSY', { retryAfterMs: 5000 }), 3, random)),
    )
    assert.ok(waits.size > 80)
    for (const wait of waits) assert.ok(wait !== undefined && wait >= 5500 && wait <= 6000)
  })

  it('waits out a Retry-After, within its bound', () => {
    assert.equal(retryPlan(failed('ORIGIN_BUSY', { retryAfterMs: 7000 }), 1, least), 7125)
    assert.equal(
      retryPlan(failed('ORIGIN_BUSY', { retryAfterMs: 3_600_000 }), 1, least),
      RETRY_LIMITS.capRetryAfterMs + 125,
    )
  })

  it('gives up when attempts are used up, and on what a retry can not mend', () => {
    assert.equal(retryPlan(failed('ORIGIN_FAILED'), RETRY_LIMITS.attempts, least), undefined)
    const hopeless = [
      failed('ORIGIN_NOT_FOUND'),
      failed('ORIGIN_UNAUTHORIZED'),
      failed('ORIGIN_DENIED'),
      failed('ORIGIN_FORBIDDEN'),
      failed('INTERRUPTED'),
    ]
    for (const error of [
      ...hopeless,
      failed('ORIGIN_FAILED', { details: { status: 400 } }),
      failed('DISK_FULL'),
      new Error('x'),
      undefined,
    ]) {
      assert.equal(retryPlan(error, 1, least), undefined)
    }
    const hopeful = [
      failed('ORIGIN_UNREACHABLE'),
      failed('ORIGIN_TRUNCATED'),
      failed('TIMED_OUT'),
      failed('ORIGIN_FAILED', { details: { status: 502 } }),
    ]
    for (const error of hopeful) assert.equal(retryPlan(error, 1, least), 125)
  })
})
