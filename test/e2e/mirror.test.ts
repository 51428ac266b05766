import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { MEDIA, SIGNED_SCHEMA1 } from '../../src/oci/media-types.ts'
import { askMirror, type MirrorAskOptions } from '../fixtures/clients/ask-mirror.ts'
import { anImage, type Image, pushImage, randomBody } from '../fixtures/images/an-image.ts'
import { aRegistry, REGISTRY_USER, type Registry } from '../fixtures/origin/a-registry.ts'
import { aTokenServer } from '../fixtures/origin/a-token-server.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const BASIC = `Basic ${Buffer.from(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`).toString('base64')}`

interface Mirrored extends AsyncDisposable {
  readonly swarm: Swarm
  /** Asks the mirror of agent 0, or of another. */
  ask(path: string, options?: MirrorAskOptions & { agent?: number }): ReturnType<typeof askMirror>
  address(agent?: number): string
}

/** A swarm whose agents have mirrors on free ports. */
async function mirrored(
  upstream: readonly string[],
  {
    peers = 1,
    agent = {},
    log,
  }: { peers?: number; agent?: Record<string, unknown>; log?: Parameters<typeof aSwarm>[0]['log'] } = {},
): Promise<Mirrored> {
  const swarm = await aSwarm({
    peers,
    agent: { mirror: '127.0.0.1:0', upstream: [...upstream], ...agent },
    ...(log === undefined ? {} : { log }),
  })
  const address = (number = 0) => swarm.agents[number]?.mirror?.address ?? assert.fail('no mirror')
  return {
    swarm,
    address,
    ask: (path, { agent: number, ...options } = {}) => askMirror(address(number), path, options),
    [Symbol.asyncDispose]: () => swarm[Symbol.asyncDispose](),
  }
}

async function anImageAt(registry: Registry, repository = 'team/app', tag = 'v1'): Promise<Image> {
  const image = anImage({ layers: [{ compression: 'none', bytes: 3 * MIB }, { compression: 'gzip' }] })
  await pushImage(registry, repository, tag, image)
  return image
}

function bigLayer(image: Image) {
  return image.layers[0] ?? assert.fail('no layer')
}

describe('the registry mirror', () => {
  it('serves manifests and blobs as their registry does', async () => {
    await using registry = await aRegistry()
    const image = await anImageAt(registry)
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const layer = bigLayer(image)
    for (const path of ['/v2/', '/v2/?ns=reg.test']) assert.equal((await mirror.ask(path)).status, 200)
    for (const reference of ['v1', image.manifest.digest]) {
      for (const method of ['HEAD', 'GET']) {
        const { status, headers, body } = await mirror.ask(`/v2/team/app/manifests/${reference}?ns=reg.test`, {
          method,
        })
        assert.equal(status, 200)
        assert.equal(headers['content-type'], MEDIA.ociManifest)
        assert.equal(headers['docker-content-digest'], image.manifest.digest)
        assert.equal(headers['content-length'], String(image.manifest.size))
        assert.equal(headers['oci-namespace'], 'reg.test')
        assert.deepEqual(body, method === 'HEAD' ? Buffer.alloc(0) : Buffer.from(image.manifest.body))
      }
    }
    const { status, headers, body, complete } = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`)
    assert.equal(status, 200)
    assert.ok(complete)
    assert.ok(body.equals(layer.body))
    assert.equal(headers['content-length'], String(layer.size))
    assert.equal(headers['docker-content-digest'], layer.digest)
    assert.equal(headers['accept-ranges'], 'bytes')
    assert.equal(headers['content-type'], 'application/octet-stream')
    assert.equal(headers['content-encoding'], undefined)
  })

  it('answers a HEAD of a blob without fetching it', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    for (let time = 0; time < 3; time++) {
      const { status, headers, body } = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`, { method: 'HEAD' })
      assert.equal(status, 200)
      assert.equal(headers['content-length'], String(layer.size))
      assert.equal(headers['docker-content-digest'], layer.digest)
      assert.equal(body.length, 0)
    }
    assert.equal(await registry.blobGets(layer.digest), 0)
    assert.equal((await registry.accesses()).filter(({ method }) => method === 'HEAD').length, 1)
    assert.equal(mirror.swarm.supernode.supernode.traffic.origin, 0)
  })

  it('reads a blob once at the registry for two hosts that pull at the same time', async () => {
    await using registry = await aRegistry()
    const image = await anImageAt(registry)
    await using mirror = await mirrored([`reg.test=${registry.url}`], { peers: 2 })
    const layer = bigLayer(image)
    const got = await Promise.all(
      [0, 1, 0, 1].map((agent) => mirror.ask(`/v2/team/app/blobs/${layer.digest}`, { agent })),
    )
    for (const { body, complete } of got) assert.ok(complete && body.equals(layer.body))
    assert.equal(await registry.blobGets(layer.digest), 1)
  })

  it('finds the upstream by ns, by path and by default', async () => {
    await using one = await aRegistry()
    await using two = await aRegistry()
    const image = await anImageAt(one, 'team/one')
    await anImageAt(two, 'team/two')
    await using mirror = await mirrored([`one.test=${one.url}`, `two.test:5000=${two.url}`])
    const statuses = async (...paths: string[]) =>
      await Promise.all(paths.map(async (path) => (await mirror.ask(`/v2/${path}`)).status))
    assert.deepEqual(
      await statuses(
        'team/one/manifests/v1',
        'team/two/manifests/v1?ns=two.test:5000',
        'two.test:5000/team/two/manifests/v1',
        'two.test:5000/team/two/tags/list',
        `two.test:5000/team/two/blobs/${bigLayer(image).digest}`,
      ),
      [200, 200, 200, 200, 200],
    )
    assert.deepEqual(await statuses('team/two/manifests/v1', 'team/one/manifests/v1?ns=two.test:5000'), [404, 404])
    const unknown = await mirror.ask('/v2/team/one/manifests/v1?ns=three.test')
    assert.deepEqual([unknown.status, unknown.code], [404, 'NAME_UNKNOWN'])
  })

  it('applies ranges, and says 206 exactly then', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const path = `/v2/team/app/blobs/${layer.digest}`
    const size = layer.size
    const etag = `"${layer.digest}"`
    for (const [range, from, to] of [
      ['bytes=0-', 0, size],
      ['bytes=0-0', 0, 1],
      ['bytes=1000000-1999999', 1_000_000, 2_000_000],
      [`bytes=${size - 5}-`, size - 5, size],
      ['bytes=-7', size - 7, size],
      ['bytes=2000000-999999999', 2_000_000, size],
    ] as const) {
      const { status, headers, body } = await mirror.ask(path, { headers: { range, 'if-range': etag } })
      assert.equal(status, 206, range)
      assert.equal(headers['content-range'], `bytes ${from}-${to - 1}/${size}`)
      assert.ok(body.equals(layer.body.subarray(from, to)), range)
    }
    for (const headers of [
      { range: 'bytes=9-1' },
      { range: 'bytes=0-1', 'if-range': '"other"' },
      { range: 'rows=1-2' },
    ]) {
      const answer = await mirror.ask(path, { headers })
      assert.equal(answer.status, 200)
      assert.equal(answer.headers['content-range'], undefined)
      assert.ok(answer.body.equals(layer.body))
    }
    const beyond = await mirror.ask(path, { headers: { range: `bytes=${size}-` } })
    assert.deepEqual([beyond.status, beyond.headers['content-range']], [416, `bytes */${size}`])
    const head = await mirror.ask(path, { method: 'HEAD', headers: { range: 'bytes=0-1' } })
    assert.deepEqual([head.status, head.headers['content-length']], [200, String(size)])
    const unchanged = await mirror.ask(path, { headers: { 'if-none-match': etag } })
    assert.deepEqual([unchanged.status, unchanged.body.length], [304, 0])
  })

  it('takes no notice of a range in a HEAD, also for a blob that is not here', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const path = `/v2/team/app/blobs/${layer.digest}`
    const head = await mirror.ask(path, { method: 'HEAD', headers: { range: 'bytes=0-1' } })
    assert.deepEqual([head.status, head.headers['content-length']], [200, String(layer.size)])
    assert.equal(head.headers['content-range'], undefined)
  })

  it('sends several ranges as one multipart answer', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const { status, headers, body } = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`, {
      headers: { range: 'bytes=0-9,2000000-2000004' },
    })
    assert.equal(status, 206)
    const boundary = /^multipart\/byteranges; boundary=(\S+)$/.exec(headers['content-type'] ?? '')?.[1]
    assert.ok(boundary)
    const parts = body.toString('latin1').split(`\r\n--${boundary}`)
    assert.equal(parts.length, 4)
    assert.equal(parts[3], '--\r\n')
    const bytes = (at: number) => parts[at]?.split('\r\n\r\n').slice(1).join('\r\n\r\n')
    assert.equal(bytes(1), Buffer.from(layer.body.subarray(0, 10)).toString('latin1'))
    assert.equal(bytes(2), Buffer.from(layer.body.subarray(2_000_000, 2_000_005)).toString('latin1'))
    assert.match(parts[2] ?? '', new RegExp(`content-range: bytes 2000000-2000004/${layer.size}`))
  })

  it('serves a range before the rest of the blob has come, and lets go when the client leaves', async () => {
    await using origin = await anOrigin()
    const body = randomBody(3, 8 * MIB)
    const digest = digestOf(body)
    const until = Promise.withResolvers<void>()
    origin.at(`/v2/team/app/blobs/${digest}`, { body, pauseAfter: 2 * MIB, until: until.promise })
    await using mirror = await mirrored([`reg.test=${origin.url}`])
    const { status, body: part } = await mirror.ask(`/v2/team/app/blobs/${digest}`, {
      headers: { range: 'bytes=0-99999' },
    })
    assert.equal(status, 206)
    assert.ok(part.equals(body.subarray(0, 100_000)))
    const [host = '', port = ''] = mirror.address().split(':')
    const socket = connect(Number(port), host)
    socket.write(`GET /v2/team/app/blobs/${digest} HTTP/1.1\r\nhost: x\r\nrange: bytes=500000-\r\n\r\n`)
    await new Promise((resolve) => socket.once('data', resolve))
    socket.destroy()
    const [agent] = mirror.swarm.agents
    for (;;) {
      if ((await agent?.peer.engine.running())?.length === 0) break
      await new Promise((resolve) => setImmediate(resolve))
    }
    until.resolve()
    const whole = await mirror.ask(`/v2/team/app/blobs/${digest}`)
    assert.ok(whole.complete && whole.body.equals(body))
  })

  it('serves an empty blob, and no range of it', async () => {
    await using registry = await aRegistry()
    await registry.putBlob('team/app', digestOf(''), new Uint8Array())
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const path = `/v2/team/app/blobs/${digestOf('')}`
    const whole = await mirror.ask(path)
    assert.deepEqual([whole.status, whole.headers['content-length'], whole.complete], [200, '0', true])
    assert.equal((await mirror.ask(path, { headers: { range: 'bytes=0-' } })).status, 416)
  })

  it('breaks the connection, and never ends an answer, when the digest does not match', async () => {
    await using origin = await anOrigin()
    const body = randomBody(4, 2 * MIB)
    const digest = digestOf('something else')
    origin.at(`/v2/team/app/blobs/${digest}`, { body })
    await using mirror = await mirrored([`reg.test=${origin.url}`])
    for (const supernode of [true, false]) {
      if (!supernode) await mirror.swarm.stopSupernode()
      const got = await mirror.ask(`/v2/team/app/blobs/${digest}`).catch(() => undefined)
      if (got === undefined) continue
      assert.notEqual(got.status === 200 && got.complete, true, 'an answer of wrong bytes ended like a whole one')
    }
    const next = await mirror.ask('/v2/?ns=nowhere.test')
    assert.equal(next.status, 404)
  })

  it('tells an unknown blob or manifest with 404 and the code of the spec', async () => {
    await using registry = await aRegistry()
    await anImageAt(registry)
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const digest = digestOf('nothing')
    for (const [path, code] of [
      [`/v2/team/app/blobs/${digest}`, 'BLOB_UNKNOWN'],
      [`/v2/team/app/manifests/${digest}`, 'MANIFEST_UNKNOWN'],
      ['/v2/team/app/manifests/nothing', 'MANIFEST_UNKNOWN'],
      ['/v2/team/none/tags/list', 'NAME_UNKNOWN'],
    ]) {
      const answer = await mirror.ask(path ?? '')
      assert.deepEqual([answer.status, answer.code], [404, code])
      if (path?.endsWith('/tags/list')) continue
      assert.equal((await mirror.ask(path ?? '', { method: 'HEAD' })).status, 404)
    }
  })

  for (const [kind, withToken] of [
    ['basic', false],
    ['token', true],
  ] as const) {
    it(`passes a ${kind} registry's challenge byte for byte, and the client's rights to it`, async () => {
      await using tokens = await aTokenServer({ users: { alice: 'correct horse' } })
      await using registry = await aRegistry({ auth: withToken ? tokens : 'basic' })
      const image = await anImageAt(registry)
      const layer = bigLayer(image)
      await using mirror = await mirrored([`reg.test=${registry.url}`])
      const right = (await registry.pushRights('team/app')) ?? ''
      for (const path of [
        '/v2/',
        '/v2/team/app/manifests/v1',
        `/v2/team/app/manifests/${image.manifest.digest}`,
        `/v2/team/app/blobs/${layer.digest}`,
        '/v2/team/app/tags/list',
      ]) {
        for (const method of ['GET', 'HEAD']) {
          const straight = await askMirror(registry.host, path, { method })
          const through = await mirror.ask(path, { method })
          assert.equal(straight.status, 401)
          assert.equal(through.status, 401, `${method} ${path}`)
          assert.equal(through.headers['www-authenticate'], straight.headers['www-authenticate'], `${method} ${path}`)
          assert.deepEqual(through.body, straight.body)
          // without an Accept this registry denies that it has OCI manifests
          const headers = { authorization: right, accept: MEDIA.ociManifest }
          const welcome = await mirror.ask(path, { method, headers })
          const expected = await askMirror(registry.host, path, { method, headers })
          assert.equal(welcome.status, expected.status, `${method} ${path}`)
        }
      }
      const wrong = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`, {
        headers: { authorization: `Basic ${Buffer.from('alice:wrong').toString('base64')}` },
      })
      assert.equal(wrong.status, 401)
    })
  }

  it('gives what this host holds to nobody who could not read it at the registry', async () => {
    await using registry = await aRegistry({ auth: 'basic' })
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const path = `/v2/team/app/blobs/${layer.digest}`
    const own = await mirror.ask(path, { headers: { authorization: BASIC } })
    assert.ok(own.body.equals(layer.body))
    for (const method of ['GET', 'HEAD']) {
      assert.equal((await mirror.ask(path, { method })).status, 401)
      const other = await mirror.ask(path, { method, headers: { authorization: 'Bearer made-up' } })
      assert.equal(other.status, 401)
    }
    await mirror.swarm.stopSupernode()
    assert.equal((await mirror.ask(path)).status, 401)
    assert.equal((await mirror.ask(path, { headers: { authorization: BASIC } })).status, 200)
  })

  it("takes a client's rights to the upstream of the request alone", async () => {
    await using one = await anOrigin()
    await using two = await anOrigin()
    await using cdn = await anOrigin()
    const body = randomBody(5, MIB)
    const digest = digestOf(body)
    cdn.at('/there', { body })
    two.at(`/v2/app/blobs/${digest}`, { redirect: `${cdn.url}/there` })
    two.at('/v2/app/tags/list', { redirect: `${cdn.url}/there` })
    await using mirror = await mirrored([`one.test=${one.url}`, `two.test=${two.url}`])
    const headers = { authorization: BASIC }
    assert.equal((await mirror.ask(`/v2/app/blobs/${digest}?ns=two.test`, { headers })).status, 200)
    assert.equal((await mirror.ask('/v2/two.test/app/tags/list', { headers })).status, 200)
    assert.equal(one.requests.length, 0)
    assert.ok(cdn.requests.length >= 2)
    for (const request of cdn.requests) assert.equal(request.headers.authorization, undefined)
  })

  it('names no single registry in /v2/ where a client could take one for another', async () => {
    await using one = await aRegistry({ auth: 'basic' })
    await using two = await aRegistry()
    await using mirror = await mirrored([`one.test=${one.url}`, `two.test=${two.url}`])
    assert.equal((await mirror.ask('/v2/')).status, 200)
    assert.equal((await mirror.ask('/v2/?ns=one.test')).status, 401)
  })

  it('goes straight to the registry when the supernode is gone, and back to the swarm later', async () => {
    await using registry = await aRegistry()
    const image = await anImageAt(registry)
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    await mirror.swarm.stopSupernode()
    const manifest = await mirror.ask('/v2/team/app/manifests/v1')
    assert.equal(manifest.headers['docker-content-digest'], image.manifest.digest)
    const [first, second] = image.layers
    assert.ok(first && second)
    const straight = await mirror.ask(`/v2/team/app/blobs/${first.digest}`)
    assert.ok(straight.complete && straight.body.equals(first.body))
    await mirror.swarm.startSupernode()
    await mirror.swarm.agents[0]?.peer.scheduler.ready({ signal: AbortSignal.timeout(20_000) })
    const again = await mirror.ask(`/v2/team/app/blobs/${second.digest}`)
    assert.ok(again.body.equals(second.body))
    assert.equal(mirror.swarm.supernode.supernode.traffic.origin, second.size)
  })

  it('serves by digest what the swarm holds when the registry is gone, and tags only as the policy says', async () => {
    const registry = await aRegistry()
    const image = await anImageAt(registry)
    const layer = bigLayer(image)
    await using mirror = await mirrored([`reg.test=${registry.url}`], { peers: 2, agent: { mirrorStaleTags: '1h' } })
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${layer.digest}`])
      assert.equal((await mirror.ask(`/v2/team/app/${path}`)).status, 200)
    await registry[Symbol.asyncDispose]()
    const strict = await mirror.swarm.start(2, { mirrorStaleTags: '0' })
    await strict.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    for (const agent of [0, 1]) {
      const got = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`, { agent })
      assert.ok(got.complete && got.body.equals(layer.body))
      const manifest = await mirror.ask(`/v2/team/app/manifests/${image.manifest.digest}`, { agent })
      assert.deepEqual([manifest.status, manifest.headers.warning], [200, undefined])
      const head = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`, { agent, method: 'HEAD' })
      assert.deepEqual([head.status, head.headers['content-length']], [200, String(layer.size)])
    }
    assert.equal((await mirror.ask('/v2/')).status, 200)
    const missing = await mirror.ask(`/v2/team/app/manifests/${digestOf('unknown')}`)
    assert.deepEqual([missing.status, missing.code], [502, 'UNAVAILABLE'])
  })

  it('passes tag lists and their pages on, spelled for the client that asked', async () => {
    await using registry = await aRegistry()
    await anImageAt(registry)
    await using paged = await anOrigin()
    const link = '</v2/team/app/tags/list?last=b&n=2>; rel="next"'
    paged.at('/v2/team/app/tags/list', ({ path }) =>
      path.includes('last=') ? { body: '{"tags":["c"]}' } : { body: '{"tags":["a","b"]}', headers: { link } },
    )
    await using mirror = await mirrored([`reg.test=${registry.url}`, `paged.test=${paged.url}`])
    assert.deepEqual(JSON.parse((await mirror.ask('/v2/team/app/tags/list')).body.toString()).tags, ['v1'])
    for (const [path, next] of [
      ['/v2/team/app/tags/list?n=2&ns=paged.test', '/v2/team/app/tags/list?last=b&n=2&ns=paged.test'],
      ['/v2/paged.test/team/app/tags/list?n=2', '/v2/paged.test/team/app/tags/list?last=b&n=2'],
    ] as const) {
      const page = await mirror.ask(path)
      assert.deepEqual(JSON.parse(page.body.toString()).tags, ['a', 'b'])
      assert.equal(page.headers.link, `<${next}>; rel="next"`)
      assert.deepEqual(JSON.parse((await mirror.ask(next)).body.toString()).tags, ['c'])
    }
  })

  it('passes what the referrers endpoint of a newer registry says', async () => {
    await using origin = await anOrigin()
    const digest = digestOf('subject')
    const index = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] })
    origin.at(`/v2/app/referrers/${digest}`, {
      body: index,
      headers: { 'content-type': MEDIA.ociIndex, 'oci-filters-applied': 'artifactType' },
    })
    await using mirror = await mirrored([`reg.test=${origin.url}`])
    const answer = await mirror.ask(`/v2/app/referrers/${digest}?artifactType=a/b`)
    assert.equal(answer.body.toString(), index)
    assert.equal(answer.headers['content-type'], MEDIA.ociIndex)
    assert.equal(answer.headers['oci-filters-applied'], 'artifactType')
    assert.equal(origin.requests[0]?.path, `/v2/app/referrers/${digest}?artifactType=a/b`)
  })

  it('refuses pushes and the catalogue unless told to pass them on', async () => {
    await using registry = await aRegistry()
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    for (const [method, path] of [
      ['POST', '/v2/app/blobs/uploads/'],
      ['PUT', '/v2/app/manifests/v1'],
      ['DELETE', `/v2/app/manifests/${digestOf('x')}`],
      ['PATCH', '/v2/app/blobs/uploads/abc'],
      ['POST', '/v2/'],
      ['OPTIONS', '/v2/'],
    ] as const) {
      const body = method.startsWith('P') ? { body: Buffer.from('x') } : {}
      const { status, code, headers } = await mirror.ask(path, { method, ...body })
      assert.deepEqual([status, code, headers.allow], [405, 'UNSUPPORTED', 'GET, HEAD'], `${method} ${path}`)
    }
    const catalog = await mirror.ask('/v2/_catalog')
    assert.deepEqual([catalog.status, catalog.code], [403, 'DENIED'])
    assert.deepEqual(await registry.accesses(), [])
  })

  it('passes a push on when told to, and brings its client back through itself', async () => {
    await using other = await aRegistry()
    await using registry = await aRegistry()
    await using mirror = await mirrored([`other.test=${other.url}`, `reg.test=${registry.url}`], {
      agent: { mirrorPush: 'pass', mirrorCatalog: true },
    })
    const body = Buffer.from(randomBody(6, 300_000))
    const digest = digestOf(body)
    const started = await mirror.ask('/v2/reg.test/team/app/blobs/uploads/', { method: 'POST' })
    assert.equal(started.status, 202)
    const place = started.headers.location ?? ''
    assert.match(place, /^\/v2\/reg\.test\/team\/app\/blobs\/uploads\/[^/]+\?/)
    const put = await mirror.ask(`${place}&digest=${encodeURIComponent(digest)}`, {
      method: 'PUT',
      body,
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(body.length) },
    })
    assert.equal(put.status, 201, put.body.toString())
    // it is here, and at the supernode, before anybody has asked for it
    await until(() => mirror.swarm.agents[0]?.peer.store.byDigest(digest)?.complete === true)
    assert.equal(mirror.swarm.supernode.supernode.traffic.origin, body.length)
    assert.ok((await mirror.ask(`/v2/team/app/blobs/${digest}?ns=reg.test`)).body.equals(body))
    assert.equal(await registry.blobGets(digest), 1)
    assert.deepEqual(JSON.parse((await mirror.ask('/v2/_catalog?ns=reg.test')).body.toString()).repositories, [
      'team/app',
    ])
  })

  it('waits for a registry that takes its time with what was pushed, longer than for what is pulled', async () => {
    await using origin = await anOrigin()
    const late = Promise.withResolvers<void>()
    origin.at('/v2/app/manifests/v1', { status: 201, after: late.promise })
    origin.at('/v2/app/tags/list', { silent: true })
    await using mirror = await mirrored([`reg.test=${origin.url}`], {
      agent: { mirrorPush: 'pass', originTimeout: '500ms' },
    })
    const body = Buffer.from('{}')
    const pushed = mirror.ask('/v2/app/manifests/v1', {
      method: 'PUT',
      body,
      headers: { 'content-type': MEDIA.ociManifest, 'content-length': String(body.length) },
    })
    await until(() => origin.requests.some(({ method }) => method === 'PUT'))
    // one that began later is given up before the registry answers
    assert.equal((await mirror.ask('/v2/app/tags/list')).status, 504)
    late.resolve()
    assert.equal((await pushed).status, 201)
  })

  it('shows a client that pushes what its registry has, and not what the swarm does', async () => {
    await using registry = await aRegistry()
    const image = await anImageAt(registry)
    const layer = bigLayer(image)
    await using mirror = await mirrored([`reg.test=${registry.url}`], { agent: { mirrorPush: 'pass' } })
    await mirror.ask(`/v2/team/app/blobs/${layer.digest}`)
    // a client that hears that the layer is there doesn't send it, and then the manifest is refused
    const head = (repository: string) => mirror.ask(`/v2/${repository}/blobs/${layer.digest}`, { method: 'HEAD' })
    assert.deepEqual([(await head('team/app')).status, (await head('team/other')).status], [200, 404])
    const tagged = async () => {
      const answer = await mirror.ask('/v2/team/app/manifests/v1', { headers: { accept: MEDIA.ociManifest } })
      return [answer.status, answer.headers['docker-content-digest']]
    }
    assert.deepEqual(await tagged(), [200, image.manifest.digest])
    const next = Buffer.from(
      JSON.stringify({ ...JSON.parse(Buffer.from(image.manifest.body).toString()), annotations: { next: '1' } }),
    )
    const put = await mirror.ask('/v2/team/app/manifests/v1', {
      method: 'PUT',
      body: next,
      headers: { 'content-type': MEDIA.ociManifest, 'content-length': String(next.length) },
    })
    assert.equal(put.status, 201, put.body.toString())
    assert.deepEqual(await tagged(), [200, digestOf(next)])
  })

  it('asks the registry itself for a manifest of a kind that the client accepts and the swarm does not know', async () => {
    await using origin = await anOrigin()
    const strange = 'application/vnd.strange.thing.v9+json'
    origin.at('/v2/app/manifests/odd', ({ headers }) =>
      headers.accept?.includes(strange) ? { body: '{}', headers: { 'content-type': strange } } : { status: 404 },
    )
    await using mirror = await mirrored([`reg.test=${origin.url}`])
    const answer = await mirror.ask('/v2/app/manifests/odd', { headers: { accept: strange } })
    assert.deepEqual([answer.status, answer.headers['content-type']], [200, strange])
    assert.equal((await mirror.ask('/v2/app/manifests/odd', { headers: { accept: MEDIA.ociManifest } })).status, 404)
    // of docker's schema 1 the digest is not that of the bytes
    const old = { 'content-type': SIGNED_SCHEMA1, 'docker-content-digest': digestOf('{}') }
    const body = '{"schemaVersion":1,"signatures":[]}'
    for (const reference of ['old', old['docker-content-digest']]) {
      origin.at(`/v2/app/manifests/${reference}`, { body, headers: old })
      const { status, headers, body: got } = await mirror.ask(`/v2/app/manifests/${reference}`)
      assert.deepEqual([status, headers['content-type'], got.toString()], [200, SIGNED_SCHEMA1, body])
      assert.equal(headers['docker-content-digest'], old['docker-content-digest'])
    }
  })
})
