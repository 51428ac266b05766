import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { TaskId } from '../../src/core/task/task.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { twoPlaces } from '../fixtures/swarm/two-places.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

describe('what is left of a read that was wrong', function () {
  this.timeout(60_000)

  for (const restarted of [false, true])
    it(`is fetched anew by a host that knows nothing of it${restarted ? ', which was started again meanwhile' : ''}`, async () => {
      await using stand = await twoPlaces({ peers: 2 })
      await stand.left(stand.swarm.agents[0])
      {
        await using other = await stand.open(stand.swarm.agents[1], '/good', { wrongAt: [stand.place('/liar')] })
        assert.ok((await stand.read(other)).equals(stand.body))
      }
      if (restarted) {
        await stand.swarm.agents[0]?.[Symbol.asyncDispose]()
        await stand.swarm.start(0)
      }
      await using content = await stand.open(stand.swarm.agents[0], '/good')
      assert.ok((await stand.read(content)).equals(stand.body))
      await content.whole({ signal: AbortSignal.timeout(10_000) })
      assert.equal(stand.swarm.supernode.supernode.loop.state.banned.size, 0)
    })

  it('leads nobody astray when a host that was started again tells of it', async () => {
    await using stand = await twoPlaces({ peers: 3 })
    const [one, two, three] = stand.swarm.agents
    await stand.left(one)
    await one?.[Symbol.asyncDispose]()
    {
      await using other = await stand.open(two, '/good', { wrongAt: [stand.place('/liar')] })
      await other.whole({ signal: AbortSignal.timeout(10_000) })
    }
    const again = await stand.swarm.start(0)
    const { peer } = await again.peer.status()
    const { state } = stand.swarm.supernode.supernode.loop
    await until(() => (state.peers.get(peer)?.members[0]?.have ?? 0) > 0)
    await using content = await stand.open(three, '/good')
    assert.ok((await stand.read(content)).equals(stand.body))
    assert.equal(state.banned.size, 0)
  })

  it('is had from nobody whose read was given up, also before that one has left', async () => {
    await using stand = await twoPlaces({ peers: 2 })
    const [one, two] = stand.swarm.agents
    const signal = AbortSignal.timeout(30_000)
    const { digest, body, place } = stand
    const task = digest as string as TaskId
    await using wrong = await stand.open(one, '/liar')
    await until(() => wrong.progress().have >= MIB / 2)
    // it reads on from what the other has, and won't leave by itself
    await using _follows = await one?.peer.scheduler.register(
      { origin: place('/liar'), digest, bytes: body.byteLength, priority: 'interactive' },
      { signal },
    )
    const { peer } = (await one?.peer.status()) ?? assert.fail('no host')
    const { state } = stand.swarm.supernode.supernode.loop
    const members = () => state.tasks.get(task)?.members.map((member) => member.peer.id as string) ?? []
    assert.ok(members().includes(peer))
    await using right = await stand.open(two, '/good', { wrongAt: [place('/liar')] })
    assert.ok((await stand.read(right)).equals(body))
    assert.ok(!members().includes(peer))
    assert.equal(state.banned.size, 0)
  })

  it('ends a fetch during which the supernode came to read other bytes, and none of it is in the next', async () => {
    await using stand = await twoPlaces({ peers: 1 })
    const [one] = stand.swarm.agents
    const wrong = await stand.open(one, '/liar')
    await until(() => wrong.progress().have >= MIB / 2)
    await stand.swarm.stopSupernode()
    await stand.swarm.wipeSupernode()
    stand.origin.at('/liar', { body: stand.body })
    await stand.swarm.startSupernode()
    await failsWith(
      'TASK_FAILED',
      wrong.whole({ signal: AbortSignal.timeout(30_000) }),
      /the supernode has other bytes now than this fetch was given before/,
    )
    await wrong[Symbol.asyncDispose]()
    await using content = await stand.open(one, '/liar')
    assert.ok((await stand.read(content)).equals(stand.body))
  })

  it('contradicts a supernode that started anew', async () => {
    await using stand = await twoPlaces({ peers: 2 })
    const [one, two] = stand.swarm.agents
    await stand.left(one)
    await stand.swarm.stopSupernode()
    await stand.swarm.wipeSupernode()
    await stand.swarm.startSupernode()
    for (const agent of stand.swarm.agents) await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    await using content = await stand.open(one, '/good')
    assert.ok((await stand.read(content)).equals(stand.body))
    await using other = await stand.open(two, '/good')
    assert.ok((await stand.read(other)).equals(stand.body))
    assert.equal(stand.swarm.supernode.supernode.loop.state.banned.size, 0)
  })

  it('is not read on for all at another place', async () => {
    await using stand = await twoPlaces({ peers: 2 })
    const [one] = stand.swarm.agents
    await stand.left(one, { lead: true })
    await using content = await stand.open(one, '/good', { lead: true })
    assert.ok((await stand.read(content)).equals(stand.body))
    await content.whole({ signal: AbortSignal.timeout(10_000) })
  })
})
