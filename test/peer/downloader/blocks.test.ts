import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Blocks } from '../../../peer/downloader/blocks.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import type { StoredTask } from '../../../src/store/store.ts'

const PIECE = 256 * 1024
const BLOCK = 128 * 1024

/** A blob, stored up to `here`, whose bytes are the numbers of their blocks; `reads` are the offsets that were read. */
function aStored(id: string, bytes: number, here = bytes): { stored: StoredTask; reads: number[] } {
  const reads: number[] = []
  const stored = {
    task: { id, bytes, pieceBytes: PIECE },
    read: async (offset: number, into: Uint8Array) => {
      reads.push(offset)
      await Promise.resolve()
      if (offset + into.byteLength > here) throw new DarnerError('PIECE_ABSENT', `read at ${offset}: it is not here`)
      into.fill(Math.floor(offset / BLOCK))
    },
  }
  return { stored: stored as unknown as StoredTask, reads }
}

describe('Blocks', () => {
  it('reads once for all that are at the same place', async () => {
    const { stored, reads } = aStored('a', 10 * PIECE)
    const blocks = new Blocks()
    const lent = await Promise.all([5, 700, BLOCK - 1].map((at) => blocks.take(stored, at, stored.task.bytes)))
    assert.deepEqual(reads, [0])
    assert.deepEqual(
      lent.map(({ bytes }) => bytes.byteLength),
      [BLOCK - 5, BLOCK - 700, 1],
    )
  })

  it('hands out nothing of a blob that was fetched anew since', async () => {
    const [wrong, right] = [aStored('a', PIECE), aStored('a', PIECE)]
    const blocks = new Blocks()
    using _held = await blocks.take(wrong.stored, 0, PIECE)
    using _lent = await blocks.take(right.stored, 0, PIECE)
    assert.deepEqual(right.reads, [0])
    using _again = await blocks.take(right.stored, 0, PIECE)
    assert.deepEqual(right.reads, [0])
  })

  it('hands out no byte behind the end that was asked for, nor behind the blob', async () => {
    const { stored } = aStored('a', PIECE + 10)
    const blocks = new Blocks()
    assert.equal((await blocks.take(stored, 4, 9)).bytes.byteLength, 5)
    assert.equal((await blocks.take(stored, PIECE, PIECE + 10)).bytes.byteLength, 10)
  })

  it('leaves alone what is lent, and has room for one more reader in any case', async () => {
    const { stored } = aStored('a', 600 * BLOCK)
    const blocks = new Blocks()
    const lent = []
    for (let block = 0; block < 500; block++) lent.push(await blocks.take(stored, block * BLOCK, stored.task.bytes))
    for (const [block, { bytes }] of lent.entries()) {
      assert.equal(bytes[0], block % 256)
      assert.equal(bytes.at(-1), block % 256)
    }
    const memory = new Set(lent.map(({ bytes }) => bytes.buffer))
    assert.equal(memory.size, 500)
    const all = lent.reduce((sum, { bytes }) => sum + bytes.byteLength, 0)
    assert.ok(all <= 128 * BLOCK + 372 * 32 * 1024, `${all} bytes`)
  })

  it('reads nothing behind the piece that is asked for, which may not be here yet, be there room or not', async () => {
    const { stored } = aStored('a', 100 * PIECE, 65 * PIECE)
    const blocks = new Blocks()
    const held = []
    for (let block = 0; block < 128; block++) held.push(await blocks.take(stored, block * BLOCK, stored.task.bytes))
    using without = await blocks.take(stored, 65 * PIECE - 100, stored.task.bytes)
    assert.equal(without.bytes.byteLength, 100)
    held[0]?.[Symbol.dispose]()
    using last = await blocks.take(stored, 65 * PIECE - 100, stored.task.bytes)
    assert.equal(last.bytes.byteLength, 100)
  })

  it('uses memory again that nobody has', async () => {
    const { stored } = aStored('a', 2000 * BLOCK)
    const blocks = new Blocks()
    const memory = new Set<ArrayBufferLike>()
    for (let block = 0; block < 2000; block++) {
      using lent = await blocks.take(stored, block * BLOCK, stored.task.bytes)
      memory.add(lent.bytes.buffer)
    }
    assert.ok(memory.size <= 128, `${memory.size} blocks of memory`)
  })

  it('tells everybody of a failed read, and reads again for the next', async () => {
    const { stored, reads } = aStored('a', PIECE)
    const { read } = stored
    let broken = true
    const failing = Object.assign(stored, {
      read: async (offset: number, into: Uint8Array) => {
        if (broken) throw new Error('no disk')
        await read.call(stored, offset, into)
      },
    })
    const blocks = new Blocks()
    await assert.rejects(blocks.take(failing, 0, 10), /no disk/)
    broken = false
    using lent = await blocks.take(failing, 0, 10)
    assert.equal(lent.bytes.byteLength, 10)
    assert.deepEqual(reads, [0])
  })

  it('keeps for good what a reader keeps', async () => {
    const { stored } = aStored('a', 1000 * BLOCK)
    const blocks = new Blocks()
    const kept = await blocks.take(stored, 0, stored.task.bytes)
    kept.keep()
    kept[Symbol.dispose]()
    for (let block = 1; block < 1000; block++) {
      using _lent = await blocks.take(stored, block * BLOCK, stored.task.bytes)
    }
    assert.equal(kept.bytes[0], 0)
    assert.equal(kept.bytes.at(-1), 0)
  })
})
