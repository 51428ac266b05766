import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { describe, it } from 'mocha'
import { systemClock } from '../../../src/core/clock.ts'
import { openLog } from '../../../src/core/log.ts'
import { proxyOfDaemon } from '../../../src/origin/proxy-env.ts'
import { createOriginClient, type OriginClientOptions } from '../../../src/origin/registry-client.ts'
import { originGuard } from '../../../src/origin/special-address.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aPort } from '../../fixtures/host/a-port.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'
import { aProxy } from '../../fixtures/origin/a-proxy.ts'
import { anOrigin } from '../../fixtures/origin/an-origin.ts'
import { aCertificate } from '../../fixtures/swarm/a-certificate.ts'

const { signal } = new AbortController()
const body = randomBody(1, 200_000)
const PASSWORD = 'hunter%2F2'

/** A client as a daemon has it, and all that it logs. */
async function aClient(originProxy: string, options: Partial<OriginClientOptions> = {}) {
  const lines: string[] = []
  const log = await openLog({ level: 'trace', pretty: false }, { write: (line) => void lines.push(line) })
  const proxy = proxyOfDaemon({ originProxy, originNoProxy: [] }, {}) ?? assert.fail('no proxy')
  const client = createOriginClient(
    {
      proxy,
      proxyWay: 'look at originProxy',
      ...originGuard({ allowPrivate: false }),
      ...options,
    },
    { log, clock: systemClock },
  )
  const read = async (url: string) => {
    await using found = await client.read({ origin: { kind: 'url', url } }, { signal })
    const chunks: Uint8Array[] = []
    for await (const chunk of found.stream) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
  return { read, lines, [Symbol.asyncDispose]: () => client[Symbol.asyncDispose]() }
}

/** A SOCKS5 proxy (RFC 1928) whose every host is the one behind `to`. */
async function aSocksProxy(to: string) {
  const asked: string[] = []
  const server = createServer((client) => {
    client.on('error', () => {})
    client.once('data', () => {
      client.write(Buffer.of(5, 0))
      client.once('data', (request: Buffer) => {
        asked.push(request.subarray(5, -2).toString())
        const far = connect(Number(new URL(to).port), '127.0.0.1', () => {
          client.write(Buffer.of(5, 0, 0, 1, 127, 0, 0, 1, 0, 0))
          far.pipe(client).pipe(far)
        })
        far.on('error', () => client.destroy())
        client.on('close', () => far.destroy())
      })
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    url: `socks5://127.0.0.1:${port}`,
    asked,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  }
}

describe('createOriginClient, through a proxy', () => {
  const withLogin = (url: string) => url.replace('//', `//me:${PASSWORD}@`)

  it('reads http by whole URL and https by CONNECT, with its login, a private CA and a client certificate', async () => {
    const authority = await aCertificate()
    const names = ['reg.invalid', '127.0.0.1']
    await using plain = await anOrigin()
    await using secure = await anOrigin({ tls: await aCertificate({ by: authority, names }), clientCa: authority.cert })
    const own = await aCertificate({ by: authority, names: ['client'] })
    await using proxy = await aProxy({
      hosts: { 'far.invalid': plain.url, 'reg.invalid': secure.url },
      login: 'me:hunter/2',
    })
    for (const origin of [plain, secure]) origin.at('/file', { body })
    await using client = await aClient(withLogin(proxy.url), {
      hosts: { 'reg.invalid': { ca: authority.cert, cert: own.cert, key: own.key } },
    })
    for (let round = 0; round < 2; round++) {
      assert.ok((await client.read('http://far.invalid/file')).equals(body))
      assert.ok((await client.read('https://reg.invalid/file')).equals(body))
    }
    assert.deepEqual(new Set(proxy.asked), new Set(['GET http://far.invalid/file', 'CONNECT reg.invalid:443']))
    for (const { headers } of [...plain.requests, ...secure.requests])
      assert.equal(headers['proxy-authorization'], undefined)
    assert.doesNotMatch(client.lines.join(''), /hunter/)
  })

  it('asks a proxy, though its address is private, for no private address and no metadata service, by name or redirect either', async () => {
    await using origin = await anOrigin()
    await using proxy = await aProxy({ hosts: { 'far.invalid': origin.url } })
    await using client = await aClient(proxy.url)
    const places = ['169.254.169.254', '0xa9fea9fe', '[::ffff:169.254.169.254]', '[fd00:ec2::254]', '10.0.0.1']
    const names = ['metadata.google.internal', 'METADATA.google.internal.', 'instance-data.ec2.internal']
    for (const host of [...places, ...names]) {
      for (const scheme of ['http', 'https'])
        await failsWith('ORIGIN_FORBIDDEN', client.read(`${scheme}://${host}/latest`), /this (address|name) may not/)
      origin.at('/file', { redirect: `http://${host}/latest` })
      await failsWith('ORIGIN_FORBIDDEN', client.read('http://far.invalid/file'), /redirected to .*may not be asked/)
    }
    await failsWith('ORIGIN_FORBIDDEN', client.read(origin.url.replace('127.0.0.1', 'localhost')), /its address/)
    assert.deepEqual(new Set(proxy.asked), new Set(['GET http://far.invalid/file']))
  })

  it('names a proxy that is down, without its login, and what to do', async () => {
    const host = `127.0.0.1:${await aPort()}`
    await using client = await aClient(withLogin(`http://${host}`))
    for (const url of ['http://far.invalid/file', 'https://far.invalid/file']) {
      const error = await failsWith('ORIGIN_UNREACHABLE', client.read(url), /cannot reach far\.invalid:\d+ through/)
      assert.ok(error.message.includes(`through the proxy ${host} (ECONNREFUSED)`), error.message)
      assert.equal(error.way, 'look at originProxy')
      assert.doesNotMatch(`${error.message}${JSON.stringify(error)}${String(error.cause)}`, /hunter/)
    }
    assert.doesNotMatch(client.lines.join(''), /hunter/)
  })

  it('says that a proxy wants credentials, or refuses', async () => {
    await using closed = await aProxy({ login: 'you:other' })
    await using broken = await aProxy({ refuse: 502 })
    for (const scheme of ['http', 'https']) {
      await using client = await aClient(withLogin(closed.url))
      const error = await failsWith(
        'ORIGIN_UNREACHABLE',
        client.read(`${scheme}://far.invalid/file`),
        /through the proxy 127\.0\.0\.1:\d+ \(the proxy wants credentials\)/,
      )
      assert.match(error.way ?? '', /NAME:PASSWORD@/)
      assert.doesNotMatch(error.message, /hunter/)
    }
    await using client = await aClient(broken.url)
    const error = await failsWith(
      'ORIGIN_UNREACHABLE',
      client.read('https://far.invalid/file'),
      /through the proxy 127\.0\.0\.1:\d+ \(it answered 502\)/,
    )
    assert.equal(error.way, 'look at originProxy')
    await failsWith(
      'ORIGIN_FAILED',
      client.read('http://far.invalid/file'),
      /far\.invalid answered 502 through the proxy 127\.0\.0\.1:\d+ \(so says the proxy\)/,
    )
  })

  it('speaks TLS with a proxy whose authority is known by its own name', async () => {
    const authority = await aCertificate()
    await using origin = await anOrigin()
    origin.at('/file', { body })
    await using proxy = await aProxy({
      hosts: { 'far.invalid': origin.url },
      tls: await aCertificate({ by: authority }),
    })
    await using client = await aClient(proxy.url, { hosts: { [new URL(proxy.url).host]: { ca: authority.cert } } })
    assert.ok((await client.read('http://far.invalid/file')).equals(body))
    await using stranger = await aClient(proxy.url)
    await failsWith('ORIGIN_UNREACHABLE', stranger.read('http://far.invalid/file'), /through the proxy/)
  })

  it('reads through SOCKS, for commands', async () => {
    await using origin = await anOrigin()
    origin.at('/file', { body })
    await using socks = await aSocksProxy(origin.url)
    await using client = await aClient('http://unused', { proxy: () => socks.url })
    assert.ok((await client.read('http://far.invalid/file')).equals(body))
    assert.deepEqual(socks.asked, ['far.invalid'])
  })

  it('gives up on a proxy that takes a connection and says nothing', async () => {
    await using proxy = await aProxy({ silent: true })
    await using client = await aClient(proxy.url, { firstByteMs: 50 })
    for (const scheme of ['http', 'https'])
      await failsWith('TIMED_OUT', client.read(`${scheme}://far.invalid/file`), /through the proxy/)
  })
})
