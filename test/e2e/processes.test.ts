// deadline: 600 s
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { AgentClient } from '../../src/cli/client.ts'
import { digestOf } from '../../src/core/digest.ts'
import { pieceBytesFor } from '../../src/core/task/task.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { aPort } from '../fixtures/host/a-port.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

async function sha256(path: string): Promise<string> {
  return `sha256:${createHash('sha256')
    .update(await readFile(path))
    .digest('hex')}`
}

interface Status {
  readonly tasks: readonly { readonly task: string; readonly have: number; readonly pieces: number }[]
}

/** Resolves once the agent holds so many pieces of a task. */
async function hasPieces(socket: string, pieces: number): Promise<void> {
  await until(async () => {
    const { tasks } = await new AgentClient({ socket }).json<Status>('GET', '/v1/peer', {
      signal: AbortSignal.timeout(5_000),
    })
    return tasks.some((task) => task.have >= pieces) ? true : undefined
  })
}

describe('daemons as processes', function () {
  this.timeout(240_000)

  it('brings a 300 MiB blob to four agents at once, each below 250 MiB of memory, with one GET at the origin', async () => {
    await using dir = await aDir()
    await using origin = await anOrigin()
    const body = randomBody(1, 300 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body, headers: { etag: '"one"' } })
    await using supernode = await aSupernodeProcess(dir.path)
    const agents = await Promise.all(['a', 'b', 'c', 'd'].map((name) => anAgentProcess(dir.path, name, supernode.line)))
    await using _all = {
      [Symbol.asyncDispose]: async () => void (await Promise.all(agents.map((agent) => agent.kill('SIGKILL')))),
    }
    const results = await Promise.all(
      agents.map(async (agent, number) => {
        const path = join(dir.path, `out-${number}`)
        const result = await runDarner(['get', `${origin.url}/blob`, '-o', path, '--json', '--socket', agent.socket])
        assert.equal(result.code, 0, result.stderr)
        assert.equal(await sha256(path), digest)
        return JSON.parse(result.stdout.trim().split('\n').at(-1) ?? '') as { bytes: number; digest: string }
      }),
    )
    for (const result of results) assert.deepEqual([result.bytes, result.digest], [body.byteLength, digest])
    assert.equal(origin.requests.filter((request) => request.method === 'GET').length, 1)
    for (const agent of agents) {
      const { peak } = await agent.memory()
      assert.ok(peak < 250 * MIB, `an agent took ${Math.round(peak / MIB)} MiB`)
    }
  })

  it('goes on where it was after kill -9: only what lacked is fetched', async () => {
    await using dir = await aDir()
    await using origin = await anOrigin()
    const body = randomBody(2, 24 * MIB)
    const gate = Promise.withResolvers<void>()
    origin.at('/blob', { body, pauseAfter: 12 * MIB, until: gate.promise })
    const url = `${origin.url}/blob`
    const flags = ['--digest', digestOf(body), '--json']
    await using supernode = await aSupernodeProcess(dir.path)
    await using first = await anAgentProcess(dir.path, 'a', supernode.line)
    const own = ['--from-origin', 'never', '--socket', first.socket]
    const cut = runDarner(['get', url, '-o', join(dir.path, 'cut'), ...flags, ...own])
    const pieces = Math.ceil(body.byteLength / pieceBytesFor(body.byteLength))
    const half = Math.floor((12 * MIB) / pieceBytesFor(body.byteLength))
    await hasPieces(first.socket, half)
    await first.kill('SIGKILL')
    assert.equal((await cut).code, 1)
    assert.ok(!(await readdir(dir.path)).includes('cut'), 'no half-written file under its name')
    gate.resolve()
    await using again = await anAgentProcess(dir.path, 'a', supernode.line)
    const path = join(dir.path, 'whole')
    const result = await runDarner(['get', url, '-o', path, ...flags, '--socket', again.socket])
    assert.equal(result.code, 0, result.stderr)
    assert.equal(await sha256(path), digestOf(body))
    const summary = JSON.parse(result.stdout) as { pieces: number }
    assert.ok(Math.abs(summary.pieces - (pieces - half)) <= 1, `fetched ${summary.pieces} of ${pieces}, had ${half}`)
    assert.equal(origin.requests.filter((request) => request.method === 'GET').length, 1)
  })

  it('has on record what a host read without a supernode, though it was killed with -9 in the middle of it', async () => {
    await using dir = await aDir()
    await using origin = await anOrigin()
    const body = randomBody(4, 24 * MIB)
    const digest = digestOf(body)
    const never = Promise.withResolvers<void>()
    origin.at('/blob', { body, pauseAfter: 12 * MIB, until: never.promise })
    const place = ['--open', '--p2p-listen', `127.0.0.1:${await aPort()}`]
    await using first = await aSupernodeProcess(dir.path, place)
    await using agent = await anAgentProcess(dir.path, 'a', first.line)
    await first.kill('SIGKILL')
    const flags = ['--digest', digest, '--json', '--socket', agent.socket]
    const cut = runDarner(['get', `${origin.url}/blob`, '-o', join(dir.path, 'cut'), ...flags])
    const half = Math.floor((12 * MIB) / pieceBytesFor(body.byteLength))
    await hasPieces(agent.socket, half)
    await agent.kill('SIGKILL')
    // what the command now reads on its own is on nobody's record
    never.resolve()
    await cut
    await using second = await aSupernodeProcess(dir.path, place)
    await using again = await anAgentProcess(dir.path, 'a', second.line)
    const row = await until(async () => {
      const why = await runDarner(['why', digest, '--json', '--socket', again.socket])
      const { reads } = JSON.parse(why.stdout) as { reads: { bytes: number; reason: string }[] }
      return reads[0]
    })
    assert.match(row.reason, /SUPERNODE_UNREACHABLE/)
    assert.ok(row.bytes > 0 && row.bytes <= 12 * MIB, `${row.bytes} bytes are on record`)
  })

  it('refuses a piece that another agent serves wrongly, gets it elsewhere, and says so', async () => {
    await using dir = await aDir()
    await using origin = await anOrigin()
    const body = randomBody(3, 16 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    const flags = ['--digest', digest, '--json']
    await using supernode = await aSupernodeProcess(dir.path)
    await using liar = await anAgentProcess(dir.path, 'liar', supernode.line)
    const seeded = await runDarner([
      'get',
      `${origin.url}/blob`,
      '-o',
      join(dir.path, 'one'),
      ...flags,
      '--socket',
      liar.socket,
    ])
    assert.equal(seeded.code, 0, seeded.stderr)
    // one byte in each piece of what the agent goes on serving; get ends at the digest, the file gets its name just after
    const held = join(dir.path, 'liar', 'store', 'blobs', 'sha256', digest.slice('sha256:'.length))
    await until(() => existsSync(held))
    await using file = await open(held, 'r+')
    for (let at = 100; at < body.byteLength; at += pieceBytesFor(body.byteLength))
      await file.write(Buffer.from([~(body[at] ?? 0)]), 0, 1, at)
    // the pieces that it stored last are in its memory, too
    await liar.kill('SIGKILL')
    await using _again = await anAgentProcess(dir.path, 'liar', supernode.line)
    await using honest = await anAgentProcess(dir.path, 'honest', supernode.line, ['--log-level', 'debug'])
    const path = join(dir.path, 'two')
    const result = await runDarner(['get', `${origin.url}/blob`, '-o', path, ...flags, '--socket', honest.socket])
    assert.equal(result.code, 0, result.stderr)
    assert.equal(await sha256(path), digest)
    assert.match(honest.log(), /"piece":\d+.*piece refused/)
    assert.equal(origin.requests.filter((request) => request.method === 'GET').length, 1)
  })

  it('admits only agents with the join token, and both sides say why', async () => {
    await using dir = await aDir()
    await using supernode = await aSupernodeProcess(dir.path, [])
    const token = await runDarner(['supernode', 'token', '--data', join(dir.path, 'supernode')])
    assert.match(token.stdout, /^drn-[A-Za-z0-9_-]{43}\n$/)
    const json = await runDarner(['supernode', 'token', '--json', '--data', join(dir.path, 'supernode')])
    assert.deepEqual(JSON.parse(json.stdout), { token: token.stdout.trim() })
    await assert.rejects(anAgentProcess(dir.path, 'stranger', supernode.line), /ADMISSION_REFUSED|showed no join token/)
    assert.match(supernode.log(), /agent refused/)
    await using member = await anAgentProcess(dir.path, 'member', supernode.line, ['--join-token', token.stdout.trim()])
    assert.match(member.line, /^joined /)
  })

  it('shows no token where no supernode has run, and leaves nothing there', async () => {
    await using dir = await aDir()
    const wrong = await runDarner(['supernode', 'token', '--data', join(dir.path, 'wrong')])
    assert.equal(wrong.code, 1)
    assert.match(wrong.stderr, /no join token in .*wrong: no supernode has run there/)
    assert.equal(wrong.stdout, '')
    assert.deepEqual(await readdir(dir.path), [])
  })

  it('says at once that a data directory can’t be made, also below /proc', async () => {
    const role = ['supernode', '--listen', '127.0.0.1:0', '--p2p-listen', '127.0.0.1:0']
    const refused = await runDarner([...role, '--data', '/proc/darner/data'])
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /cannot make the data directory \/proc\/darner\/data: ENOENT/)
  })

  it('refuses a second agent on the same data directory, naming the first', async () => {
    await using dir = await aDir()
    await using supernode = await aSupernodeProcess(dir.path)
    await using first = await anAgentProcess(dir.path, 'a', supernode.line)
    await assert.rejects(anAgentProcess(dir.path, 'a', supernode.line), new RegExp(String(first.pid)))
  })
})
