import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import type { CollectView, LimitList, StoreView, WhyView } from '../../src/api/care-api.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

/** A fetch ends at the digest; the blob is complete once it is safe on the disk. */
async function complete(agent: RunningAgent | undefined, digest: Digest): Promise<void> {
  await until(() => agent?.peer.store.byDigest(digest)?.complete === true)
}

/** Runs a command against agent `number` and returns what it printed as JSON. */
async function ask<T>(swarm: Swarm, number: number, ...args: string[]): Promise<T> {
  const done = await runDarner([...args, '--json', '--socket', join(swarm.directory, `agent-${number}.sock`)])
  assert.equal(done.code, 0, done.stderr)
  return JSON.parse(done.stdout) as T
}

describe('care of store and links', function () {
  this.timeout(120_000)

  it('darner why names each read at the origin, on every host', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(1, 2 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', [{ body, cutAfter: MIB }, { body }])
    await fetchUrl(swarm.agents[0], `${origin.url}/blob`, digest)
    for (const number of [0, 1]) {
      const read = async () => (await ask<WhyView>(swarm, number, 'why', digest)).reads
      // the last read's length is on record once the seed is done with it, which whoever waits for the blob may be before
      await until(async () => (await read()).reduce((sum, { bytes }) => sum + bytes, 0) >= body.byteLength)
      const reads = await read()
      assert.deepEqual(
        reads.map(({ host, reason }) => [host, reason]),
        [
          ['supernode', 'first read'],
          ['supernode', 'retry after ORIGIN_TRUNCATED'],
        ],
      )
    }
    const socket = ['--socket', join(swarm.directory, 'agent-0.sock')]
    // by the start of its digest, where the blob is
    assert.equal((await ask<WhyView>(swarm, 0, 'why', digest.slice('sha256:'.length, -40))).task, digest)
    assert.match(
      (await runDarner(['why', digest.slice(0, 20), ...socket])).stdout,
      /^BLOB +BYTES +READ BY +LAST READ +WHY\nsha256:[0-9a-f]{12} /,
    )
    const bad = await runDarner(['why', 'nonsense', ...socket])
    assert.deepEqual([bad.code, bad.stdout], [1, ''])
    assert.match(bad.stderr, /^darner: no blob or image of this host is called "nonsense"; give the whole digest /)
  })

  it('darner df and gc tell and free what nothing holds, and the supernode hears of it', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(2, 3 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    await fetchUrl(swarm.agents[0], `${origin.url}/blob`, digest)
    await complete(swarm.agents[0], digest)
    const held = await ask<StoreView>(swarm, 0, 'df')
    assert.deepEqual([held.blobs, held.completeBytes, held.reclaimableBytes], [1, body.byteLength, body.byteLength])
    assert.ok(held.freeBytes > 0)
    assert.ok(held.lowBytes < held.highBytes && held.highBytes < held.completeBytes + held.freeBytes)
    const dry = await ask<CollectView>(swarm, 0, 'gc', '--dry-run')
    assert.deepEqual(
      dry.victims.map(({ task }) => task),
      [digest],
    )
    assert.equal((await ask<StoreView>(swarm, 0, 'df')).blobs, 1)
    const piped = await runDarner(['gc', '--socket', join(swarm.directory, 'agent-0.sock')])
    assert.equal(piped.code, 2)
    assert.match(
      piped.stderr,
      /^darner: gc would delete 1 blob that nothing holds, 3 MiB, but .*not a terminal.*; use --force/,
    )
    assert.equal((await ask<StoreView>(swarm, 0, 'df')).blobs, 1)
    assert.equal((await ask<CollectView>(swarm, 0, 'gc', '--force')).freedBytes, body.byteLength)
    assert.equal((await ask<StoreView>(swarm, 0, 'df')).blobs, 0)
    const first = swarm.agents[0]
    assert.ok(first)
    const { peer } = await first.peer.status()
    const { state } = swarm.supernode.supernode.loop
    await until(() => (state.peers.get(peer)?.members.length ?? 0) === 0)
    const summary = await fetchUrl(swarm.agents[1], `${origin.url}/blob`, digest)
    assert.equal(summary.digest, digest)
  })

  it('darner limit holds a download back, and lets it go on when it is lifted', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1, agent: { downloadRate: '256KiB/s' } })
    const body = randomBody(3, 24 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    const socket = ['--socket', join(swarm.directory, 'agent-0.sock')]
    const atStart = await ask<LimitList>(swarm, 0, 'limit')
    const limits = [{ scope: { on: 'direction', direction: 'in' }, limit: { bytesPerSec: 256 * 1024 } }]
    assert.deepEqual(atStart, { limits, uploadYield: 'none' })
    const going = fetchUrl(swarm.agents[0], `${origin.url}/blob`, digest)
    await until(async () => ((await swarm.agents[0]?.peer.status())?.tasks[0]?.have ?? 0) > 0)
    // at this rate it would take a minute and a half more
    const lifted = await runDarner(['limit', 'set', 'download', 'off', ...socket])
    assert.equal(lifted.code, 0, lifted.stderr)
    assert.equal((await going).digest, digest)
    const task = await runDarner(['limit', 'set', `task:${digest}`, '5MiB/s', '--direction', 'upload', ...socket])
    assert.equal(task.stdout, `task:${digest} upload  5 MiB/s\n`)
    const wrong = await runDarner(['limit', 'set', 'everything', '5MiB/s', ...socket])
    assert.deepEqual([wrong.code, /expected host, download, upload/.test(wrong.stderr)], [2, true])
    const polite = await runDarner(['limit', 'set', 'yield', 'background', ...socket])
    assert.equal(polite.stdout, `task:${digest} upload  5 MiB/s\nyield  background\n`)
    assert.equal((await ask<LimitList>(swarm, 0, 'limit')).uploadYield, 'background')
    const sometimes = await runDarner(['limit', 'set', 'yield', 'sometimes', ...socket])
    assert.deepEqual([sometimes.code, /expected none, background/.test(sometimes.stderr)], [2, true])
  })

  it('a scrub finds bit rot and heals it from the swarm, without another read at the origin', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(4, 6 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    for (const agent of swarm.agents) await fetchUrl(agent, `${origin.url}/blob`, digest)
    await complete(swarm.agents[0], digest)
    const path = join(swarm.directory, 'agent-0', 'store', 'blobs', 'sha256', digest.slice(7))
    await using file = await open(path, 'r+')
    await file.write(Buffer.from([~(body[3 * MIB] ?? 0)]), 0, 1, 3 * MIB)
    const [rotten] = swarm.agents
    assert.ok(rotten)
    const report = await rotten.peer.store.scrub({ signal: AbortSignal.timeout(20_000) })
    assert.equal(report.damaged.length, 1)
    await complete(rotten, digest)
    const again = await rotten.peer.store.scrub({ signal: AbortSignal.timeout(20_000) })
    assert.equal(again.damaged.length, 0)
    assert.equal(origin.requests.filter(({ method }) => method === 'GET').length, 1)
  })
})
