import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { RecordSpace } from '../../../runtime/containers/dependencies.ts'
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

  it('removes, and writes what is reserved, on a full disk: more than its log holds, also after it was opened anew there', async () => {
    await using disk = await aSmallDisk(512 * 1024 * 1024)
    const path = join(disk.path, 'records')
    const first = new Database(path)
    await first.put('goes', VALUE)
    await first.put('goes too', VALUE)
    await first.open()
    await disk.fill()
    const reserved = { reserved: true } as const
    const space = (database: Database): RecordSpace => database.sublevel('space')
    await first.del('goes')
    // each round is the last one's; LevelDB begins a new log after 4 MiB
    for (let round = 0; round < 2500; round++)
      await space(first).put('state', `${round} ${VALUE}`, { sync: false, ...reserved })
    await failsWith('DISK_FULL', first.put('new', ''))
    await first.close()
    const second = new Database(path)
    assert.deepEqual(await keysOf(second), ['!space!state', 'goes too'])
    assert.equal(await space(second).get('state'), `2499 ${VALUE}`)
    await space(second).batch([{ type: 'put', key: 'state', value: 'last' }], { sync: true, ...reserved })
    await second.batch([{ type: 'del', key: 'goes too' }])
    await second.close()
    await disk.free()
    const third = new Database(path)
    assert.deepEqual(await keysOf(third), ['!space!state'])
    assert.equal(await space(third).get('state'), 'last')
    await third.close()
  })
})
