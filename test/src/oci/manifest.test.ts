import assert from 'node:assert/strict'
import { digestOf } from '../../../src/core/digest.ts'
import {
  MAX_INDEX_ENTRIES,
  MAX_LAYERS,
  MAX_MANIFEST_BYTES,
  parseDescriptor,
  parseImageConfig,
  parseManifest,
} from '../../../src/oci/manifest.ts'
import { isForeignLayer, layerCompression, MEDIA } from '../../../src/oci/media-types.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'
import { anImage, anIndex } from '../../fixtures/images/an-image.ts'

const descriptor = { mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digestOf('x'), size: 1 }
const plain = {
  schemaVersion: 2,
  mediaType: MEDIA.ociManifest,
  config: { ...descriptor, mediaType: MEDIA.ociConfig },
  layers: [descriptor],
}
const list = {
  schemaVersion: 2,
  mediaType: MEDIA.ociIndex,
  manifests: [{ ...descriptor, mediaType: MEDIA.ociManifest }],
}
const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))

describe('parseManifest', () => {
  it('reads the manifests and indexes of both families', () => {
    for (const docker of [false, true]) {
      const image = anImage({ docker })
      const parsed = parseManifest(image.manifest.body, image.manifest.mediaType)
      assert.ok(parsed.kind === 'manifest')
      assert.deepEqual(
        parsed.manifest.layers.map(({ digest, size }) => [digest, size]),
        image.layers.map(({ digest, size }) => [digest, size]),
      )
      const index = anIndex([image], { docker })
      const found = parseManifest(index.body, index.mediaType)
      assert.ok(found.kind === 'index')
      assert.equal(found.index.manifests[0]?.digest, image.manifest.digest)
    }
  })

  it('tolerates fields it does not know, and annotations that are null', () => {
    const parsed = parseManifest(
      bytes({ ...plain, annotations: null, more: { deep: [null] }, layers: [{ ...descriptor, extra: 1, urls: null }] }),
      MEDIA.ociManifest,
    )
    assert.equal(parsed.kind, 'manifest')
  })

  it('tells an index from a manifest when neither body nor origin says', () => {
    const { mediaType: _, ...bare } = list
    assert.equal(parseManifest(bytes(bare), 'application/json').kind, 'index')
    const { mediaType: __, ...lone } = plain
    assert.equal(parseManifest(bytes(lone), '').kind, 'manifest')
  })

  const bad: [name: string, body: unknown, mediaType: string, why: RegExp][] = [
    ['what is no JSON', '{', MEDIA.ociManifest, /not JSON/],
    ['what is no UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), MEDIA.ociManifest, /not JSON in UTF-8/],
    ['null', null, MEDIA.ociManifest, /not a JSON object/],
    ['a list', [], MEDIA.ociManifest, /not a JSON object/],
    ['layers that are null', { ...plain, layers: null }, MEDIA.ociManifest, /\/layers/],
    ['a layer that is null', { ...plain, layers: [null] }, MEDIA.ociManifest, /\/layers\/0/],
    ['a config that is missing', { ...plain, config: undefined }, MEDIA.ociManifest, /config/],
    [
      'a size that is text',
      { ...plain, layers: [{ ...descriptor, size: '1' }] },
      MEDIA.ociManifest,
      /\/layers\/0\/size/,
    ],
    ['a size below zero', { ...plain, layers: [{ ...descriptor, size: -1 }] }, MEDIA.ociManifest, /\/layers\/0\/size/],
    [
      'a size with a fraction',
      { ...plain, layers: [{ ...descriptor, size: 1.5 }] },
      MEDIA.ociManifest,
      /\/layers\/0\/size/,
    ],
    [
      'a size beyond all disks',
      { ...plain, layers: [{ ...descriptor, size: 2 ** 50 }] },
      MEDIA.ociManifest,
      /\/layers\/0\/size/,
    ],
    [
      'a digest that is none',
      { ...plain, layers: [{ ...descriptor, digest: 'sha256:../../x' }] },
      MEDIA.ociManifest,
      /\/layers\/0\/digest/,
    ],
    [
      'too many layers',
      { ...plain, layers: Array(MAX_LAYERS + 1).fill(descriptor) },
      MEDIA.ociManifest,
      /^manifest: an image of 501 layers, more than the 500 that can be stacked$/,
    ],
    [
      'ten thousand layers',
      { ...plain, layers: Array(10_000).fill(descriptor) },
      MEDIA.ociManifest,
      /an image of 10000 layers/,
    ],
    [
      'more values than can be looked at',
      { ...plain, annotations: Object.fromEntries(Array.from({ length: 40_000 }, (_, at) => [`a${at}`, ''])) },
      MEDIA.ociManifest,
      /more than 32768 values/,
    ],
    [
      'too many entries',
      { ...list, manifests: Array(MAX_INDEX_ENTRIES + 1).fill(descriptor) },
      MEDIA.ociIndex,
      /\/manifests/,
    ],
    ['another schema version', { ...plain, schemaVersion: 3 }, MEDIA.ociManifest, /schemaVersion/],
    [
      'schema version 1',
      { schemaVersion: 1, fsLayers: [] },
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
      /schema version 1/,
    ],
    ['a body that is both', { ...list, layers: [descriptor] }, MEDIA.ociIndex, /an index and those of a manifest/],
    ['a body that names another type', plain, MEDIA.ociIndex, /calls itself/],
  ]
  for (const [name, body, mediaType, why] of bad) {
    it(`refuses ${name}`, () => {
      throwsWith('MANIFEST_INVALID', () => parseManifest(body instanceof Buffer ? body : bytes(body), mediaType), why)
    })
  }

  it('refuses more than 4 MiB before reading them', () => {
    throwsWith(
      'MANIFEST_INVALID',
      () => parseManifest(Buffer.alloc(MAX_MANIFEST_BYTES + 1, 0x20), MEDIA.ociManifest),
      /more than 4194304/,
    )
  })

  it('says that other documents are no images', () => {
    throwsWith('UNSUPPORTED', () =>
      parseManifest(bytes({ schemaVersion: 2, mediaType: 'application/x-other' }), 'application/x-other'),
    )
  })
})

describe('parseImageConfig', () => {
  it('reads a config and drops what is null', () => {
    const image = anImage({
      run: { Cmd: null, Entrypoint: ['/init'], Labels: null, Env: ['A=b'], Healthcheck: { Test: null } },
    })
    const config = parseImageConfig(image.config.body, { layers: 3 })
    assert.deepEqual(config.rootfs.diff_ids, image.diffIds)
    assert.deepEqual(config.config, { Entrypoint: ['/init'], Env: ['A=b'], Healthcheck: {} })
  })

  it('refuses what would break a reader', () => {
    const good = JSON.parse(Buffer.from(anImage().config.body).toString())
    const refuse = (changes: object, why: RegExp) =>
      throwsWith('MANIFEST_INVALID', () => parseImageConfig(bytes({ ...good, ...changes })), why)
    refuse({ rootfs: null }, /rootfs/)
    refuse({ rootfs: { type: 'layers', diff_ids: null } }, /diff_ids/)
    refuse({ rootfs: { type: 'layers', diff_ids: Array(10_000).fill(digestOf('x')) } }, /an image of 10000 layers/)
    refuse({ rootfs: { type: 'layers', diff_ids: ['x'] } }, /\/rootfs\/diff_ids\/0/)
    refuse({ config: { Cmd: 'sh' } }, /\/config\/Cmd/)
    refuse({ config: { Env: [null] } }, /\/config\/Env\/0/)
    refuse({ os: 7 }, /\/os/)
    throwsWith(
      'MANIFEST_INVALID',
      () => parseImageConfig(bytes(good), { layers: 2 }),
      /3 diff_ids, the manifest 2 layers/,
    )
  })
})

describe('parseDescriptor', () => {
  it('takes a descriptor and nothing less', () => {
    assert.equal(parseDescriptor(descriptor).size, 1)
    throwsWith('MANIFEST_INVALID', () => parseDescriptor({ ...descriptor, mediaType: '' }))
  })
})

describe('layerCompression', () => {
  it('knows plain, gzip and zstd tars of both families', () => {
    assert.equal(layerCompression('application/vnd.oci.image.layer.v1.tar'), 'none')
    assert.equal(layerCompression('application/vnd.docker.image.rootfs.diff.tar.gzip'), 'gzip')
    assert.equal(layerCompression('application/vnd.oci.image.layer.v1.tar+zstd'), 'zstd')
    throwsWith('UNSUPPORTED', () => layerCompression('application/vnd.oci.image.layer.v1.tar+gzip+encrypted'))
  })

  it('knows foreign layers', () => {
    assert.ok(isForeignLayer('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'))
    assert.ok(isForeignLayer('application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'))
    assert.ok(!isForeignLayer('application/vnd.oci.image.layer.v1.tar+gzip'))
  })
})
