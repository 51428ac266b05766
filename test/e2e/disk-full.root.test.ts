import assert from 'node:assert/strict'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import { pieceBytesFor } from '../../src/core/task/task.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { aSmallDisk } from '../fixtures/host/a-small-disk.ts'
import { needs } from '../fixtures/host/needs.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

describe('a disk that fills up', function () {
  this.timeout(120_000)

  it('ends a download with DISK_FULL, gives back what it held, and takes it again once there is room', async function () {
    needs(this, { root: true, stage: true, programs: ['mount', 'umount'] })
    await using origin = await anOrigin()
    const body = randomBody(1, 24 * MIB)
    const digest = digestOf(body)
    const more = Promise.withResolvers<void>()
    origin.at('/big', { body, pauseAfter: 8 * MIB, until: more.promise })
    await using disk = await aSmallDisk(40 * MIB)
    await using swarm = await aSwarm({ peers: 0 })
    const agent = await swarm.start(0, { data: join(disk.path, 'agent') })
    const url = { kind: 'url', url: `${origin.url}/big` } as const
    const signal = AbortSignal.timeout(60_000)
    const fetch = async ({ peer }: RunningAgent) => {
      await using content = await peer.engine.open({ origin: url, digest, priority: 'interactive' }, { signal })
      return await content.whole({ signal })
    }
    await agent.peer.scheduler.ready({ signal })
    const before = await disk.freeBytes()
    const failed = fetch(agent).catch((error: unknown) => error)
    const half = async () => (await agent.peer.status()).tasks[0]?.have ?? 0
    await until(async () => (await half()) >= (8 * MIB) / pieceBytesFor(body.byteLength))
    await disk.fill(2 * MIB)
    more.resolve()
    await failsWith('DISK_FULL', Promise.reject(await failed))
    assert.equal(agent.peer.store.usage().partialBytes, 0)
    assert.deepEqual(await readdir(join(disk.path, 'agent/store/partial')), [])
    await disk.free()
    assert.ok(before - (await disk.freeBytes()) < MIB, 'the disk has its room back')
    assert.equal((await fetch(agent)).digest, digest)
    await agent[Symbol.asyncDispose]()
    swarm.agents.length = 0
  })
})
