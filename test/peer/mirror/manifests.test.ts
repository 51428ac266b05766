import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'mocha'
import { MirrorManifests } from '../../../peer/mirror/manifests.ts'
import { Sizes } from '../../../peer/mirror/sizes.ts'
import { Upstreams } from '../../../peer/mirror/upstreams.ts'
import { ManualClock } from '../../../src/core/clock.ts'
import type { ManifestAnswer } from '../../../src/core/contracts/content.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { DarnerError, isDarnerError } from '../../../src/core/errors.ts'
import { MEDIA } from '../../../src/oci/media-types.ts'
import { Rights } from '../../../src/rights/right.ts'
import { askMirror } from '../../fixtures/clients/ask-mirror.ts'

const LAYER = digestOf('layer')
const BODY = Buffer.from(JSON.stringify({ schemaVersion: 2, layers: [{ digest: LAYER, size: 77 }] }))
const ANSWER: ManifestAnswer = { digest: digestOf(BODY), mediaType: MEDIA.ociManifest, body: BODY }
const PLACE = new Upstreams({ 'reg.test': 'http://reg.test' }).place(['app'], undefined)

/** Manifests behind a server of their own, over an origin that can go away. */
async function someManifests(staleMs: number) {
  const clock = new ManualClock()
  const sizes = new Sizes()
  const origin = { down: false, asked: 0 }
  const manifests = new MirrorManifests({ staleMs }, {
    clock,
    sizes,
    rights: new Rights({ clock }),
    engine: {
      manifest: async () => {
        origin.asked++
        if (origin.down) throw new DarnerError('ORIGIN_UNREACHABLE', 'cannot reach reg.test')
        return ANSWER
      },
    },
  } as unknown as ConstructorParameters<typeof MirrorManifests>[1])
  const server = createServer((request, response) => {
    const ask = {
      request,
      response,
      head: false,
      query: '',
      credential: undefined,
      signal: AbortSignal.timeout(10_000),
      clock,
    }
    manifests.serve(ask, PLACE, (request.url ?? '').slice(1)).catch((error: unknown) => {
      response.writeHead(isDarnerError(error, 'ORIGIN_UNREACHABLE') ? 502 : 500).end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    ...{ clock, origin, sizes },
    ask: (reference: string) => askMirror(`127.0.0.1:${port}`, `/${reference}`),
    [Symbol.asyncDispose]: async () => {
      server.close()
      server.closeAllConnections()
    },
  }
}

describe('MirrorManifests', () => {
  it('gives the last answer about a tag while its origin is down, marked with Warning and Age, as long as policy allows', async () => {
    await using manifests = await someManifests(60_000)
    const fresh = await manifests.ask('v1')
    assert.deepEqual([fresh.status, fresh.headers.warning, fresh.headers.age], [200, undefined, undefined])
    manifests.origin.down = true
    manifests.clock.advance(42_000)
    const stale = await manifests.ask('v1')
    assert.deepEqual(
      [stale.status, stale.headers['docker-content-digest'], stale.headers.age],
      [200, ANSWER.digest, '42'],
    )
    assert.match(stale.headers.warning ?? '', /^110 darner "[^"]+"$/)
    assert.ok(stale.body.equals(BODY))
    manifests.clock.advance(20_000)
    assert.equal((await manifests.ask('v1')).status, 502)
    manifests.origin.down = false
    const again = await manifests.ask('v1')
    assert.deepEqual([again.status, again.headers.warning], [200, undefined])
  })

  it('gives none where policy allows none, but what a digest names', async () => {
    await using manifests = await someManifests(0)
    assert.equal((await manifests.ask('v1')).status, 200)
    manifests.origin.down = true
    assert.equal((await manifests.ask('v1')).status, 502)
    const kept = await manifests.ask(ANSWER.digest)
    assert.deepEqual([kept.status, kept.headers.warning], [200, undefined])
  })

  it('learns the lengths of blobs, and their order, from what passes', async () => {
    await using manifests = await someManifests(0)
    assert.equal(manifests.sizes.of(LAYER), undefined)
    await manifests.ask('v1')
    assert.deepEqual(manifests.sizes.of(LAYER), { bytes: 77, order: 1 })
  })
})

describe('Sizes', () => {
  it('takes nothing from what is no manifest, and no length that is none', () => {
    const sizes = new Sizes()
    for (const body of [
      '',
      'null',
      '[]',
      '"x"',
      '{"layers":7}',
      '{"config":null,"layers":[null,3,{"digest":"x","size":1}]}',
    ])
      sizes.learn(Buffer.from(body))
    for (const size of [-1, 1.5, '7', null, 1e300])
      sizes.learn(Buffer.from(JSON.stringify({ layers: [{ digest: LAYER, size }] })))
    assert.equal(sizes.of(LAYER), undefined)
    sizes.learn(Buffer.from(JSON.stringify({ config: { digest: LAYER, size: 5 } })))
    assert.deepEqual(sizes.of(LAYER), { bytes: 5, order: 0 })
    sizes.forget(LAYER)
    assert.equal(sizes.of(LAYER), undefined)
  })
})
