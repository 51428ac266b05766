import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { taker } from '../../../../src/cli/get/agent-file.ts'
import type { Target } from '../../../../src/cli/get/target.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'

const MIB = 1024 * 1024

describe('taker', () => {
  it('says so where the disk doesn’t give what the file has', async () => {
    // nothing is at the lowest addresses of a process
    const file = await open('/proc/self/mem', 'r')
    try {
      const take = taker(file.fd, MIB, { clone: () => false, write: () => {} })
      assert.throws(() => take(0, 4096), { code: 'STORE_CORRUPT', message: /at 0: EIO/ })
    } finally {
      await file.close()
    }
  })

  const cases: [what: string, bytes: number, landed: number, can: boolean, cloned: boolean][] = [
    ['shares the blocks of much that is all there at once', 16 * MIB, 16 * MIB, true, true],
    ['copies where blocks cannot be shared', 16 * MIB, 16 * MIB, false, false],
    ['copies a part', 32 * MIB, 16 * MIB, true, false],
    ['copies little', MIB, MIB, true, false],
  ]
  for (const [what, bytes, landed, can, cloned] of cases) {
    it(what, async () => {
      await using dir = await aDir()
      const file = await open(join(dir.path, 'file'), 'wx+')
      try {
        await file.truncate(bytes)
        const seen = { clones: 0, bytes: 0 }
        const target: Pick<Target, 'clone' | 'write'> = {
          clone: (from) => {
            assert.equal(from, file.fd)
            if (can) seen.clones++
            return can
          },
          write: (chunk, at) => {
            assert.equal(at, seen.bytes)
            seen.bytes += chunk.byteLength
          },
        }
        taker(file.fd, bytes, target)(0, landed)
        assert.deepEqual(seen, cloned ? { clones: 1, bytes: 0 } : { clones: 0, bytes: landed })
      } finally {
        await file.close()
      }
    })
  }
})
