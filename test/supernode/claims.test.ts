import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { Claims } from '../../supernode/claims.ts'

const [ONE, TWO, THREE] = ['one', 'two', 'three'] as PeerId[] as [PeerId, PeerId, PeerId]
const task = (name: string) => name as TaskId

/** Claims with small bounds; what is dropped is on record. */
function someClaims(options = { perHost: 4, inAll: 6 }) {
  const proven = new Set<TaskId>()
  const dropped: string[] = []
  const claims = new Claims(options, {
    proven: (one) => proven.has(one),
    drop: (peer, one) => dropped.push(`${peer} ${one}`),
  })
  const take = (peer: PeerId, ...names: string[]) => names.map((name) => claims.take(peer, task(name)))
  return { claims, proven, dropped, take }
}

describe('claims (row 7)', () => {
  it('counts so many of one host, and no more', () => {
    const { claims, take } = someClaims()
    assert.deepEqual(take(ONE, 'a', 'b', 'c', 'd', 'e', 'a'), [true, true, true, true, false, true])
    assert.equal(claims.size, 4)
  })

  it('counts nothing that is proven, also what was proven since', () => {
    const { claims, proven, take } = someClaims()
    proven.add(task('p'))
    take(ONE, 'p', 'a', 'b', 'c', 'd')
    assert.equal(claims.size, 4)
    proven.add(task('a'))
    assert.deepEqual(take(ONE, 'e'), [true])
    assert.equal(claims.size, 4)
  })

  it('takes them all from the host with the most when there are too many in all', () => {
    const { claims, dropped, take } = someClaims()
    take(ONE, 'a', 'b', 'c')
    take(TWO, 'd', 'e')
    assert.deepEqual(take(THREE, 'f', 'g'), [true, true])
    assert.deepEqual(dropped, ['one a', 'one b', 'one c'])
    assert.equal(claims.size, 4)
  })

  it('takes them from the one that claims just now, if that has the most', () => {
    const { dropped, take } = someClaims()
    take(ONE, 'a', 'b', 'c')
    assert.deepEqual(take(TWO, 'd', 'e', 'f', 'g'), [true, true, true, false])
    assert.deepEqual(dropped, ['two d', 'two e', 'two f', 'two g'])
  })

  it('counts a blob that several hosts claim once, until the last of them has gone', () => {
    const { claims, take } = someClaims()
    take(ONE, 'a', 'b')
    take(TWO, 'a', 'b')
    assert.equal(claims.size, 2)
    claims.gone(ONE)
    claims.forget(TWO, task('a'))
    assert.equal(claims.size, 1)
    claims.gone(TWO)
    assert.equal(claims.size, 0)
  })
})
