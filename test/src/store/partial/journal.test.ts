import assert from 'node:assert/strict'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MAX_TASK_BYTES, type Task } from '../../../../src/core/task/task.ts'
import { checkGeometry, Journal, readJournal } from '../../../../src/store/partial/journal.ts'
import { PieceTable } from '../../../../src/store/partial/piece-table.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'
import { aBlob } from '../../../fixtures/store/a-store.ts'

function wholeTable(): PieceTable {
  const table = new PieceTable(8)
  table.setDigests(0, aBlob().table)
  return table
}

describe('Journal', () => {
  it('gives back what was appended, by many at once, and the geometry of tasks with and without a digest', async () => {
    await using dir = await aDir()
    for (const id of [undefined, `url:${'d'.repeat(64)}`]) {
      const { task } = aBlob(id === undefined ? {} : { id })
      const path = join(dir.path, 'journal')
      const table = wholeTable()
      const journal = await Journal.create(path, task, table, [5])
      await Promise.all([0, 7, 3].map((piece) => journal.append(piece, table.digest(piece) ?? new Uint8Array(32))))
      await journal.close()
      const read = await readJournal(path)
      assert.deepEqual(read.task, task)
      assert.deepEqual([...read.pieces.keys()].sort(), [0, 3, 5, 7])
      for (const [piece, digest] of read.pieces)
        assert.deepEqual(Buffer.from(digest), Buffer.from(table.digest(piece) ?? []))
    }
  })

  it('counts no record of another journal', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'journal')
    await (await Journal.create(path, aBlob().task, wholeTable(), [1])).close()
    const foreign = readFileSync(path).subarray(512)
    await (await Journal.begin(path, aBlob({ seed: 2 }).task)).close()
    writeFileSync(path, Buffer.concat([readFileSync(path), foreign]))
    assert.equal((await readJournal(path)).pieces.size, 0)
  })

  it('survives a cut at any byte: whole records count, the rest does not', async () => {
    await using dir = await aDir()
    const path = join(dir.path, 'journal')
    for (let cut = 512 + 3 * 40; cut >= 0; cut -= 13) {
      await (await Journal.create(path, aBlob().task, wholeTable(), [0, 1, 2])).close()
      truncateSync(path, cut)
      if (cut < 512) await assert.rejects(readJournal(path), { code: 'STORE_CORRUPT' })
      else assert.equal((await readJournal(path)).pieces.size, Math.floor((cut - 512) / 40))
    }
  })
})

describe('checkGeometry', () => {
  const { task } = aBlob()
  const cases: [string, Partial<Record<keyof Task, unknown>>][] = [
    ['an id that is a path', { id: 'sha256:../../x' }],
    ['a negative length', { bytes: -1 }],
    ['a length beyond the most', { bytes: MAX_TASK_BYTES + 1 }],
    ['a length that is no whole number', { bytes: 1.5 }],
    ['pieces of nothing', { pieceBytes: 0 }],
    ['pieces too large to hold', { pieceBytes: 8 * 1024 * 1024 }],
    ['too many pieces', { bytes: 2 ** 40, pieceBytes: 1024 }],
    ['a digest that is none', { digest: 'md5:00' }],
  ]
  for (const [what, change] of cases) {
    it(`refuses ${what}`, () => {
      assert.throws(() => checkGeometry({ ...task, ...change } as Task), { code: 'BAD_ARGUMENT' })
    })
  }
})
