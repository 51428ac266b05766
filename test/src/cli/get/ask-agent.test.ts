import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'mocha'
import { askAgent } from '../../../../src/cli/get/ask-agent.ts'
import { failsWith } from '../../../fixtures/fails-with.ts'
import { aDir } from '../../../fixtures/host/a-dir.ts'

const signal = new AbortController().signal

/** An HTTP server on a socket, as the agent has one. */
async function anAgent(serve: Parameters<typeof createHttpServer>[1]) {
  const dir = await aDir()
  const socket = join(dir.path, 'agent.sock')
  const server = createHttpServer(serve ?? (() => {})).listen(socket)
  await once(server, 'listening')
  return {
    socket,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
      await dir[Symbol.asyncDispose]()
    },
  }
}

/** Something that answers a connection as it likes. */
async function aTalker(talk: (socket: Socket) => void) {
  const dir = await aDir()
  const path = join(dir.path, 'agent.sock')
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    socket.once('data', () => talk(socket))
  }).listen(path)
  await once(server, 'listening')
  return {
    socket: path,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((done) => server.close(done))
      await dir[Symbol.asyncDispose]()
    },
  }
}

describe('askAgent', () => {
  it('sends JSON and brings headers and a body of any length, as it comes', async () => {
    const body = Buffer.alloc(3_000_001, 'darner ')
    let asked: unknown
    await using agent = await anAgent(async (request, response) => {
      asked = [request.method, request.url, JSON.parse(String(await buffer(request)))]
      response.writeHead(200, { 'Darner-Bytes': '7' })
      response.write(body.subarray(0, 10))
      response.end(body.subarray(10))
    })
    using answer = await askAgent('/v1/get', { name: 'ü' }, { ...agent, signal })
    assert.equal(answer.headers.get('darner-bytes'), '7')
    assert.deepEqual(await buffer(answer.body), body)
    assert.deepEqual(asked, ['POST', '/v1/get', { name: 'ü' }])
  })

  it('reads a head that comes byte by byte', async () => {
    await using agent = await aTalker(async (socket) => {
      for (const letter of 'HTTP/1.1 200 OK\r\nA: b: c\r\n\r\nxy')
        await new Promise<void>((sent) => socket.write(letter, () => setImmediate(sent)))
      socket.end()
    })
    using answer = await askAgent('/', {}, { ...agent, signal })
    assert.equal(answer.headers.get('a'), 'b: c')
    assert.equal(String(await buffer(answer.body)), 'xy')
  })

  it("throws the agent's own error", async () => {
    await using agent = await anAgent((_request, response) => {
      response.statusCode = 404
      response.end(JSON.stringify({ error: { code: 'ORIGIN_NOT_FOUND', message: 'no such thing' } }))
    })
    await failsWith('ORIGIN_NOT_FOUND', askAgent('/', {}, { ...agent, signal }), /^no such thing$/)
  })

  it('says that no agent listens', async () => {
    const asked = askAgent('/', {}, { socket: '/nowhere/agent.sock', signal })
    await failsWith('AGENT_UNREACHABLE', asked, /^no agent listens on \/nowhere\/agent\.sock \(ENOENT\)$/)
  })

  const odd: [what: string, text: string, code: 'AGENT_UNREACHABLE' | 'PROTOCOL_VIOLATION'][] = [
    ['nothing', '', 'AGENT_UNREACHABLE'],
    ['half a head', 'HTTP/1.1 200 OK\r\na: b', 'AGENT_UNREACHABLE'],
    ['another protocol', 'SSH-2.0-x\r\n\r\n', 'PROTOCOL_VIOLATION'],
    ['a body in chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 'PROTOCOL_VIOLATION'],
    ['a head without end', `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(20_000)}`, 'PROTOCOL_VIOLATION'],
  ]
  for (const [what, text, code] of odd) {
    it(`refuses ${what}`, async () => {
      await using agent = await aTalker((socket) => socket.end(text))
      await failsWith(code, askAgent('/', {}, { ...agent, signal }), /agent/)
    })
  }

  it('ends with its signal, before the answer and in the midst of it', async () => {
    const reason = new Error('enough')
    const first = new AbortController()
    await using silent = await aTalker(() => first.abort(reason))
    await assert.rejects(askAgent('/', {}, { ...silent, signal: first.signal }), reason)
    const second = new AbortController()
    await using half = await aTalker((socket) => void socket.write('HTTP/1.1 200 OK\r\n\r\nx'))
    using answer = await askAgent('/', {}, { ...half, signal: second.signal })
    assert.equal(String((await answer.body.next()).value), 'x')
    const rest = answer.body.next()
    second.abort(reason)
    await assert.rejects(rest, reason)
  })
})
