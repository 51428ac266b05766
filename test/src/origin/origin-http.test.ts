import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { systemClock } from '../../../src/core/clock.ts'
import { digestOf } from '../../../src/core/digest.ts'
import type { DarnerError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { MAX_MANIFEST_BYTES } from '../../../src/oci/manifest.ts'
import { MEDIA } from '../../../src/oci/media-types.ts'
import type { OriginTarget } from '../../../src/origin/origin-ask.ts'
import { OriginHttp } from '../../../src/origin/origin-http.ts'
import {
  createOriginClient,
  ORIGIN_DEFAULTS,
  type OriginClientOptions,
  type ReadOptions,
} from '../../../src/origin/registry-client.ts'
import { originGuard } from '../../../src/origin/special-address.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'
import { anOrigin } from '../../fixtures/origin/an-origin.ts'
import { aCertificate } from '../../fixtures/swarm/a-certificate.ts'

const { signal } = new AbortController()
const body = randomBody(1, 200_000)

function aClient(options: Partial<OriginClientOptions> = {}) {
  return createOriginClient(options, { log: silentLog(), clock: systemClock })
}

function urlTarget(url: string, headers?: Record<string, string>): OriginTarget {
  return { origin: { kind: 'url', url, ...(headers === undefined ? {} : { headers }) } }
}

async function collect(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function readAll(client: ReturnType<typeof aClient>, target: OriginTarget, options: Partial<ReadOptions> = {}) {
  await using read = await client.read(target, { signal, ...options })
  return { ...read, body: await collect(read.stream) }
}

describe('createOriginClient, with an origin that misbehaves', () => {
  describe('bodies', () => {
    it('reports a body that ends early, with what came', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { body, cutAfter: 70_000 })
      await using client = aClient()
      await using read = await client.read(urlTarget(`${origin.url}/file`), { signal })
      assert.equal(read.bytes, body.length)
      let got = 0
      const error = await failsWith(
        'ORIGIN_TRUNCATED',
        (async () => {
          for await (const chunk of read.stream) got += chunk.byteLength
        })(),
        /the body ended after 70000 of 200000 bytes/,
      )
      assert.equal(got, 70_000)
      assert.deepEqual([error.details.got, error.details.expected], [70_000, 200_000])
      assert.equal(error.facts.retry, true)
    })

    it('reports a chunked body that breaks off', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { body, noLength: true, cutAfter: 70_000 })
      await using client = aClient()
      await failsWith('ORIGIN_TRUNCATED', readAll(client, urlTarget(`${origin.url}/file`)), /after 70000 bytes/)
    })

    it('goes on after a truncation from where it stopped', async () => {
      await using origin = await anOrigin()
      origin.at('/file', [
        { body, cutAfter: 70_000, headers: { etag: '"v1"' } },
        { body, headers: { etag: '"v1"' } },
      ])
      await using client = aClient()
      const target = urlTarget(`${origin.url}/file`)
      await failsWith('ORIGIN_TRUNCATED', readAll(client, target))
      const rest = await readAll(client, target, { from: 70_000, ifMatch: { etag: '"v1"', bytes: body.length } })
      assert.equal(rest.from, 70_000)
      assert.ok(rest.body.equals(body.subarray(70_000)))
    })

    it('reads a body of unknown length, chunked or ended by the connection', async () => {
      await using origin = await anOrigin()
      origin.at('/chunked', { body, noLength: true })
      origin.at('/unframed', { body, unframed: true })
      await using client = aClient()
      for (const path of ['/chunked', '/unframed']) {
        const got = await readAll(client, urlTarget(origin.url + path))
        assert.equal(got.bytes, undefined)
        assert.ok(got.body.equals(body))
      }
    })

    it('gives up on a body that stalls, and on an answer that never comes', async () => {
      await using origin = await anOrigin()
      origin.at('/stalls', { body, stallAfter: 1000 })
      origin.at('/silent', { silent: true })
      await using client = aClient({ idleMs: 50, firstByteMs: 50 })
      await failsWith(
        'TIMED_OUT',
        readAll(client, urlTarget(`${origin.url}/stalls`)),
        /nothing came for 50 ms after 1000 of 200000 bytes/,
      )
      await failsWith('TIMED_OUT', readAll(client, urlTarget(`${origin.url}/silent`)), /sent no answer within 50 ms/)
    })

    it('waits for a slow origin that is not silent for too long', async () => {
      await using origin = await anOrigin()
      const { promise: until, resolve: go } = Promise.withResolvers<void>()
      origin.at('/file', { body, pauseAfter: 10, until })
      await using client = aClient()
      await using read = await client.read(urlTarget(`${origin.url}/file`), { signal })
      const chunks: Uint8Array[] = []
      for await (const chunk of read.stream) {
        chunks.push(chunk)
        go()
      }
      assert.equal(chunks[0]?.byteLength, 10)
      assert.ok(Buffer.concat(chunks).equals(body))
    })

    it('holds the origin back while the reader does not read', async () => {
      await using origin = await anOrigin()
      const large = Buffer.alloc(192 * 1024 * 1024)
      origin.at('/large', { body: large })
      origin.at('/small', { body: 'x' })
      await using client = aClient()
      await using read = await client.read(urlTarget(`${origin.url}/large`), { signal })
      const chunks = read.stream[Symbol.asyncIterator]()
      await chunks.next()
      for (let asked = 0; asked < 50; asked++) await readAll(client, urlTarget(`${origin.url}/small`))
      assert.ok(origin.sent < 48 * 1024 * 1024, `${origin.sent} bytes were taken from the origin for one chunk read`)
      await chunks.return?.()
    })

    it('refuses a length that no disk holds, and takes an empty body', async () => {
      await using origin = await anOrigin()
      origin.at('/vast', { body: 'x', headers: { 'content-length': String(2 ** 43) } })
      origin.at('/empty', { body: '' })
      await using client = aClient()
      await failsWith('LIMIT_EXCEEDED', client.read(urlTarget(`${origin.url}/vast`), { signal }))
      const empty = await readAll(client, urlTarget(`${origin.url}/empty`))
      assert.deepEqual([empty.bytes, empty.body.length], [0, 0])
    })

    it('ends what is under way when the client closes', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { body, stallAfter: 1000 })
      const client = aClient()
      await using read = await client.read(urlTarget(`${origin.url}/file`), { signal })
      const got: Uint8Array[] = []
      await failsWith(
        'ORIGIN_TRUNCATED',
        (async () => {
          for await (const chunk of read.stream) {
            got.push(chunk)
            await client[Symbol.asyncDispose]()
          }
        })(),
      )
      assert.equal(Buffer.concat(got).length, 1000)
    })

    it('ends the connection when the reader leaves early', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { body, stallAfter: 100_000 })
      await using client = aClient({ connectionsPerHost: 1 })
      for (let turn = 0; turn < 3; turn++) {
        await using read = await client.read(urlTarget(`${origin.url}/file`), { signal })
        for await (const _ of read.stream) break
      }
      for (let turn = 0; turn < 3; turn++) {
        await using _unread = await client.read(urlTarget(`${origin.url}/file`), { signal })
      }
      assert.equal(origin.requests.length, 6)
    })

    it('rejects with the reason of an abort, before the answer and within the body', async () => {
      await using origin = await anOrigin()
      origin.at('/silent', { silent: true })
      origin.at('/stalls', { body, stallAfter: 1000 })
      await using client = aClient()
      const early = new AbortController()
      const waiting = client.read(urlTarget(`${origin.url}/silent`), { signal: early.signal })
      early.abort(new Error('changed my mind'))
      await assert.rejects(waiting, /changed my mind/)
      const late = new AbortController()
      await assert.rejects(
        (async () => {
          await using read = await client.read(urlTarget(`${origin.url}/stalls`), { signal: late.signal })
          for await (const _ of read.stream) late.abort(new Error('had enough'))
        })(),
        /had enough/,
      )
    })
  })

  describe('ranges and versions', () => {
    it('tells a reader that its range was ignored', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { body, ignoreRange: true })
      await using client = aClient()
      const got = await readAll(client, urlTarget(`${origin.url}/file`), { from: 1000 })
      assert.equal(got.from, 0)
      assert.equal(got.bytes, body.length)
      assert.ok(got.body.equals(body))
    })

    for (const contentRange of [
      'bytes 0-199999/200000',
      'bytes 1000-1999/200000',
      'bytes 1001-199999/200000',
      'items 1-2/3',
      'bytes 1000-5/200000',
    ]) {
      it(`refuses ${contentRange} when bytes from 1000 on were asked for`, async () => {
        await using origin = await anOrigin()
        origin.at('/file', { body: body.subarray(1000), contentRange })
        await using client = aClient()
        await failsWith('ORIGIN_FAILED', readAll(client, urlTarget(`${origin.url}/file`), { from: 1000 }))
      })
    }

    it('refuses a partial answer that nobody asked for', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { status: 206, body, headers: { 'content-range': 'bytes 0-199999/400000' } })
      await using client = aClient()
      await failsWith('ORIGIN_FAILED', readAll(client, urlTarget(`${origin.url}/file`)))
    })

    it('notices that the content changed: by ETag, by date, by length, by its end', async () => {
      await using origin = await anOrigin()
      await using client = aClient()
      const target = urlTarget(`${origin.url}/file`)
      const date = 'Tue, 01 Jan 2030 00:00:00 GMT'
      origin.at('/file', { body, headers: { etag: '"v2"' } })
      await failsWith(
        'ORIGIN_CHANGED',
        readAll(client, target, { from: 10, ifMatch: { etag: '"v1"' } }),
        /ETag was "v1" and is now "v2"/,
      )
      await failsWith('ORIGIN_CHANGED', readAll(client, target, { ifMatch: { etag: 'W/"v1"' } }))
      origin.at('/file', { body, headers: { 'last-modified': date } })
      await failsWith(
        'ORIGIN_CHANGED',
        readAll(client, target, { from: 10, ifMatch: { lastModified: 'Mon, 01 Jan 2029 00:00:00 GMT' } }),
      )
      await failsWith(
        'ORIGIN_CHANGED',
        readAll(client, target, { from: 10, ifMatch: { lastModified: date, bytes: 7 } }),
        /length was 7/,
      )
      await failsWith('ORIGIN_CHANGED', readAll(client, target, { from: body.length + 1 }))
      origin.at('/file', { status: 412 })
      await failsWith('ORIGIN_CHANGED', readAll(client, target, { ifMatch: { etag: '"v1"' } }))
      assert.equal(origin.requests.at(-1)?.headers['if-match'], '"v1"')
    })

    it('stats by HEAD, and by one byte where HEAD is unwelcome', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { body, headers: { etag: '"v1"', 'accept-ranges': 'bytes' } })
      await using client = aClient()
      const plain = await client.stat(urlTarget(`${origin.url}/file`), { signal })
      assert.deepEqual(plain, { status: 200, bytes: body.length, etag: '"v1"', acceptsRanges: true })
      origin.at('/file', ({ method }) => (method === 'HEAD' ? { status: 403 } : { body }))
      const ranged = await client.stat(urlTarget(`${origin.url}/file`), { signal })
      assert.deepEqual(ranged, { status: 206, bytes: body.length, acceptsRanges: true })
      origin.at('/file', { status: 403 })
      await failsWith('ORIGIN_DENIED', client.stat(urlTarget(`${origin.url}/file`), { signal }))
    })
  })

  describe('refusals', () => {
    const refusals = [
      [404, 'ORIGIN_NOT_FOUND'],
      [410, 'ORIGIN_NOT_FOUND'],
      [401, 'ORIGIN_UNAUTHORIZED'],
      [403, 'ORIGIN_DENIED'],
      [429, 'ORIGIN_BUSY'],
      [503, 'ORIGIN_BUSY'],
      [500, 'ORIGIN_FAILED'],
      [502, 'ORIGIN_FAILED'],
      [400, 'ORIGIN_FAILED'],
      [204, 'ORIGIN_FAILED'],
    ] as const
    for (const [status, code] of refusals) {
      it(`gives ${code} for ${status}, with the words of the origin`, async () => {
        await using origin = await anOrigin()
        const words = { errors: [{ code: 'NOPE', message: 'line one\nline \u001b[31mtwo' }] }
        origin.at('/file', { status, body: status === 204 ? '' : JSON.stringify(words), noLength: status === 204 })
        await using client = aClient()
        const error = await failsWith(code, client.read(urlTarget(`${origin.url}/file?signature=hidden`), { signal }))
        assert.equal(error.details.status, status)
        assert.ok(error.message.startsWith(`GET ${origin.url}/file: ${origin.host} answered ${status}`), error.message)
        if (status !== 204) assert.match(error.message, /\(NOPE: line one line \[31mtwo\)/)
      })
    }

    it('keeps a long refusal short, and shows no page of HTML', async () => {
      await using origin = await anOrigin()
      await using client = aClient()
      origin.at('/file', { status: 403, body: JSON.stringify({ errors: [{ message: 'x'.repeat(10_000) }] }) })
      const long = await failsWith('ORIGIN_DENIED', client.read(urlTarget(`${origin.url}/file`), { signal }))
      assert.ok(long.message.length < 2300)
      origin.at('/file', { status: 403, body: '<html>go away</html>', headers: { 'content-type': 'text/html' } })
      const page = await failsWith('ORIGIN_DENIED', client.read(urlTarget(`${origin.url}/file`), { signal }))
      assert.doesNotMatch(page.message, /html/)
    })

    it('hands on how long to wait', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { status: 503, headers: { 'retry-after': '7' } })
      await using client = aClient()
      const error = await failsWith('ORIGIN_BUSY', client.read(urlTarget(`${origin.url}/file`), { signal }))
      assert.equal(error.retryAfterMs, 7000)
    })

    it('names host, port and system code when nobody listens or the name is unknown', async () => {
      let host: string
      {
        await using origin = await anOrigin()
        ;({ host } = origin)
      }
      await using client = aClient()
      const error = await failsWith('ORIGIN_UNREACHABLE', client.read(urlTarget(`http://${host}/file`), { signal }))
      assert.ok(error.message.endsWith(`cannot reach ${host} (ECONNREFUSED)`), error.message)
      const unknown = await failsWith(
        'ORIGIN_UNREACHABLE',
        client.read(urlTarget('http://no-such-host.invalid/file'), { signal }),
      )
      assert.match(unknown.message, /cannot reach no-such-host\.invalid:80 \((ENOTFOUND|EAI_AGAIN)\)/)
    })

    it('reports a connection that ends without an answer, and one that speaks no HTTP', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { hangUp: true })
      await using client = aClient()
      await failsWith(
        'ORIGIN_UNREACHABLE',
        client.read(urlTarget(`${origin.url}/file`), { signal }),
        /it closed the connection|ECONNRESET/,
      )
      origin.at('/file', { headers: { 'x-long': 'x'.repeat(40_000) } })
      await failsWith('ORIGIN_FAILED', client.read(urlTarget(`${origin.url}/file`), { signal }), /no valid HTTP answer/)
      for (const answer of [
        'SSH-2.0-x\r\n',
        'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
      ]) {
        const raw = createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(answer)))
        await once(raw.listen(0, '127.0.0.1'), 'listening')
        const { port } = raw.address() as AddressInfo
        const reading = client.read(urlTarget(`http://127.0.0.1:${port}/file`), { signal })
        await failsWith('ORIGIN_FAILED', reading, /sent no valid HTTP answer/)
        raw.close()
      }
    })

    it('refuses what can not be asked for', async () => {
      await using client = aClient()
      const registry = { kind: 'registry' as const, upstream: 'http://127.0.0.1:1', repository: 'team/app' }
      await failsWith(
        'BAD_ARGUMENT',
        client.read({ origin: { ...registry, collection: 'blobs' } }, { signal }),
        /by digest/,
      )
      await failsWith('BAD_ARGUMENT', client.read(urlTarget('no url'), { signal }))
      await failsWith('BAD_ARGUMENT', client.read(urlTarget('http://127.0.0.1:1/'), { from: -1, signal }))
      await failsWith(
        'BAD_ARGUMENT',
        client.read(urlTarget('http://127.0.0.1:1/', { 'x-a': 'b\r\nx-c: d' }), { signal }),
        /malformed/,
      )
      await failsWith(
        'REFERENCE_INVALID',
        client.manifest({ ...registry, repository: '../../secret' }, 'v1', { signal }),
      )
      await failsWith('REFERENCE_INVALID', client.manifest(registry, '../blobs/x', { signal }))
    })
  })

  describe('redirects', () => {
    it('follows one to another host without credentials, and brings its bytes', async () => {
      await using cdn = await anOrigin()
      await using origin = await anOrigin()
      cdn.at('/signed', { body })
      origin.at(`/v2/team/app/blobs/${digestOf(body)}`, ({ headers }) =>
        headers.authorization === undefined
          ? { status: 401, headers: { 'www-authenticate': 'Basic realm="test"' } }
          : { redirect: `${cdn.url}/signed?signature=abc` },
      )
      await using client = aClient()
      const target: OriginTarget = {
        origin: { kind: 'registry', upstream: origin.url, repository: 'team/app', collection: 'blobs' },
        digest: digestOf(body),
      }
      const got = await readAll(client, target, {
        credential: { kind: 'basic', username: 'alice', password: 'secret' },
        from: 1000,
      })
      assert.ok(got.body.equals(body.subarray(1000)))
      assert.equal(origin.requests.at(-1)?.headers.authorization, `Basic ${btoa('alice:secret')}`)
      assert.equal(cdn.requests.length, 1)
      assert.equal(cdn.requests[0]?.headers.authorization, undefined)
      assert.equal(cdn.requests[0]?.headers.range, 'bytes=1000-')
      assert.equal(cdn.requests[0]?.path, '/signed?signature=abc')
    })

    it('keeps the headers of a URL to its host, and never logs in to another one', async () => {
      await using cdn = await anOrigin()
      await using origin = await anOrigin()
      origin.at('/file', { redirect: '/moved' })
      origin.at('/moved', { redirect: `${cdn.url}/file` })
      cdn.at('/file', { status: 401, headers: { 'www-authenticate': 'Basic realm="give me"' } })
      await using client = aClient()
      const url = `http://alice:secret@${origin.host}/file`
      const headers = { Cookie: 'a=b', 'X-Key': 'k', 'Accept-Language': 'de' }
      await failsWith(
        'ORIGIN_UNAUTHORIZED',
        client.read(urlTarget(url, headers), { signal }),
        new RegExp(`${cdn.host} answered 401`),
      )
      const moved = origin.requests[1]?.headers
      assert.deepEqual(
        [moved?.authorization, moved?.cookie, moved?.['x-key']],
        [`Basic ${btoa('alice:secret')}`, 'a=b', 'k'],
      )
      assert.equal(cdn.requests.length, 1)
      const there = cdn.requests[0]?.headers
      assert.deepEqual(
        [there?.authorization, there?.cookie, there?.['x-key'], there?.['accept-language']],
        [undefined, undefined, undefined, 'de'],
      )
    })

    it('does not give credentials back to a host after a detour over another', async () => {
      await using detour = await anOrigin()
      await using origin = await anOrigin()
      origin.at('/file', { redirect: `${detour.url}/file` })
      detour.at('/file', { redirect: `${origin.url}/evil` })
      origin.at('/evil', { body: 'x' })
      await using client = aClient()
      await readAll(client, urlTarget(`${origin.url}/file`), {
        credential: { kind: 'basic', username: 'a', password: 'b' },
      })
      assert.equal(origin.requests[1]?.headers.authorization, undefined)
    })

    it('stats by a ranged read where the other host takes no HEAD', async () => {
      await using cdn = await anOrigin()
      await using origin = await anOrigin()
      const digest = digestOf(body)
      cdn.at('/signed', ({ method }) => (method === 'HEAD' ? { status: 403 } : { body }))
      origin.at(`/prefix/v2/team/app/blobs/${digest}`, { redirect: `${cdn.url}/signed` })
      await using client = aClient()
      const upstream = `${origin.url}/prefix/`
      const target: OriginTarget = {
        origin: { kind: 'registry', upstream, repository: 'team/app', collection: 'blobs' },
        digest,
      }
      assert.deepEqual(await client.stat(target, { signal }), { status: 206, bytes: body.length, acceptsRanges: true })
    })

    it('refuses a redirect that leads nowhere, and one away from a POST', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { redirect: 'http://[' })
      origin.at('/v2/team/app/manifests/v1', {
        status: 401,
        headers: { 'www-authenticate': `Bearer realm="${origin.url}/token"` },
      })
      origin.at('/token', { redirect: '/elsewhere' })
      await using client = aClient()
      await failsWith('ORIGIN_FAILED', client.read(urlTarget(`${origin.url}/file`), { signal }), /unreadable URL/)
      const registry = { kind: 'registry' as const, upstream: origin.url, repository: 'team/app' }
      await failsWith(
        'ORIGIN_FAILED',
        client.manifest(registry, 'v1', { credential: { kind: 'refresh', token: 'r' }, signal }),
        /redirect to a POST/,
      )
    })

    it('ends a loop', async () => {
      await using origin = await anOrigin()
      origin.at('/file', { redirect: '/file' })
      await using client = aClient()
      await failsWith(
        'ORIGIN_FAILED',
        client.read(urlTarget(`${origin.url}/file`), { signal }),
        /redirected more than 5 times/,
      )
      assert.equal(origin.requests.length, 6)
    })

    it('asks the guard about each hop and each address', async () => {
      await using inner = await anOrigin()
      await using origin = await anOrigin()
      inner.at('/metadata', { body: 'secret' })
      origin.at('/file', { redirect: `${inner.url}/metadata` })
      origin.at('/named', { redirect: inner.url.replace('127.0.0.1', 'localhost') })
      origin.at('/odd', { redirect: 'file:///etc/passwd' })
      const asked: string[] = []
      await using guarded = aClient({
        allow: (url, purpose) => {
          asked.push(`${purpose} ${url.host}`)
          return url.host !== inner.host
        },
        allowAddress: (_, hostname) => hostname === '127.0.0.1',
      })
      const error = await failsWith(
        'ORIGIN_FORBIDDEN',
        guarded.read(urlTarget(`${origin.url}/file`), { signal }),
        /redirected to/,
      )
      assert.equal(error.facts.retry, false)
      assert.deepEqual(asked, [`origin ${origin.host}`, `redirect ${inner.host}`])
      await failsWith(
        'ORIGIN_FORBIDDEN',
        guarded.read(urlTarget(`${origin.url}/named`), { signal }),
        /localhost: its address (127\.0\.0\.1|::1) may not/,
      )
      await failsWith(
        'ORIGIN_FORBIDDEN',
        guarded.read(urlTarget(`${origin.url}/odd`), { signal }),
        /neither http nor https/,
      )
      await failsWith('ORIGIN_FORBIDDEN', guarded.read(urlTarget('http://[::1]:9/'), { signal }), /this address/)
      assert.equal(inner.requests.length, 0)
    })
  })

  describe('metadata services (row 14)', () => {
    // as people hide them; the URL parser writes each as the address that it means
    const spellings = [
      '169.254.169.254',
      '169.254.169.254.',
      '0xa9fea9fe',
      '2852039166',
      '0251.0376.0251.0376',
      '0xa9.254.0xa9fe',
      '%EF%BC%91%EF%BC%96%EF%BC%99%E3%80%82254.169.254',
      '%31%36%39.254.169.254',
      '168.63.129.16',
      '0xa83f8110',
      '192.0.0.192',
      '100.100.100.200',
      '100.96.0.96',
      '[::ffff:169.254.169.254]',
      '[::ffff:a83f:8110]',
      '[64:ff9b::a9fe:a9fe]',
      '[64:ff9b::168.63.129.16]',
      '[2002:a9fe:a9fe::1]',
      '[fd00:ec2::23]',
      '[fd00:ec2::254]',
      '[fd20:ce::254]',
      '[fe80::a9fe:a9fe]',
      'metadata.google.internal',
      'api.metadata.cloud.ibm.com',
    ]

    it('are asked by no URL, redirect, token server or tunnel, in no spelling', async () => {
      await using origin = await anOrigin()
      const guard = originGuard({ allowPrivate: true })
      await using client = aClient(guard)
      await using http = new OriginHttp({ ...ORIGIN_DEFAULTS, ...guard })
      const registry = { kind: 'registry' as const, upstream: origin.url, repository: 'team/app' }
      for (const host of spellings) {
        const url = `http://${host}/latest/meta-data`
        await failsWith('ORIGIN_FORBIDDEN', client.read(urlTarget(url), { signal }), /this (address|name) may not/)
        origin.at('/file', { redirect: url })
        await failsWith('ORIGIN_FORBIDDEN', client.read(urlTarget(`${origin.url}/file`), { signal }), /redirected to/)
        origin.at('/v2/team/app/manifests/v1', {
          status: 401,
          headers: { 'www-authenticate': `Bearer realm="https://${new URL(url).host}/token",service="x"` },
        })
        await failsWith('ORIGIN_FORBIDDEN', client.manifest(registry, 'v1', { signal }), /this (address|name) may not/)
        const { hostname } = new URL(url)
        await failsWith(
          'ORIGIN_FORBIDDEN',
          http.connect({ host: hostname.replace(/^\[|\]$/g, ''), port: 80 }, { signal }),
        )
      }
    })
  })

  describe('manifests and tokens', () => {
    const manifest = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [] })
    const at = (origin: { url: string }) => ({
      kind: 'registry' as const,
      upstream: origin.url,
      repository: 'team/app',
    })

    it('refuses a manifest whose bytes are not what was asked for or stated', async () => {
      await using origin = await anOrigin()
      const digest = digestOf('something else')
      origin.at('/v2/team/app/manifests/v1', { body: manifest, headers: { 'docker-content-digest': digest } })
      origin.at(`/v2/team/app/manifests/${digest}`, { body: manifest })
      await using client = aClient()
      await failsWith('DIGEST_MISMATCH', client.manifest(at(origin), 'v1', { signal }), /is what the origin states/)
      const error: DarnerError = await failsWith(
        'DIGEST_MISMATCH',
        client.manifest(at(origin), digest, { signal }),
        /was asked for/,
      )
      assert.equal(error.details.got, digestOf(manifest))
    })

    it('verifies a sha512 reference, and takes a tag whose digest is not stated', async () => {
      await using origin = await anOrigin()
      const { createHash } = await import('node:crypto')
      const digest = `sha512:${createHash('sha512').update(manifest).digest('hex')}`
      origin.at(`/v2/team/app/manifests/${digest}`, { body: manifest })
      origin.at('/v2/team/app/manifests/v1', {
        body: manifest,
        headers: { 'content-type': `${MEDIA.ociIndex}; charset=utf-8` },
      })
      await using client = aClient()
      assert.equal((await client.manifest(at(origin), digest, { signal })).digest, digest)
      const byTag = await client.manifest(at(origin), 'v1', { signal })
      assert.deepEqual([byTag.digest, byTag.mediaType], [digestOf(manifest), MEDIA.ociIndex])
      assert.match(String(origin.requests.at(-1)?.headers.accept), /manifest\.list\.v2\+json/)
    })

    it('refuses a manifest that is too long, stated or not', async () => {
      await using origin = await anOrigin()
      const long = Buffer.alloc(MAX_MANIFEST_BYTES + 1, 0x20)
      origin.at('/v2/team/app/manifests/stated', { body: long })
      origin.at('/v2/team/app/manifests/unstated', { body: long, noLength: true })
      await using client = aClient()
      await failsWith('MANIFEST_INVALID', client.manifest(at(origin), 'stated', { signal }), /more than 4194304 bytes/)
      await failsWith(
        'MANIFEST_INVALID',
        client.manifest(at(origin), 'unstated', { signal }),
        /more than 4194304 bytes/,
      )
    })

    it('asks for a new token once when a kept one is refused, not forever', async () => {
      await using origin = await anOrigin()
      let valid = 'one'
      const challenge = {
        status: 401,
        headers: { 'www-authenticate': `Bearer realm="${origin.url}/token",service="s"` },
      }
      origin.at('/v2/team/app/manifests/v1', ({ headers }) =>
        headers.authorization === `Bearer ${valid}` ? { body: manifest } : challenge,
      )
      origin.at('/token', () => ({ body: JSON.stringify({ access_token: valid, expires_in: 3600 }) }))
      await using client = aClient()
      await client.manifest(at(origin), 'v1', { signal })
      valid = 'two'
      await client.manifest(at(origin), 'v1', { signal })
      assert.equal(origin.requests.filter(({ path }) => path.startsWith('/token')).length, 2)
      assert.equal(origin.requests.at(-2)?.path, '/token?service=s&scope=repository%3Ateam%2Fapp%3Apull')
      origin.at('/token', { body: JSON.stringify({ token: 'useless' }) })
      valid = 'three'
      await failsWith('ORIGIN_UNAUTHORIZED', client.manifest(at(origin), 'v1', { signal }))
      assert.ok(origin.requests.length <= 12)
    })

    for (const [name, answer, code] of [
      ['that is busy', { status: 429, headers: { 'retry-after': '3' } }, 'ORIGIN_BUSY'],
      ['that answers nonsense', { body: 'token please' }, 'ORIGIN_FAILED'],
      ['that answers no token', { body: '{"token":""}' }, 'ORIGIN_FAILED'],
      ['that hangs up', { hangUp: true }, 'ORIGIN_UNREACHABLE'],
      ['that denies', { status: 403 }, 'ORIGIN_DENIED'],
    ] as const) {
      it(`passes on the failure of a token server ${name}`, async () => {
        await using origin = await anOrigin()
        origin.at('/v2/team/app/manifests/v1', {
          status: 401,
          headers: { 'www-authenticate': `Bearer realm="${origin.url}/token"` },
        })
        origin.at('/token', answer)
        await using client = aClient()
        await failsWith(code, client.manifest(at(origin), 'v1', { signal }), /token/)
      })
    }

    it('asks no token server that the guard forbids or that is unreadable', async () => {
      await using origin = await anOrigin()
      origin.at('/v2/team/app/manifests/v1', {
        status: 401,
        headers: { 'www-authenticate': `Bearer realm="${origin.url}/token"` },
      })
      await using client = aClient({ allow: (_, purpose) => purpose !== 'token' })
      await failsWith('ORIGIN_FORBIDDEN', client.manifest(at(origin), 'v1', { signal }))
      origin.at('/v2/team/app/manifests/v1', { status: 401, headers: { 'www-authenticate': 'Bearer realm="/token"' } })
      await failsWith('ORIGIN_FAILED', client.manifest(at(origin), 'v1', { signal }), /unreadable token server/)
    })

    it('sends no secret to a token server without TLS that a registry with TLS names', async () => {
      const authority = await aCertificate()
      await using plain = await anOrigin()
      await using origin = await anOrigin({ tls: await aCertificate({ by: authority }) })
      origin.at('/v2/team/app/manifests/v1', {
        status: 401,
        headers: { 'www-authenticate': `Bearer realm="${plain.url}/token"` },
      })
      await using client = aClient({ hosts: { [origin.host]: { ca: authority.cert } } })
      const credential = { kind: 'basic' as const, username: 'alice', password: 'secret' }
      await failsWith('ORIGIN_FORBIDDEN', client.manifest(at(origin), 'v1', { credential, signal }), /without TLS/)
      assert.equal(plain.requests.length, 0)
    })

    it('asks no second time when the registry says that the right itself is missing', async () => {
      await using origin = await anOrigin()
      const realm = `Bearer realm="${origin.url}/token",scope="repository:team/app:pull repository:base:pull"`
      origin.at('/v2/team/app/manifests/v1', ({ headers }) => ({
        status: 401,
        headers: {
          'www-authenticate': headers.authorization === undefined ? realm : `${realm},error="insufficient_scope"`,
        },
      }))
      origin.at('/token', { body: '{"token":"t"}' })
      await using client = aClient()
      await failsWith('ORIGIN_UNAUTHORIZED', client.manifest(at(origin), 'v1', { signal }))
      assert.deepEqual(
        origin.requests.map(({ path }) => path),
        [
          '/v2/team/app/manifests/v1',
          '/token?scope=repository%3Ateam%2Fapp%3Apull&scope=repository%3Abase%3Apull',
          '/v2/team/app/manifests/v1',
        ],
      )
    })

    it('keeps one reader waiting when another that shares its token request leaves', async () => {
      await using origin = await anOrigin()
      const { promise: until, resolve: go } = Promise.withResolvers<void>()
      origin.at('/v2/team/app/manifests/v1', ({ headers }) =>
        headers.authorization === 'Bearer t'
          ? { body: manifest }
          : { status: 401, headers: { 'www-authenticate': `Bearer realm="${origin.url}/token"` } },
      )
      const asked = Promise.withResolvers<void>()
      origin.at('/token', () => {
        asked.resolve()
        return { body: '{"token":"t"}', pauseAfter: 3, until }
      })
      await using client = aClient()
      const leaver = new AbortController()
      const left = client.manifest(at(origin), 'v1', { signal: leaver.signal })
      await asked.promise
      const stays = client.manifest(at(origin), 'v1', { signal })
      leaver.abort(new Error('left'))
      await assert.rejects(left, /left/)
      go()
      assert.equal((await stays).digest, digestOf(manifest))
      assert.equal(origin.requests.filter(({ path }) => path.startsWith('/token')).length, 1)
    })
  })
})
