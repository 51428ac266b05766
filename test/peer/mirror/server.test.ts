import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { describe, it } from 'mocha'
import { SLOW_CLIENT_MS } from '../../../peer/mirror/answer.ts'
import { Authority } from '../../../peer/mirror/authority.ts'
import { openMirror } from '../../../peer/mirror/server.ts'
import { madeTls } from '../../../peer/mirror/tls.ts'
import { ManualClock, systemClock } from '../../../src/core/clock.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { openLog, silentLog } from '../../../src/core/log.ts'
import { OriginHttp } from '../../../src/origin/origin-http.ts'
import { ORIGIN_DEFAULTS } from '../../../src/origin/registry-client.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { until } from '../../fixtures/until.ts'

type Parts = Parameters<typeof openMirror>[1]

/** For requests that get no further than the mirror's door. */
const parts = {
  ...{ clock: new ManualClock(), log: silentLog(), scheduler: { connected: false } },
  http: new OriginHttp(ORIGIN_DEFAULTS),
} as unknown as Parts

/** Levels, as lines have them. */
const [DEBUG, WARN] = [20, 40]

function options(listen: string) {
  return { listen, upstreams: {}, push: 'refuse', catalog: false, staleMs: 0 } as const
}

describe('openMirror', () => {
  it('names the port that another program has, and how to take another', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    try {
      const { port } = other.address() as AddressInfo
      const opening = openMirror(options(`127.0.0.1:${port}`), parts)
      const error = await failsWith('HOST_UNABLE', opening, new RegExp(`another program has port ${port}$`))
      assert.match(error.way ?? '', /--mirror IP:PORT takes another address/)
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

  it('says why a body was cut, also when its reader is let go of only later', async () => {
    for (const [cut, code, error] of [
      ['fails', 'STORE_CORRUPT', 'the disk is gone'],
      ['slow', 'TIMED_OUT', 'the client took no byte for 60000 ms'],
    ] as const) {
      const clock = new ManualClock()
      await using mirror = await aMirrorOf({ clock, cut: cut === 'fails' ? new DarnerError(code, error) : undefined })
      const socket = await asking(mirror.address)
      if (cut === 'slow') {
        socket.pause()
        await until(() => {
          clock.advance(SLOW_CLIENT_MS)
          return mirror.status().failures > 0
        })
      }
      const line = await mirror.failure()
      assert.deepEqual([line.level, line.code, line.error, line.left], [WARN, code, error, false])
      assert.ok(Number(line.sent) > 0)
      socket.destroy()
    }
  })

  it('says of a client that left, once, and quietly, that it was the client', async () => {
    await using mirror = await aMirrorOf({ clock: new ManualClock() })
    for (const [leave, error] of [
      [(socket: Socket) => socket.destroy(), /^the client left/],
      [(socket: Socket) => socket.resetAndDestroy(), /^the client left \(E(CONNRESET|PIPE)\)$/],
    ] as const) {
      const socket = await asking(mirror.address)
      leave(socket)
      const line = await mirror.failure()
      assert.deepEqual([line.level, line.code, line.left], [DEBUG, 'INTERRUPTED', true])
      assert.match(String(line.error), error)
    }
  })

  it('says nothing amid an answer to a client that sends nonsense behind its request', async () => {
    await using mirror = await aMirrorOf({ clock: new ManualClock() })
    const socket = await asking(mirror.address)
    socket.write('no request\r\n\r\n')
    let said = ''
    socket.setEncoding('latin1').on('data', (text: string) => {
      said += text
    })
    await once(socket, 'close')
    assert.ok(!said.includes('errors'))
    assert.equal((await mirror.failure('mirror request malformed')).level, DEBUG)
  })

  it('is quiet about a client that speaks TLS to a mirror in the clear', async () => {
    const { log, line } = await aLog()
    await using mirror = await openMirror(options('127.0.0.1:0'), { ...parts, log })
    tlsConnect({ socket: connectTo(mirror.address), rejectUnauthorized: false }).on('error', () => {})
    const { level, code } = await line('mirror request malformed')
    assert.deepEqual([level, code], [DEBUG, 'HPE_INVALID_METHOD'])
  })

  it('says of a tunnel that the registry broke why it ended', async () => {
    const registry = createServer((far) => far.once('data', () => far.resetAndDestroy())).listen(0, '127.0.0.1')
    await once(registry, 'listening')
    try {
      const { port } = registry.address() as AddressInfo
      const upstreams = { 'reg.test': `https://127.0.0.1:${port}` }
      const { log, line } = await aLog()
      await using mirror = await openMirror(
        { ...options('127.0.0.1:0'), upstreams, connect: 'tunnel' },
        { ...parts, log },
      )
      const socket = connectTo(mirror.address)
      socket.write(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nhost: x\r\n\r\n`)
      await once(socket, 'data')
      socket.write('hello')
      await once(socket, 'close')
      assert.equal((await line('mirror tunnel broke')).why, 'ECONNRESET')
    } finally {
      registry.close()
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

/** What is logged; `line` waits for the one line that says so since it was asked last. */
async function aLog() {
  const lines: Record<string, unknown>[] = []
  const write = (text: string) => void lines.push(JSON.parse(text) as Record<string, unknown>)
  return {
    log: await openLog({ level: 'debug', pretty: false }, { write }),
    line: async (msg: string) => {
      await until(() => lines.some((line) => line.msg === msg))
      const [line, ...more] = lines.splice(0).filter((one) => one.msg === msg)
      assert.deepEqual(more, [])
      return line ?? assert.fail()
    },
  }
}

/** A mirror of one blob without an end, of which `cut` is thrown after the first bytes. */
async function aMirrorOf({ clock, cut }: { clock: ManualClock; cut?: DarnerError | undefined }) {
  const { log, line } = await aLog()
  const content = {
    bytes: 2 ** 40,
    read: async function* () {
      for (;;) {
        yield new Uint8Array(1 << 20)
        if (cut !== undefined) throw cut
      }
    },
    [Symbol.asyncDispose]: () => new Promise((resolve) => setTimeout(resolve, 50)),
  }
  const mirror = await openMirror(options('127.0.0.1:0'), {
    ...parts,
    ...{ log, clock },
    store: { byDigest: () => undefined },
    engine: { knows: () => false, openStored: async () => content },
  } as unknown as Parts)
  return {
    address: mirror.address,
    status: () => mirror.status(),
    failure: (msg = 'mirror request failed') => line(msg),
    [Symbol.asyncDispose]: () => mirror[Symbol.asyncDispose](),
  }
}

/** A client to which a blob is on its way. */
async function asking(address: string): Promise<Socket> {
  const socket = connectTo(address)
  socket.write(`GET /v2/app/blobs/sha256:${'a'.repeat(64)} HTTP/1.1\r\nhost: x\r\n\r\n`)
  await once(socket, 'data')
  return socket
}

function connectTo(address: string): Socket {
  const [host = '', port = ''] = address.split(':')
  return connect(Number(port), host).on('error', () => {})
}

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
