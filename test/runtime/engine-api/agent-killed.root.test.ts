// long: starts twenty containers and kills the agent beside them
// deadline: 300 s
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { before, describe, it } from 'mocha'
import { systemCode } from '../../../src/core/errors.ts'
import { aDockerAgent, type DockerAgent } from '../../fixtures/clients/a-docker-agent.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

/** Writes numbered lines and serves a port until it is told to stop; its last line says how many there were. */
const WRITER = `httpd -p 80 -h /etc; i=0
while [ ! -e /tmp/stop ]; do i=$((i+1)); echo line $i; usleep 20000; done; echo wrote $i; exit $CODE`
const WAITER = 'trap "exit $CODE" TERM; while :; do usleep 20000; done'
const HALF = 10

interface Facts {
  readonly name: string
  readonly pid: number
  readonly startedAt: string
  readonly port: string
}

async function facts(agent: DockerAgent): Promise<Facts[]> {
  const format =
    '{{.Name}} {{.State.Pid}} {{.State.StartedAt}} {{range $p, $b := .NetworkSettings.Ports}}{{range $b}}{{.HostPort}}{{end}}{{end}}'
  const ids = (await agent.ok(['ps', '-q'])).split('\n')
  const text = await agent.ok(['inspect', '--format', format, ...ids])
  return text
    .split('\n')
    .map((line) => {
      const [name = '', pid = '0', startedAt = '', port = ''] = line.split(' ')
      return { name: name.slice(1), pid: Number(pid), startedAt, port }
    })
    .sort((a, b) => a.name.localeCompare(b.name))
}

const served = async (port: string) => (await fetch(`http://127.0.0.1:${port}/passwd`)).text()

/** It may go while it is looked at. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch (error) {
    assert.match(String(systemCode(error)), /^(ENOENT|ESRCH)$/)
    return false
  }
}

describe('an agent that is killed with twenty containers running', function () {
  this.timeout(280_000)
  before(function () {
    onStage(this, {
      programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry', 'ip', 'iptables'],
    })
  })

  it('finds them all alive, their logs complete to the line, exit codes right and ports served, also while it was away', async () => {
    await using agent = await aDockerAgent()
    for (let at = 0; at < HALF; at++) {
      const writer = ['-p', '127.0.0.1::80', 'busybox', 'sh', '-c', WRITER]
      await agent.ok(['run', '-d', '--name', `writer-${at}`, '-e', `CODE=${at + 1}`, ...writer])
      const waiter = ['--network', 'none', 'busybox', 'sh', '-c', WAITER]
      await agent.ok(['run', '-d', '--name', `waiter-${at}`, '-e', `CODE=${at + 101}`, ...waiter])
    }
    const was = await facts(agent)
    assert.equal(was.length, 2 * HALF)
    const ports = was.flatMap(({ port }) => (port === '' ? [] : [port]))
    assert.equal(ports.length, HALF)
    await agent.kill()
    for (const { name, pid } of was) assert.ok(isAlive(pid), name)
    for (const port of ports) assert.match(await served(port), /root/)
    const early = was.find(({ name }) => name === 'waiter-3')
    process.kill(early?.pid ?? 0, 'SIGTERM')
    while (isAlive(early?.pid ?? 0)) await new Promise((resolve) => setImmediate(resolve))
    await agent.start()
    assert.deepEqual(
      await facts(agent),
      was.filter(({ name }) => name !== 'waiter-3'),
    )
    assert.equal(
      await agent.ok(['inspect', '--format', '{{.State.Status}} {{.State.ExitCode}}', 'waiter-3']),
      'exited 104',
    )
    for (const port of ports) assert.match(await served(port), /root/)
    for (let at = 0; at < HALF; at++) {
      // the end of the container may be quicker than the exec's own
      await agent.run(['exec', `writer-${at}`, 'touch', '/tmp/stop'])
      if (at !== 3) await agent.ok(['kill', '-s', 'TERM', `waiter-${at}`])
    }
    for (let at = 0; at < HALF; at++) {
      assert.equal(await agent.ok(['wait', `writer-${at}`]), String(at + 1))
      assert.equal(await agent.ok(['wait', `waiter-${at}`]), String(at + 101))
      const lines = (await agent.ok(['logs', `writer-${at}`])).split('\n')
      const count = Number(/^wrote (\d+)$/.exec(lines.pop() ?? '')?.[1])
      assert.ok(count > 0)
      assert.deepEqual(
        lines,
        Array.from({ length: count }, (_, line) => `line ${line + 1}`),
      )
    }
  })

  it('has no exit code to tell of an exec that it lost, and says so', async () => {
    await using agent = await aDockerAgent()
    await agent.ok(['run', '-d', '--name', 'c', '--network', 'none', 'busybox', 'sleep', '1000'])
    const cut = agent.run(['exec', 'c', 'sh', '-c', 'touch /tmp/began; sleep 1000'])
    while ((await agent.run(['exec', 'c', 'test', '-e', '/tmp/began'])).code !== 0);
    await agent.kill()
    const { code, stderr } = await cut
    assert.notEqual(code, 0, stderr)
    await agent.start()
    assert.equal(await agent.ok(['exec', 'c', 'echo', 'on']), 'on')
    assert.equal(await agent.ok(['inspect', '--format', '{{.ExecIDs}}', 'c']), '[]')
  })
})
