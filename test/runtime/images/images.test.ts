import assert from 'node:assert/strict'
import type { ImageRecord } from '../../../runtime/images/image-record.ts'
import { Images } from '../../../runtime/images/images.ts'
import { type Digest, digestOf, hexOf } from '../../../src/core/digest.ts'
import { parseReference } from '../../../src/oci/reference.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aRecordSpace } from '../../fixtures/store/a-record-space.ts'

const record = (name: string): ImageRecord => ({
  manifest: digestOf(`manifest ${name}`),
  manifestMediaType: 'application/vnd.oci.image.manifest.v1+json',
  manifestText: '{}',
  config: digestOf(`config ${name}`),
  configText: JSON.stringify({ name }),
  layers: [{ digest: digestOf(`layer ${name}`), diffId: digestOf(`diff ${name}`), mediaType: 'x', bytes: 5 }],
  platform: 'linux/amd64',
  pulledAt: 7,
})
const ref = parseReference

describe('Images', () => {
  it('finds an image by tag, digest, id and the beginning of its id', async () => {
    const images = new Images({ space: aRecordSpace() })
    const one = record('one')
    await images.save(one, [ref('example.com/a/b:1'), ref(`example.com/a/b@${one.manifest}`)])
    for (const text of [
      'example.com/a/b:1',
      `example.com/a/b@${one.manifest}`,
      `example.com/a/b:1@${one.manifest}`,
      one.config,
      hexOf(one.config),
      hexOf(one.config).slice(0, 12),
      one.manifest,
    ]) {
      assert.equal((await images.find(text)).image.manifest, one.manifest, text)
    }
    assert.deepEqual(await images.resolve('example.com/a/b:1'), {
      id: one.config,
      reference: 'example.com/a/b:1',
      config: { name: 'one' },
      layers: [digestOf('diff one')],
    })
    for (const text of ['example.com/a/b', 'b', hexOf(one.config).slice(0, 2), 'ffffffffffff', '', '../x'])
      await failsWith('NOT_FOUND', images.find(text))
  })

  it('refuses the beginning of several ids', async () => {
    const images = new Images({ space: aRecordSpace() })
    for (const [at, hex] of ['a', 'b'].entries())
      await images.save({ ...record(`${at}`), config: `sha256:abc${hex.repeat(61)}` as Digest }, [])
    await failsWith('BAD_ARGUMENT', images.find('abc'))
    assert.equal((await images.find('abca')).image.config, `sha256:abc${'a'.repeat(61)}`)
  })

  it('moves a tag to the image saved last and keeps the other without a name', async () => {
    const images = new Images({ space: aRecordSpace() })
    await images.save(record('one'), [ref('a:1')])
    await images.save(record('two'), [ref('a:1')])
    assert.equal((await images.find('a:1')).image.manifest, record('two').manifest)
    assert.deepEqual((await images.list()).map(({ tags }) => tags.length).sort(), [0, 1])
  })

  it('deletes an image with its last tag', async () => {
    const space = aRecordSpace()
    const images = new Images({ space })
    const one = record('one')
    await images.save(one, [ref('a:1'), ref(`a@${one.manifest}`)])
    await images.tag('a:1', ref('other/b:2'))
    await failsWith('CONFLICT', images.remove(one.config, { force: false }))
    assert.deepEqual(await images.remove('a:1', { force: false }), { untagged: ['docker.io/library/a:1'] })
    const gone = await images.remove('other/b:2', { force: false })
    assert.equal(gone.deleted?.manifest, one.manifest)
    assert.equal(space.map.size, 0)
    await images.save(one, [ref('a:1'), ref('a:2')])
    assert.equal((await images.remove(one.config, { force: true })).untagged.length, 2)
    assert.equal(space.map.size, 0)
  })

  it('collects the layers that no image and no container needs', async () => {
    const images = new Images({ space: aRecordSpace() })
    await images.save(record('one'), [])
    const stored = ['one', 'two', 'three'].map((name) => ({ diffId: digestOf(`diff ${name}`), bytes: 1 }))
    const removed: Digest[] = []
    const shelf = { layers: async () => stored, removeLayer: async (diffId: Digest) => void removed.push(diffId) }
    await images.collectLayers(shelf, new Set([digestOf('diff three')]))
    assert.deepEqual(removed, [digestOf('diff two')])
  })

  it('says STORE_CORRUPT for a record that is none', async () => {
    const space = aRecordSpace()
    space.map.set(`image/${record('x').manifest}`, '{"manifest":1}')
    await failsWith('STORE_CORRUPT', new Images({ space }).get(record('x').manifest))
  })
})
