import assert from 'node:assert/strict'
import { open, readFile, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { cloneFile } from '../../../../src/cli/get/clone-file.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'
import { aLoopDisk } from '../../../fixtures/host/a-quota-disk.ts'
import { needs } from '../../../fixtures/host/needs.ts'
import { randomBody } from '../../../fixtures/images/an-image.ts'

const WANTED = { root: true, stage: true, programs: ['mkfs.xfs'], files: ['/dev/loop-control'] }
const MIB = 1024 * 1024
const body = randomBody(95, 32 * MIB + 5)

/** A file of `body` in one folder, an empty one in another, both open. */
async function aPair(one: string, other: string) {
  const [first, second] = [join(one, 'first'), join(other, 'second')]
  await writeFile(first, body, { mode: 0o444, flush: true })
  const [from, to] = [await open(first, 'r'), await open(second, 'wx+', 0o640)]
  return {
    first,
    second,
    clone: () => cloneFile(from.fd, to.fd),
    async [Symbol.asyncDispose]() {
      await from.close()
      await to.close()
    },
  }
}

describe('cloneFile', function () {
  this.timeout(60_000)

  it('gives a file on XFS the content of another without room of its own, and leaves it its mode', async function () {
    needs(this, WANTED)
    await using disk = await aLoopDisk('xfs')
    await using pair = await aPair(disk.path, disk.path)
    const room = async () => {
      const { bavail, bsize } = await statfs(disk.path)
      return bavail * bsize
    }
    const before = await room()
    assert.equal(pair.clone(), true)
    assert.deepEqual(await readFile(pair.second), Buffer.from(body))
    assert.ok(before - (await room()) < MIB)
    assert.equal((await stat(pair.second)).mode & 0o777, 0o640)
    await writeFile(pair.second, 'another', { flag: 'r+' })
    assert.deepEqual(await readFile(pair.first), Buffer.from(body))
  })

  it('does nothing between two file systems, or on one that cannot', async function () {
    needs(this, WANTED)
    await using disk = await aLoopDisk('xfs')
    await using dir = await aDir()
    for (const to of [disk.path, dir.path]) {
      await using pair = await aPair(dir.path, to)
      assert.equal(pair.clone(), false)
      const { size, mode } = await stat(pair.second)
      assert.deepEqual([size, mode & 0o777], [0, 0o640])
    }
  })
})
