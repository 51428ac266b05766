import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { GetRates } from '../../peer/get-rates.ts'
import { ManualClock } from '../../src/core/clock.ts'
import { RateLimits } from '../../src/exchange/limits/limits.ts'

const limitsOf = (limits: RateLimits) =>
  limits.list().map(({ scope, limit }) => [scope.on === 'task' ? scope.task : scope.on, limit.bytesPerSec])

describe('GetRates', () => {
  it('holds a task to the fastest wish of those who read it, and lifts it for one who has none', async () => {
    await using limits = new RateLimits({ clock: new ManualClock() })
    const rates = new GetRates(limits)
    const slow = rates.wish('a', 10)
    const faster = rates.wish('a', 20)
    const other = rates.wish('b', 5)
    assert.deepEqual(limitsOf(limits).sort(), [
      ['a', 20],
      ['b', 5],
    ])
    const eager = rates.wish('a', undefined)
    assert.deepEqual(limitsOf(limits), [['b', 5]])
    eager[Symbol.dispose]()
    faster[Symbol.dispose]()
    other[Symbol.dispose]()
    assert.deepEqual(limitsOf(limits), [['a', 10]])
    slow[Symbol.dispose]()
    assert.deepEqual(limitsOf(limits), [])
  })

  it('leaves a limit alone that was set by command, and readers without a wish to themselves', async () => {
    await using limits = new RateLimits({ clock: new ManualClock() })
    const rates = new GetRates(limits)
    limits.set({ on: 'task', task: 'a' }, { bytesPerSec: 7 })
    for (const wish of [rates.wish('a', 100), rates.wish('b', undefined)]) wish[Symbol.dispose]()
    assert.deepEqual(limitsOf(limits), [['a', 7]])
  })
})
