import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { ManualClock, systemClock } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { type Log, openLog, silentLog } from '../../../src/core/log.ts'
import type { Credential } from '../../../src/core/task/origin.ts'
import { MEDIA } from '../../../src/oci/media-types.ts'
import type { OriginTarget } from '../../../src/origin/origin-ask.ts'
import { createOriginClient, type OriginClientOptions } from '../../../src/origin/registry-client.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { anImage, pushImage, pushIndex, randomBody } from '../../fixtures/images/an-image.ts'
import { aRegistry, REGISTRY_USER, type Registry } from '../../fixtures/origin/a-registry.ts'
import { aTokenServer } from '../../fixtures/origin/a-token-server.ts'
import { anOrigin } from '../../fixtures/origin/an-origin.ts'
import { aCertificate } from '../../fixtures/swarm/a-certificate.ts'

const { signal } = new AbortController()
const alice: Credential = { kind: 'basic', ...REGISTRY_USER }

function aClient(options: Partial<OriginClientOptions> = {}, log: Log = silentLog()) {
  return createOriginClient(options, { log, clock: systemClock })
}

function urlTarget(url: string, headers?: Record<string, string>): OriginTarget {
  return { origin: { kind: 'url', url, ...(headers === undefined ? {} : { headers }) } }
}

function blobTarget(
  registry: Pick<Registry, 'url'>,
  repository: string,
  digest: ReturnType<typeof digestOf>,
): OriginTarget {
  return { origin: { kind: 'registry', upstream: registry.url, repository, collection: 'blobs' }, digest }
}

function manifestsOf(registry: Pick<Registry, 'url'>, repository: string) {
  return { kind: 'registry' as const, upstream: registry.url, repository }
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function readAll(
  client: ReturnType<typeof aClient>,
  target: OriginTarget,
  options: { from?: number; to?: number; credential?: Credential } = {},
) {
  await using read = await client.read(target, { ...options, signal })
  return { ...read, body: await collect(read.stream) }
}

describe('createOriginClient', () => {
  describe('against a registry without authorisation', function () {
    this.timeout(30_000)
    beforeEach(function () {
      needs(this, { programs: ['docker-registry'] })
    })

    it('reads a blob with one GET that the access log counts', async () => {
      await using registry = await aRegistry()
      await using client = aClient()
      const image = anImage({ layers: [{ compression: 'gzip', bytes: 300_000 }] })
      await pushImage(registry, 'team/app', 'v1', image)
      const [layer] = image.layers
      assert.ok(layer)
      const got = await readAll(client, blobTarget(registry, 'team/app', layer.digest))
      assert.equal(digestOf(got.body), layer.digest)
      assert.equal(got.bytes, layer.size)
      assert.equal(got.from, 0)
      assert.equal(await registry.blobGets(layer.digest), 1)
      assert.deepEqual(
        (await registry.accesses()).map(({ method, status }) => [method, status]),
        [['GET', 200]],
      )
    })

    it('reads a blob from an offset, and a range of it', async () => {
      await using registry = await aRegistry()
      await using client = aClient()
      const body = randomBody(3, 100_000)
      await registry.putBlob('team/app', digestOf(body), body)
      const target = blobTarget(registry, 'team/app', digestOf(body))
      const tail = await readAll(client, target, { from: 60_000 })
      assert.deepEqual([tail.from, tail.bytes], [60_000, 100_000])
      assert.ok(tail.body.equals(body.subarray(60_000)))
      const middle = await readAll(client, target, { from: 10, to: 20 })
      assert.ok(middle.body.equals(body.subarray(10, 20)))
      const end = await readAll(client, target, { from: 100_000 })
      assert.deepEqual([end.from, end.bytes, end.body.length], [100_000, 100_000, 0])
    })

    it('reads manifests by tag and by digest with their exact bytes, and the index by its media type', async () => {
      await using registry = await aRegistry()
      await using client = aClient()
      const images = [anImage(), anImage({ seed: 2, platform: { os: 'linux', architecture: 'arm64' } })]
      const index = await pushIndex(registry, 'team/app', 'v1', images)
      const origin = manifestsOf(registry, 'team/app')
      const byTag = await client.manifest(origin, 'v1', { signal })
      assert.equal(byTag.digest, index.digest)
      assert.equal(byTag.mediaType, MEDIA.ociIndex)
      assert.ok(Buffer.from(index.body).equals(byTag.body))
      const { manifest } = images[1] ?? assert.fail()
      const byDigest = await client.manifest(origin, manifest.digest, { signal })
      assert.equal(byDigest.mediaType, MEDIA.ociManifest)
      assert.ok(Buffer.from(manifest.body).equals(byDigest.body))
      const head = await client.manifestHead(origin, 'v1', { signal })
      assert.deepEqual(head, { digest: index.digest, mediaType: MEDIA.ociIndex, bytes: index.size })
    })

    it('says of a blob what a HEAD says', async () => {
      await using registry = await aRegistry()
      await using client = aClient()
      const body = randomBody(4, 1000)
      await registry.putBlob('team/app', digestOf(body), body)
      const stat = await client.stat(blobTarget(registry, 'team/app', digestOf(body)), { signal })
      assert.deepEqual([stat.status, stat.bytes, stat.digest, stat.acceptsRanges], [200, 1000, digestOf(body), true])
    })

    it('tells what is not there in the words of the registry', async () => {
      await using registry = await aRegistry()
      await using client = aClient()
      const digest = digestOf('nothing')
      const error = await failsWith(
        'ORIGIN_NOT_FOUND',
        client.read(blobTarget(registry, 'team/app', digest), { signal }),
        /BLOB_UNKNOWN: blob unknown/,
      )
      assert.deepEqual(
        [error.details.host, error.details.repository, error.details.status],
        [registry.host, 'team/app', 404],
      )
      await failsWith(
        'ORIGIN_NOT_FOUND',
        client.manifest(manifestsOf(registry, 'team/app'), 'v9', { signal }),
        /MANIFEST_UNKNOWN/,
      )
      await failsWith('ORIGIN_NOT_FOUND', client.stat(blobTarget(registry, 'team/app', digest), { signal }))
    })
  })

  describe('against a registry with basic authorisation', function () {
    this.timeout(30_000)
    beforeEach(function () {
      needs(this, { programs: ['docker-registry'] })
    })

    it('logs in after a challenge, then at once', async () => {
      await using registry = await aRegistry({ auth: 'basic' })
      await using client = aClient()
      const image = anImage()
      await pushImage(registry, 'team/app', 'v1', image)
      const manifest = await client.manifest(manifestsOf(registry, 'team/app'), 'v1', { credential: alice, signal })
      assert.equal(manifest.digest, image.manifest.digest)
      await client.manifest(manifestsOf(registry, 'team/app'), 'v1', { credential: alice, signal })
      assert.deepEqual(
        (await registry.accesses()).map(({ status }) => status),
        [401, 200, 200],
      )
    })

    it('takes a header as a client sent it', async () => {
      await using registry = await aRegistry({ auth: 'basic' })
      await using client = aClient()
      await pushImage(registry, 'team/app', 'v1', anImage())
      const value = `Basic ${Buffer.from('alice:correct horse').toString('base64')}`
      await client.manifest(manifestsOf(registry, 'team/app'), 'v1', { credential: { kind: 'header', value }, signal })
    })

    it('names host, repository and a way when rights are missing or wrong', async () => {
      await using registry = await aRegistry({ auth: 'basic' })
      await using client = aClient()
      const ask = (credential?: Credential) =>
        client.manifest(manifestsOf(registry, 'team/app'), 'v1', { credential, signal })
      const none = await failsWith(
        'ORIGIN_UNAUTHORIZED',
        ask(),
        new RegExp(`${registry.host} answered 401 for repository team/app`),
      )
      assert.match(none.way ?? '', new RegExp(`docker login ${registry.host}`))
      assert.match(String(none.details.challenge), /^Basic realm=/)
      const wrong = await failsWith(
        'ORIGIN_UNAUTHORIZED',
        ask({ kind: 'basic', username: 'alice', password: 'battery staple' }),
      )
      assert.doesNotMatch(wrong.message, /battery/)
      assert.equal((await registry.accesses()).length, 3)
    })
  })

  describe('against a registry with a token server', function () {
    this.timeout(30_000)
    beforeEach(function () {
      needs(this, { programs: ['docker-registry'] })
    })

    it('gets an anonymous token for what is open, and the registry refuses the rest', async () => {
      await using tokens = await aTokenServer({ open: ['team/open'] })
      await using registry = await aRegistry({ auth: tokens })
      await using client = aClient()
      await pushImage(registry, 'team/open', 'v1', anImage())
      await pushImage(registry, 'team/shut', 'v1', anImage())
      await client.manifest(manifestsOf(registry, 'team/open'), 'v1', { signal })
      assert.deepEqual(tokens.requests[0], {
        method: 'GET',
        user: undefined,
        scopes: ['repository:team/open:pull'],
        service: 'test registry',
        grant: null,
        authorization: undefined,
      })
      await failsWith(
        'ORIGIN_UNAUTHORIZED',
        client.manifest(manifestsOf(registry, 'team/shut'), 'v1', { signal }),
        /team\/shut/,
      )
    })

    it('asks for one token for many readers, and keeps it', async () => {
      await using tokens = await aTokenServer({ users: { alice: 'correct horse' } })
      await using registry = await aRegistry({ auth: tokens })
      await using client = aClient()
      const body = randomBody(5, 1000)
      await registry.putBlob('team/app', digestOf(body), body)
      const target = blobTarget(registry, 'team/app', digestOf(body))
      await Promise.all(Array.from({ length: 20 }, () => client.stat(target, { credential: alice, signal })))
      await client.stat(target, { credential: alice, signal })
      assert.equal(tokens.requests.length, 1)
      assert.equal(tokens.requests[0]?.user, 'alice')
    })

    it('never gives one reader the token of another', async () => {
      await using tokens = await aTokenServer({ users: { alice: 'correct horse' } })
      await using registry = await aRegistry({ auth: tokens })
      await using client = aClient()
      await pushImage(registry, 'team/app', 'v1', anImage())
      const origin = manifestsOf(registry, 'team/app')
      await client.manifest(origin, 'v1', { credential: alice, signal })
      await failsWith('ORIGIN_UNAUTHORIZED', client.manifest(origin, 'v1', { signal }))
      await failsWith(
        'ORIGIN_UNAUTHORIZED',
        client.manifest(origin, 'v1', { credential: { kind: 'basic', username: 'alice', password: 'wrong' }, signal }),
      )
    })

    it('exchanges a refresh token by POST', async () => {
      await using tokens = await aTokenServer({ refreshTokens: { 'refresh-me': 'alice' } })
      await using registry = await aRegistry({ auth: tokens })
      await using client = aClient()
      await pushImage(registry, 'team/app', 'v1', anImage())
      const origin = manifestsOf(registry, 'team/app')
      await client.manifest(origin, 'v1', { credential: { kind: 'refresh', token: 'refresh-me' }, signal })
      assert.deepEqual(
        [tokens.requests[0]?.method, tokens.requests[0]?.grant, tokens.requests[0]?.user],
        ['POST', 'refresh_token', 'alice'],
      )
      await failsWith(
        'ORIGIN_UNAUTHORIZED',
        client.manifest(origin, 'v1', { credential: { kind: 'refresh', token: 'stale' }, signal }),
      )
    })

    it('gets a new token when the registry refuses one that has ended', async () => {
      await using tokens = await aTokenServer({ users: { alice: 'correct horse' } })
      await using registry = await aRegistry({ auth: tokens })
      await using client = aClient()
      await pushImage(registry, 'team/app', 'v1', anImage())
      tokens.lives.push(-600)
      await client.manifest(manifestsOf(registry, 'team/app'), 'v1', { credential: alice, signal })
      assert.equal(tokens.requests.length, 2)
    })

    it('renews a token shortly before its end without being refused first', async () => {
      await using tokens = await aTokenServer({ users: { alice: 'correct horse' } })
      await using registry = await aRegistry({ auth: tokens })
      const clock = new ManualClock(1_700_000_000_000)
      await using client = createOriginClient({ tokenMarginMs: 10_000 }, { log: silentLog(), clock })
      await pushImage(registry, 'team/app', 'v1', anImage())
      tokens.stated = 60
      const ask = () => client.manifest(manifestsOf(registry, 'team/app'), 'v1', { credential: alice, signal })
      await ask()
      clock.advance(49_000)
      await ask()
      assert.equal(tokens.requests.length, 1)
      clock.advance(2000)
      await ask()
      assert.equal(tokens.requests.length, 2)
      assert.deepEqual(
        (await registry.accesses()).map(({ status }) => status),
        [401, 200, 200, 200],
      )
    })

    it('sends a token that the client brought as it is, and leaves its renewal to the client', async () => {
      await using tokens = await aTokenServer()
      await using registry = await aRegistry({ auth: tokens })
      await using client = aClient()
      await pushImage(registry, 'team/app', 'v1', anImage())
      const origin = manifestsOf(registry, 'team/app')
      const value = `Bearer ${await tokens.tokenFor(['repository:team/app:pull'])}`
      await client.manifest(origin, 'v1', { credential: { kind: 'header', value }, signal })
      const error = await failsWith(
        'ORIGIN_UNAUTHORIZED',
        client.manifest(origin, 'v1', { credential: { kind: 'header', value: 'Bearer old' }, signal }),
      )
      assert.match(String(error.details.challenge), /^Bearer realm=.*scope="repository:team\/app:pull"/)
      assert.equal(tokens.requests.length, 0)
    })

    it('shows no secret in any log line or message, even when the token server repeats it', async () => {
      await using tokens = await aTokenServer({ users: { alice: 'correct horse' } })
      await using registry = await aRegistry({ auth: tokens })
      const lines: string[] = []
      const log = await openLog(
        { level: 'trace', pretty: false },
        new Writable({ write: (chunk, _, done) => done(void lines.push(String(chunk))) }),
      )
      await using client = aClient({}, log)
      await pushImage(registry, 'team/app', 'v1', anImage())
      const origin = manifestsOf(registry, 'team/app')
      await client.manifest(origin, 'v1', { credential: alice, signal })
      const secret = 'swordfish-swordfish'
      const error = await failsWith(
        'ORIGIN_UNAUTHORIZED',
        client.manifest(origin, 'v1', { credential: { kind: 'basic', username: 'bob', password: secret }, signal }),
      )
      assert.match(error.message, /wrong name or password \(Basic \[redacted\]\)/)
      log.error({ error }, 'pull failed')
      const all = lines.join('')
      assert.match(all, /token obtained/)
      assert.match(all, /origin answered/)
      for (const hidden of ['correct horse', secret, btoa(`bob:${secret}`), btoa('alice:correct horse'), 'eyJ']) {
        assert.ok(!all.includes(hidden), `a log line shows ${hidden}`)
      }
    })
  })

  describe('over TLS', function () {
    this.timeout(30_000)
    it('trusts a private authority that is given for the host, and no other', async function () {
      needs(this, { programs: ['docker-registry'] })
      const authority = await aCertificate()
      await using registry = await aRegistry({ tls: await aCertificate({ by: authority }) })
      await pushImage(registry, 'team/app', 'v1', anImage())
      const origin = manifestsOf(registry, 'team/app')
      await using trusting = aClient({ hosts: { [registry.host]: { ca: authority.cert } } })
      await trusting.manifest(origin, 'v1', { signal })
      await using careless = aClient({ hosts: { '127.0.0.1': { insecure: true } } })
      await careless.manifest(origin, 'v1', { signal })
      await using stranger = aClient({ hosts: { 'elsewhere:443': { ca: authority.cert } } })
      const error = await failsWith('ORIGIN_UNREACHABLE', stranger.manifest(origin, 'v1', { signal }), /UNABLE_TO/)
      assert.match(error.way ?? '', /CA that signed/)
    })

    it('shows its client certificate to the host that it is for', async () => {
      const authority = await aCertificate()
      await using origin = await anOrigin({ tls: await aCertificate({ by: authority }), clientCa: authority.cert })
      origin.at('/file', { body: 'for members' })
      const { cert, key } = await aCertificate({ by: authority, names: ['member'] })
      await using member = aClient({ hosts: { [origin.host]: { ca: authority.cert, cert, key } } })
      assert.equal(String((await readAll(member, urlTarget(`${origin.url}/file`))).body), 'for members')
      await using stranger = aClient({ hosts: { [origin.host]: { ca: authority.cert } } })
      await failsWith('ORIGIN_UNREACHABLE', stranger.read(urlTarget(`${origin.url}/file`), { signal }))
    })

    it('hints at plain HTTP when the other side speaks it', async () => {
      await using origin = await anOrigin()
      await using client = aClient()
      const error = await failsWith(
        'ORIGIN_UNREACHABLE',
        client.read(urlTarget(`https://${origin.host}/file`), { signal }),
      )
      assert.match(error.way ?? '', /plain HTTP/)
    })
  })
})
