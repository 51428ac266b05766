import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { describe, it } from 'mocha'
import { runProgram } from '../../src/cli/program.ts'
import { digestOf } from '../../src/core/digest.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

const MIB = 1024 * 1024

async function darner(swarm: Swarm, agent: number, args: readonly string[], stdin: Readable = new PassThrough()) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const env = { HOME: '/nowhere', DARNER_SOCKET: join(swarm.directory, `agent-${agent}.sock`) }
  const code = await runProgram(args, { env, stdin, stdout, stderr, signal: AbortSignal.timeout(120_000) })
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') }
}

describe('darner put', function () {
  this.timeout(180_000)

  it('gives a file to all hosts, by its digest, also when the one that put it is gone', async () => {
    await using swarm = await aSwarm({ peers: 2 })
    await using dir = await aDir()
    for (const body of [randomBody(61, 5 * MIB + 9), randomBody(62, 1000), new Uint8Array()]) {
      const [file, out] = [join(dir.path, 'file'), join(dir.path, 'out')]
      await writeFile(file, body)
      const put = await darner(swarm, 0, ['put', file])
      assert.equal(put.code, 0, put.err)
      assert.equal(put.out, `${digestOf(body)}\n`)
      const got = await darner(swarm, 1, ['get', digestOf(body), '-o', out, '--no-resume', '-q'])
      assert.equal(got.code, 0, got.err)
      assert.deepEqual(await readFile(out), Buffer.from(body))
    }
    await swarm.agents[0]?.[Symbol.asyncDispose]()
    const late = await swarm.start(2)
    await late.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const digest = digestOf(randomBody(61, 5 * MIB + 9))
    const { code, err } = await darner(swarm, 2, ['get', digest, '-o', join(dir.path, 'late'), '-q'])
    assert.equal(code, 0, err)
    assert.equal(digestOf(await readFile(join(dir.path, 'late'))), digest)
  })

  it('takes standard input, and the same again without reading it anew', async () => {
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(63, MIB)
    for (let time = 0; time < 2; time++) {
      const { code, out, err } = await darner(swarm, 0, ['put', '-', '--json'], Readable.from([body]))
      assert.equal(code, 0, err)
      assert.deepEqual({ ...JSON.parse(out), seconds: 0 }, { digest: digestOf(body), bytes: MIB, seconds: 0 })
    }
  })

  it('says so when nobody has put a digest, and never asks an origin for it', async () => {
    await using swarm = await aSwarm({ peers: 1 })
    await using dir = await aDir()
    const out = join(dir.path, 'out')
    const { code, err } = await darner(swarm, 0, ['get', digestOf('nothing'), '-o', out])
    assert.equal(code, 1)
    assert.match(err, /^darner: sha256:[0-9a-f]{64}: no host has put it into the swarm[^\n]*\n$/)
    assert.equal((await darner(swarm, 0, ['put', join(dir.path, 'absent')])).code, 2)
    assert.equal((await darner(swarm, 0, ['put', dir.path])).code, 2)
  })

  it('opens nothing that others hold to whoever only knows its digest', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    await using dir = await aDir()
    const body = randomBody(64, 2 * MIB)
    const digest = digestOf(body)
    origin.at('/private', ({ headers }) => (headers.authorization === 'Bearer t' ? { body } : { status: 401 }))
    const flags = ['-o', join(dir.path, 'out'), '--no-resume', '-q']
    const args = ['get', `${origin.url}/private`, '--digest', digest, '-H', 'Authorization: Bearer t', ...flags]
    assert.equal((await darner(swarm, 0, args)).code, 0)
    assert.equal((await darner(swarm, 1, ['get', digest, ...flags])).code, 1)
    // a host that says it puts what it doesn't hold
    const signal = AbortSignal.timeout(30_000)
    await failsWith(
      'PEER_REFUSED',
      swarm.agents[1]?.peer.scheduler.put(digest, body.byteLength, { signal }) ?? Promise.resolve(),
    )
    assert.equal((await darner(swarm, 1, ['get', digest, ...flags])).code, 1)
    // one that holds it may give it away
    await writeFile(join(dir.path, 'file'), body)
    assert.equal((await darner(swarm, 0, ['put', join(dir.path, 'file')])).code, 0)
    const got = await darner(swarm, 1, ['get', digest, ...flags])
    assert.equal(got.code, 0, got.err)
  })
})
