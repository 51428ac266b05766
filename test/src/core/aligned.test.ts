import assert from 'node:assert/strict'
import { ALIGN_BYTES, alignedBuffer, isAligned } from '../../../src/core/aligned.ts'

describe('alignedBuffer', () => {
  it('lies where a disk can take whole blocks from, whatever its length', () => {
    for (const blocks of [1, 3, 256]) assert.ok(isAligned(alignedBuffer(blocks * ALIGN_BYTES), blocks * ALIGN_BYTES))
    assert.equal(alignedBuffer(70_001).byteLength, 70_001)
  })

  it('is told from bytes that lie elsewhere, have another length or go to another place', () => {
    const bytes = alignedBuffer(2 * ALIGN_BYTES)
    assert.equal(isAligned(bytes.subarray(512, 512 + ALIGN_BYTES), 0), false)
    assert.equal(isAligned(bytes.subarray(0, ALIGN_BYTES + 512), 0), false)
    assert.equal(isAligned(bytes, 512), false)
    assert.equal(isAligned(bytes.subarray(ALIGN_BYTES), ALIGN_BYTES), true)
  })
})
