import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'mocha'
import type { Content, ContentSummary } from '../../src/core/contracts/content.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'

const MIB = 1024 * 1024

interface Got {
  readonly hash: string
  readonly summary: ContentSummary
}

/** Reads the whole blob in order, as a runtime would, while it arrives. */
async function read(content: Content): Promise<Got> {
  const hash = createHash('sha256')
  for await (const chunk of content.read({ signal: AbortSignal.timeout(30_000) })) hash.update(chunk)
  return { hash: `sha256:${hash.digest('hex')}`, summary: await content.whole({ signal: AbortSignal.timeout(30_000) }) }
}

async function fetchUrl(agent: RunningAgent, url: string, digest?: Digest, bytes?: number): Promise<Got> {
  await using content = await agent.peer.engine.open(
    {
      origin: { kind: 'url', url },
      priority: 'interactive',
      ...(digest === undefined ? {} : { digest }),
      ...(bytes === undefined ? {} : { bytes }),
    },
    { signal: AbortSignal.timeout(30_000) },
  )
  return await read(content)
}

const gets = (origin: TestOrigin) => origin.requests.filter((request) => request.method === 'GET')

describe('a swarm', () => {
  it('reads a blob once at its origin and brings it to every agent', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 4 })
    const body = randomBody(1, 24 * MIB)
    origin.at('/blob', { body })
    const digest = digestOf(body)
    const got = await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digest)))
    for (const { hash } of got) assert.equal(hash, digest)
    assert.equal(gets(origin).length, 1)
    assert.equal(swarm.supernode.supernode.traffic.origin, body.byteLength)
    const total = got.reduce((sum, { summary }) => sum + summary.from.peers + summary.from.supernode, 0)
    assert.ok(total >= 4 * body.byteLength, `all bytes are accounted for: ${total}`)
    assert.ok(
      got.some(({ summary }) => summary.from.peers > 0),
      'peers served each other',
    )
    for (const { summary } of got) assert.equal(summary.from.origin, 0)
  })

  it('brings a small blob inside the answer', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    origin.at('/small', { body: 'small' })
    const got = await Promise.all(
      swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/small`, digestOf('small'))),
    )
    for (const { hash } of got) assert.equal(hash, digestOf('small'))
    assert.equal(gets(origin).length, 1)
  })

  it('brings an empty blob', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    origin.at('/empty', { body: '' })
    const [agent] = swarm.agents
    assert.ok(agent)
    assert.equal((await fetchUrl(agent, `${origin.url}/empty`, digestOf(''))).hash, digestOf(''))
  })

  it('brings a URL whose digest nobody named, and names it', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(2, 3 * MIB)
    origin.at('/file', { body, headers: { etag: '"one"' } })
    const got = await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/file`)))
    for (const { hash, summary } of got) {
      assert.equal(hash, digestOf(body))
      assert.equal(summary.digest, digestOf(body))
    }
    assert.equal(gets(origin).length, 1)
  })

  it('serves a reader that comes after everybody is done from those who have it', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(3, 8 * MIB)
    origin.at('/blob', { body })
    await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digestOf(body))))
    const late = await swarm.start(2)
    await late.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const { summary } = await fetchUrl(late, `${origin.url}/blob`, digestOf(body))
    assert.ok(summary.from.peers > 0, `from peers: ${summary.from.peers}`)
    assert.equal(gets(origin).length, 1)
  })

  for (const [name, behaviour, code] of [
    ['404', { status: 404 }, 'ORIGIN_NOT_FOUND'],
    ['401', { status: 401 }, 'ORIGIN_UNAUTHORIZED'],
    ['403', { status: 403 }, 'ORIGIN_DENIED'],
  ] as const) {
    it(`tells every agent the origin's ${name}`, async () => {
      await using origin = await anOrigin()
      await using swarm = await aSwarm({ peers: 2 })
      origin.at('/blob', behaviour)
      for (const agent of swarm.agents)
        await failsWith(code, fetchUrl(agent, `${origin.url}/blob`, digestOf('x')), /127\.0\.0\.1/)
    })
  }

  it('refuses a blob that hashes to something else, everywhere, and keeps nothing of it', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(4, 2 * MIB)
    origin.at('/blob', { body })
    const wrong = digestOf('something else')
    const tries = swarm.agents.map((agent) =>
      failsWith('DIGEST_MISMATCH', fetchUrl(agent, `${origin.url}/blob`, wrong)),
    )
    await Promise.all(tries)
    for (const agent of swarm.agents)
      assert.equal((await agent.peer.status()).tasks.filter((task) => task.complete).length, 0)
  })

  it('refuses a blob that is longer than its manifest says', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(5, 2 * MIB)
    origin.at('/blob', { body })
    const [agent] = swarm.agents
    assert.ok(agent)
    await failsWith('SIZE_MISMATCH', fetchUrl(agent, `${origin.url}/blob`, digestOf(body), MIB))
  })

  it('goes on at the next byte when the origin dies mid-blob', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(6, 4 * MIB)
    origin.at('/blob', [{ body, cutAfter: 3 * MIB }, { body }])
    const got = await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digestOf(body))))
    for (const { hash } of got) assert.equal(hash, digestOf(body))
    const [first, second] = gets(origin)
    assert.equal(gets(origin).length, 2)
    assert.equal(first?.headers.range, undefined)
    assert.match(second?.headers.range ?? '', /^bytes=[1-9]\d+-/)
    assert.ok(swarm.supernode.supernode.traffic.origin < body.byteLength * 1.1)
  })

  it('waits out an origin that is busy', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    origin.at('/blob', [{ status: 503, headers: { 'retry-after': '0' } }, { body: 'here now' }])
    const [agent] = swarm.agents
    assert.ok(agent)
    assert.equal((await fetchUrl(agent, `${origin.url}/blob`, digestOf('here now'))).hash, digestOf('here now'))
  })

  it('follows a redirect to another host', async () => {
    await using cdn = await anOrigin()
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(7, MIB)
    cdn.at('/there', { body })
    origin.at('/blob', { redirect: `${cdn.url}/there` })
    const [agent] = swarm.agents
    assert.ok(agent)
    assert.equal((await fetchUrl(agent, `${origin.url}/blob`, digestOf(body))).hash, digestOf(body))
  })

  it('brings a blob whose origin tells no length', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(8, 3 * MIB)
    origin.at('/blob', { body, noLength: true })
    const got = await Promise.all(swarm.agents.map((agent) => fetchUrl(agent, `${origin.url}/blob`, digestOf(body))))
    for (const { hash } of got) assert.equal(hash, digestOf(body))
    assert.equal(gets(origin).length, 1)
  })

  it('goes on among the peers, and joins again, when the supernode restarts', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 2 })
    const body = randomBody(9, 6 * MIB)
    origin.at('/blob', { body })
    const [first, second] = swarm.agents
    assert.ok(first && second)
    await fetchUrl(first, `${origin.url}/blob`, digestOf(body))
    await swarm.stopSupernode()
    await swarm.startSupernode()
    await second.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const { hash, summary } = await fetchUrl(second, `${origin.url}/blob`, digestOf(body))
    assert.equal(hash, digestOf(body))
    assert.equal(summary.from.origin, 0)
    assert.equal(gets(origin).length, 1)
  })

  it('falls back to the origin, with the reason, when there is no supernode', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(10, 2 * MIB)
    origin.at('/blob', { body })
    const [agent] = swarm.agents
    assert.ok(agent)
    await swarm.stopSupernode()
    const { hash, summary } = await fetchUrl(agent, `${origin.url}/blob`, digestOf(body))
    assert.equal(hash, digestOf(body))
    assert.equal(summary.from.origin, body.byteLength)
  })
})
