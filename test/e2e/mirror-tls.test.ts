import assert from 'node:assert/strict'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { describe, it } from 'mocha'
import { askMirror } from '../fixtures/clients/ask-mirror.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { anImage, type Image, pushImage } from '../fixtures/images/an-image.ts'
import { aRegistry, type Registry } from '../fixtures/origin/a-registry.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aCertificate } from '../fixtures/swarm/a-certificate.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

async function anImageAt(registry: Registry): Promise<Image> {
  const image = anImage({ layers: [{ compression: 'none', bytes: 300_000 }] })
  await pushImage(registry, 'team/app', 'v1', image)
  return image
}

/** One agent with a mirror; `place` is the mirror's own part of its status. */
async function mirrored(
  agent: Record<string, unknown>,
  supernode: Record<string, unknown> = {},
): Promise<{ swarm: Swarm; address: string; ca: string }> {
  const swarm = await aSwarm({ peers: 1, agent: { mirror: '127.0.0.1:0', ...agent }, supernode })
  const status = swarm.agents[0]?.mirror?.status() ?? assert.fail('no mirror')
  return { swarm, address: status.address, ca: status.authority ?? '' }
}

async function get(
  url: string,
  options: Parameters<typeof httpsRequest>[1] = {},
): Promise<{ status: number; body: Buffer }> {
  return await new Promise((resolve, reject) => {
    const ask = url.startsWith('https:') ? httpsRequest : httpRequest
    ask(url, { agent: false, signal: AbortSignal.timeout(20_000), ...options }, (answer) => {
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks) }))
      answer.on('error', reject)
    })
      .on('error', reject)
      .end()
  })
}

/** What a CONNECT to `target` gets: the status, and where it is 200 a GET of `path` over TLS that trusts `ca`. */
async function throughProxy(address: string, target: string, path: string, ca: string) {
  const [host = '', port = ''] = address.split(':')
  return await new Promise<{ status: number; body?: Buffer }>((resolve, reject) => {
    httpRequest({ host, port, method: 'CONNECT', path: target, agent: false, signal: AbortSignal.timeout(20_000) })
      .on('connect', (answer, socket) => {
        if (answer.statusCode !== 200) {
          socket.destroy()
          resolve({ status: answer.statusCode ?? 0 })
          return
        }
        const secure = tlsConnect({ socket, ca, host: target.replace(/:\d+$/, '') })
        secure.on('error', reject)
        get(`http://${target}${path}`, {
          ...{
            agent: undefined,
            createConnection: () => secure,
            headers: { accept: '*/*, application/vnd.oci.image.manifest.v1+json' },
          },
        }).then(resolve, reject)
      })
      .on('error', reject)
      .end()
  })
}

describe('the registry mirror with TLS of its own', function () {
  this.timeout(30_000)

  it('makes an authority and a certificate, keeps the authority, and lets nobody read its key', async () => {
    await using registry = await aRegistry()
    const image = await anImageAt(registry)
    const { swarm, address, ca } = await mirrored({ upstream: [`reg.test=${registry.url}`], mirrorTls: 'make' })
    await using _swarm = swarm
    const pem = await readFile(ca, 'utf8')
    const url = (at: string) => `https://${at}/v2/team/app/blobs/${image.layers[0]?.digest}`
    assert.ok((await get(url(address), { ca: pem })).body.equals(image.layers[0]?.body ?? Buffer.of()))
    await assert.rejects(get(url(address)), /self.signed|unable to verify/)
    assert.equal((await stat(join(ca, '../ca.key'))).mode & 0o077, 0)
    await swarm.agents[0]?.[Symbol.asyncDispose]()
    await swarm.start(0, { mirror: '127.0.0.1:0', upstream: [`reg.test=${registry.url}`], mirrorTls: 'make' })
    const again = swarm.agents.at(-1)?.mirror?.address ?? assert.fail('no mirror')
    assert.equal((await get(url(again), { ca: pem })).status, 200)
  })

  it('takes a certificate that it is given, and says what is missing', async () => {
    await using dir = await aDir()
    const authority = await aCertificate()
    const own = await aCertificate({ by: authority })
    for (const [name, text] of Object.entries({ 'tls.crt': own.cert, 'tls.key': own.key, 'ca.crt': authority.cert }))
      await writeFile(join(dir.path, name), text)
    const { swarm, address, ca } = await mirrored({ mirrorTls: dir.path, upstream: ['reg.test=http://127.0.0.1:1'] })
    await using _swarm = swarm
    assert.equal(ca, join(dir.path, 'ca.crt'))
    assert.equal((await get(`https://${address}/v2/_catalog`, { ca: authority.cert })).status, 403)
    await using bare = await aDir()
    await using without = await aSwarm({ peers: 1, agent: { mirror: '127.0.0.1:0', mirrorTls: bare.path } })
    assert.equal(without.agents[0]?.mirror, undefined, 'the agent runs on without a mirror')
  })
})

describe('the registry mirror as a proxy', function () {
  this.timeout(30_000)

  it('answers whole URLs of its upstreams, from the swarm, and of nobody else', async () => {
    await using registry = await aRegistry()
    const image = await anImageAt(registry)
    await using other = await anOrigin()
    other.at('/v2/', { body: '{}' })
    const { swarm, address } = await mirrored({ upstream: [`reg.test=${registry.url}`, 'far.test=https://far.test'] })
    await using _swarm = swarm
    const [layer] = image.layers
    for (const base of [registry.url, 'http://reg.test']) {
      const got = await askMirror(address, `${base}/v2/team/app/blobs/${layer?.digest}`)
      assert.ok(got.body.equals(layer?.body ?? Buffer.of()), base)
    }
    assert.equal(await registry.blobGets(layer?.digest ?? assert.fail()), 1)
    for (const url of [
      `${other.url}/v2/`,
      'http://far.test/v2/',
      'http://reg.test@evil.test/v2/',
      `${registry.url}/`,
    ]) {
      const { status, code } = await askMirror(address, url)
      assert.ok(status === 400 || status === 404, `${url}: ${status} ${code}`)
    }
    assert.equal(other.requests.length, 0)
  })

  it('tunnels to upstreams with TLS alone, when told to', async () => {
    const authority = await aCertificate()
    await using registry = await aRegistry({ tls: await aCertificate({ by: authority }) })
    const image = await anImageAt(registry)
    await using other = await anOrigin({ tls: await aCertificate({ by: authority }) })
    const path = `/v2/team/app/manifests/${image.manifest.digest}`
    const upstream = [`reg.test=${registry.url}`]
    const off = await mirrored({ upstream })
    await using _off = off.swarm
    assert.equal((await throughProxy(off.address, registry.host, path, authority.cert)).status, 405)
    const { swarm, address } = await mirrored({ upstream, mirrorConnect: 'tunnel' })
    await using _swarm = swarm
    const got = await throughProxy(address, registry.host, path, authority.cert)
    assert.equal(got.body?.toString(), Buffer.from(image.manifest.body).toString())
    for (const [target, status] of [
      [other.host, 403],
      ['169.254.169.254:443', 403],
      ['127.0.0.1:70000', 400],
      ['evil', 400],
    ] as const)
      assert.equal((await throughProxy(address, target, path, authority.cert)).status, status, target)
    assert.equal(other.requests.length, 0)
  })

  it('answers in the place of upstreams, with its own certificate, when told to', async () => {
    const authority = await aCertificate()
    await using dir = await aDir()
    await using registry = await aRegistry({ tls: await aCertificate({ by: authority }) })
    const image = await anImageAt(registry)
    const [layer] = image.layers
    const certsDir = join(dir.path, 'certs.d')
    await mkdir(join(certsDir, registry.host), { recursive: true })
    await writeFile(join(certsDir, registry.host, 'ca.crt'), authority.cert)
    const { swarm, address } = await mirrored(
      { upstream: [`reg.test=${registry.url}`], mirrorConnect: 'intercept', certsDir },
      { certsDir },
    )
    await using _swarm = swarm
    const ca = await readFile(join(swarm.directory, 'agent-0/mirror-tls/ca.crt'), 'utf8')
    for (const reference of ['v1', image.manifest.digest]) {
      const got = await throughProxy(address, registry.host, `/v2/team/app/manifests/${reference}`, ca)
      assert.equal(got.body?.toString(), Buffer.from(image.manifest.body).toString())
    }
    for (let time = 0; time < 2; time++) {
      const got = await throughProxy(address, registry.host, `/v2/team/app/blobs/${layer?.digest}`, ca)
      assert.deepEqual(got.body, Buffer.from(layer?.body ?? []))
    }
    assert.equal(await registry.blobGets(layer?.digest ?? assert.fail()), 1)
  })
})
