import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { blameCode } from '../../peer/downloader/fail-reason.ts'
import { digestOf } from '../../src/core/digest.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

describe('parents that are found slow', () => {
  it('stay with the others, and get fewer children from then on', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3 })
    const body = randomBody(1, 4 * 1024 * 1024)
    origin.at('/blob', { body })
    const signal = AbortSignal.timeout(30_000)
    const { peer: seed, loop } = swarm.supernode.supernode
    const followers = []
    for (const { peer } of swarm.agents) {
      const place = { kind: 'url', url: `${origin.url}/blob` } as const
      const request = { origin: place, digest: digestOf(body), priority: 'interactive' } as const
      const registration = await peer.scheduler.register(request, { signal })
      const dropped: string[] = []
      const heard = (async () => {
        for await (const update of registration.updates) if (update.kind === 'parents') dropped.push(...update.drop)
      })()
      followers.push({ registration, scheduler: peer.scheduler, dropped, heard })
    }
    const before = loop.state.peers.get(seed)?.capacity ?? 0
    for (const { registration, scheduler } of followers.slice(0, 2)) {
      registration.blame(seed, blameCode('slow'))
      // what was said before an answer was heard before it
      await scheduler.why(registration.task.id, { signal })
    }
    const [, , last] = followers
    assert.ok(last)
    await last.scheduler.why(last.registration.task.id, { signal })
    assert.deepEqual(last.dropped, [])
    assert.equal(loop.state.peers.get(seed)?.capacity, before / 2)
    for (const { registration, heard } of followers) {
      await registration[Symbol.asyncDispose]()
      await heard
    }
  })
})
