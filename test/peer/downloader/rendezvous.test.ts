import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { rankOf, startPiece } from '../../../peer/downloader/rendezvous.ts'
import type { PeerId } from '../../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../../src/core/task/task.ts'

const peers = Array.from({ length: 12 }, (_, number) => `peer-${number}` as PeerId)
const tasks = Array.from({ length: 40 }, (_, number) => `task-${number}` as TaskId)

describe('rankOf', () => {
  it('gives each host that knows the same hosts another place, whatever order it knows them in', () => {
    for (const task of tasks) {
      const ranks = peers.map((self, at) => rankOf(task, self, at % 2 === 0 ? peers : [...peers].reverse()))
      assert.deepEqual(
        [...ranks].sort((a, b) => a - b),
        [...peers.keys()],
      )
    }
  })

  it('lets other hosts read other blobs', () => {
    const first = new Set(tasks.map((task) => peers.find((self) => rankOf(task, self, peers) === 0)))
    assert.ok(first.size > 6, `${first.size}`)
  })
})

describe('startPiece', () => {
  it('is a piece of the blob, and seldom the same for two hosts', () => {
    const starts = peers.map((self) => startPiece(tasks[0] as TaskId, self, 1000))
    assert.ok(starts.every((piece) => Number.isInteger(piece) && piece >= 0 && piece < 1000))
    assert.ok(new Set(starts).size >= 10)
  })
})
