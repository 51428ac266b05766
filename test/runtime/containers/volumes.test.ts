import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
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

  it('are rid of what was half made or half removed, and tell of folders without a record that hold something', async () => {
    await using dir = await aDir()
    const volumes = new Volumes(dir.path)
    for (const name of ['half-made', 'half-removed', 'wanted'])
      mkdirSync(join(dir.path, name, '_data'), { recursive: true })
    writeFileSync(join(dir.path, 'half-made', 'volume.json.new'), '{')
    for (const name of ['half-removed', 'wanted']) writeFileSync(join(dir.path, name, '_data', 'file'), 'x')
    writeFileSync(join(dir.path, 'half-removed', 'gone.json'), '{}')
    mkdirSync(join(dir.path, '.gone-other', '_data'), { recursive: true })
    assert.deepEqual(await volumes.recover(), [join(dir.path, 'wanted')])
    assert.deepEqual(readdirSync(dir.path), ['wanted'])
    await volumes.ensure('wanted', { now: 1 }) // what is in it is there again
    assert.deepEqual(readdirSync(volumes.pathOf('wanted')), ['file'])
  })
})
