import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Volumes } from '../../../runtime/volumes/volumes.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

describe('Volumes', () => {
  it('begins beside what is no volume: a file in its folder, a record that is no JSON', async () => {
    await using dir = await aDir()
    const volumes = new Volumes(dir.path)
    for (const name of ['whole', 'broken']) await volumes.ensure(name, { now: 1 })
    writeFileSync(join(dir.path, 'broken', 'volume.json'), '{"version": 1, "na')
    writeFileSync(join(dir.path, 'README'), 'not mine')
    await volumes.recover()
    assert.deepEqual(
      (await volumes.list()).map(({ name }) => name),
      ['whole'],
    )
    await volumes.ensure('broken', { now: 2 })
    assert.equal((await volumes.get('broken')).createdAt, 2)
  })
})
