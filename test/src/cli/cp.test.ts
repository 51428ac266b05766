import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { runProgram } from '../../../src/cli/program.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { aTar } from '../../fixtures/images/a-tar.ts'
import { until } from '../../fixtures/until.ts'

const FACTS = Buffer.from(JSON.stringify({ name: 'seed', mode: 0o644 })).toString('base64')

/** Whether a program that this process started still runs, or was not waited for. */
const hasChildren = () => readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim() !== ''

/** `darner cp c:/seed OUT` from an agent that sends `body` and ends, or breaks off, once tar has nothing more to read. */
async function copied(directory: string, body: Buffer, end: 'end' | 'destroy') {
  const socket = join(directory, 'agent.sock')
  const out = join(directory, 'out')
  const server = createServer(async (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/x-tar', 'x-docker-container-path-stat': FACTS })
    await new Promise((resolve) => response.write(body, resolve))
    if (end === 'end') await until(() => existsSync(out) && !hasChildren())
    response[end]()
  }).listen(socket)
  await once(server, 'listening')
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const signal = new AbortController().signal
  try {
    const io = { env: { DARNER_SOCKET: socket, PATH: process.env.PATH ?? '' }, stdin, stdout, stderr, signal }
    const code = await runProgram(['cp', 'c:/seed', out], io)
    return { code, out, err: String(stderr.read() ?? '') }
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

describe('darner cp out of a container', () => {
  const tar = aTar([{ name: 'seed', body: 'seeded\n', mode: 0o644, mtime: 1_577_836_800 }])

  before(function () {
    needs(this, { programs: ['tar'] })
  })

  it('is done also when tar has read all before the answer ends', async () => {
    await using dir = await aDir()
    const whole = Buffer.concat([tar, Buffer.alloc(10_240 - (tar.byteLength % 10_240))])
    const { code, out, err } = await copied(dir.path, whole, 'end')
    assert.deepEqual([code, err], [0, ''])
    assert.equal(await readFile(out, 'utf8'), 'seeded\n')
  })

  it('fails when the answer breaks off between two files', async () => {
    await using dir = await aDir()
    const { code, err } = await copied(dir.path, tar.subarray(0, 1024), 'destroy')
    assert.equal(code, 1)
    assert.match(err, /^darner: cp/)
  })
})
