import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { pieceBytesFor, type TaskId } from '../../src/core/task/task.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

const haveOf = async (agent: RunningAgent) => (await agent.peer.status()).tasks[0]?.have ?? 0
const gets = (origin: TestOrigin) => origin.requests.filter(({ method }) => method === 'GET')

describe('a restart of the supernode', function () {
  this.timeout(120_000)

  it('in the middle of downloads loses none of them and reads nothing again', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3, agent: { downloadRate: '4MiB/s' } })
    const body = randomBody(1, 20 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    const going = swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest))
    await until(() => swarm.supernode.supernode.seed.find(digest as string as TaskId)?.stored.complete === true)
    for (const agent of swarm.agents) assert.ok((await agent.peer.status()).tasks.every(({ complete }) => !complete))
    await swarm.stopSupernode()
    await swarm.startSupernode()
    for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(5_000) })
    const { loop } = swarm.supernode.supernode
    await until(() => (loop.state.tasks.get(digest as string as TaskId)?.members.length ?? 0) >= 3)
    for (const summary of await Promise.all(going)) {
      assert.equal(summary.digest, digest)
      assert.equal(summary.from.origin, 0)
    }
    assert.equal(gets(origin).length, 1)
    assert.equal(swarm.supernode.supernode.traffic.origin, 0)
  })

  it('gives a content that is known by its URL alone to hosts that come afterwards, without another read', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const [body, other] = [randomBody(8, 3 * MIB), randomBody(9, 2 * MIB)]
    const key = { authorization: 'Bearer right' }
    origin.at('/open', { body, headers: { etag: '"1"' } })
    origin.at('/private', ({ headers }) =>
      headers.authorization === key.authorization ? { body: other, headers: { etag: '"1"' } } : { status: 401 },
    )
    const credential = { kind: 'header', value: key.authorization } as const
    const all = async (agent: RunningAgent | undefined) => {
      assert.equal((await fetchUrl(agent, `${origin.url}/open`)).digest, digestOf(body))
      assert.equal((await fetchUrl(agent, `${origin.url}/private`, { credential })).digest, digestOf(other))
    }
    const [first] = swarm.agents
    await all(first)
    await first?.[Symbol.asyncDispose]()
    swarm.agents.length = 0
    await swarm.stopSupernode()
    await swarm.startSupernode()
    const late = await swarm.start(1)
    await late.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    await all(late)
    assert.equal(swarm.supernode.supernode.traffic.origin, 0)
    await failsWith('ORIGIN_UNAUTHORIZED', fetchUrl(late, `${origin.url}/private`))
  })

  it('in the middle of its own read goes on where that was', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3 })
    const body = randomBody(2, 12 * MIB)
    const digest = digestOf(body)
    const never = Promise.withResolvers<void>()
    origin.at('/blob', [{ body, pauseAfter: 8 * MIB, until: never.promise }, { body }])
    const going = swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest))
    const pieces = (8 * MIB) / pieceBytesFor(body.byteLength)
    const { seed } = swarm.supernode.supernode
    await until(() => (seed.find(digest as string as TaskId)?.known ?? 0) >= pieces - 1)
    await swarm.stopSupernode()
    await swarm.startSupernode()
    for (const summary of await Promise.all(going)) assert.equal(summary.digest, digest)
    never.resolve()
    assert.equal(gets(origin).length, 2)
    assert.match(gets(origin)[1]?.headers.range ?? '', /^bytes=[1-9]\d*-$/)
    assert.ok(swarm.supernode.supernode.traffic.origin < 6 * MIB)
  })

  it('without its store and records costs one more read at most, with hosts that hold the blob', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 4 })
    const body = randomBody(3, 6 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    const [one, two, ...late] = swarm.agents
    for (const agent of [one, two]) await fetchUrl(agent, `${origin.url}/blob`, digest)
    await swarm.stopSupernode()
    await swarm.wipeSupernode()
    await swarm.startSupernode()
    for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const { loop } = swarm.supernode.supernode
    assert.equal(loop.state.tasks.get(digest as string as TaskId)?.full.length, 2, 'it knows who holds the blob')
    await Promise.all(late.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest)))
    assert.equal(gets(origin).length, 2)
  })

  it('takes over again what a host had begun to read at the origin on its own', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(6, 24 * MIB)
    const digest = digestOf(body)
    const never = Promise.withResolvers<void>()
    origin.at('/blob', [{ body, pauseAfter: 8 * MIB, until: never.promise }, { body }])
    const [agent] = swarm.agents
    assert.ok(agent)
    await swarm.stopSupernode()
    const going = fetchUrl(agent, `${origin.url}/blob`, digest)
    await until(async () => (await haveOf(agent)) >= (8 * MIB) / pieceBytesFor(body.byteLength))
    await swarm.startSupernode()
    const summary = await going
    never.resolve()
    assert.equal(summary.digest, digest)
    assert.ok(summary.from.origin <= 9 * MIB && summary.from.supernode >= 15 * MIB, JSON.stringify(summary.from))
    assert.equal(gets(origin).length, 2)
  })

  it('is told afterwards who read an origin while it was away, and why', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(5, 2 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    const [agent] = swarm.agents
    assert.ok(agent)
    await swarm.stopSupernode()
    const summary = await fetchUrl(agent, `${origin.url}/blob`, digest)
    assert.equal(summary.from.origin, body.byteLength)
    await swarm.startSupernode()
    await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const { why } = swarm.supernode.supernode
    const { peer } = await agent.peer.status()
    await until(async () => (await why.of(digest as string as TaskId)).length > 0)
    const [row] = await why.of(digest as string as TaskId)
    assert.deepEqual([row?.peer, row?.bytes], [peer, body.byteLength])
    assert.match(row?.reason ?? '', /^SUPERNODE_UNREACHABLE: /)
  })

  it('hears of half-done tasks that an agent found on its disk', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(4, 12 * MIB)
    const digest = digestOf(body)
    const never = Promise.withResolvers<void>()
    origin.at('/blob', { body, pauseAfter: 8 * MIB, until: never.promise })
    const [agent] = swarm.agents
    assert.ok(agent)
    const cut = fetchUrl(agent, `${origin.url}/blob`, digest).catch(() => {})
    await until(async () => (await haveOf(agent)) > 40)
    await agent[Symbol.asyncDispose]()
    const again = await swarm.start(0)
    const { peer } = await again.peer.status()
    const { state } = swarm.supernode.supernode.loop
    await until(() => (state.peers.get(peer)?.members[0]?.have ?? 0) > 40)
    never.resolve()
    await cut
  })
})
