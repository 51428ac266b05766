import assert from 'node:assert/strict'
import { isAligned } from '../../../../src/core/aligned.ts'
import { PiecePool } from '../../../../src/store/partial/piece-pool.ts'

describe('PiecePool', () => {
  it('gives memory again that was given back, of exactly the length asked for', () => {
    const pool = new PiecePool()
    const piece = pool.get(70_000)
    pool.put(piece)
    assert.equal(pool.get(69_999).byteLength, 69_999)
    const again = pool.get(70_000)
    assert.equal(again.buffer, piece.buffer)
    assert.notEqual(pool.get(70_000).buffer, piece.buffer)
  })

  it('gives nothing to two readers, though it was given back twice', () => {
    const pool = new PiecePool()
    const piece = pool.get(1000)
    pool.put(piece)
    pool.put(new Uint8Array(piece.buffer))
    assert.notEqual(pool.get(1000).buffer, pool.get(1000).buffer)
  })

  it('takes no part of a larger buffer', () => {
    const pool = new PiecePool()
    const large = new Uint8Array(2000)
    pool.put(large.subarray(0, 1000))
    assert.notEqual(pool.get(1000).buffer, large.buffer)
  })

  it('keeps no more than 32 MiB', () => {
    const pool = new PiecePool()
    const pieces = Array.from({ length: 10 }, () => pool.get(4 * 1024 ** 2))
    for (const piece of pieces) pool.put(piece)
    const known = new Set(pieces.map(({ buffer }) => buffer))
    const again = Array.from({ length: 10 }, () => pool.get(4 * 1024 ** 2))
    assert.equal(again.filter(({ buffer }) => known.has(buffer)).length, 8)
  })

  it('gives aligned memory, and the same part of it again', () => {
    const pool = new PiecePool({ aligned: true })
    const piece = pool.get(8192)
    assert.ok(isAligned(piece, 0))
    pool.put(piece)
    const again = pool.get(8192)
    assert.deepEqual([again.buffer, again.byteOffset], [piece.buffer, piece.byteOffset])
    pool.put(again.subarray(0, 4096))
    assert.notEqual(pool.get(8192).buffer, piece.buffer)
  })
})
