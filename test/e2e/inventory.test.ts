import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'mocha'
import { digestOf } from '../../src/core/digest.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { CONTROL, CONTROL_VERSION, INVENTORY_RUN } from '../../src/protocol/control.ts'
import { openSession } from '../../src/protocol/open-session.ts'
import { CLAIMS_DEFAULTS } from '../../supernode/claims.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { aNode } from '../fixtures/swarm/a-node.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const within = () => ({ signal: AbortSignal.timeout(60_000) })
const HELLO = { version: CONTROL_VERSION, software: 'test', host: 'odd', lanes: [], multiaddrs: [] }

const madeUp = (number: number) => `sha256:${createHash('sha256').update(`made up ${number}`).digest('hex')}`

async function anAgent(swarm: Swarm) {
  const node = await aNode({ listen: [] })
  const session = await openSession(node, swarm.supernode.supernode.multiaddrs[0] ?? '', CONTROL, {}, within())
  await session.ask('hello', HELLO, within())
  return Object.assign(session, { leave: () => node.close() })
}

function holding(task: string, complete = true) {
  return { task, bytes: MIB, pieceBytes: MIB, have: complete ? new Uint8Array() : Uint8Array.of(0x80), complete }
}

describe('what a host says it holds (row 7)', function () {
  this.timeout(120_000)

  it('is bounded for each host, unless proven, and goes with its session', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(7, 2 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    await fetchUrl(swarm.agents[0], `${origin.url}/blob`, digest)
    const { tasks } = swarm.supernode.supernode.loop.state
    const before = tasks.size
    const agent = await anAgent(swarm)
    let known = 0
    for (let from = 0; from < 2 * CLAIMS_DEFAULTS.perHost; from += INVENTORY_RUN) {
      const holdings = Array.from({ length: INVENTORY_RUN }, (_, n) => holding(madeUp(from + n), n % 2 === 0))
      known += (await agent.ask('inventory', { holdings }, within())).known
    }
    assert.equal(known, CLAIMS_DEFAULTS.perHost)
    assert.equal(tasks.size, before + CLAIMS_DEFAULTS.perHost)
    // what the seed holds is proven: it counts for nothing
    assert.equal((await agent.ask('inventory', { holdings: [holding(digest)] }, within())).known, 1)
    await agent.leave()
    await until(() => tasks.size === before)
    assert.ok(tasks.has(digest as string as TaskId), 'what somebody had a right to is still known')
  })

  it('is forgotten when the host takes it back, so that it may say as much again', async () => {
    await using swarm = await aSwarm({ peers: 0 })
    const { tasks } = swarm.supernode.supernode.loop.state
    const agent = await anAgent(swarm)
    for (let round = 0; round < 3; round++) {
      const names = Array.from({ length: INVENTORY_RUN }, (_, n) => madeUp(round * INVENTORY_RUN + n))
      const { known } = await agent.ask('inventory', { holdings: names.map((name) => holding(name)) }, within())
      assert.equal(known, INVENTORY_RUN)
      await agent.tell('forget', { tasks: names })
    }
    await agent.ask('inventory', { holdings: [] }, within())
    assert.equal(tasks.size, 0)
    await agent.leave()
  })

  it('takes no memory for pieces that it doesn’t name', async () => {
    await using swarm = await aSwarm({ peers: 0 })
    const agent = await anAgent(swarm)
    const odd = { ...holding(madeUp(1), false), bytes: 2 ** 36, pieceBytes: 1 }
    await failsWith('PROTOCOL_VIOLATION', agent.ask('inventory', { holdings: [odd] }, within()), /pieces of 1 bytes/)
    await agent.leave()
  })
})
