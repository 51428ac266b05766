import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { askAdmin } from '../fixtures/swarm/ask-admin.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

const gets = (origin: TestOrigin) => origin.requests.filter(({ method }) => method === 'GET')

async function reasons(swarm: Swarm, task: string): Promise<string[]> {
  await swarm.supernode.supernode.why.save()
  type Reads = { reads: { peer: string; reason: string }[] }
  const { reads } = await askAdmin<Reads>(swarm.directory, `/v1/why/${task}`)
  const { peer } = swarm.supernode.supernode
  return reads.map((read) => `${read.peer === peer ? 'supernode' : 'host'}: ${read.reason}`)
}

describe('an origin lease', function () {
  this.timeout(120_000)

  it('moves to one host when the supernode can’t go on reading, and all get the blob', async () => {
    await using origin = await anOrigin()
    // one try per read, so that a single break is more than the supernode bears
    await using swarm = await aSwarm({ peers: 4, supernode: { originRetries: 0 } })
    const body = randomBody(1, 12 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', [{ body, cutAfter: 5 * MIB }, { body }])
    const all = await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest)))
    for (const summary of all) assert.equal(summary.digest, digest)
    assert.equal(gets(origin).length, 2)
    assert.match(gets(origin)[1]?.headers.range ?? '', /^bytes=[1-9]/, 'only what lacked was read')
    await until(async () => (await reasons(swarm, digest)).length === 2) // hosts are done before all is told
    assert.deepEqual(await reasons(swarm, digest), [
      'supernode: first read',
      'host: origin lease: the supernode could not read it',
    ])
  })

  it('is given at once for a blob of known length that the supernode can’t read at all', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3, supernode: { originRetries: 0 } })
    const body = randomBody(2, 6 * MIB)
    const digest = digestOf(body)
    // both of the supernode's tries end at the door
    origin.at('/blob', [{ hangUp: true }, { hangUp: true }, { body }])
    const all = await Promise.all(
      swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest, body.byteLength)),
    )
    for (const summary of all) assert.equal(summary.digest, digest)
    assert.equal(gets(origin).length, 3)
    await until(async () => (await reasons(swarm, digest)).length === 1)
    assert.deepEqual(await reasons(swarm, digest), ['host: origin lease: the supernode could not read it'])
  })

  it('ends in a failure for all, and nothing is kept, when what was read under it is wrong', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3, supernode: { originRetries: 0 } })
    const body = randomBody(3, 6 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', [{ body, cutAfter: 2 * MIB }, { body: randomBody(4, 6 * MIB) }])
    await Promise.all(
      swarm.agents.map((agent) => failsWith('DIGEST_MISMATCH', fetchUrl(agent, `${origin.url}/blob`, digest))),
    )
    for (const agent of swarm.agents)
      assert.equal((await agent.peer.status()).tasks.filter(({ complete }) => complete).length, 0)
    assert.equal(swarm.supernode.supernode.seed.find(digest as string as TaskId), undefined)
  })

  it('stays with the supernode while its read goes on, however slow that is, and all keep it as their parent', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const { peer: supernode, loop } = swarm.supernode.supernode
    // one that nothing renews is over at the next look
    Object.assign(loop.state.options, { leaseMs: 500 })
    const body = randomBody(6, 6 * MIB)
    const goOn = Promise.withResolvers<void>()
    origin.at('/blob', { body, pauseAfter: MIB, until: goOn.promise })
    const dropped: string[] = []
    const following = swarm.agents.map(async ({ peer }) => {
      const place = { kind: 'url', url: `${origin.url}/blob` } as const
      const request = { origin: place, digest: digestOf(body), priority: 'interactive' } as const
      await using followed = await peer.scheduler.register(request, { signal: AbortSignal.timeout(60_000) })
      for await (const update of followed.updates) {
        if (update.kind === 'parents') dropped.push(...update.drop)
        if (update.kind === 'sealed') break
      }
    })
    const swept = new Set<number>()
    await until(() => swept.add(loop.state.sweptMs).size > 3)
    assert.equal(loop.state.tasks.get(digestOf(body) as string as TaskId)?.lease?.holder.peer.id, supernode)
    goOn.resolve()
    await Promise.all(following)
    assert.deepEqual(dropped, [])
  })

  it('does not outlive an origin that nobody can read: its own failure reaches all', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2, supernode: { originRetries: 0 }, agent: { originRetries: 0 } })
    const body = randomBody(5, 6 * MIB)
    origin.at('/blob', [{ body, cutAfter: 2 * MIB }, { hangUp: true }])
    for (const done of await Promise.allSettled(
      swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digestOf(body))),
    )) {
      assert.equal(done.status, 'rejected')
      assert.match(String(done.reason), /127\.0\.0\.1/)
    }
    assert.ok(gets(origin).length <= 12, `${gets(origin).length} reads`)
  })
})
