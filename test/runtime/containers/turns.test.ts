import assert from 'node:assert/strict'
import { Turns } from '../../../runtime/containers/turns.ts'

describe('turns at making containers', () => {
  it('are given to so many at once, and to the others in the order of asking', async () => {
    const turns = new Turns({ atOnce: 2, mostMs: 60_000 })
    const [first, second] = [await turns.take(), await turns.take()]
    const order: string[] = []
    const later = ['third', 'fourth', 'fifth'].map(async (name) => {
      using _turn = await turns.take()
      order.push(name)
    })
    await new Promise((resolve) => setImmediate(resolve))
    assert.deepEqual(order, [])
    second[Symbol.dispose]()
    await Promise.all(later)
    assert.deepEqual(order, ['third', 'fourth', 'fifth'])
    first[Symbol.dispose]()
  })

  it('go on to the next when one hangs, and are not given twice for it', async () => {
    const turns = new Turns({ atOnce: 1, mostMs: 1 })
    const hanging = await turns.take()
    await turns.take()
    hanging[Symbol.dispose]()
    const [third, fourth] = [turns.take(), turns.take()]
    const taken: number[] = []
    void third.then(() => taken.push(3))
    await fourth
    assert.deepEqual(taken, [3])
  })
})
