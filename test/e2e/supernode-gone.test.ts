import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { aRegistry } from '../fixtures/origin/a-registry.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { inProcess } from '../fixtures/swarm/in-process.ts'
import { until } from '../fixtures/until.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

describe('what is asked of a supernode', function () {
  this.timeout(60_000)

  it('is answered with cause and way out when it is gone', async () => {
    await using swarm = await aSwarm({ peers: 1 })
    const [agent] = swarm.agents
    assert.ok(agent)
    const at = { socket: join(swarm.directory, 'agent-0.sock'), home: swarm.directory }
    await swarm.stopSupernode()
    await until(() => /ECONNREFUSED/.test(agent.peer.scheduler.trouble?.message ?? ''))
    const { code, stderr } = await inProcess(['why', DIGEST], at)
    assert.equal(code, 1)
    assert.match(
      stderr,
      /^darner: the supernode can't be asked: dial .*ECONNREFUSED.*; see that it runs .*`darner status`/,
    )
  })

  it('is checked before a registry is: a selector that is none', async () => {
    const registry = await aRegistry()
    const reference = `${registry.host}/app:v1`
    await registry[Symbol.asyncDispose]()
    await using swarm = await aSwarm({ peers: 1 })
    const at = { socket: join(swarm.directory, 'agent-0.sock'), home: swarm.directory }
    const { code, stderr } = await inProcess(['preheat', '--plain-http', '--to', 'everywhere', reference], at)
    assert.match(stderr, /^darner: "everywhere" is not a selector; use all, zone=NAME, rack=NAME or host=NAME/)
    assert.equal(code, 2)
  })
})
