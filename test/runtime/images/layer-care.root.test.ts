import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { Images } from '../../../runtime/images/images.ts'
import { careForLayers } from '../../../runtime/images/layer-care.ts'
import { OwnBlobs } from '../../../runtime/images/own-blobs.ts'
import { pullImage } from '../../../runtime/images/pull.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { parseReference } from '../../../src/oci/reference.ts'
import { aContentSource } from '../../fixtures/engine/a-content-source.ts'
import { aSnapshotter } from '../../fixtures/engine/a-snapshotter.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { anImage } from '../../fixtures/images/an-image.ts'
import { aRecordSpace } from '../../fixtures/store/a-record-space.ts'
import { until } from '../../fixtures/until.ts'

const WEEK_MS = 7 * 24 * 3600 * 1000

/** An engine's image store with one image pulled, whose layers are looked at each week. */
async function aCaredForImage() {
  const held = await aSnapshotter('erofs')
  const image = anImage({ layers: [{ compression: 'gzip' }] })
  const content = aContentSource([image])
  const clock = new ManualClock()
  const images = new Images({ space: aRecordSpace() })
  const own = new OwnBlobs(join(held.directory, 'own'))
  const ending = new AbortController()
  const { signal } = ending
  const reference = parseReference('registry.test/app:0')
  const request = { reference, platform: { os: 'linux', architecture: 'amd64' }, plainHttp: true, signal }
  const parts = { content, images, own, snapshotter: held.snapshotter, clock, log: silentLog() }
  await pullImage(request, parts)
  const told: string[] = []
  const tell = (_: unknown, text: string) => void told.push(text)
  const log = { ...silentLog(), warn: () => {}, info: tell, error: tell }
  const caring = careForLayers({ everyMs: WEEK_MS, bytesPerSec: 1e9 }, { ...parts, log: log as never }, { signal })
  caring.catch(() => {})
  const diffId = image.diffIds[0] ?? digestOf('')
  return {
    held,
    content,
    clock,
    diffId,
    told,
    blob: image.layers[0]?.digest ?? digestOf(''),
    root: async (id: string) => (await held.snapshotter.mount(id, [diffId], { readonly: true, signal })).path,
    rot() {
      const fd = openSync(join(held.directory, 'erofs/layers', diffId.replace(':', '-'), 'layer.tar'), 'r+')
      writeSync(fd, Buffer.from('rotten'), 0, 6, 1600)
      closeSync(fd)
    },
    scrub: () => held.snapshotter.scrub(diffId, { signal }),
    async [Symbol.asyncDispose]() {
      ending.abort(new Error('over'))
      await caring.catch(() => {})
      await held[Symbol.asyncDispose]()
    },
  }
}

describe('careForLayers', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this)
  })

  it('unpacks a rotten layer anew, for whoever mounts it from then on, and leaves sound ones alone', async () => {
    await using cared = await aCaredForImage()
    const sound = readFileSync(join(await cared.root('before'), 'layer-0/data'))
    await cared.held.snapshotter.remove('before')
    const opened = cared.content.opened.length
    cared.clock.advance(WEEK_MS)
    cared.rot()
    await failsWith('STORE_CORRUPT', cared.scrub())
    const running = await cared.root('running')
    assert.notDeepEqual(readFileSync(join(running, 'layer-0/data')), sound)
    await until(() => {
      cared.clock.advance(WEEK_MS)
      return cared.told.length > 0
    })
    await cared.scrub()
    assert.deepEqual(cared.content.opened.slice(opened), [cared.blob])
    const fresh = await cared.root('after')
    assert.deepEqual(readFileSync(join(fresh, 'layer-0/data')), sound)
    assert.equal(readFileSync(join(running, 'layer-0/data')).length, sound.length)
    assert.match(cared.told.join(), /^layer unpacked anew/)
  })

  it('says so when the blob can not be had again, and keeps what there is', async () => {
    await using cared = await aCaredForImage()
    cared.rot()
    cared.content.spoil(cared.blob, Buffer.from('another'))
    await until(() => {
      cared.clock.advance(WEEK_MS)
      return cared.told.length > 0
    })
    assert.match(cared.told[0] ?? '', /bit rot in a layer stays/)
    await cared.root('still')
  })
})
