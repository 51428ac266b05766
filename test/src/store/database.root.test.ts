import assert from 'node:assert/strict'
import { join } from 'node:path'
import { Database } from '../../../src/store/database.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aSmallDisk } from '../../fixtures/host/a-small-disk.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const VALUE = 'x'.repeat(3000)

async function keysOf(database: Database): Promise<string[]> {
  return (await database.keys().all()).sort()
}

describe('Database', () => {
  before(function () {
    onStage(this)
  })

  it('says DISK_FULL, still reads, and keeps what is written once there is room, also for who opens it next', async () => {
    await using disk = await aSmallDisk(16 * 1024 * 1024)
    const path = join(disk.path, 'records')
    const first = new Database(path)
    const space = first.sublevel('space')
    const written: string[] = []
    const put = async (key: string) => {
      await space.put(key, VALUE)
      written.push(`!space!${key}`)
    }
    await put('before')
    for (const time of [1, 2, 3]) {
      await disk.fill()
      await failsWith('DISK_FULL', space.put('x', VALUE.repeat(20)), /no space left/)
      for (const write of [
        () => space.put('y', ''),
        () => space.del('before'),
        () => first.batch([{ type: 'put', key: 'y', value: '' }]),
        () => first.batch().put('y', '').write(),
      ])
        await failsWith('DISK_FULL', write())
      assert.equal(await space.get('before'), VALUE)
      await disk.free()
      await Promise.all(Array.from({ length: 50 }, (_, at) => put(`after-${time}-${at}`)))
    }
    await first.close()
    const second = new Database(path)
    assert.deepEqual(await keysOf(second), written.sort())
    await second.close()
  })
})
