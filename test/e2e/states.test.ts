import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import { silentLog } from '../../src/core/log.ts'
import { blobTask, pieceCount, STEPS } from '../../src/core/task/task.ts'
import { CONTROL, CONTROL_VERSION } from '../../src/protocol/control.ts'
import { openIdentity } from '../../src/protocol/identity.ts'
import { openNode } from '../../src/protocol/node.ts'
import { openSession } from '../../src/protocol/open-session.ts'
import { STATE_BYTES } from '../../src/store/hash/hash-chain.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const inTime = () => ({ signal: AbortSignal.timeout(30_000) })

/** What a host is told of a blob when it registers. */
async function registered(swarm: Swarm, blob: { url: string; digest: Digest }) {
  const identity = await openIdentity(join(swarm.directory, 'asker'))
  await using node = await openNode({ listen: ['127.0.0.1:0'], identity }, { log: silentLog() })
  await using session = await openSession(node, swarm.supernode.supernode.multiaddrs, CONTROL, {}, inTime())
  await session.ask(
    'hello',
    { version: CONTROL_VERSION, software: 'test', host: 'test', lanes: [], multiaddrs: [] },
    inTime(),
  )
  const origin = { kind: 'url', url: blob.url } as const
  return await session.ask('register', { origin, digest: blob.digest, priority: 'interactive' }, inTime())
}

describe('states between pieces', () => {
  it('spare every host of a swarm the second look at what it got', async () => {
    const threads: string[] = []
    const started = (worker: Worker) => void threads.push(worker.threadName ?? '')
    process.on('worker', started)
    try {
      await using origin = await anOrigin()
      await using swarm = await aSwarm({ peers: 3 })
      const body = randomBody(1, 24 * MIB)
      origin.at('/blob', { body })
      const digest = digestOf(body)
      const got = await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest)))
      assert.deepEqual(
        got.map((one) => one.digest),
        [digest, digest, digest],
      )
      assert.deepEqual(
        threads.filter((name) => name === 'hash'),
        [],
      )
    } finally {
      process.off('worker', started)
    }
  })

  it('are told to hosts, also when the supernode has had the blob for long', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(2, 33 * MIB)
    origin.at('/blob', { body })
    const blob = { url: `${origin.url}/blob`, digest: digestOf(body) }
    const [agent] = swarm.agents
    assert.ok(agent)
    await fetchUrl(agent, blob.url, blob.digest)
    await until(async () => (await registered(swarm, blob)).sealed !== undefined)
    await swarm.stopSupernode()
    await swarm.startSupernode()
    const pieces = pieceCount(blobTask(blob.digest, body.byteLength))
    const bytes = pieces * STATE_BYTES
    const now = await registered(swarm, blob)
    assert.deepEqual([now.table.byteLength, now.states?.byteLength], [bytes, bytes])
    assert.ok(now.states)
    assert.equal(Buffer.from(now.states.subarray(-STATE_BYTES)).toString('hex'), blob.digest.slice('sha256:'.length))
    assert.equal(now.steps?.byteLength, pieces * (STEPS - 1) * STATE_BYTES)
  })
})
