import assert from 'node:assert/strict'
import { pickVictims, targetOf } from '../../../../src/store/blobs/collect.ts'

const one = (lastUsedMs: number, bytes: number, keep?: 'pinned' | 'leased' | 'in use') => ({ lastUsedMs, bytes, keep })

describe('pickVictims', () => {
  it('takes the least recently used until the target is met, and no more', () => {
    const all = [one(3, 10), one(1, 10), one(2, 10)]
    assert.deepEqual(
      pickVictims(all, 30, 15).map((victim) => victim.lastUsedMs),
      [1, 2],
    )
    assert.deepEqual(
      pickVictims(all, 30, 20).map((victim) => victim.lastUsedMs),
      [1],
    )
    assert.deepEqual(pickVictims(all, 30, 30), [])
  })

  it('passes over what must stay, even when the target is out of reach', () => {
    const all = [one(1, 10, 'pinned'), one(2, 10, 'leased'), one(3, 10, 'in use'), one(4, 10)]
    assert.deepEqual(
      pickVictims(all, 40, 0).map((victim) => victim.lastUsedMs),
      [4],
    )
  })

  it('prefers the larger of two that were used at the same time', () => {
    assert.deepEqual(
      pickVictims([one(1, 5), one(1, 50)], 55, 40).map((victim) => victim.bytes),
      [50],
    )
  })
})

describe('targetOf', () => {
  const marks = { highBytes: 90, lowBytes: 75 }
  it('asks for nothing up to the high mark, and for the low one above', () => {
    assert.equal(targetOf(90, marks), 90)
    assert.equal(targetOf(91, marks), 75)
  })
})
