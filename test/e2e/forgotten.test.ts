import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { askAdmin } from '../fixtures/swarm/ask-admin.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

describe('a blob that the supernode no longer has (row 16)', function () {
  this.timeout(60_000)

  it('takes along who may read it and why it was read, and is read anew for the next', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2, supernode: { storeQuota: '6MiB' } })
    const [one, two] = swarm.agents
    const fetched = async (seed: number, agent = one) => {
      const body = randomBody(seed, 4 * MIB)
      const digest = digestOf(body)
      origin.at(`/blob-${seed}`, { body })
      assert.equal((await fetchUrl(agent, `${origin.url}/blob-${seed}`, digest)).digest, digest)
      return digest
    }
    const told = async (digest: string) => {
      await swarm.supernode.supernode.why.save()
      return (await askAdmin<{ reads: unknown[] }>(swarm.directory, `/v1/why/${digest}`)).reads.length
    }
    const held = async () => {
      const { tasks } = await askAdmin<{ tasks: { task: string }[] }>(swarm.directory, '/v1/tasks')
      return tasks.map(({ task }) => task)
    }
    const first = await fetched(1)
    assert.equal(await told(first), 1)
    assert.deepEqual(await held(), [first])
    const second = await fetched(2)
    await until(async () => !(await held()).includes(first))
    await until(async () => (await told(first)) === 0)
    assert.equal(await told(second), 1)
    await fetched(1, two)
  })
})
