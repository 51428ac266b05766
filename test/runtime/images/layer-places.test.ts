import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { fromFirst, placesOf } from '../../../runtime/images/layer-places.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const registry = { kind: 'registry', upstream: 'https://registry.test', repository: 'app' } as const
const blobs = { ...registry, collection: 'blobs' } as const
const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'
const signal = new AbortController().signal

describe('placesOf', () => {
  it('names the registry, then a foreign layer’s URLs, as many as are tried', () => {
    const urls = Array.from({ length: 64 }, (_, at) => `https://far.test/${at}`)
    const [first, ...others] = placesOf(registry, { mediaType: foreign, urls })
    assert.deepEqual(first, blobs)
    assert.deepEqual(
      others,
      urls.slice(0, 8).map((url) => ({ kind: 'url', url })),
    )
  })

  it('leaves out URLs with a name or password: an image has no host log in anywhere', () => {
    const urls = ['https://admin:admin@inside.test/a', 'http://admin@inside.test/a', 'https://:pw@inside.test/a']
    assert.deepEqual(placesOf(registry, { mediaType: foreign, urls }), [blobs])
  })

  it('leaves out what is no URL of the web, and the URLs of usual layers', () => {
    const urls = ['ftp://far.test/a', 'file:///etc/passwd', 'no url', '']
    assert.deepEqual(placesOf(registry, { mediaType: foreign, urls }), [blobs])
    const usual = 'application/vnd.oci.image.layer.v1.tar+gzip'
    assert.deepEqual(placesOf(registry, { mediaType: usual, urls: ['https://far.test/a'] }), [blobs])
  })
})

describe('fromFirst', () => {
  const places = placesOf(registry, { mediaType: foreign, urls: ['https://far.test/a', 'https://far.test/b'] })

  it('goes on past each place that fails, and tells all of them when none is left', async () => {
    const asked: unknown[] = []
    const got = await fromFirst(
      'layer 1',
      places,
      async (place) => {
        if (asked.push(place) < 3) throw new DarnerError('ORIGIN_NOT_FOUND', 'not there')
        return asked.length
      },
      { signal },
    )
    assert.equal(got, 3)
    assert.deepEqual(asked, places)
    let turn = 0
    const none = fromFirst(
      'layer 1',
      places,
      async () => {
        throw new DarnerError('ORIGIN_FAILED', `no ${++turn}`)
      },
      { signal },
    )
    const all =
      /^layer 1: .*: https:\/\/registry.test\/app: no 1; https:\/\/far.test\/a: no 2; https:\/\/far.test\/b: no 3$/
    await failsWith('ORIGIN_FAILED', none, all)
  })

  it('says at each place which ones before it gave wrong bytes, and not which had none', async () => {
    const codes = ['ORIGIN_NOT_FOUND', 'DIGEST_MISMATCH', 'LAYER_INVALID'] as const
    const four = [...places, { kind: 'url', url: 'https://far.test/c' } as const]
    const told: unknown[] = []
    const got = await fromFirst(
      'layer 1',
      four,
      async (_place, wrongAt) => {
        const code = codes[told.push(wrongAt) - 1]
        if (code !== undefined) throw new DarnerError(code, 'no')
        return 'got'
      },
      { signal },
    )
    assert.equal(got, 'got')
    assert.deepEqual(told, [[], [], four.slice(1, 2), four.slice(1, 3)])
  })

  it('stops at a failure of this host, and at the signal', async () => {
    let asked = 0
    const full = fromFirst(
      'layer 1',
      places,
      async () => {
        asked++
        throw new DarnerError('DISK_FULL', 'full')
      },
      { signal },
    )
    await failsWith('DISK_FULL', full)
    assert.equal(asked, 1)
    const ending = new AbortController()
    const ended = fromFirst(
      'layer 1',
      places,
      async () => {
        ending.abort(new DarnerError('INTERRUPTED', 'enough'))
        throw new DarnerError('ORIGIN_FAILED', 'broken')
      },
      ending,
    )
    await failsWith('INTERRUPTED', ended)
  })
})
