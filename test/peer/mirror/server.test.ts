import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { describe, it } from 'mocha'
import { Authority } from '../../../peer/mirror/authority.ts'
import { openMirror } from '../../../peer/mirror/server.ts'
import { madeTls } from '../../../peer/mirror/tls.ts'
import { ManualClock, systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import { aDir } from '../../fixtures/a-dir.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { until } from '../../fixtures/until.ts'

type Parts = Parameters<typeof openMirror>[1]

/** For requests that get no further than the mirror's door. */
const parts = { clock: new ManualClock(), log: silentLog(), scheduler: { connected: false } } as unknown as Parts

function options(listen: string) {
  return { listen, upstreams: {}, push: 'refuse', catalog: false, staleMs: 0, supernodeMs: 900 } as const
}

describe('openMirror', () => {
  it('names the port that another program has, and how to take another', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    try {
      const { port } = other.address() as AddressInfo
      const opening = openMirror(options(`127.0.0.1:${port}`), parts)
      const error = await failsWith('HOST_UNABLE', opening, new RegExp(`another program has port ${port}$`))
      assert.match(error.way ?? '', /--mirror IP:PORT takes another port/)
      assert.match(error.way ?? '', new RegExp(`ss -ltnp 'sport = :${port}'`))
    } finally {
      other.close()
    }
  })

  it('tells a client off that does not finish its request, and serves the next', async () => {
    await using mirror = await openMirror({ ...options('127.0.0.1:0'), headersMs: 60 }, parts)
    const [host = '', port = ''] = mirror.address.split(':')
    for (let client = 0; client < 2; client++) {
      const socket = connect(Number(port), host, () => socket.write('GET /v2/ HTTP/1.1\r\nhost: '))
      let said = ''
      socket.setEncoding('utf8').on('data', (text: string) => {
        said += text
      })
      await once(socket, 'close')
      assert.match(said, /^HTTP\/1\.1 408 /)
      assert.match(said, /"errors":\[/)
    }
    assert.equal(mirror.status().failures, 2)
  })

  it('lets go of a client that was told off and stays', async () => {
    await using mirror = await openMirror({ ...options('127.0.0.1:0'), headersMs: 60 }, parts)
    const before = socketsHere()
    for (const first of ['', 'no request\r\n\r\n', 'CONNECT far.test:443 HTTP/1.1\r\n\r\n']) {
      const socket = await aStayingClient(mirror.address)
      socket.write(first)
      await once(socket.resume(), 'end')
      await until(() => socketsHere() === before + 1)
      socket.destroy()
      await until(() => socketsHere() === before)
    }
  })

  for (const how of ['in the clear', 'by TLS'] as const)
    it(`lets go of a client that says nothing after its CONNECT, as one that finishes no request (${how})`, async () => {
      await using dir = await aDir()
      const authority = await Authority.open(dir.path, { clock: systemClock })
      const tls = how === 'by TLS' ? await madeTls(authority, '127.0.0.1') : undefined
      await using mirror = await openMirror(
        {
          ...options('127.0.0.1:0'),
          ...{ upstreams: { 'reg.test': 'https://reg.test' }, connect: 'intercept', authority, tls, headersMs: 60 },
        },
        parts,
      )
      for (const then of ['silence', 'a handshake', 'half a request'] as const) {
        const [host = '', port = ''] = mirror.address.split(':')
        let socket: Socket = connect(Number(port), host)
        if (tls !== undefined) socket = tlsConnect({ socket, rejectUnauthorized: false })
        socket.write('CONNECT reg.test:443 HTTP/1.1\r\nhost: reg.test:443\r\n\r\n')
        const [answer] = (await once(socket, 'data')) as [Buffer]
        assert.match(answer.toString(), /^HTTP\/1\.1 200 /)
        if (then !== 'silence') socket = tlsConnect({ socket, rejectUnauthorized: false })
        if (then === 'half a request') socket.write('GET /v2/ HTTP/1.1\r\nhost: ')
        socket.on('error', () => {}).resume()
        await once(socket, 'close')
      }
    })
})

/** A client that closes no connection because the other side did. */
async function aStayingClient(address: string): Promise<Socket> {
  const [host = '', port = ''] = address.split(':')
  const socket = connect({ host, port: Number(port), allowHalfOpen: true })
  await once(
    socket.on('error', () => {}),
    'connect',
  )
  return socket
}

/** Open connections of this process, each end counted. */
function socketsHere(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length
}
