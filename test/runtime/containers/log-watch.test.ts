import assert from 'node:assert/strict'
import { FAST_LOOK_MS, nextLookMs, SLOW_LOOK_MS } from '../../../runtime/containers/log-watch.ts'

const MAX = 1_000_000

describe('nextLookMs', () => {
  it('leaves a log alone that does not grow, and hurries after one that was never looked at', () => {
    assert.equal(nextLookMs(undefined, { at: 0, bytes: 0 }, MAX), FAST_LOOK_MS)
    assert.equal(nextLookMs({ at: 0, bytes: 5 }, { at: 1000, bytes: 5 }, MAX), SLOW_LOOK_MS)
  })

  it('looks before a log that grows evenly has taken what it may', () => {
    for (const perMs of [10, 100, 1000, 2000]) {
      let look = { at: 0, bytes: 0 }
      let most = 0
      for (let round = 0, wait = FAST_LOOK_MS; round < 100; round++) {
        const now = { at: look.at + wait, bytes: look.bytes + perMs * wait }
        most = Math.max(most, now.bytes)
        wait = nextLookMs(look, now, MAX)
        look = now.bytes > MAX ? { at: now.at, bytes: 0 } : now
      }
      assert.ok(most <= MAX + perMs * FAST_LOOK_MS, `${perMs} bytes/ms: ${most}`)
    }
  })

  it('counts what came after a rotation', () => {
    assert.equal(nextLookMs({ at: 0, bytes: MAX }, { at: 100, bytes: 1e5 }, MAX), 450)
  })
})
