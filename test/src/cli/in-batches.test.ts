import assert from 'node:assert/strict'
import { inBatches } from '../../../src/cli/in-batches.ts'

describe('inBatches', () => {
  it('does so many side by side', async () => {
    let [now, most] = [0, 0]
    const { done, failed, left } = await inBatches(
      ['a', 'b', 'c', 'd', 'e'],
      { atOnce: 2, mostFailures: 0 },
      async (name) => {
        most = Math.max(most, ++now)
        await new Promise(setImmediate)
        now--
        return name.toUpperCase()
      },
    )
    assert.equal(most, 2)
    assert.deepEqual(done.map((one) => one.value).sort(), ['A', 'B', 'C', 'D', 'E'])
    assert.deepEqual([failed, left], [[], []])
  })

  it('begins nothing more after the budget of failures is used up, and tells what is left', async () => {
    const begun: string[] = []
    const { done, failed, left } = await inBatches(
      ['a', 'b', 'c', 'd', 'e'],
      { atOnce: 1, mostFailures: 1 },
      async (name) => {
        begun.push(name)
        if (name !== 'a') throw new Error(name)
      },
    )
    assert.deepEqual(begun, ['a', 'b', 'c'])
    assert.deepEqual(
      [done.map((one) => one.name), failed.map((one) => one.name), left],
      [['a'], ['b', 'c'], ['d', 'e']],
    )
  })
})
