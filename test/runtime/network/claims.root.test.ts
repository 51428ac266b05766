import assert from 'node:assert/strict'
import { Claims } from '../../../runtime/network/claims.ts'
import { anEngine, type EngineFixture } from '../../fixtures/engine/an-engine.ts'
import { aDir } from '../../fixtures/host/a-dir.ts'
import { onStage } from '../../fixtures/host/a-stage.ts'

const never = new AbortController().signal

/** Address of a container that was just started on the default network. */
async function startOne({ runtime }: EngineFixture): Promise<string> {
  const { id } = await runtime.containers.create({ image: 'busybox', command: ['sleep', '1000'], network: 'bridge' })
  await runtime.containers.startContainer(id, { signal: never })
  return runtime.networks?.view(id)?.endpoints[0]?.ipv4 ?? ''
}

describe('two agents in one network namespace', function () {
  this.timeout(60_000)
  before(function () {
    onStage(this, { net: true, programs: ['crun', 'conmon', 'busybox', 'iptables', 'ip'] })
  })

  it('never take one bridge or one subnet, also when both begin at the same time', async () => {
    await using first = await aDir()
    await using second = await aDir()
    await using one = await anEngine({ dir: first.path, defaultRuntime: 'crun', networks: {} })
    await using two = await anEngine({ dir: second.path, defaultRuntime: 'crun', networks: {} })
    const addresses = await Promise.all([startOne(one), startOne(two)])
    assert.deepEqual(addresses.map((address) => address.split('.').slice(0, 3).join('.')).sort(), [
      '10.91.0',
      '10.91.1',
    ])
    // neither of these has a bridge yet
    const made = await Promise.all([one, two].map(({ runtime }) => runtime.networks?.create({ name: 'own' })))
    assert.equal(new Set(made.map((network) => network?.subnets[0]?.subnet)).size, 2)
    const subnets = [{ subnet: '10.200.0.0/24' }]
    await one.runtime.networks?.create({ name: 'named', subnets })
    await assert.rejects(async () => two.runtime.networks?.create({ name: 'named', subnets }), { code: 'CONFLICT' })
    await one.runtime.networks?.remove('named')
    await two.runtime.networks?.create({ name: 'named', subnets })
  })
})

describe('Claims', () => {
  it('are one agent’s until it gives them up', async () => {
    await using one = new Claims()
    await using two = new Claims()
    const what = `test ${process.pid}`
    assert.deepEqual([await one.take(what), await one.take(what), await two.take(what)], [true, true, false])
    one.release(what)
    assert.equal(await two.take(what), true)
  })
})
