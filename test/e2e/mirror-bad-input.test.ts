import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { openLog } from '../../src/core/log.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { askMirror, type MirrorAskOptions } from '../fixtures/clients/ask-mirror.ts'
import { anImage, type Image, pushImage, randomBody } from '../fixtures/images/an-image.ts'
import { aRegistry, type Registry } from '../fixtures/origin/a-registry.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

const MIB = 1024 * 1024

interface Mirrored extends AsyncDisposable {
  readonly swarm: Swarm
  address(): string
  ask(path: string, options?: MirrorAskOptions): ReturnType<typeof askMirror>
  /** Resolves when the mirror has logged a failure since the last call; rejects where there are more. */
  oneFailure(): Promise<void>
}

async function mirrored(upstream: readonly string[], agent: Record<string, unknown> = {}): Promise<Mirrored> {
  const lines: string[] = []
  const log = await openLog({ level: 'warn', pretty: false }, { write: (line: string) => void lines.push(line) })
  const swarm = await aSwarm({ peers: 1, agent: { mirror: '127.0.0.1:0', upstream: [...upstream], ...agent }, log })
  const address = () => swarm.agents[0]?.mirror?.address ?? assert.fail('no mirror')
  return {
    swarm,
    address,
    ask: (path, options = {}) => askMirror(address(), path, options),
    oneFailure: async () => {
      const late = AbortSignal.timeout(20_000)
      const mine = () => lines.filter((line) => (JSON.parse(line) as { room: string }).room === 'peer/mirror')
      for (; mine().length === 0; await new Promise((resolve) => setTimeout(resolve, 5))) late.throwIfAborted()
      // whatever else there was to say of it has been said when the next one is served
      await askMirror(address(), '/v2/')
      assert.equal(mine().length, 1, mine().join('\n'))
      lines.length = 0
    },
    [Symbol.asyncDispose]: () => swarm[Symbol.asyncDispose](),
  }
}

async function anImageAt(registry: Registry): Promise<Image> {
  const image = anImage({ layers: [{ compression: 'none', bytes: 3 * MIB }, { compression: 'gzip' }] })
  await pushImage(registry, 'team/app', 'v1', image)
  return image
}

function bigLayer(image: Image) {
  return image.layers[0] ?? assert.fail('no layer')
}

describe('the registry mirror, asked badly', () => {
  it('answers each nonsense with an error of the spec, and the next request well', async () => {
    await using registry = await aRegistry()
    await anImageAt(registry)
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    for (const [path, status, code] of [
      ['/v2/app/blobs/sha256:nope', 400, 'DIGEST_INVALID'],
      ['/v2/../../etc/passwd/manifests/x', 400, 'NAME_INVALID'],
      ['/v2/a%2f..%2fb/manifests/x', 400, 'NAME_INVALID'],
      ['/v2/UPPER/manifests/x', 400, 'NAME_INVALID'],
      ['/v2/app/manifests/.hidden', 400, 'MANIFEST_INVALID'],
      ['/v2/app/manifests/x?ns=169.254.169.254', 404, 'NAME_UNKNOWN'],
      ['/v2/app/manifests/x?ns=127.0.0.1:22', 404, 'NAME_UNKNOWN'],
      ['/nothing', 404, 'NAME_UNKNOWN'],
      ['http://169.254.169.254/latest/meta-data', 400, 'UNSUPPORTED'],
    ] as const) {
      const answer = await mirror.ask(path)
      assert.deepEqual([answer.status, answer.code], [status, code], path)
      await mirror.oneFailure()
    }
    assert.deepEqual(
      (await registry.accesses()).filter(({ path }) => path !== '/v2/'),
      [],
    )
    assert.equal((await mirror.ask('/v2/team/app/manifests/v1')).status, 200)
  })

  it('refuses large headers, thousands of ranges, other protocols and CONNECT', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const path = `/v2/team/app/blobs/${layer.digest}`
    const ranges = (count: number) => `bytes=${Array.from({ length: count }, (_, at) => `${at}-${at}`).join(',')}`
    assert.equal((await mirror.ask(path, { headers: { range: ranges(1000) } })).status, 416)
    assert.equal((await mirror.ask(path, { headers: { range: ranges(10_000) } })).status, 431)
    assert.equal((await mirror.ask(path, { headers: { 'x-large': 'x'.repeat(128 * 1024) } })).status, 431)
    const long = await mirror.ask('/v2/', { headers: { authorization: `Bearer ${'x'.repeat(40_000)}` } })
    assert.equal(long.status, 400)
    assert.match(await rawly(mirror.address(), 'SSH-2.0-client\r\n\r\n'), /^HTTP\/1\.1 400 /)
    assert.match(
      await rawly(mirror.address(), `CONNECT ${registry.host} HTTP/1.1\r\nhost: x\r\n\r\n`),
      /^HTTP\/1\.1 405 /,
    )
    assert.match(
      await rawly(
        mirror.address(),
        'GET /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n',
      ),
      /^HTTP\/1\.1 400 /,
    )
    assert.equal((await mirror.ask(path)).status, 200)
  })

  it('takes no manifest that is too long, lies about its digest, or leads to a forbidden address', async () => {
    await using origin = await anOrigin()
    const large = new Uint8Array(5 * MIB).fill(0x20)
    const kind = { 'content-type': MEDIA.ociManifest }
    origin.at('/v2/app/manifests/large', { body: large, headers: kind })
    origin.at('/v2/app/manifests/endless', { body: large, headers: kind, noLength: true })
    origin.at('/v2/app/manifests/liar', {
      body: '{}',
      headers: { ...kind, 'docker-content-digest': digestOf('other') },
    })
    origin.at(`/v2/app/manifests/${digestOf('asked')}`, { body: '{}', headers: kind })
    origin.at('/v2/app/manifests/trap', { redirect: 'http://169.254.169.254/latest/meta-data' })
    origin.at('/v2/app/manifests/loop', { redirect: '/v2/app/manifests/loop' })
    origin.at('/v2/app/tags/list', { redirect: 'http://169.254.169.254/latest/meta-data' })
    await using mirror = await mirrored([`reg.test=${origin.url}`], { originRetries: 0 })
    for (const [path, status, code] of [
      ['manifests/large', 502, 'MANIFEST_INVALID'],
      ['manifests/endless', 502, 'MANIFEST_INVALID'],
      ['manifests/liar', 502, 'DIGEST_INVALID'],
      [`manifests/${digestOf('asked')}`, 502, 'DIGEST_INVALID'],
      ['manifests/trap', 403, 'DENIED'],
      ['manifests/loop', 502, 'UNAVAILABLE'],
      ['tags/list', 403, 'DENIED'],
    ] as const) {
      const answer = await mirror.ask(`/v2/app/${path}`)
      assert.deepEqual([answer.status, answer.code], [status, code], path)
    }
  })

  it('passes a large manifest that a control message could not carry', async () => {
    await using origin = await anOrigin()
    const body = JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.ociIndex,
      manifests: [],
      pad: 'x'.repeat(2 * MIB),
    })
    origin.at('/v2/app/manifests/wide', { body, headers: { 'content-type': MEDIA.ociIndex } })
    await using mirror = await mirrored([`reg.test=${origin.url}`])
    const answer = await mirror.ask('/v2/app/manifests/wide')
    assert.equal(answer.status, 200)
    assert.equal(answer.headers['docker-content-digest'], digestOf(body))
  })

  it('bears clients that vanish, and holds nothing for them', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const [host = '', port = ''] = mirror.address().split(':')
    await Promise.all(
      Array.from({ length: 20 }, async (_, at) => {
        const socket = connect(Number(port), host)
        socket.on('error', () => {})
        socket.write(`GET /v2/team/app/blobs/${layer.digest} HTTP/1.1\r\nhost: x\r\n\r\n`)
        if (at % 2 === 0) await new Promise((resolve) => socket.once('data', resolve))
        else await new Promise((resolve) => socket.once('connect', resolve))
        socket.resetAndDestroy()
      }),
    )
    const whole = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`)
    assert.ok(whole.complete && whole.body.equals(layer.body))
    assert.equal(await registry.blobGets(layer.digest), 1)
  })

  it('takes no manifest of 100 MiB, nor what is no manifest by its type, and says so once each', async () => {
    await using origin = await anOrigin()
    const huge = new Uint8Array(100 * MIB).fill(0x20)
    origin.at('/v2/app/manifests/huge', { body: huge, headers: { 'content-type': MEDIA.ociManifest } })
    origin.at('/v2/app/manifests/page', { body: '<html></html>', headers: { 'content-type': 'text/html' } })
    origin.at('/v2/app/manifests/typeless', { body: 'hello' })
    await using mirror = await mirrored([`reg.test=${origin.url}`], { originRetries: 0 })
    for (const reference of ['huge', 'page', 'typeless']) {
      const { status, code } = await mirror.ask(`/v2/app/manifests/${reference}`)
      assert.deepEqual([status, code], [502, 'MANIFEST_INVALID'], reference)
      await mirror.oneFailure()
    }
    assert.ok(origin.sent < 64 * MIB, 'the rest of it was not read')
  })

  it('breaks off, with one line in the log, when a registry lies about a blob: its bytes, its length, its end', async () => {
    await using origin = await anOrigin()
    const body = Buffer.from(randomBody(3, 400_000))
    const digest = (name: string) => digestOf(`${name} ${digestOf(body)}`)
    origin.at(`/v2/app/blobs/${digest('other bytes')}`, { body })
    origin.at(`/v2/app/blobs/${digest('cut')}`, { body, cutAfter: 1000 })
    origin.at(`/v2/app/blobs/${digest('no length')}`, { body, noLength: true })
    await using mirror = await mirrored([`reg.test=${origin.url}`], { originRetries: 0 })
    for (const name of ['other bytes', 'cut', 'no length']) {
      const answer = await mirror.ask(`/v2/app/blobs/${digest(name)}`)
      assert.ok(answer.status >= 500 || !answer.complete, `${name}: ${answer.status}`)
      await mirror.oneFailure()
    }
    assert.equal((await mirror.ask('/nothing')).status, 404)
  })

  it('follows a blob to no forbidden address, and round no loop', async () => {
    await using origin = await anOrigin()
    origin.at(`/v2/app/blobs/${digestOf('trap')}`, { redirect: 'http://169.254.169.254/latest/meta-data' })
    origin.at(`/v2/app/blobs/${digestOf('loop')}`, { redirect: `/v2/app/blobs/${digestOf('loop')}` })
    origin.at(`/v2/app/blobs/${digestOf('file')}`, { redirect: 'file:///etc/passwd' })
    await using mirror = await mirrored([`reg.test=${origin.url}`], { originRetries: 0 })
    for (const [name, status] of [
      ['trap', 403],
      ['loop', 502],
    ] as const) {
      for (const method of ['GET', 'HEAD'])
        assert.equal(
          (await mirror.ask(`/v2/app/blobs/${digestOf(name)}`, { method })).status,
          status,
          `${method} ${name}`,
        )
    }
    assert.ok((await mirror.ask(`/v2/app/blobs/${digestOf('file')}`)).status >= 400)
  })

  it('is held up by no client that reads nothing', async () => {
    await using registry = await aRegistry()
    const layer = bigLayer(await anImageAt(registry))
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const [host = '', port = ''] = mirror.address().split(':')
    const idle = Array.from({ length: 10 }, () => {
      const socket = connect(Number(port), host)
      socket.on('error', () => {})
      socket.pause()
      socket.write(`GET /v2/team/app/blobs/${layer.digest} HTTP/1.1\r\nhost: x\r\n\r\n`)
      return socket
    })
    try {
      const whole = await mirror.ask(`/v2/team/app/blobs/${layer.digest}`)
      assert.ok(whole.complete && whole.body.equals(layer.body))
    } finally {
      for (const socket of idle) socket.destroy()
    }
    assert.equal(await registry.blobGets(layer.digest), 1)
  })

  it('leaves the agent running when its port is taken', async () => {
    await using registry = await aRegistry()
    await using mirror = await mirrored([`reg.test=${registry.url}`])
    const second = await mirror.swarm.start(1, { mirror: mirror.address() })
    assert.equal(second.mirror, undefined)
    await second.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    assert.equal((await mirror.ask('/v2/')).status, 200)
  })
})

/** What comes back on a connection for these bytes, until it is closed. */
async function rawly(address: string, bytes: string): Promise<string> {
  const [host = '', port = ''] = address.split(':')
  return await new Promise((resolve, reject) => {
    const socket = connect(Number(port), host, () => socket.write(bytes))
    let text = ''
    socket.setTimeout(20_000, () => socket.destroy(new Error('nothing came')))
    socket.on('data', (chunk) => {
      text += chunk.toString()
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(text))
  })
}
