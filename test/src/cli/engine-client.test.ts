import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { describe, it } from 'mocha'
import { CHANNEL, encodeFrame } from '../../../src/api/stream-frame.ts'
import { EngineClient } from '../../../src/cli/engine-client.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'

const { signal } = new AbortController()
const end = (body: unknown) => encodeFrame(CHANNEL.end, Buffer.from(JSON.stringify(body)))
const said = (text: string) => encodeFrame(CHANNEL.stdout, Buffer.from(text))

/** What an upgraded request brought: its first line, its type and its body. */
interface Asked {
  readonly line: string
  readonly type: string | undefined
  readonly body: string
}

/** A server in the agent's place that answers each upgrade by `talk`. */
async function anAgent(talk: (socket: Duplex, asked: Asked) => void) {
  const dir = await aDir()
  const path = join(dir.path, 'agent.sock')
  const server = createServer((_request, response) => response.end())
  const sockets = new Set<Duplex>()
  server.on('upgrade', async (request, socket, head) => {
    sockets.add(socket.on('error', () => {}))
    const length = Number(request.headers['content-length'] ?? 0)
    let body = head
    while (body.byteLength < length) body = Buffer.concat([body, ...(await once(socket, 'data'))])
    talk(socket, {
      line: `${request.method} ${request.url}`,
      type: request.headers['content-type'],
      body: String(body),
    })
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    client: new EngineClient({ socket: path }),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((done) => server.close(done))
      await dir[Symbol.asyncDispose]()
    },
  }
}

const SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: darner-stream\r\n'

async function allOf(session: Awaited<ReturnType<EngineClient['attach']>>) {
  const texts: string[] = []
  const frames = session.frames()
  for (;;) {
    const { value, done } = await frames.next()
    if (done) return { texts, end: value }
    texts.push(Buffer.from(value.bytes).toString())
  }
}

describe('EngineClient', () => {
  it('creates, attaches and starts in one question', async () => {
    let asked: Asked | undefined
    await using agent = await anAgent((socket, question) => {
      asked = question
      const warnings = encodeURIComponent(JSON.stringify(['mind the gap: ü']))
      socket.write(`${SWITCH}Darner-Container: c0ffee\r\nDarner-Warnings: ${warnings}\r\n\r\n`)
      socket.write(said('hello'))
      socket.end(end({ exitCode: 3 }))
    })
    const run = await agent.client.run({ Image: 'x', Env: ['A=ü'] }, { name: 'a b', signal })
    await using session = run.session
    assert.deepEqual([run.id, run.warnings], ['c0ffee', ['mind the gap: ü']])
    assert.deepEqual(await allOf(session), { texts: ['hello'], end: { exitCode: 3 } })
    assert.deepEqual(asked, {
      line: 'POST /docker/containers/run?name=a%20b',
      type: 'application/json',
      body: '{"Image":"x","Env":["A=ü"]}',
    })
  })

  it('has what came with the answer, and sends input', async () => {
    await using agent = await anAgent((socket, { line }) => {
      socket.write(Buffer.concat([Buffer.from(`${SWITCH}\r\n`), said(line)]))
      socket.once('data', (bytes: Buffer) =>
        socket.end(Buffer.concat([said(`got ${bytes.subarray(8)}`), end({ exitCode: 0 })])),
      )
    })
    await using session = await agent.client.attach('web', { signal })
    await session.sendInput(Buffer.from('ping'))
    assert.deepEqual((await allOf(session)).texts, ['POST /v1/containers/web/attach', 'got ping'])
  })

  it("throws docker's words of the agent, with its code", async () => {
    await using agent = await anAgent((socket) => {
      socket.end(
        'HTTP/1.1 404 Refused\r\nConnection: close\r\n\r\n{"message":"No such image: x:latest","code":"NOT_FOUND"}\n',
      )
    })
    await failsWith('NOT_FOUND', agent.client.run({ Image: 'x' }, { signal }), /^No such image: x:latest$/)
  })

  it('says that the agent left before the process ended', async () => {
    await using agent = await anAgent((socket) => void socket.end(`${SWITCH}\r\n`))
    await using session = await agent.client.attach('web', { signal })
    await failsWith('AGENT_UNREACHABLE', allOf(session), /closed the stream before/)
  })

  it('refuses an answer that keeps the connection for HTTP', async () => {
    await using agent = await anAgent((socket) => void socket.end('HTTP/1.1 200 OK\r\n\r\n'))
    await failsWith('PROTOCOL_VIOLATION', agent.client.attach('web', { signal }), /status 200/)
  })
})
