import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'undici'
import type { PeerStatus } from '../../src/api/peer-status.ts'
import { digestOf } from '../../src/core/digest.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { type AgentProcess, anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'
import { until } from '../fixtures/until.ts'

const HOSTS = ['a', 'b', 'c', 'd', 'e']
/** So many that its pieces are passed on while they come. */
const BYTES = 36 * 1024 * 1024
const PASSED_ON_BYTES = BYTES / 4

async function statusOf({ socket }: AgentProcess): Promise<PeerStatus> {
  const client = new Client('http://agent', { socketPath: socket })
  try {
    const answer = await client.request({ method: 'GET', path: '/v1/peer' })
    return (await answer.body.json()) as PeerStatus
  } finally {
    await client.close()
  }
}

describe('hosts in a line', function () {
  this.timeout(240_000)

  it('all end with the right bytes, however one of them ends that passes pieces on', async () => {
    await using dir = await aDir()
    await using origin = await anOrigin()
    await using supernode = await aSupernodeProcess(dir.path)
    await using agents = new AsyncDisposableStack()
    const hosts = await Promise.all(
      HOSTS.map(async (name) => {
        const agent = await anAgentProcess(dir.path, name, supernode.line, ['--download-rate', '8MiB/s'])
        agents.defer(async () => void (await agent.kill('SIGKILL')))
        return { ...agent, name }
      }),
    )
    const get = async ({ socket, name }: AgentProcess & { name: string }, blob: string, digest: string) => {
      const out = join(dir.path, `${name}-${blob}`)
      const done = await runDarner([
        'get',
        `${origin.url}/${blob}`,
        '-o',
        out,
        '-q',
        '--digest',
        digest,
        '--socket',
        socket,
      ])
      return { ...done, out }
    }
    for (const [number, signal] of (['', 'SIGKILL', 'SIGSTOP'] as const).entries()) {
      const blob = `blob-${number}`
      const body = randomBody(number + 1, BYTES)
      origin.at(`/${blob}`, { body })
      const before = await Promise.all(hosts.map(async (host) => (await statusOf(host)).bytes.sent))
      const digest = digestOf(body)
      const gets = hosts.map((host) => get(host, blob, digest))
      let victim = -1
      if (signal !== '') {
        victim = await until(async () => {
          const sent = await Promise.all(hosts.map(async (host) => (await statusOf(host)).bytes.sent))
          const at = sent.findIndex((bytes, one) => bytes - (before[one] ?? 0) > PASSED_ON_BYTES)
          return at < 0 ? undefined : at
        })
        process.kill(hosts[victim]?.pid ?? 0, signal)
      }
      for (const [at, getting] of gets.entries()) {
        if (at === victim) continue
        const { code, stderr, out } = await getting
        assert.equal(code, 0, `${hosts[at]?.name} ${blob}: ${stderr}`)
        assert.equal(
          `sha256:${createHash('sha256')
            .update(await readFile(out))
            .digest('hex')}`,
          digestOf(body),
        )
      }
      if (victim < 0) continue
      if (signal === 'SIGSTOP') process.kill(hosts[victim]?.pid ?? 0, 'SIGCONT')
      else hosts.splice(victim, 1)
      await gets[victim]
    }
  })
})
