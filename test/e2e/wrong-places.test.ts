import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'mocha'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import { digestOf } from '../../src/core/digest.ts'
import { blobTask, pieceCount, type TaskId } from '../../src/core/task/task.ts'
import { CONTROL, CONTROL_VERSION } from '../../src/protocol/control.ts'
import { openSession } from '../../src/protocol/open-session.ts'
import { MOST_UNPROVEN, UnprovenReads } from '../../supernode/seed/unproven-reads.ts'
import { failsWith, throwsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { aNode } from '../fixtures/swarm/a-node.ts'
import { twoPlaces } from '../fixtures/swarm/two-places.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const within = () => ({ signal: AbortSignal.timeout(20_000) })

/** A place that gives other bytes, some each quarter of a second, and never the last; what it was asked is on record. */
async function aTricklingPlace(bytes: number) {
  const wrong = randomBody(3, bytes)
  const timers = new Set<NodeJS.Timeout>()
  let asked = 0
  const server = createServer((_request, response) => {
    asked++
    response.writeHead(200, { 'content-length': bytes })
    let at = 0
    const timer = setInterval(() => {
      const to = Math.min(at + 96 * 1024, bytes - 1)
      response.write(wrong.subarray(at, to))
      at = to
    }, 250)
    timers.add(timer)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return {
    place: (name: string) => ({ kind: 'url', url: `http://127.0.0.1:${port}/${name}` }) as const,
    asked: () => asked,
    [Symbol.asyncDispose]: async () => {
      for (const timer of timers) clearInterval(timer)
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

describe('a place that trickles (row 9)', function () {
  this.timeout(120_000)

  it('holds up nobody who names another place', async () => {
    await using stand = await twoPlaces({ peers: 4 })
    await using slow = await aTricklingPlace(stand.body.byteLength)
    const [hostile, ...others] = stand.swarm.agents
    await using wrong = await stand.open(hostile, '', { origin: slow.place('wrong') })
    await stand.first(wrong)
    const read = async (agent: (typeof others)[number]) => {
      await using right = await stand.open(agent, '/good')
      assert.ok((await stand.read(right)).equals(stand.body))
    }
    await Promise.all(others.map(read))
    assert.equal(stand.gets('/good'), 2, 'once to prove the place, and once for all')
    assert.ok(slow.asked() > 0)
  })

  it('is named by one host for so many blobs at a time, and for more once one is read (bound)', async () => {
    const reads = new UnprovenReads(2)
    const first = reads.begin('one')
    reads.begin('one')
    throwsWith('LIMIT_EXCEEDED', () => reads.begin('one'))
    reads.begin('other')
    reads.begin(undefined)
    first()
    first()
    reads.begin('one')
    throwsWith('LIMIT_EXCEEDED', () => reads.begin('one'))
  })

  it('reads for one host no more places that have proven nothing than its share', async () => {
    await using stand = await twoPlaces({ peers: 1 })
    await using slow = await aTricklingPlace(stand.body.byteLength)
    const { seed } = stand.swarm.supernode.supernode
    const signal = AbortSignal.timeout(30_000)
    const named = (number: number) => ({
      ...{ origin: slow.place(`${number}`), digest: digestOf(Buffer.from(`${number}`)), by: 'one' },
      bytes: stand.body.byteLength,
    })
    const numbers = Array.from({ length: MOST_UNPROVEN }, (_, number) => number)
    await Promise.all(numbers.map((number) => seed.obtain(named(number), { signal })))
    await failsWith('LIMIT_EXCEEDED', seed.obtain(named(MOST_UNPROVEN), { signal }))
    assert.equal(slow.asked(), MOST_UNPROVEN)
    const { digest, body } = stand
    await seed.obtain({ origin: stand.place('/good'), digest, bytes: body.byteLength, by: 'other' }, { signal })
  })
})

describe('a place that gives other bytes under a digest', function () {
  this.timeout(60_000)

  for (const lead of [true, false])
    it(`leaves nothing to whoever called it wrong, ${lead ? 'on the host that reads it for all' : 'when the supernode reads it'}`, async () => {
      await using stand = await twoPlaces({ peers: 1 })
      const [agent] = stand.swarm.agents
      {
        await using wrong = await stand.open(agent, '/liar', { lead })
        const first = await stand.first(wrong)
        assert.ok(!first.equals(stand.body.subarray(0, first.byteLength)))
      }
      await using right = await stand.open(agent, '/good', { lead, wrongAt: [stand.place('/liar')] })
      assert.ok((await stand.read(right)).equals(stand.body))
    })

  it('is not waited for by a host that called it wrong, however many others still do', async () => {
    await using stand = await twoPlaces({ peers: 3 })
    const [one, two, three] = stand.swarm.agents
    await using waits = await stand.open(one, '/liar')
    const failed = waits.whole({ signal: AbortSignal.timeout(30_000) }).then(
      () => assert.fail('wrong bytes are whole'),
      (error: Error) => error,
    )
    await stand.first(waits)
    const wrongAt = [stand.place('/liar')]
    const both = await Promise.all([two, three].map((agent) => stand.open(agent, '/good', { wrongAt })))
    for (const content of both) {
      assert.ok((await stand.read(content)).equals(stand.body))
      await content[Symbol.asyncDispose]()
    }
    assert.match((await failed).message, /read anew through another place/)
    assert.equal(stand.gets('/good'), 2, 'once to prove the place, and once for all')
  })

  it('is left for one that another host has read whole, without a further read there', async () => {
    await using stand = await twoPlaces({ peers: 2 })
    const [one, two] = stand.swarm.agents
    {
      await using held = await stand.open(one, '/good', { lead: true })
      await held.whole({ signal: AbortSignal.timeout(30_000) })
    }
    {
      await using wrong = await stand.open(two, '/liar', { lead: true })
      await stand.first(wrong)
    }
    await using right = await stand.open(two, '/good', { lead: true, wrongAt: [stand.place('/liar')] })
    assert.ok((await stand.read(right)).equals(stand.body))
    assert.equal(stand.gets('/good'), 1)
  })

  it('is not taken for wrong because a host says so: the other place has to give the whole', async () => {
    await using stand = await twoPlaces({ peers: 2 })
    const [one, two] = stand.swarm.agents
    stand.origin.at('/good', { body: stand.body, pauseAfter: MIB, until: stand.end.promise })
    await using right = await stand.open(one, '/good')
    await stand.first(right)
    stand.origin.at('/liar', { body: randomBody(2, stand.body.byteLength) })
    await assert.rejects(
      stand.open(two, '/liar', { wrongAt: [stand.place('/good')] }),
      /served other bytes under this digest/,
    )
    stand.end.resolve()
    assert.ok((await stand.read(right)).equals(stand.body))
    assert.equal(stand.gets('/good'), 1)
  })

  it('costs the other place one read where its own ends while a host that called it wrong waits', async () => {
    await using stand = await twoPlaces({ peers: 2, held: 3 * MIB - 1000 })
    const [one, two] = stand.swarm.agents
    await using _wrong = await stand.open(one, '/liar')
    const { seed } = stand.swarm.supernode.supernode
    const pieces = pieceCount(blobTask(stand.digest, stand.body.byteLength))
    await until(() => seed.find(stand.digest as string as TaskId)?.known === pieces - 1)
    const obtain = seed.obtain.bind(seed)
    const asked = Promise.withResolvers<void>()
    seed.obtain = (...args) => {
      asked.resolve()
      return obtain(...args)
    }
    const opening = stand.open(two, '/good', { wrongAt: [stand.place('/liar')] })
    await asked.promise
    stand.end.resolve()
    await using right = await opening
    assert.ok((await stand.read(right)).equals(stand.body))
    assert.equal(stand.gets('/good'), 1)
  })

  it('gets no host banned that read it for all, once another place served the right bytes', async () => {
    await using stand = await twoPlaces({ peers: 2 })
    const [one, two] = stand.swarm.agents
    const { loop } = stand.swarm.supernode.supernode
    await using leads = await stand.open(one, '/liar', { lead: true })
    await stand.first(leads)
    await using follows = await stand.open(two, '/liar')
    await stand.first(follows)
    stand.end.resolve()
    for (const content of [leads, follows])
      await assert.rejects(content.whole({ signal: AbortSignal.timeout(30_000) }), /hash to/)
    const wrongAt = [stand.place('/liar')]
    for (const agent of [two, one]) {
      await using right = await stand.open(agent, '/good', { lead: true, wrongAt })
      assert.ok((await stand.read(right)).equals(stand.body))
    }
    assert.deepEqual([...loop.state.banned], [])
  })

  it('brings nothing to a second reader on the host that called it wrong, who waits for the first to be done', async () => {
    await using stand = await twoPlaces({ peers: 1 })
    const [agent] = stand.swarm.agents
    await using wrong = await stand.open(agent, '/liar')
    await stand.first(wrong)
    const opening = stand.open(agent, '/good', { wrongAt: [stand.place('/liar')] })
    await wrong[Symbol.asyncDispose]()
    await using right = await opening
    assert.ok((await stand.read(right)).equals(stand.body))
  })
})

describe('a holder of the right blob (row 9)', function () {
  this.timeout(60_000)

  it('is not banned for what a place that has proven nothing gives: its bytes are not that place’s', async () => {
    await using stand = await twoPlaces({ peers: 1 })
    const { swarm, digest, body } = stand
    const [holder] = swarm.agents
    const id = (await holder?.peer.status())?.peer as PeerId
    {
      await using right = await stand.open(holder, '/good')
      await right.whole({ signal: AbortSignal.timeout(30_000) })
    }
    await swarm.stopSupernode()
    await swarm.wipeSupernode()
    await swarm.startSupernode()
    const { control, loop, multiaddrs, admission } = swarm.supernode.supernode
    const task = digest as string as TaskId
    await until(() => loop.state.tasks.get(task)?.full.length === 1)
    const failed = Promise.withResolvers<void>()
    const notices = { failed: () => failed.resolve(), parents: () => {}, table: () => {}, pass: () => {} }
    await using node = await aNode({ listen: [] })
    await using session = await openSession(node, multiaddrs[0] ?? '', CONTROL, { notices }, within())
    const hello = { version: CONTROL_VERSION, software: 'test', host: 'odd', lanes: [], multiaddrs: [] }
    await session.ask('hello', hello, within())
    const origin = stand.place('/liar')
    const asked = { origin, digest, bytes: body.byteLength, priority: 'interactive' } as const
    const answer = await session.ask('register', asked, within())
    assert.ok(
      answer.parents.some(({ peer }) => peer === id),
      'the holder is a parent',
    )
    await until(() => (swarm.supernode.supernode.seed.find(task)?.known ?? 0) > 0)
    await session.tell('blame', { task, parent: id, code: 'PIECE_DIGEST', piece: 0 })
    await session.ask('why', { task }, within())
    stand.end.resolve()
    await failed.promise
    assert.deepEqual([...admission.expelled.keys()], [])
    assert.ok(control.hosts.has(id))
  })
})
