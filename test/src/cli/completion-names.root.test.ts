import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { PeerStatus } from '../../../src/api/peer-status.ts'
import { SHELLS } from '../../../src/cli/completion/shells.ts'
import { aCompletingShell } from '../../fixtures/clients/a-completing-shell.ts'
import { aDockerAgent, type DockerAgent } from '../../fixtures/clients/a-docker-agent.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'
import { needs } from '../../fixtures/host/needs.ts'
import { runDarner } from '../../fixtures/swarm/a-daemon.ts'

describe('completion of names', function () {
  this.timeout(120_000)
  let agent: DockerAgent
  let blobs: string[]
  before(async function () {
    onStage(this, { net: true, programs: ['docker', 'crun', 'conmon', 'busybox', 'docker-registry'] })
    agent = await aDockerAgent()
    await agent.ok(['run', '-d', '--name', 'works', '--network', 'none', 'busybox', 'sleep', '1000'])
    await agent.ok(['create', '--name', 'rests', '--network', 'none', 'busybox', 'true'])
    await agent.ok(['network', 'create', 'shop'])
    await agent.ok(['volume', 'create', 'depot'])
    const status = await runDarner(['status', '--json', '--socket', join(agent.directory, 'agent.sock')])
    blobs = (JSON.parse(status.stdout) as PeerStatus).tasks.map(({ task }) => task)
  })
  after(() => agent?.[Symbol.asyncDispose]())

  for (const shell of SHELLS)
    it(`is of what is on this host, in ${shell}`, async function () {
      needs(this, { programs: [shell] })
      await using asked = await aCompletingShell(shell, { socket: join(agent.directory, 'agent.sock') })
      // bash puts only what stands behind the last colon
      const behind = (words: string[]) => (shell === 'bash' ? words.map((word) => word.replace(/^.*:/, '')) : words)
      assert.deepEqual(asked.offers('stop', ''), ['works'])
      assert.deepEqual(asked.offers('stop', 'works', ''), ['works'])
      assert.deepEqual(asked.offers('start', ''), ['rests'])
      assert.deepEqual(asked.offers('rm', '-f', ''), ['rests', 'works'])
      assert.deepEqual(asked.offers('exec', '-it', 'w'), ['works'])
      assert.deepEqual(asked.offers('exec', 'works', 'w'), [])
      assert.deepEqual(asked.offers('run', '--rm', 'busybox:'), behind(['busybox:latest']))
      assert.deepEqual(asked.offers('run', '--network', 's'), ['shop'])
      assert.deepEqual(asked.offers('run', '--network=s'), shell === 'bash' ? ['shop'] : ['--network=shop'])
      assert.deepEqual(asked.offers('network', 'connect', 'sh'), ['shop'])
      assert.deepEqual(asked.offers('network', 'connect', 'shop', 'r'), ['rests'])
      assert.deepEqual(asked.offers('volume', 'rm', 'dep'), ['depot'])
      assert.deepEqual(asked.offers('inspect', 'de'), ['depot'])
      assert.ok(blobs.length > 0)
      assert.deepEqual(asked.offers('why', 'sha256:'), behind(blobs).sort())
    })
})
