import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { type Records, sweepRecords } from '../../supernode/sweep-records.ts'

/** Records in memory: what is written when. */
function someRecords(atMs: Readonly<Record<string, number>>): Records & { readonly kept: Map<string, unknown> } {
  const kept = new Map<string, unknown>(Object.entries(atMs))
  return {
    kept,
    get: async (key) => kept.get(key),
    put: async (key, value) => void kept.set(key, value),
    del: async (key) => void kept.delete(key),
    keys: async function* () {
      yield* [...kept.keys()]
    },
  }
}

describe('sweepRecords (row 16)', () => {
  const options = { atMs: Number, beforeMs: 100, most: 2 }

  it('forgets what is old and tells of a blob that is not here', async () => {
    const records = someRecords({ old: 99, held: 1, new: 100 })
    assert.equal(await sweepRecords(records, { ...options, held: (task) => task === 'held' }), 1)
    assert.deepEqual([...records.kept.keys()], ['held', 'new'])
  })

  it('keeps so many of blobs that are not here, the newest', async () => {
    const records = someRecords({ a: 103, b: 101, c: 104, d: 102 })
    assert.equal(await sweepRecords(records, { ...options, held: () => false }), 2)
    assert.deepEqual([...records.kept.keys()], ['a', 'c'])
  })
})
