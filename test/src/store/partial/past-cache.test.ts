import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ALIGN_BYTES, alignedBuffer } from '../../../../src/core/aligned.ts'
import { ManualClock } from '../../../../src/core/clock.ts'
import { DataFile, FilePool } from '../../../../src/store/partial/data-file.ts'
import { PastCache } from '../../../../src/store/partial/past-cache.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'

/** A file of three blocks of ones; `slow`: its writes end when they are let. */
async function aFile({ slow = false } = {}) {
  const stack = new AsyncDisposableStack()
  const { path: directory } = stack.use(await aDir())
  const path = join(directory, 'file')
  await writeFile(path, Buffer.alloc(3 * ALIGN_BYTES, 1))
  const file = new DataFile(path, stack.use(new FilePool({ most: 4 })))
  const waiting: PromiseWithResolvers<boolean>[] = []
  if (slow)
    file.usePast = () => {
      const wait = Promise.withResolvers<boolean>()
      waiting.push(wait)
      return wait.promise
    }
  const clock = new ManualClock(1_000_000)
  return {
    ...{ path, file, waiting, clock, past: new PastCache({ clock }) },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

const block = (value: number) => alignedBuffer(ALIGN_BYTES).fill(value)

describe('PastCache', () => {
  it('writes between what the cache has, and leaves what no disk takes as it lies', async () => {
    await using a = await aFile()
    assert.equal(await a.past.write(a.file, block(9).subarray(1), ALIGN_BYTES), false)
    assert.equal(await a.past.write(a.file, block(9), 1), false)
    // a file system that has no such way leaves it to the caller, too
    const done = await a.past.write(a.file, block(2), ALIGN_BYTES)
    const expected = [1, done ? 2 : 1, 1].map((value) => Buffer.alloc(ALIGN_BYTES, value))
    assert.deepEqual(await readFile(a.path), Buffer.concat(expected))
  })

  it('tries no further where the file system has no such way, and tells of what else fails', async () => {
    await using a = await aFile()
    let asked = 0
    const failing = (code: string) => async () => {
      asked++
      throw Object.assign(new Error(code), { code })
    }
    await a.file.use(async () => {})
    await assert.rejects(a.file.usePast(failing('ENOSPC')), { code: 'ENOSPC' })
    assert.equal(await a.file.usePast(failing('EINVAL')), false)
    assert.equal(await a.file.usePast(failing('EINVAL')), false)
    assert.equal(asked, 2)
  })

  it('has three writes under way at most, and rests once one took long, longer each time until they are quick', async () => {
    await using a = await aFile({ slow: true })
    const write = () => a.past.write(a.file, block(1), 0)
    /** As many at once as it takes, which take so long. */
    const several = async (ms: number) => {
      const running = Array.from({ length: 5 }, write)
      a.clock.advance(ms)
      for (const { resolve } of a.waiting) resolve(true)
      return (await Promise.all(running)).filter((done) => done).length
    }
    assert.equal(await several(1), 3)
    assert.equal(await several(26), 3)
    assert.equal(await several(1), 0)
    a.clock.advance(1_000)
    assert.equal(await several(26), 1)
    a.clock.advance(1_900)
    assert.equal(await several(1), 0)
    a.clock.advance(100)
    assert.equal(await several(1), 1)
    for (let more = 0; more < 5; more++) assert.equal(await several(1), 3)
    assert.equal(await several(26), 3)
    a.clock.advance(1_000)
    assert.equal(await several(1), 1)
  })
})
