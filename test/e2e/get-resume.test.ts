import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { describe, it } from 'mocha'
import { runProgram } from '../../src/cli/program.ts'
import { digestOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const MIB = 1024 * 1024
const one = randomBody(51, 5 * MIB + 123)
const two = randomBody(52, 5 * MIB + 123)

async function get(args: readonly string[], env: Record<string, string> = {}, signal = AbortSignal.timeout(120_000)) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const code = await runProgram(['get', ...args], {
    env: { HOME: '/nowhere', DARNER_SOCKET: '/nowhere', ...env },
    stdin,
    stdout,
    stderr,
    signal,
  })
  return { code, out: (stdout.read() as Buffer | null) ?? Buffer.alloc(0), err: String(stderr.read() ?? '') }
}

/** A get in a process of its own that is killed when at least `bytes` of the draft were written. */
async function killed(url: string, folder: string, bytes: number, more: readonly string[] = []): Promise<void> {
  const args = [
    '--disable-warning=ExperimentalWarning',
    MAIN,
    'get',
    url,
    '-o',
    join(folder, 'out'),
    '--socket',
    '/nowhere',
    ...more,
  ]
  const child: ChildProcess = spawn(process.execPath, args, {
    stdio: 'ignore',
    env: { PATH: process.env.PATH ?? '', HOME: folder },
  })
  const gone = once(child, 'exit')
  const draft = join(folder, '.out.darner-part')
  await until(async () => ((await stat(draft).catch(() => undefined))?.size ?? 0) >= bytes)
  child.kill('SIGKILL')
  await gone
}

const ranges = (origin: TestOrigin) =>
  origin.requests.filter(({ method }) => method === 'GET').map(({ headers }) => headers.range)

describe('darner get, after kill -9', function () {
  this.timeout(180_000)

  it('goes on where it was, after checking what is there', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', ({ headers }) => ({
      body: one,
      headers: { etag: '"1"' },
      ...(headers.range === undefined && { stallAfter: 4 * MIB }),
    }))
    await killed(`${origin.url}/file`, dir.path, 4 * MIB)
    assert.ok(!(await readdir(dir.path)).includes('out'))
    const { code, err } = await get([`${origin.url}/file`, '-o', join(dir.path, 'out'), '--json'])
    assert.equal(code, 0, err)
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(one))
    const [first, second, third] = ranges(origin)
    assert.equal(first, undefined)
    assert.match(second ?? '', new RegExp(`^bytes=(${3 * MIB}|${4 * MIB})-$`))
    assert.equal(third, undefined)
    assert.deepEqual(await readdir(dir.path), ['out'])
  })

  it('takes from what is there only what is right', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', ({ headers }) => ({
      body: one,
      headers: { etag: '"1"' },
      ...(headers.range === undefined && { stallAfter: 4 * MIB }),
    }))
    await killed(`${origin.url}/file`, dir.path, 4 * MIB)
    const draft = join(dir.path, '.out.darner-part')
    const bytes = await readFile(draft)
    bytes[MIB + 5] = ~(bytes[MIB + 5] ?? 0)
    await writeFile(draft, bytes)
    const { code, err } = await get([`${origin.url}/file`, '-o', join(dir.path, 'out'), '-q'])
    assert.equal(code, 0, err)
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(one))
    assert.equal(ranges(origin)[1], `bytes=${MIB}-`)
  })

  it('begins anew when the origin has another version, with --no-resume, and without a validator', async () => {
    for (const how of ['changed', 'told', 'unversioned'] as const) {
      await using origin = await anOrigin()
      await using dir = await aDir()
      const headers = how === 'unversioned' ? {} : { etag: '"1"' }
      origin.at('/file', { body: one, headers, stallAfter: 4 * MIB })
      await killed(`${origin.url}/file`, dir.path, 4 * MIB)
      origin.at('/file', {
        body: two,
        ...(how === 'unversioned' ? {} : { headers: { etag: how === 'changed' ? '"2"' : '"1"' } }),
      })
      const flags = how === 'told' ? ['--no-resume'] : []
      const { code, err } = await get([`${origin.url}/file`, '-o', join(dir.path, 'out'), ...flags])
      assert.equal(code, 0, err)
      assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(two), how)
      assert.deepEqual(await readdir(dir.path), ['out'], how)
    }
  })

  it('goes on without a validator when the digest is known, and once more when that is not met', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', { body: one, stallAfter: 4 * MIB })
    const flags = ['--digest', digestOf(two)]
    await killed(`${origin.url}/file`, dir.path, 4 * MIB, flags)
    origin.at('/file', { body: two })
    const { code, err } = await get([`${origin.url}/file`, '-o', join(dir.path, 'out'), ...flags])
    assert.equal(code, 0, err)
    assert.match(err, /once more from the start/)
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(two))
  })

  it('ends a run that is interrupted with what it has, for the next one', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', ({ headers }) => ({
      body: one,
      headers: { etag: '"1"' },
      ...(headers.range === undefined && { stallAfter: 2 * MIB }),
    }))
    const args = [`${origin.url}/file`, '-o', join(dir.path, 'out'), '-q']
    const stop = new AbortController()
    const getting = get(args, {}, stop.signal)
    await until(
      async () => ((await stat(join(dir.path, '.out.darner-part')).catch(() => undefined))?.size ?? 0) >= 2 * MIB,
    )
    stop.abort(new DarnerError('INTERRUPTED', 'interrupted by SIGINT'))
    assert.equal((await getting).code, 130)
    assert.deepEqual((await readdir(dir.path)).sort(), ['.out.darner-part', '.out.darner-sums'])
    assert.equal((await get(args)).code, 0)
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(one))
    assert.match(ranges(origin)[1] ?? '', /^bytes=(1048576|2097152)-$/)
  })
})

describe('darner get, of content that changes', function () {
  this.timeout(180_000)

  for (const way of ['alone', 'through an agent'] as const) {
    it(`never mixes two versions in a file: ${way}`, async () => {
      await using origin = await anOrigin()
      await using dir = await aDir()
      await using swarm = await aSwarm({ peers: 1 })
      // the first read breaks, and what comes next is another version
      origin.at('/file', [
        { body: one, headers: { etag: '"1"' }, cutAfter: 3 * MIB },
        { body: two, headers: { etag: '"2"' } },
      ])
      const env = way === 'alone' ? {} : { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }
      const { code, err } = await get([`${origin.url}/file`, '-o', join(dir.path, 'out')], env)
      assert.equal(code, 0, err)
      assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(two))
      assert.match(err, /ETag was "1" and is now "2"/)
    })
  }

  it('ends, having sent bytes to stdout that it can not take back', async () => {
    await using origin = await anOrigin()
    origin.at('/file', [
      { body: one, headers: { etag: '"1"' }, cutAfter: 3 * MIB },
      { body: two, headers: { etag: '"2"' } },
    ])
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
    let got = 0
    stdout.on('data', (chunk: Buffer) => {
      assert.deepEqual(chunk, Buffer.from(one.subarray(got, got + chunk.byteLength)))
      got += chunk.byteLength
    })
    const io = {
      env: { HOME: '/nowhere', DARNER_SOCKET: '/nowhere' },
      stdin,
      stdout,
      stderr,
      signal: AbortSignal.timeout(30_000),
    }
    assert.equal(await runProgram(['get', `${origin.url}/file`, '-o', '-'], io), 1)
    assert.match(String(stderr.read()), /cannot be undone/)
  })

  it('starts a task of its own at the swarm for each version', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    await using swarm = await aSwarm({ peers: 1 })
    const env = { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }
    for (const [etag, body] of [
      ['"1"', one],
      ['"2"', two],
    ] as const) {
      origin.at('/file', { body, headers: { etag } })
      // what a URL holds is believed for five seconds
      await until(async () => {
        const { code } = await get([`${origin.url}/file`, '-o', join(dir.path, 'out'), '-q'], env)
        assert.equal(code, 0)
        return Buffer.from(body).equals(await readFile(join(dir.path, 'out')))
      })
    }
  })
})

describe('darner get, when its agent goes away', function () {
  this.timeout(180_000)

  it('brings the rest from the origin by itself, and says so', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    await using swarm = await aSwarm({ peers: 1 })
    const gate = Promise.withResolvers<void>()
    origin.at('/file', [
      { body: one, headers: { etag: '"1"' }, pauseAfter: 3 * MIB, until: gate.promise },
      { body: one },
    ])
    const env = { DARNER_SOCKET: join(swarm.directory, 'agent-0.sock') }
    const getting = get([`${origin.url}/file`, '-o', join(dir.path, 'out')], env)
    await until(async () => (await swarm.agents[0]?.peer.status())?.tasks.some(({ have }) => have > 10) === true)
    await swarm.agents[0]?.[Symbol.asyncDispose]()
    const { code, err } = await getting
    gate.resolve()
    assert.equal(code, 0, err)
    assert.match(err, /read at the origin by this command alone/)
    assert.deepEqual(await readFile(join(dir.path, 'out')), Buffer.from(one))
  })
})

describe('darner get, when the swarm brings nothing', () => {
  it('brings it from the origin by itself, and says so, unless it may not', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', { body: one })
    const socket = join(dir.path, 'agent.sock')
    const error = { error: { code: 'TASK_FAILED', message: 'nothing came for 30 s' } }
    const agent = createServer((_request, response) => response.writeHead(502).end(JSON.stringify(error)))
    await once(agent.listen(socket), 'listening')
    const [out, env] = [join(dir.path, 'out'), { DARNER_SOCKET: socket }]
    const never = await get([`${origin.url}/file`, '-o', out, '--from-origin', 'never'], env)
    assert.deepEqual([never.code, never.err], [1, 'darner: nothing came for 30 s\n'])
    const { code, err } = await get([`${origin.url}/file`, '-o', out], env)
    assert.equal(code, 0, err)
    assert.match(err, /nothing came for 30 s: read at the origin by this command alone/)
    assert.deepEqual(await readFile(out), Buffer.from(one))
    agent.close()
  })
})

describe('darner get, of a file that is there', () => {
  it('fetches nothing when it has the digest, and replaces it when not', async () => {
    await using origin = await anOrigin()
    await using dir = await aDir()
    origin.at('/file', { body: one })
    const out = join(dir.path, 'out')
    await writeFile(out, one)
    const args = [`${origin.url}/file`, '-o', out, '--digest', digestOf(one), '-q']
    assert.equal((await get(args)).code, 0)
    assert.equal(origin.requests.length, 0)
    await truncate(out, MIB)
    assert.equal((await get(args)).code, 0)
    assert.deepEqual(await readFile(out), Buffer.from(one))
  })
})
