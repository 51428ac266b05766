import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { COMMANDS } from '../../../src/cli/commands.ts'
import { runProgram } from '../../../src/cli/program.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { aDockerAgent, type DockerAgent } from '../../fixtures/clients/a-docker-agent.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { runDarner } from '../../fixtures/swarm/a-daemon.ts'

/** Arguments with which a command that has --json ends; `false`: why it is not called here. */
const CALLS: Readonly<Record<string, readonly string[] | false>> = {
  supernode: false, // a daemon
  'supernode token': ['--data', 'DIR/supernode'],
  agent: false, // a daemon
  get: ['file:///etc/hostname', '-o', 'DIR/got'],
  put: ['DIR/given'],
  pull: ['REG/busybox'],
  images: [],
  upgrade: ['base', 'next', '--no-pull'],
  rollback: ['base'],
  'network create': [],
  network: [],
  ps: ['-a'],
  storage: [],
  'storage init': ['--size', '64M'],
  preheat: ['REG/busybox'],
  mirror: [],
  'mirror setup': ['podman', '--root', 'DIR'],
  'mirror check': ['REG/busybox'],
  status: [],
  why: ['busybox'],
  df: [],
  gc: ['--dry-run'],
  limit: [],
  stats: ['--no-stream'],
  events: ['--since', '1h', '--until', '0s'],
  history: ['busybox'],
  push: ['REG/busybox:latest'],
  info: [],
  version: [],
  volume: [],
  'system df': [],
}

describe('every --json', function () {
  this.timeout(180_000)
  let agent: DockerAgent
  before(async function () {
    onStage(this, { net: true, programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'mkfs.ext4'] })
    agent = await aDockerAgent(['--mirror', '127.0.0.1:0', '--upstream', 'reg.test=http://127.0.0.1:1'])
    await writeFile(join(agent.directory, 'given'), 'bytes')
    await agent.ok(['run', '-d', '--name', 'base', '--network', 'none', 'busybox', 'sleep', '1000'])
    await agent.ok(['commit', 'base', 'next'])
  })
  after(() => agent?.[Symbol.asyncDispose]())

  const rows = COMMANDS.filter((row) => row.alias === undefined && row.options?.some(({ flags }) => flags === '--json'))
  it('is tried here', () => {
    assert.deepEqual(
      rows.map(({ name }) => name).filter((name) => CALLS[name] === undefined),
      [],
    )
  })
  it('of stats that goes on has no screen codes', async () => {
    const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
    const enough = new AbortController()
    let told = ''
    stdout.on('data', (chunk) => {
      told += String(chunk)
      if (told.split('\n').length > 2) enough.abort(new DarnerError('INTERRUPTED', 'enough'))
    })
    const env = { DARNER_SOCKET: join(agent.directory, 'agent.sock') }
    const code = await runProgram(['stats', '--json', 'base'], { env, stdin, stdout, stderr, signal: enough.signal })
    assert.equal(code, 130)
    for (const line of told.trimEnd().split('\n')) assert.equal((JSON.parse(line) as { Name: string }).Name, 'base')
  })

  for (const { name } of rows) {
    const args = CALLS[name]
    if (args === undefined || args === false) continue
    it(`of ${name} is JSON, and nothing else is on stdout`, async () => {
      const socket = name === 'supernode token' ? [] : ['--socket', join(agent.directory, 'agent.sock')]
      const filled = args.map((word) => word.replace('DIR', agent.directory).replace('REG', agent.registry.host))
      const { code, stdout, stderr } = await runDarner([...name.split(' '), ...filled, '--json', ...socket])
      const lines = stdout.split('\n').filter((line) => line !== '')
      assert.ok(lines.length > 0, stderr)
      for (const line of lines) assert.doesNotThrow(() => JSON.parse(line), line)
      // it has no such upstream: each step is told, and the one that failed is the error, too
      if (name === 'mirror check') assert.deepEqual([code, (JSON.parse(stdout) as { ok: boolean }).ok], [1, false])
      else assert.equal(code, 0, stderr)
    })
  }
})
