import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { ManualClock } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import { plainText, ToldReads } from '../../supernode/told-reads.ts'

const [ONE, TWO] = ['one', 'two'] as PeerId[] as [PeerId, PeerId]

describe('what hosts tell of their own reads (row 16)', () => {
  it('is taken of each host at a bounded rate, after a burst', () => {
    const clock = new ManualClock()
    const told = new ToldReads({ clock })
    const taken = (peer: PeerId, tries: number) => Array.from({ length: tries }, () => told.takes(peer)).filter(Boolean)
    assert.equal(taken(ONE, 5000).length, 2048)
    assert.equal(taken(TWO, 3).length, 3)
    clock.advance(1000)
    assert.equal(taken(ONE, 5000).length, 10)
  })

  it('is one line that moves no cursor', () => {
    assert.equal(plainText('ORIGIN_FAILED: a\nb\u001b[2J\u202Ec\u2028d'), 'ORIGIN_FAILED: a b [2J c d')
  })
})
