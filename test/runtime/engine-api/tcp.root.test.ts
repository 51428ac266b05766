import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls'
import { before, describe, it } from 'mocha'
import { aDocker, dockerAt, fine } from '../../fixtures/clients/a-docker.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { aCertificate, type Certificate } from '../../fixtures/swarm/a-certificate.ts'
import { aSwarm } from '../../fixtures/swarm/a-swarm.ts'

const ADDRESS = '127.0.0.1:2376'

async function aFolder(path: string, files: Record<string, string>): Promise<string> {
  await mkdir(path)
  for (const [name, text] of Object.entries(files)) await writeFile(join(path, name), text)
  return path
}

/** A host's certificate by `authority`, as `--docker-tls` wants it. */
async function aServerFolder(path: string, authority: Certificate): Promise<string> {
  const host = await aCertificate({ by: authority })
  return aFolder(path, { 'tls.crt': host.cert, 'tls.key': host.key, 'ca.crt': authority.cert })
}

/** The docker program with what `folder` holds: the server's authority, and a certificate and its key. */
async function aClient(path: string, server: Certificate, own: Certificate) {
  await aFolder(path, { 'ca.pem': server.cert, 'cert.pem': own.cert, 'key.pem': own.key })
  const files = ['ca', 'cert', 'key'].map(
    (name) => `--tls${name === 'ca' ? 'cacert' : name}=${join(path, `${name}.pem`)}`,
  )
  return dockerAt(['-H', `tcp://${ADDRESS}`, '--tlsverify', ...files], path)
}

/** What is answered to a ping, and the sessions that were given. */
function asked(options: ConnectionOptions): Promise<{ text: string; sessions: Buffer[] }> {
  const sessions: Buffer[] = []
  let text = ''
  return new Promise((resolve) => {
    const socket = tlsConnect({ host: '127.0.0.1', port: 2376, ...options })
    socket
      .on('session', (session) => sessions.push(session))
      .on('data', (chunk) => {
        text += chunk
      })
      .on('error', () => {}) // refused
      .on('close', () => resolve({ text, sessions }))
    socket.write('GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n')
  })
}

describe('the docker program by TCP', function () {
  this.timeout(120_000)
  before(function () {
    onStage(this, { programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
  })

  it('does all that it does on the socket, with a certificate of the authority, and nothing without', async () => {
    await using dir = await aDir()
    const [authority, stranger] = await Promise.all([aCertificate(), aCertificate()])
    const dockerTls = await aServerFolder(join(dir.path, 'tls'), authority)
    await using _docker = await aDocker({ dockerTcp: ADDRESS, dockerTls })
    const admin = await aClient(join(dir.path, 'admin'), authority, await aCertificate({ by: authority }))
    const run = ['run', '--rm', '--network', 'none']
    assert.equal(await fine(admin, ['version', '--format', '{{.Server.APIVersion}}']), '1.43')
    assert.equal(await fine(admin, [...run, 'busybox', 'echo', 'hello']), 'hello')
    const long = 'a line of some length\n'.repeat(20_000)
    assert.equal(await fine(admin, [...run, '-i', 'busybox', 'cat'], { input: long }), long.trimEnd())
    await fine(admin, ['run', '-d', '--name', 'c', '--network', 'none', 'busybox', 'sleep', '1000'])
    assert.deepEqual(await admin(['exec', 'c', 'sh', '-c', 'echo out; exit 3']), {
      code: 3,
      stdout: 'out\n',
      stderr: '',
    })

    const other = await aClient(join(dir.path, 'other'), authority, await aCertificate({ by: stranger }))
    const plain = dockerAt(['-H', `tcp://${ADDRESS}`], dir.path)
    const nameless = dockerAt(['-H', `tcp://${ADDRESS}`, '--tls'], dir.path)
    for (const who of [other, other, plain, nameless, nameless]) {
      const { code, stdout } = await who(['rm', '-f', 'c'])
      assert.deepEqual([code, stdout], [1, ''])
    }
    assert.equal(await fine(admin, ['ps', '--format', '{{.Names}}']), 'c')
  })

  it('answers nobody by the session of a connection that it refused', async () => {
    await using dir = await aDir()
    const [authority, stranger] = await Promise.all([aCertificate(), aCertificate()])
    const own = await aCertificate({ by: stranger })
    const dockerTls = await aServerFolder(join(dir.path, 'tls'), authority)
    await using swarm = await aSwarm({ peers: 0 })
    await swarm.start(0, { engine: true, dockerTcp: ADDRESS, dockerTls })
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const first = await asked({ ca: authority.cert, maxVersion, cert: own.cert, key: own.key })
      assert.equal(first.text, '')
      for (const session of first.sessions) {
        assert.equal((await asked({ ca: authority.cert, maxVersion, session })).text, '')
        assert.equal((await asked({ ca: authority.cert, maxVersion, session, cert: own.cert, key: own.key })).text, '')
      }
    }
    const good = await aCertificate({ by: authority })
    assert.match((await asked({ ca: authority.cert, cert: good.cert, key: good.key })).text, /^HTTP\/1\.1 200 OK/)
  })

  it('is not waited for by an agent that ends', async () => {
    await using dir = await aDir()
    const authority = await aCertificate()
    const dockerTls = await aServerFolder(join(dir.path, 'tls'), authority)
    const socket = await (async () => {
      await using swarm = await aSwarm({ peers: 0 })
      await swarm.start(0, { engine: true, dockerTcp: ADDRESS, dockerTls, dockerSocket: 'off' })
      const silent = connect(2376, '127.0.0.1').on('error', () => {})
      await once(silent, 'connect')
      return silent
    })()
    if (!socket.closed) await once(socket.resume(), 'close')
  })

  it('is refused without all three files, or with a key that is not the one', async () => {
    await using dir = await aDir()
    const [host, another] = [await aCertificate(), await aCertificate()]
    await using swarm = await aSwarm({ peers: 0 })
    const start = (dockerTls: string) => swarm.start(0, { engine: true, dockerTcp: ADDRESS, dockerTls })
    const bare = await aFolder(join(dir.path, 'bare'), { 'tls.crt': host.cert, 'tls.key': host.key })
    await assert.rejects(start(bare), { code: 'CONFIG_INVALID', message: /not all there/ })
    const wrong = { 'tls.crt': host.cert, 'tls.key': another.key, 'ca.crt': host.cert }
    await assert.rejects(start(await aFolder(join(dir.path, 'wrong'), wrong)), { code: 'CONFIG_INVALID' })
  })
})
