import assert from 'node:assert/strict'
import { type RecentOf, RecentPieces } from '../../../../src/store/partial/recent-pieces.ts'

describe('RecentPieces', () => {
  it('keeps as many bytes as it may over all tasks, and gives back what came first', () => {
    const recent = new RecentPieces({ mostBytes: 250 })
    const [a, b]: [RecentOf, RecentOf] = [new Map(), new Map()]
    const released: number[] = []
    const keep = (of: RecentOf, piece: number) =>
      recent.keep(of, piece, new Uint8Array(100), () => released.push(piece))
    keep(a, 0)
    keep(b, 1)
    assert.deepEqual(released, [])
    keep(a, 2)
    assert.deepEqual(released, [0])
    assert.deepEqual([...a.keys(), ...b.keys()], [2, 1])
    recent.dropAll(a)
    assert.deepEqual(released, [0, 2])
    keep(b, 3)
    assert.deepEqual(released, [0, 2])
  })

  it('gives back at once what it has already, and what is larger than all it may keep', () => {
    const recent = new RecentPieces({ mostBytes: 250 })
    const of: RecentOf = new Map()
    const released: Uint8Array[] = []
    const [first, again, large] = [new Uint8Array(10), new Uint8Array(10), new Uint8Array(251)]
    recent.keep(of, 0, first, (body) => released.push(body))
    recent.keep(of, 0, again, (body) => released.push(body))
    recent.keep(of, 1, large, (body) => released.push(body))
    assert.deepEqual(released, [again, large])
    assert.equal(of.get(0)?.body, first)
  })
})
