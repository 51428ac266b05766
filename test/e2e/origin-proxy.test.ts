import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { describe, it } from 'mocha'
import { openLog } from '../../src/core/log.ts'
import { askMirror } from '../fixtures/clients/ask-mirror.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { aPort } from '../fixtures/host/a-port.ts'
import { needs } from '../fixtures/host/needs.ts'
import { anImage, type Image, pushImage } from '../fixtures/images/an-image.ts'
import { aProxy } from '../fixtures/origin/a-proxy.ts'
import { aRegistry, REGISTRY_USER } from '../fixtures/origin/a-registry.ts'
import { aTokenServer } from '../fixtures/origin/a-token-server.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aCertificate } from '../fixtures/swarm/a-certificate.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

/** The tag, the manifest and each blob of team/app at an agent's mirror. */
async function pull(swarm: Swarm, number: number, image: Image): Promise<void> {
  const address = swarm.agents[number]?.mirror?.address ?? assert.fail('no mirror')
  const accept = { accept: image.manifest.mediaType }
  const tag = await askMirror(address, '/v2/team/app/manifests/v1', { headers: accept })
  assert.ok(tag.body.equals(image.manifest.body), `${tag.status} ${tag.body}`)
  for (const { digest, body } of [image.config, ...image.layers]) {
    const blob = await askMirror(address, `/v2/team/app/blobs/${digest}`)
    assert.ok(blob.complete && blob.body.equals(body), `${digest}: ${blob.status} ${blob.body.subarray(0, 200)}`)
  }
}

describe('daemons that reach registries by a proxy only', function () {
  this.timeout(60_000)
  const layers = [{ compression: 'none' as const, bytes: 1_500_000 }, { compression: 'gzip' as const }]

  it('pull by token, pass on, check a mirror and get a URL through it, and log no login', async () => {
    await using tokens = await aTokenServer({ host: 'tokens.invalid', open: ['team/app'] })
    await using registry = await aRegistry({ auth: tokens })
    await using origin = await anOrigin()
    const file = Buffer.from('a file')
    origin.at('/file', { body: file, headers: { etag: '"1"' } })
    const image = anImage({ layers })
    await pushImage(registry, 'team/app', 'v1', image)
    const hosts = {
      'reg.invalid': registry.url,
      'tokens.invalid': `http://127.0.0.1:${new URL(tokens.realm).port}`,
      'files.invalid': origin.url,
    }
    const [byAgents, bySupernode] = ['agents:sesame', 'supernode:sesame']
    await using agents = await aProxy({ hosts, login: byAgents })
    await using supernode = await aProxy({ hosts, login: bySupernode })
    const lines: string[] = []
    const log = await openLog({ level: 'trace', pretty: false }, { write: (line) => void lines.push(line) })
    await using swarm = await aSwarm({
      peers: 2,
      log,
      supernode: { originProxy: supernode.url.replace('//', `//${bySupernode}@`) },
      agent: {
        originProxy: agents.url.replace('//', `//${byAgents}@`),
        mirror: '127.0.0.1:0',
        upstream: ['reg.invalid=http://reg.invalid'],
      },
    })
    for (const number of [0, 1]) await pull(swarm, number, image)
    for (const { digest } of image.layers) assert.equal(await registry.blobGets(digest), 1)
    const asked = (by: typeof agents, text: string) => by.asked.some((line) => line.includes(text))
    assert.ok(asked(agents, '/blobs/'), 'the first host reads')
    assert.ok(asked(agents, '//tokens.invalid'), 'with a token of its own')
    assert.ok(
      asked(supernode, '//reg.invalid') && asked(supernode, '//tokens.invalid'),
      'the supernode asks for rights',
    )

    const address = swarm.agents[0]?.mirror?.address ?? ''
    const list = await askMirror(address, '/v2/team/app/tags/list')
    assert.ok(list.status === 401 || list.status === 200, 'passed on')
    assert.ok(asked(agents, '/tags/list'))

    const socket = ['--socket', join(swarm.directory, 'agent-0.sock')]
    const check = await runDarner(['mirror', 'check', 'reg.invalid/team/app:v1', ...socket])
    assert.equal(check.code, 0, check.stdout + check.stderr)
    const out = join(swarm.directory, 'file')
    const got = await runDarner(['get', 'http://files.invalid/file', '-o', out, '--from-origin', 'never', ...socket])
    assert.equal(got.code, 0, got.stderr)
    assert.ok(asked(supernode, 'http://files.invalid/file'))
    const preheat = ['preheat', 'reg.invalid/team/app:v1', '--plain-http', '--deadline', '30s', ...socket]
    const heated = await runDarner(preheat)
    assert.equal(heated.code, 0, heated.stderr)
    const logged = lines.join('')
    for (const login of [byAgents, bySupernode])
      for (const text of ['sesame', Buffer.from(login).toString('base64')]) assert.ok(!logged.includes(text), text)
  })

  it('read registries with certificates of certs.d, tunnel, and leave out what NO_PROXY names, by their environment', async () => {
    const authority = await aCertificate()
    await using dir = await aDir()
    const names = ['reg.invalid', '127.0.0.1']
    const tls = await aCertificate({ by: authority, names })
    await using registry = await aRegistry({ tls, clientCa: authority.cert })
    const image = anImage({ layers })
    await pushImage(registry, 'team/app', 'v1', image)
    const own = await aCertificate({ by: authority, names: ['client'] })
    const certsDir = join(dir.path, 'certs.d')
    await mkdir(join(certsDir, 'reg.invalid'), { recursive: true })
    for (const [name, text] of Object.entries({ 'ca.crt': authority.cert, 'c.cert': own.cert, 'c.key': own.key }))
      await writeFile(join(certsDir, 'reg.invalid', name), text)
    await using proxy = await aProxy({ hosts: { 'reg.invalid': registry.url } })
    await using swarm = await aSwarm({
      peers: 2,
      env: { HTTPS_PROXY: proxy.url, NO_PROXY: 'near.invalid' },
      supernode: { certsDir },
      agent: {
        ...{ certsDir, mirror: '127.0.0.1:0', mirrorConnect: 'tunnel' },
        upstream: ['reg.invalid=https://reg.invalid', 'near.invalid=https://near.invalid'],
      },
    })
    for (const number of [0, 1]) await pull(swarm, number, image)
    for (const { digest } of image.layers) assert.equal(await registry.blobGets(digest), 1)
    assert.deepEqual(new Set(proxy.asked), new Set(['CONNECT reg.invalid:443']))

    const address = swarm.agents[0]?.mirror?.address ?? ''
    const client = { ca: authority.cert, cert: own.cert, key: own.key }
    assert.equal(await tunnelled(address, 'reg.invalid', client), 'HTTP/1.1 200 OK')
    const before = proxy.asked.length
    assert.equal(await tunnelled(address, 'near.invalid', client), 'CONNECT 502')
    assert.equal(proxy.asked.length, before)
  })

  for (const { way, secure } of [
    { way: 'whole URLs', secure: false },
    { way: 'CONNECT', secure: true },
  ])
    it(`pass pushes of a real client on by ${way}, bring them into the swarm, and name a proxy that takes none`, async function () {
      needs(this, { programs: ['docker-registry', 'skopeo'] })
      await using dir = await aDir()
      await using tokens = await aTokenServer({
        host: 'tokens.invalid',
        users: { [REGISTRY_USER.username]: REGISTRY_USER.password },
      })
      const authority = await aCertificate()
      const tls = await aCertificate({ by: authority, names: ['reg.invalid', '127.0.0.1'] })
      await using registry = await aRegistry(secure ? { auth: 'basic', tls } : { auth: tokens })
      const certsDir = join(dir.path, 'certs.d')
      await mkdir(join(certsDir, 'reg.invalid'), { recursive: true })
      await writeFile(join(certsDir, 'reg.invalid', 'ca.crt'), authority.cert)
      const realm = `http://127.0.0.1:${new URL(tokens.realm).port}`
      const hosts = { 'reg.invalid': registry.url, 'tokens.invalid': realm }
      await using proxy = await aProxy({ hosts, login: 'me:sesame' })
      const originProxy = proxy.url.replace('//', '//me:sesame@')
      const upstream = [`reg.invalid=${secure ? 'https' : 'http'}://reg.invalid`]
      const mirror = { mirror: '127.0.0.1:0', mirrorPush: 'pass', upstream }
      await using swarm = await aSwarm({
        peers: 2,
        supernode: { certsDir, originProxy },
        agent: { certsDir, originProxy, ...mirror },
      })
      const address = (number: number) => swarm.agents[number]?.mirror?.address ?? assert.fail('no mirror')
      const image = anImage({ layers })
      const from = join(dir.path, 'image')
      await writeImageDir(from, image)
      const { username, password } = REGISTRY_USER
      const how = ['--dest-creds', `${username}:${password}`, '--dest-tls-verify=false', '--preserve-digests']
      // the client gets its token through the proxy, too
      const env = { HTTP_PROXY: originProxy }
      const pushed = await skopeo(['copy', ...how, `dir:${from}`, `docker://${address(0)}/team/app:v1`], env)
      assert.equal(pushed.code, 0, pushed.stderr)
      for (const { digest } of [...image.layers, image.config])
        await until(() => swarm.agents[0]?.peer.store.byDigest(digest)?.complete === true)
      const rights = (await registry.pushRights('team/app')) ?? ''
      for (const { digest, body } of [image.config, ...image.layers]) {
        const path = `/v2/team/app/blobs/${digest}`
        const blob = await askMirror(address(1), path, { headers: { authorization: rights } })
        assert.ok(blob.complete && blob.body.equals(body), `${digest}: ${blob.status}`)
        assert.equal(await registry.blobGets(digest), 1)
      }
      const uploads = (await registry.accesses()).filter(({ method }) => method === 'PATCH' || method === 'PUT')
      assert.ok(uploads.length >= 4, 'it was the registry that took it')
      assert.ok(proxy.asked.some((line) => (secure ? line === 'CONNECT reg.invalid:443' : line.startsWith('PATCH '))))

      await using refusing = await aProxy({ refuse: 403 })
      await swarm.start(2, { originProxy: refusing.url })
      const refused = await askMirror(address(2), '/v2/team/app/blobs/uploads/', { method: 'POST' })
      // of a whole URL the proxy's answer is the registry's, to all appearances
      const [status, seen] = secure
        ? [502, `through the proxy ${new URL(refusing.url).host}`]
        : [403, 'so says the proxy']
      assert.equal(refused.status, status)
      assert.ok(refused.body.toString().includes(String(seen)), refused.body.toString())
    })

  it('start with no proxy of the environment that is none, unless it is off', async () => {
    await using dir = await aDir()
    const file = join(dir.path, 'proxy')
    await writeFile(file, 'socks5://me:sesame@p:1\n')
    for (const [flags, env, seen] of [
      [[], { HTTPS_PROXY: 'ftp://me:sesame@p' }, /environment HTTPS_PROXY: expected/],
      [['--origin-proxy', `@${file}`], {}, /originProxy: expected/],
    ] as const) {
      const { code, stderr } = await runDarner(['supernode', '--data', join(dir.path, 'data'), ...flags], env)
      assert.notEqual(code, 0)
      assert.match(stderr, seen)
      assert.doesNotMatch(stderr, /sesame/)
    }
    await using swarm = await aSwarm({
      peers: 0,
      env: { HTTPS_PROXY: 'ftp://me:sesame@p' },
      supernode: { originProxy: 'off' },
    })
    assert.ok(swarm.supernode.http)
  })

  it('tell a client which proxy is down', async () => {
    const host = `127.0.0.1:${await aPort()}`
    await using swarm = await aSwarm({
      peers: 1,
      supernode: { originProxy: host, originRetries: 0 },
      agent: {
        ...{ originProxy: `me:sesame@${host}`, originRetries: 0, mirror: '127.0.0.1:0' },
        upstream: ['reg.invalid=https://reg.invalid'],
      },
    })
    const address = swarm.agents[0]?.mirror?.address ?? ''
    const { status, body } = await askMirror(address, '/v2/team/app/manifests/v1')
    assert.ok(status >= 500, `${status}`)
    assert.match(body.toString(), new RegExp(`reg\\.invalid:443 through the proxy ${host} \\(ECONNREFUSED\\)`))
    assert.doesNotMatch(body.toString(), /sesame/)
  })
})

/** An image as skopeo's `dir:` has it. */
async function writeImageDir(path: string, { manifest, config, layers }: Image): Promise<void> {
  await mkdir(path)
  await writeFile(join(path, 'version'), 'Directory Transport Version: 1.1\n')
  await writeFile(join(path, 'manifest.json'), manifest.body)
  for (const { digest, body } of [config, ...layers]) await writeFile(join(path, digest.slice(7)), body)
}

async function skopeo(args: readonly string[], env: Readonly<Record<string, string>>) {
  const { PATH = '', HOME = '/' } = process.env
  const argv = ['--insecure-policy', '--command-timeout', '50s', ...args]
  return await new Promise<{ code: number; stderr: string }>((resolve) => {
    execFile('skopeo', argv, { env: { PATH, HOME, ...env } }, (error, _, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stderr }),
    )
  })
}

/** What `/v2/` says within a tunnel of the mirror's, or what CONNECT was answered. */
async function tunnelled(address: string, name: string, client: object): Promise<string> {
  const [host = '', port = ''] = address.split(':')
  return await new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(20_000)
    httpRequest({ host, port, method: 'CONNECT', path: `${name}:443`, agent: false, signal })
      .on('connect', (answer, socket) => {
        if (answer.statusCode !== 200) {
          socket.destroy()
          resolve(`CONNECT ${answer.statusCode}`)
          return
        }
        const secure = tlsConnect({ socket, host: name, servername: name, ...client })
        secure.on('error', reject)
        secure.once('data', (data: Buffer) => {
          secure.destroy()
          resolve(data.toString().split('\r\n')[0] ?? '')
        })
        secure.write(`GET /v2/ HTTP/1.1\r\nhost: ${name}\r\nconnection: close\r\n\r\n`)
      })
      .on('error', reject)
      .end()
  })
}
