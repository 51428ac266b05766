import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { Agent, type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { describe, it } from 'mocha'
import { GET_FILE_HEADER, readGetStream } from '../../src/api/get-frames.ts'
import { AgentClient } from '../../src/cli/client.ts'
import { OUTPUT_GONE } from '../../src/cli/perform.ts'
import { runProgram } from '../../src/cli/program.ts'
import { digestOf } from '../../src/core/digest.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

const MIB = 1024 * 1024
/** What makes content known by its URL one for all. */
const headers = { etag: '"one"' }
const signal = () => AbortSignal.timeout(30_000)

async function get(args: string[], socket: string): Promise<{ code: number; stderr: string }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  stdout.resume()
  const code = await runProgram(['get', ...args], {
    env: { DARNER_SOCKET: socket },
    stdin,
    stdout,
    stderr,
    signal: signal(),
  })
  return { code, stderr: String(stderr.read() ?? '') }
}

describe('darner get', () => {
  it('writes the whole blob under its name, cold and warm, and leaves no draft', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using out = await aDir()
    const body = randomBody(21, 5 * MIB + 7)
    origin.at('/blob', { body, headers })
    const socket = join(swarm.directory, 'agent-0.sock')
    for (const name of ['cold', 'warm']) {
      const { code, stderr } = await get([`${origin.url}/blob`, '-o', join(out.path, name), '--quiet'], socket)
      assert.equal(code, 0, stderr)
      assert.equal(digestOf(await readFile(join(out.path, name))), digestOf(body))
    }
    assert.deepEqual((await readdir(out.path)).sort(), ['cold', 'warm'])
  })

  it("brings nothing by another's credential while the agent fetches the same URL", async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using out = await aDir()
    const body = randomBody(24, 5 * MIB)
    const { promise: until, resolve: goOn } = Promise.withResolvers<void>()
    const good = `Basic ${Buffer.from('one:right').toString('base64')}`
    const also = `Basic ${Buffer.from('two:right').toString('base64')}`
    origin.at('/file', (request) =>
      [good, also].includes(request.headers.authorization ?? '')
        ? { body, headers, pauseAfter: MIB, until }
        : { status: 403 },
    )
    const socket = join(swarm.directory, 'agent-0.sock')
    const by = (name: string, ...more: string[]) =>
      get([`${origin.url}/file`, '-o', join(out.path, name), '--quiet', ...more], socket)
    const first = by('first', '-H', `Authorization: ${good}`)
    while (origin.sent === 0) await new Promise((resolve) => setImmediate(resolve))
    const wrong = `Authorization: Basic ${Buffer.from('one:wrong').toString('base64')}`
    for (const more of [[], ['-H', wrong]]) {
      const { code, stderr } = await by('stranger', ...more)
      assert.equal(code, 1)
      assert.match(stderr, /403/)
    }
    // asks no origin itself, so it waits for a supernode's word on its own credential
    const waiting = by('waiting', '--from-origin', 'never', '-H', wrong)
    const second = by('second', '-H', `Authorization: ${also}`)
    while (!origin.requests.some((request) => request.headers.authorization === also))
      await new Promise((resolve) => setImmediate(resolve))
    goOn()
    for (const { code, stderr } of await Promise.all([first, second])) assert.equal(code, 0, stderr)
    assert.match((await waiting).stderr, /403/)
    assert.deepEqual((await readdir(out.path)).sort(), ['first', 'second'])
    for (const name of ['first', 'second']) assert.equal(digestOf(await readFile(join(out.path, name))), digestOf(body))
  })

  it('begins once more through the agent as often as --retry says', async function () {
    this.timeout(60_000)
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using out = await aDir()
    const body = randomBody(25, 70_000)
    const socket = join(swarm.directory, 'agent-0.sock')
    const args = (name: string) => [`${origin.url}/${name}`, '-o', join(out.path, name), '--priority', 'background']
    origin.at('/once', { status: 503 })
    const once = await get([...args('once'), '--quiet'], socket)
    assert.equal(once.code, 1)
    assert.match(once.stderr, /503/)
    // the supernode has attempts of its own within each
    const within = origin.requests.length
    let left = within
    origin.at('/twice', () => (left-- > 0 ? { status: 503 } : { body, headers }))
    const twice = await get([...args('twice'), '--retry', '1'], socket)
    assert.equal(twice.code, 0, twice.stderr)
    assert.match(twice.stderr, /503.*once more/)
    assert.ok(within > 0)
    assert.equal(digestOf(await readFile(join(out.path, 'twice'))), digestOf(body))
  })

  it('leaves the old file alone when the blob is another than was named', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    await using out = await aDir()
    origin.at('/blob', { body: randomBody(22, MIB) })
    const target = join(out.path, 'file')
    const args = [`${origin.url}/blob`, '-o', target, '--digest', digestOf('another'), '--quiet']
    const { code, stderr } = await get(args, join(swarm.directory, 'agent-0.sock'))
    assert.equal(code, 1)
    assert.match(stderr, /hash/)
    assert.deepEqual(await readdir(out.path), [])
    const { partials } = await new AgentClient({ socket: join(swarm.directory, 'agent-0.sock') }).json<{
      partials: number
    }>('GET', '/v1/store', { signal: signal() })
    assert.equal(partials, 0, 'the agent keeps nothing of it')
  })

  it('ends quietly when its output is closed half way', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    origin.at('/blob', { body: randomBody(23, 4 * MIB), headers })
    const closed = new AbortController()
    const stdout = new Writable({
      highWaterMark: 1,
      // takes the first bytes and never asks for more
      write: () => closed.abort(OUTPUT_GONE),
    })
    const stderr = new PassThrough()
    const code = await runProgram(['get', `${origin.url}/blob`, '-o', '-'], {
      env: { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') },
      stdin: new PassThrough(),
      stdout,
      stderr,
      signal: closed.signal,
    })
    assert.deepEqual([code, stderr.read()], [1, null])
  })

  it('refuses a directory as its output before it asks for anything', async () => {
    await using out = await aDir()
    const { code, stderr } = await get(['http://192.0.2.1/x', '-o', out.path], join(out.path, 'absent.sock'))
    assert.equal(code, 2)
    assert.equal(stderr, `darner: cannot write ${out.path}: it is a directory; name a file in it\n`)
  })
})

describe('POST /v1/get', () => {
  it('leaves nothing on a connection that is used again and again', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    origin.at('/blob', { body: randomBody(26, 1000), headers })
    const warnings: Error[] = []
    const warned = (one: Error) => warnings.push(one)
    process.on('warning', warned)
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const body = JSON.stringify({
      origin: { kind: 'url', url: `${origin.url}/blob` },
      priority: 'interactive',
      order: 'ordered',
    })
    try {
      for (let times = 0; times < 20; times++) {
        const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
        const to = { socketPath: join(swarm.directory, 'agent-0.sock'), method: 'POST', path: '/v1/get', agent }
        const answer = { ...to, headers: { 'content-type': 'application/json' } }
        request(answer, resolve).on('error', reject).end(body)
        const { statusCode } = await promise
        assert.equal(statusCode, 200)
        for await (const _ of await promise);
      }
      await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(warnings, [])
    } finally {
      agent.destroy()
      process.off('warning', warned)
    }
  })

  for (const byFile of [false, true]) {
    it(byFile ? 'tells where the bytes are when asked by file' : 'sends the bytes otherwise', async () => {
      await using origin = await anOrigin()
      await using swarm = await aSwarm({ peers: 1 })
      const body = randomBody(23, 3 * MIB)
      origin.at('/blob', { body, headers })
      const client = new AgentClient({ socket: join(swarm.directory, 'agent-0.sock') })
      const request = { origin: { kind: 'url', url: `${origin.url}/blob` }, priority: 'interactive', order: 'landed' }
      const answer = await client.open('POST', '/v1/get', { body: { ...request, byFile }, signal: signal() })
      const path = answer.headers[GET_FILE_HEADER]
      assert.equal(typeof path, byFile ? 'string' : 'undefined')
      const sums = { data: 0, landed: 0 }
      for await (const frame of readGetStream(answer)) {
        if (frame.kind === 'data') sums.data += frame.bytes.byteLength
        if (frame.kind === 'landed') sums.landed += frame.length
      }
      assert.deepEqual(sums, byFile ? { data: 0, landed: body.byteLength } : { data: body.byteLength, landed: 0 })
    })
  }
})
