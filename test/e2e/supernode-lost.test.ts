import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { pieceBytesFor, type TaskId } from '../../src/core/task/task.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

describe('a supernode that is lost for good in the middle of a fetch', function () {
  this.timeout(120_000)

  it('has one host read what nobody has, for all', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 5, agent: { downloadRate: '2MiB/s' } })
    const body = randomBody(1, 24 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body, headers: { etag: '"1"' } })
    const going = swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest))
    const haveOf = (number: number) =>
      swarm.agents[number]?.peer.store.find(digest as string as TaskId)?.have.count ?? 0
    const pieces = Math.ceil(body.byteLength / pieceBytesFor(body.byteLength))
    await until(() => swarm.supernode.supernode.seed.find(digest as string as TaskId)?.stored.complete === true)
    await until(() => swarm.agents.every((_, number) => haveOf(number) > pieces / 24))
    assert.ok(
      swarm.agents.every((_, number) => haveOf(number) < pieces),
      'all of them lack something',
    )
    const before = origin.sent
    await swarm.stopSupernode()
    const all = await Promise.all(going)
    for (const summary of all) assert.equal(summary.digest, digest)
    assert.ok(origin.sent > before, 'something was lacking everywhere')
    const seen = JSON.stringify(all.map(({ from }) => from))
    assert.equal(all.filter(({ from }) => from.origin > 0).length, 1, seen)
    const copies = (origin.sent - before) / body.byteLength
    // what the origin had handed to a connection that then ended counts, too
    assert.ok(copies < 1.5, `${copies} copies; ${seen}`)
  })
})
