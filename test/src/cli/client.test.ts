import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { describe, it } from 'mocha'
import { AgentClient } from '../../../src/cli/client.ts'
import { isDarnerError } from '../../../src/core/errors.ts'

/** A server on a unix socket, in the agent's place. */
async function aSocket(listener: RequestListener) {
  const folder = await mkdtemp(join(tmpdir(), 'darner-client-'))
  const socket = join(folder, 'agent.sock')
  const server = createServer(listener)
  server.listen(socket)
  await once(server, 'listening')
  return {
    client: new AgentClient({ socket }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
      await rm(folder, { recursive: true })
    },
  }
}

const { signal } = new AbortController()

describe('AgentClient', () => {
  it('sends query, headers and a JSON body, and gives the JSON answer', async () => {
    await using agent = await aSocket(async (request, response) => {
      const body = (await request.toArray()).join('')
      response.setHeader('content-type', 'application/json')
      response.end(
        JSON.stringify({ method: request.method, url: request.url, body: JSON.parse(body), x: request.headers['x-y'] }),
      )
    })
    const answer = await agent.client.json('POST', '/v1/x', {
      query: { a: 1, b: ['p', 'q'], c: undefined },
      headers: { 'x-y': 'z' },
      body: { k: 'ü' },
      signal,
    })
    assert.deepEqual(answer, { method: 'POST', url: '/v1/x?a=1&b=p&b=q', body: { k: 'ü' }, x: 'z' })
  })

  it('gives undefined for an empty answer', async () => {
    await using agent = await aSocket((_request, response) => response.writeHead(204).end())
    assert.equal(await agent.client.json('DELETE', '/v1/x', { signal }), undefined)
  })

  it("throws the agent's error when that comes before all was sent", async () => {
    await using agent = await aSocket((_request, response) =>
      response.writeHead(404).end(JSON.stringify({ message: 'no such folder' })),
    )
    for (let times = 0; times < 50; times++) {
      const endless = new Readable({ read: () => void setImmediate(() => endless.push(Buffer.alloc(10))) })
      const sent = agent.client.json('PUT', '/v1/x', { content: endless, signal })
      await assert.rejects(sent, (error) => isDarnerError(error, 'NOT_FOUND') && error.message === 'no such folder')
      endless.destroy()
    }
  })

  it("throws the agent's error with its code, message and way", async () => {
    await using agent = await aSocket((_request, response) => {
      response.writeHead(404).end(
        JSON.stringify({
          error: { code: 'ORIGIN_NOT_FOUND', message: 'no such blob', way: 'look again', retryAfterMs: 5 },
        }),
      )
    })
    await assert.rejects(agent.client.json('GET', '/', { signal }), (error) => {
      assert.ok(isDarnerError(error, 'ORIGIN_NOT_FOUND'))
      assert.deepEqual([error.message, error.way, error.retryAfterMs], ['no such blob', 'look again', 5])
      return true
    })
  })

  it('makes INTERNAL of a code that is not in the table, and of an answer that is no error body', async () => {
    const bodies = ['{"error":{"code":"toString","message":"odd"}}', '<html>']
    await using agent = await aSocket((_request, response) => response.writeHead(500).end(bodies.shift()))
    await assert.rejects(agent.client.json('GET', '/', { signal }), { code: 'INTERNAL', message: 'odd' })
    await assert.rejects(agent.client.json('GET', '/', { signal }), {
      code: 'INTERNAL',
      message: /status 500 without an error body/,
    })
  })

  it('says how to start an agent where none listens', async () => {
    const client = new AgentClient({ socket: '/nowhere/agent.sock' })
    await assert.rejects(client.json('GET', '/', { signal }), {
      code: 'AGENT_UNREACHABLE',
      message: /no agent listens on \/nowhere\/agent.sock \(ENOENT\)/,
      way: /darner agent/,
    })
  })

  it('says so when the connection breaks', async () => {
    await using agent = await aSocket((request) => request.socket.destroy())
    await assert.rejects(agent.client.json('GET', '/v1/x', { signal }), {
      code: 'AGENT_UNREACHABLE',
      message: /GET \/v1\/x .* ECONNRESET/,
    })
  })

  it('gives lines as they come, across chunk borders', async () => {
    const sent = Promise.withResolvers<void>()
    await using agent = await aSocket(async (_request, response) => {
      response.write('{"n":1}\n{"n"')
      await sent.promise
      response.end(':2}\n\n{"n":3}')
    })
    const seen: unknown[] = []
    for await (const line of agent.client.lines('GET', '/', { signal })) {
      seen.push(line)
      sent.resolve()
    }
    assert.deepEqual(seen, [{ n: 1 }, { n: 2 }, { n: 3 }])
  })

  it('throws an error that comes in the middle of the lines', async () => {
    await using agent = await aSocket((_request, response) => {
      response.end('{"n":1}\n{"error":{"code":"DISK_FULL","message":"full"}}\n{"n":2}\n')
    })
    const seen: unknown[] = []
    await assert.rejects(
      async () => {
        for await (const line of agent.client.lines('GET', '/', { signal })) seen.push(line)
      },
      { code: 'DISK_FULL' },
    )
    assert.deepEqual(seen, [{ n: 1 }])
  })

  it('refuses a line without end', async () => {
    await using agent = await aSocket((_request, response) => response.end('x'.repeat(3 * 1024 * 1024)))
    await assert.rejects(agent.client.lines('GET', '/', { signal }).next(), { code: 'PROTOCOL_VIOLATION' })
  })

  it('ends with the reason of the signal, before the answer and between lines', async () => {
    await using agent = await aSocket((request, response) => {
      if (request.url === '/lines') response.write('{"n":1}\n')
    })
    const before = new AbortController()
    const asked = agent.client.json('GET', '/', { signal: before.signal })
    const reason = new Error('enough')
    before.abort(reason)
    await assert.rejects(asked, reason)
    const between = new AbortController()
    const lines = agent.client.lines('GET', '/lines', { signal: between.signal })
    await lines.next()
    const next = lines.next()
    between.abort(reason)
    await assert.rejects(next, reason)
  })

  it('closes the connection when its reader leaves', async () => {
    const closed = Promise.withResolvers<void>()
    await using agent = await aSocket((_request, response) => {
      response.write('{"n":1}\n')
      response.on('close', () => closed.resolve())
    })
    for await (const _line of agent.client.lines('GET', '/', { signal })) break
    await closed.promise
  })
})
