/** Ways by which private blobs were once given away, each closed at its cause; the numbers are those of docs/security.md. */
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { openExchange, RateLimits } from '../../peer/index.ts'
import { systemClock } from '../../src/core/clock.ts'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { PeerAddress } from '../../src/core/contracts/exchange.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import type { Credential, Origin } from '../../src/core/task/origin.ts'
import { blobTask, pieceCount, type TaskId } from '../../src/core/task/task.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { openIdentity } from '../../src/protocol/identity.ts'
import { PASS_MS } from '../../src/protocol/pass.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { needs } from '../fixtures/host/needs.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { aGuardedRegistry, credentialOf, TEAM } from '../fixtures/origin/a-guarded-registry.ts'
import { aRegistry, REGISTRY_USER } from '../fixtures/origin/a-registry.ts'
import { anOrigin, type Behaviour, type OriginRequest } from '../fixtures/origin/an-origin.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const ALICE: Credential = { kind: 'basic', ...REGISTRY_USER }
const BASIC = `Basic ${btoa(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`)}`

const soon = () => AbortSignal.timeout(60_000)

function blobAt(upstream: string, digest: Digest, credential?: Credential): ContentRequest & { digest: Digest } {
  return {
    origin: { kind: 'registry', upstream, repository: TEAM, collection: 'blobs' },
    digest,
    priority: 'interactive',
    ...(credential === undefined ? {} : { credential }),
  }
}

async function fetch(agent: RunningAgent | undefined, request: ContentRequest): Promise<Digest> {
  assert.ok(agent)
  await using content = await agent.peer.engine.open(request, { signal: soon() })
  return (await content.whole({ signal: soon() })).digest
}

/** Bytes that left the daemons of a swarm for others. */
async function sentBy(swarm: Swarm): Promise<number> {
  const all = await Promise.all(swarm.agents.map(async (agent) => (await agent.peer.status()).bytes.sent))
  return all.reduce((sum, one) => sum + one, swarm.supernode.supernode.traffic.seeded)
}

/** Asks each of `parents` for a piece as agent number `number`, with this pass; how many gave one. */
async function given(swarm: Swarm, number: number, digest: Digest, bytes: number, pass: Uint8Array): Promise<number> {
  const identity = await openIdentity(join(swarm.directory, `agent-${number}`))
  await using limits = new RateLimits({ clock: systemClock })
  const shelf = { open: () => Promise.reject(new Error('holds nothing')) }
  const parts = { identity, shelf, admit: () => false, clock: systemClock, log: silentLog(), limits }
  await using exchange = await openExchange({}, parts)
  const { peer, lanes, multiaddrs } = swarm.supernode.supernode
  const hosts = await Promise.all(swarm.agents.filter((_, at) => at !== number).map((agent) => agent.peer.status()))
  const parents: PeerAddress[] = [{ peer, lanes, multiaddrs }, ...hosts]
  const task = blobTask(digest, bytes)
  let gave = 0
  for (const parent of parents) {
    const have = new Bitmap(pieceCount(task))
    try {
      await using channel = await exchange.open(parent, task, { pass, have, priority: 'interactive', signal: soon() })
      if ((await channel.fetchAny({ signal: soon() })) !== undefined) gave++
    } catch (error) {
      if (!isDarnerError(error)) throw error
    }
  }
  return gave
}

describe('a private blob', function () {
  this.timeout(120_000)

  for (const [who, credential] of [
    ['no credential', undefined],
    ['a wrong one', { kind: 'basic', username: 'alice', password: 'guessed' }],
  ] as const satisfies readonly (readonly [string, Credential | undefined])[]) {
    it(`is not had by a host with ${who} that would read it for all, and waits for one with rights (row 1)`, async function () {
      needs(this, { programs: ['docker-registry'] })
      await using registry = await aRegistry({ auth: 'basic' })
      const body = randomBody(21, 3 * MIB)
      const digest = digestOf(body)
      await registry.putBlob(TEAM, digest, body)
      await using swarm = await aSwarm({ peers: 2 })
      const [stranger, owner] = swarm.agents
      assert.ok(stranger)
      const request = { ...blobAt(registry.url, digest, credential), bytes: body.byteLength, lead: true }
      await using followed = await stranger.peer.scheduler.register(request, { signal: soon() })
      assert.equal(followed.lead, true)
      const passes = [followed.pass]
      const told: string[] = []
      void (async () => {
        for await (const update of followed.updates) {
          told.push(update.kind)
          if (update.kind === 'pass') passes.push(update.pass)
        }
      })().catch(() => {})
      assert.equal(await fetch(owner, blobAt(registry.url, digest, ALICE)), digest)
      await swarm.supernode.supernode.seed.find(digest as string as TaskId)?.whole()
      // what the supernode had to say to the stranger was said before it answers this
      await failsWith('ORIGIN_UNAUTHORIZED', fetch(stranger, blobAt(registry.url, digest, credential)))
      const before = await sentBy(swarm)
      for (const pass of passes) assert.equal(await given(swarm, 0, digest, body.byteLength, pass), 0)
      assert.equal(await sentBy(swarm), before)
      assert.deepEqual(told, [], 'nobody has seen a right of it')
    })
  }

  for (const [what, place] of [
    ['a page of the same host', (url: string): Origin => ({ kind: 'url', url: `${url}/team/app` })],
    [
      'another registry on the same host',
      (url: string): Origin => ({ kind: 'registry', upstream: `${url}/team`, repository: 'app', collection: 'blobs' }),
    ],
  ] as const) {
    it(`is not had through ${what} that says yes (row 2)`, async () => {
      await using origin = await anOrigin()
      const body = randomBody(22, MIB)
      const digest = digestOf(body)
      const page = { body: '<p>welcome', headers: { 'content-type': 'text/html' } }
      origin.at(`/v2/${TEAM}/blobs/${digest}`, ({ headers }) =>
        headers.authorization === BASIC ? { body } : { status: 401, headers: { 'www-authenticate': 'Basic' } },
      )
      origin.at('/team/app', page)
      origin.at(`/team/v2/app/blobs/${digest}`, ({ method }) => (method === 'HEAD' ? { body } : page))
      await using swarm = await aSwarm({ peers: 2 })
      const [owner, stranger] = swarm.agents
      await fetch(owner, blobAt(origin.url, digest, ALICE))
      const before = await sentBy(swarm)
      const request = { origin: place(origin.url), digest, priority: 'interactive' } as const
      await assert.rejects(fetch(stranger, request), /other bytes|a page|another content/)
      assert.equal(await sentBy(swarm), before)
    })
  }

  it('is not had through a login page of another host, as long as the blob, to which its registry leads (row 2)', async () => {
    await using registry = await aGuardedRegistry()
    registry.users.set('alice', { repository: TEAM })
    const body = randomBody(23, MIB)
    const digest = registry.add(body)
    await using swarm = await aSwarm({ peers: 2 })
    const [owner, stranger] = swarm.agents
    await fetch(owner, blobAt(registry.url, digest, credentialOf('alice')))
    const before = await sentBy(swarm)
    registry.state = 'redirecting'
    for (const credential of [undefined, credentialOf('mallory')])
      await failsWith('ORIGIN_DENIED', fetch(stranger, blobAt(registry.url, digest, credential)))
    assert.equal(await sentBy(swarm), before)
  })

  for (const state of ['503', '429', 'away'] as const) {
    it(`is made public by no trouble of its registry: ${state} (row 3)`, async () => {
      await using registry = await aGuardedRegistry()
      registry.users.set('alice', { repository: TEAM })
      const body = randomBody(24, MIB)
      const digest = registry.add(body)
      await using swarm = await aSwarm({ peers: 3, supernode: { originRetries: 0 }, agent: { originRetries: 0 } })
      const [owner, stranger, other] = swarm.agents
      const rightful = blobAt(registry.url, digest, credentialOf('alice'))
      await fetch(owner, rightful)
      await swarm.stopSupernode()
      await swarm.wipeSupernode(['store'])
      await swarm.startSupernode()
      for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: soon() })
      registry.state = state
      const asked = { ...blobAt(registry.url, digest), bytes: body.byteLength }
      await assert.rejects(fetch(stranger, asked))
      registry.state = 'well'
      assert.equal(await fetch(other, rightful), digest)
      const before = await sentBy(swarm)
      await failsWith('ORIGIN_UNAUTHORIZED', fetch(stranger, asked))
      assert.equal(await sentBy(swarm), before)
    })
  }

  it('comes to whoever has a right while its registry is in trouble for those without a credential (row 3)', async () => {
    await using origin = await anOrigin()
    const body = randomBody(25, MIB)
    const digest = digestOf(body)
    await using swarm = await aSwarm({ peers: 2, supernode: { originRetries: 0 }, agent: { originRetries: 0 } })
    // a header that isn't Basic is sent at once, as the client's own token is
    const token: Credential = { kind: 'header', value: 'Bearer t' }
    origin.at(`/v2/${TEAM}/blobs/${digest}`, ({ headers }) =>
      headers.authorization === 'Bearer t' ? { body } : { status: 429 },
    )
    const request = { ...blobAt(origin.url, digest, token), bytes: body.byteLength }
    for (const agent of swarm.agents) assert.equal(await fetch(agent, request), digest)
  })

  it('is followed with a new pass only for a right that still holds, or that its registry is too troubled to speak of', async () => {
    await using registry = await aGuardedRegistry()
    for (const user of ['alice', 'carol']) registry.users.set(user, { repository: TEAM })
    const digest = registry.add(randomBody(27, MIB))
    let aheadMs = 0
    const clock = { ...systemClock, now: () => systemClock.now() + aheadMs }
    await using swarm = await aSwarm({ peers: 2, clock })
    const follow = async (number: number, user: string) => {
      const request = blobAt(registry.url, digest, credentialOf(user))
      const registration = await swarm.agents[number]?.peer.scheduler.register(request, { signal: soon() })
      return registration ?? assert.fail()
    }
    await fetch(swarm.agents[0], blobAt(registry.url, digest, credentialOf('alice')))
    await using alice = await follow(0, 'alice')
    await using carol = await follow(1, 'carol')
    /** The next pass, or what ended it. */
    const next = async ({ updates }: { updates: typeof alice.updates }) => {
      for await (const update of updates) {
        if (update.kind === 'pass') return 'pass'
        if (update.kind === 'failed') return isDarnerError(update.error) ? update.error.code : 'failed'
      }
      return 'over'
    }
    registry.users.set('carol', { repository: TEAM, end: '403' })
    aheadMs += PASS_MS - 60_000
    assert.equal(await next(carol), 'ORIGIN_DENIED')
    registry.state = '503'
    aheadMs += PASS_MS - 60_000
    assert.equal(await next(alice), 'pass')
  })

  it('is not given by a mirror without a supernode to a client without a credential, be it half here (row 4)', async () => {
    await using origin = await anOrigin()
    const body = randomBody(26, 4 * MIB)
    const digest = digestOf(body)
    const never = Promise.withResolvers<void>()
    const config = digestOf('{}')
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.ociManifest,
      config: { mediaType: MEDIA.ociConfig, digest: config, size: 2 },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: body.byteLength }],
    })
    const challenge = { status: 401, headers: { 'www-authenticate': 'Basic realm="test"' } }
    const guarded =
      (behaviour: Behaviour) =>
      ({ headers }: OriginRequest): Behaviour =>
        headers.authorization === BASIC ? behaviour : challenge
    const path = `/v2/${TEAM}/blobs/${digest}`
    origin.at('/v2/', guarded({ body: '{}' }))
    origin.at(`/v2/${TEAM}/manifests/v1`, guarded({ body: manifest, headers: { 'content-type': MEDIA.ociManifest } }))
    origin.at(path, guarded({ body, pauseAfter: 2 * MIB, until: never.promise }))
    await using swarm = await aSwarm({
      peers: 1,
      agent: { mirror: '127.0.0.1:0', upstream: [`reg.test=${origin.url}`], originRetries: 0 },
    })
    const [agent] = swarm.agents
    const [host = '', port = ''] = (agent?.mirror?.address ?? '').split(':')
    const halfHere = () => (agent?.peer.store.find(digest as string as TaskId)?.have.count ?? 0) > 0
    /** The status, and how many bytes came until there were `enough`, and some are stored. */
    const ask = (at: string, authorization: string | undefined, enough = Number.POSITIVE_INFINITY) =>
      new Promise<{ status: number; bytes: number }>((resolve, reject) => {
        const headers = authorization === undefined ? {} : { authorization }
        const asking = httpRequest({ host, port, path: at, headers, signal: soon() }, (answer) => {
          const status = answer.statusCode ?? 0
          let bytes = 0
          answer.on('data', (chunk: Buffer) => {
            if (status !== 200) return
            bytes += chunk.byteLength
            // what goes out isn't stored yet
            if (bytes >= enough) void until(halfHere).then(() => answer.destroy())
          })
          answer.on('close', () => resolve({ status, bytes }))
          answer.on('error', () => {})
        })
        asking.on('error', reject).end()
      })
    assert.equal((await ask(`/v2/${TEAM}/manifests/v1`, BASIC)).status, 200)
    assert.ok((await ask(path, BASIC, MIB)).bytes >= MIB)
    await until(async () => (await agent?.peer.engine.running())?.length === 0)
    assert.ok(halfHere(), 'half of it is here')
    await swarm.stopSupernode()
    await until(() => agent?.peer.scheduler.connected === false)
    for (let time = 0; time < 2; time++) assert.deepEqual(await ask(path, undefined, 1), { status: 401, bytes: 0 })
    assert.deepEqual((await ask(path, BASIC, 1)).status, 200)
    never.resolve()
  })
})
