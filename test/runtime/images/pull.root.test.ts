import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { Images } from '../../../runtime/images/images.ts'
import { type PullEvent, type PullRequest, pullImage } from '../../../runtime/images/pull.ts'
import { readImageConfig } from '../../../runtime/spec/image-config.ts'
import { ManualClock, systemClock } from '../../../src/core/clock.ts'
import { type Digest, digestOf } from '../../../src/core/digest.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { parseReference } from '../../../src/oci/reference.ts'
import { aContentSource, type MemorySource } from '../../fixtures/engine/a-content-source.ts'
import { aSnapshotter, type SnapshotterFixture } from '../../fixtures/engine/a-snapshotter.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'
import { aBlob, anImage, anImageOf, anIndex, anOuterIndex, type Image } from '../../fixtures/images/an-image.ts'
import { aRecordSpace } from '../../fixtures/store/a-record-space.ts'
import { until } from '../../fixtures/until.ts'

const amd64 = { os: 'linux', architecture: 'amd64' }
function asking(reference: string, more: Partial<PullRequest> = {}): PullRequest {
  return {
    reference: parseReference(`registry.test/app:${reference}`),
    platform: amd64,
    plainHttp: true,
    signal: AbortSignal.timeout(30_000),
    ...more,
  }
}
function parts(held: SnapshotterFixture, content: MemorySource) {
  return { content, snapshotter: held.snapshotter, images: new Images({ space: aRecordSpace() }), clock: systemClock }
}

for (const kind of ['erofs', 'directory'] as const) {
  describe(`pullImage into ${kind} layers`, function () {
    this.timeout(60_000)
    before(function () {
      onStage(this)
    })

    it('brings plain, gzip and zstd layers to a root file system', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage()
      const content = aContentSource([image])
      const all = parts(held, content)
      const pulled = await pullImage(asking('0'), all)
      assert.deepEqual(
        pulled.image.layers.map((one) => one.diffId),
        image.diffIds,
      )
      assert.equal(pulled.blobs.length, 4)
      assert.equal(content.stillOpen.count, 0)
      const { layers } = await all.images.resolve('registry.test/app:0')
      const { path } = await held.snapshotter.mount('c', layers, {
        readonly: true,
        signal: AbortSignal.timeout(30_000),
      })
      assert.deepEqual(readdirSync(path).sort(), ['layer-0', 'layer-1', 'layer-2'])
      assert.equal(readFileSync(join(path, 'layer-2/data')).length, 4096)
    })

    it('chooses from an index by platform and reads no layer that is here', async () => {
      await using held = await aSnapshotter(kind)
      const [one, two] = [anImage(), anImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } })]
      const content = aContentSource([one, two])
      const all = parts(held, content)
      assert.equal((await pullImage(asking('index'), all)).image.manifest, one.manifest.digest)
      const before = content.opened.length
      const events: PullEvent[] = []
      const again = await pullImage(asking('index', { onProgress: (event) => events.push(event) }), all)
      assert.deepEqual(content.opened.slice(before), [one.config.digest])
      assert.deepEqual(
        content.rights,
        one.layers.map(({ digest }) => digest),
      )
      assert.deepEqual(
        again.blobs.map((blob) => blob.digest),
        [one.config.digest],
      )
      assert.equal(events.filter((event) => event.kind === 'layer' && event.state === 'present').length, 3)
      await failsWith(
        'PLATFORM_MISSING',
        pullImage(asking('index', { platform: { os: 'linux', architecture: 's390x' } }), all),
      )
    })

    it('finds its platform in an index within another', async () => {
      await using held = await aSnapshotter(kind)
      const [one, two] = [anImage(), anImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } })]
      const inner = anIndex([one, two])
      const nested = anOuterIndex([inner])
      const content = aContentSource([one, two], { nested, [inner.digest]: inner })
      const all = parts(held, content)
      assert.equal((await pullImage(asking('nested'), all)).image.manifest, one.manifest.digest)
      await failsWith(
        'PLATFORM_MISSING',
        pullImage(asking('nested', { platform: { os: 'linux', architecture: 's390x' } }), all),
      )
    })

    it('unpacks a layer while it arrives', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage({ layers: [{ compression: 'none', bytes: 300_000 }] })
      const content = aContentSource([image])
      const ingest = join(held.directory, kind, 'ingest')
      let seen = 0
      content.gate = async (_, from) => {
        // each byte that is held back proves that those before it are on disk already
        if (from > 200_000) seen = Math.max(seen, readdirSync(ingest).length)
      }
      const events: string[] = []
      await pullImage(
        asking('0', {
          onProgress: (event) => event.kind === 'layer' && events.at(-1) !== event.state && events.push(event.state),
        }),
        parts(held, content),
      )
      assert.equal(seen, 1)
      assert.deepEqual(events, ['waiting', 'downloading', 'unpacking', 'done'])
    })

    it('opens large layers while the config is read, and closes what turns out to be here', async () => {
      await using held = await aSnapshotter(kind)
      const layers = [{ bytes: 1_500_000 }, { bytes: 1_600_000 }] as const
      const [one, same] = [anImage({ layers }), anImage({ layers, run: { Cmd: ['other'] } })]
      const content = aContentSource([one, same])
      const all = parts(held, content)
      // the config waits for them
      content.gate = async (digest) => {
        if (digest === one.config.digest) await until(() => content.opened.length === 3)
      }
      await pullImage(asking('0'), all)
      assert.equal(content.stillOpen.count, 0)
      // an image that was listed has them
      content.opened.length = 0
      await pullImage(asking('1'), all)
      assert.deepEqual(content.opened, [same.config.digest])
      // those that are here without a listed image are read, to see that their blobs unpack to them
      content.opened.length = 0
      const read = new Set<string>()
      content.gate = async (digest) => {
        if (digest === one.config.digest) await until(() => content.opened.length === 3)
        else read.add(digest)
      }
      await pullImage(asking('0'), { ...all, images: new Images({ space: aRecordSpace() }) })
      assert.deepEqual([...read].sort(), one.layers.map(({ digest }) => digest).sort())
      assert.equal(content.stillOpen.count, 0)
    })

    it('gives no layer that is here to a config that only names its DiffID (row 11)', async () => {
      await using held = await aSnapshotter(kind)
      const own = anImage({ layers: [{ bytes: 5_000 }] })
      const [secret, blob] = [own.layers[0], anImage({ seed: 9, layers: [{ bytes: 4_000 }] }).layers[0]]
      assert.ok(secret && blob)
      const { diffIds } = own
      const named = (layer: typeof blob) => anImageOf([layer], diffIds)
      const absent = { ...blob, digest: digestOf('exists nowhere') }
      // another blob, one that exists nowhere, and the very blob for who has no right to it
      const images = [own, named(blob), named(absent), named(secret)]
      const content = aContentSource(images)
      const all = parts(held, content)
      await pullImage(asking('0'), all)
      await failsWith('DIGEST_MISMATCH', pullImage(asking('1'), all))
      content.spoil(absent.digest, new Uint8Array(absent.body.byteLength))
      await failsWith('DIGEST_MISMATCH', pullImage(asking('2'), all))
      content.refuse = (digest) => {
        if (digest === secret.digest) throw new DarnerError('ORIGIN_UNAUTHORIZED', 'no right')
      }
      await failsWith('ORIGIN_UNAUTHORIZED', pullImage(asking('3'), all))
      assert.equal((await all.images.list()).length, 1)
      content.refuse = () => {}
      assert.equal((await pullImage(asking('3'), all)).image.layers[0]?.digest, secret.digest)
    })

    it('closes the layers that it opened when the config is none', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage({ layers: [{ bytes: 1_500_000 }] })
      const content = aContentSource([image])
      content.spoil(image.config.digest, Buffer.alloc(image.config.size, '{'))
      content.gate = async () => void (await until(() => content.opened.length === 2))
      await failsWith('MANIFEST_INVALID', pullImage(asking('0'), parts(held, content)))
      assert.deepEqual([content.opened.length, content.stillOpen.count], [2, 0])
    })

    it('refuses an image whose configuration could not be listed afterwards, and stores none of it', async () => {
      await using held = await aSnapshotter(kind)
      const content = aContentSource([anImage({ run: { Env: ['A=\0'] } }), anImage({ run: { Labels: { a: null } } })])
      const all = parts(held, content)
      await failsWith('MANIFEST_INVALID', pullImage(asking('0'), all))
      assert.deepEqual(await all.images.list(), [])
      const { image } = await pullImage(asking('1'), all)
      assert.deepEqual(readImageConfig(JSON.parse(image.configText), 'made').labels, {})
    })

    it('tells ten times a second how far a layer has come, however many chunks it comes in', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage({ layers: [{ compression: 'none', bytes: 100_000 }] })
      const content = aContentSource([image])
      const clock = new ManualClock()
      content.gate = async (digest) => {
        if (digest === image.layers[0]?.digest) clock.advance(10)
      }
      let told = 0
      const onProgress = (event: PullEvent) => {
        if (event.kind === 'layer' && event.state === 'downloading') told++
      }
      await pullImage(asking('0', { onProgress }), { ...parts(held, content), clock })
      assert.equal(told, Math.ceil(clock.monotonicMs() / 100))
    })

    const bad: Record<string, [Parameters<typeof failsWith>[0], (image: Image, source: MemorySource) => void]> = {
      'a layer of another length than the manifest states': [
        'SIZE_MISMATCH',
        (image, source) => source.spoil(layer(image), Buffer.alloc(99)),
      ],
      'a layer that is no tar': [
        'LAYER_INVALID',
        (image, source) => source.spoil(layer(image), sized(image, gzipSync(Buffer.alloc(20_000, 'no tar')))),
      ],
      'a layer that is cut': [
        'LAYER_INVALID',
        (image, source) =>
          source.spoil(layer(image), sized(image, Buffer.from(image.layers[1]?.body ?? []).subarray(0, 2000))),
      ],
      'a layer with another DiffID': [
        'DIGEST_MISMATCH',
        (image, source) => source.spoil(layer(image), sized(image, gzipSync(aTar([{ name: 'other', body: 'x' }])))),
      ],
      'a config that is no config': [
        'MANIFEST_INVALID',
        (image, source) => source.spoil(image.config.digest, Buffer.alloc(image.config.size, ' ')),
      ],
    }
    for (const [what, [code, spoil]] of Object.entries(bad)) {
      it(`refuses ${what} and lists no image`, async () => {
        await using held = await aSnapshotter(kind)
        const image = anImage()
        const content = aContentSource([image])
        spoil(image, content)
        const all = parts(held, content)
        await failsWith(code, pullImage(asking('0'), all))
        assert.deepEqual(await all.images.list(), [])
        assert.equal(content.stillOpen.count, 0)
        assert.deepEqual(readdirSync(join(held.directory, kind, 'ingest')), [])
      })
    }

    it('names wrong bytes as the cause of a layer that is no tar, when they turn out wrong', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage()
      const content = aContentSource([image])
      content.spoil(layer(image), sized(image, gzipSync(Buffer.alloc(20_000, 'no tar'))))
      content.judge = async (digest) => {
        if (digest === layer(image)) throw new DarnerError('DIGEST_MISMATCH', 'other bytes')
      }
      await failsWith('DIGEST_MISMATCH', pullImage(asking('0'), parts(held, content)), /other bytes/)
    })

    it('waits a bounded time for what tells whether a layer that is no tar is the right one', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage()
      const content = aContentSource([image])
      content.spoil(layer(image), sized(image, gzipSync(Buffer.alloc(20_000, 'no tar'))))
      const clock = new ManualClock()
      content.judge = async (digest) => {
        if (digest !== layer(image)) return
        clock.advance(3_000)
        await new Promise<never>(() => {})
      }
      const pulling = pullImage(asking('0'), { ...parts(held, content), clock })
      await failsWith('LAYER_INVALID', pulling, /whether it has its digest is not known: .* within 3 s/)
      assert.equal(content.stillOpen.count, 0)
    })

    it('bounds a gzip bomb', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage({
        layers: [{ compression: 'gzip', entries: [{ name: 'zeros', body: Buffer.alloc(40 * 1024 * 1024) }] }],
      })
      const limits = { bytes: 1024 * 1024, entries: 10 }
      await failsWith('LIMIT_EXCEEDED', pullImage(asking('0', { limits }), parts(held, aContentSource([image]))))
      assert.deepEqual(readdirSync(join(held.directory, kind, 'ingest')), [])
    })

    it('ends with the reason of its signal in the middle of a layer and leaves nothing half made', async () => {
      await using held = await aSnapshotter(kind)
      const content = aContentSource([anImage({ layers: [{ bytes: 100_000 }, { bytes: 100_000 }] })])
      const ending = new AbortController()
      content.gate = async (_, from) => {
        if (from > 50_000) ending.abort(new Error('enough'))
      }
      await assert.rejects(pullImage(asking('0', { signal: ending.signal }), parts(held, content)), /enough/)
      assert.equal(content.stillOpen.count, 0)
      assert.deepEqual(readdirSync(join(held.directory, kind, 'ingest')), [])
    })

    it('refuses a manifest that is not what its digest says, and artifacts that are no image', async () => {
      await using held = await aSnapshotter(kind)
      const image = anImage()
      const wrong = { ...image.manifest, digest: digestOf('other') }
      const helm = aBlob(
        image.manifest.mediaType,
        Buffer.from(
          new TextDecoder()
            .decode(image.manifest.body)
            .replace(/vnd\.oci\.image\.config\.v1/, 'vnd.cncf.helm.config.v1'),
        ),
      )
      const all = parts(held, aContentSource([image], { wrong, helm }))
      await failsWith('DIGEST_MISMATCH', pullImage(asking('wrong'), all))
      await failsWith('UNSUPPORTED', pullImage(asking('helm'), all))
      await failsWith('ORIGIN_NOT_FOUND', pullImage(asking('absent'), all))
    })
  })
}

function layer(image: Image): Digest {
  return image.layers[1]?.digest ?? digestOf('')
}

/** `body` filled up or cut to the length that the manifest states; what follows a gzip member is not looked at. */
function sized(image: Image, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(image.layers[1]?.size ?? 0)
  bytes.set(body.subarray(0, bytes.length))
  return bytes
}
