import assert from 'node:assert/strict'
import { Outcome } from '../../../src/core/outcome.ts'

const never = new AbortController().signal

describe('Outcome', () => {
  it('is told to all who wait, and who asks later; only the first counts', async () => {
    const outcome = new Outcome<number>()
    const early = [outcome.wait({ signal: never }), outcome.wait({ signal: never })]
    outcome.resolve(1)
    outcome.resolve(2)
    outcome.reject(new Error('late'))
    assert.deepEqual(await Promise.all([...early, outcome.wait({ signal: never })]), [1, 1, 1])
    assert.equal(outcome.waits, 0)
  })

  it('may be a failure that nobody waits for', async () => {
    const outcome = new Outcome<number>()
    outcome.reject(new Error('removed'))
    await assert.rejects(outcome.wait({ signal: never }), /removed/)
  })

  it('keeps nothing of who stopped waiting', async () => {
    const outcome = new Outcome<number>()
    const left = new AbortController()
    const waits = Array.from({ length: 100 }, () => outcome.wait({ signal: left.signal }))
    assert.equal(outcome.waits, 100)
    left.abort(new Error('the client left'))
    for (const one of waits) await assert.rejects(one, /the client left/)
    assert.equal(outcome.waits, 0)
    await assert.rejects(outcome.wait({ signal: left.signal }), /the client left/)
  })
})
