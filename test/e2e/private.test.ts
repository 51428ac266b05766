import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { openExchange, RateLimits } from '../../peer/index.ts'
import { systemClock } from '../../src/core/clock.ts'
import type { ContentRequest, ContentSummary } from '../../src/core/contracts/content.ts'
import type { ParentChannel, PeerAddress, PeerId, Shelf } from '../../src/core/contracts/exchange.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import type { Code } from '../../src/core/errors.ts'
import { openLog, silentLog } from '../../src/core/log.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import type { Place } from '../../src/core/task/place.ts'
import { blobTask, pieceBytesFor, pieceCount, type TaskId } from '../../src/core/task/task.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { type Identity, newIdentity, SIGNATURE_BYTES } from '../../src/protocol/identity.ts'
import { PASS_MS, signPass } from '../../src/protocol/pass.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { needs } from '../fixtures/host/needs.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { aRegistry, REGISTRY_USER, type Registry } from '../fixtures/origin/a-registry.ts'
import { aTokenServer } from '../fixtures/origin/a-token-server.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aGrant, ELSEWHERE } from '../fixtures/swarm/a-grant.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const ALICE: Credential = { kind: 'basic', ...REGISTRY_USER }
const SECRETS = [REGISTRY_USER.password, Buffer.from(`alice:${REGISTRY_USER.password}`).toString('base64')]

/** Everything that a swarm logs at trace, in hand. */
async function aLogBook() {
  const lines: string[] = []
  const log = await openLog({ level: 'trace', pretty: false }, { write: (line: string) => void lines.push(line) })
  return { log, text: () => lines.join('') }
}

function registryRequest(upstream: string, digest: Digest, credential?: Credential, bytes?: number): ContentRequest {
  return {
    origin: { kind: 'registry', upstream, repository: 'team/app', collection: 'blobs' },
    digest,
    priority: 'interactive',
    ...(credential === undefined ? {} : { credential }),
    ...(bytes === undefined ? {} : { bytes }),
  }
}

async function fetch(agent: RunningAgent | undefined, request: ContentRequest): Promise<ContentSummary> {
  assert.ok(agent)
  const signal = AbortSignal.timeout(30_000)
  await using content = await agent.peer.engine.open(request, { signal })
  return await content.whole({ signal })
}

async function addressOf(agent: RunningAgent | undefined): Promise<PeerAddress> {
  assert.ok(agent)
  const { peer, lanes, multiaddrs } = await agent.peer.status()
  return { peer, lanes, multiaddrs }
}

async function sentBy(swarm: Swarm): Promise<number> {
  const all = await Promise.all(swarm.agents.map(async (agent) => (await agent.peer.status()).bytes.sent))
  return all.reduce((sum, one) => sum + one, swarm.supernode.supernode.traffic.seeded)
}

/** Opens a blob at `parent`, as `identity`, with this pass, and does `work` with the channel. */
async function withChannel<T>(
  parent: PeerAddress,
  identity: Identity,
  { digest, bytes, pass }: { digest: Digest; bytes: number; pass: Uint8Array },
  work: (channel: ParentChannel) => Promise<T>,
): Promise<T> {
  const none: Shelf = { open: () => Promise.reject(new Error('holds nothing')) }
  await using limits = new RateLimits({ clock: systemClock })
  await using exchange = await openExchange(
    {},
    { identity, shelf: none, admit: () => false, clock: systemClock, log: silentLog(), limits },
  )
  const task = blobTask(digest, bytes)
  const signal = AbortSignal.timeout(10_000)
  await using channel = await exchange.open(parent, task, {
    pass,
    have: new Bitmap(pieceCount(task)),
    priority: 'interactive',
    signal,
  })
  return await work(channel)
}

/** Asks one piece so. */
async function ask(parent: PeerAddress, identity: Identity, digest: Digest, bytes: number, pass: Uint8Array) {
  return await withChannel(parent, identity, { digest, bytes, pass }, (channel) =>
    channel.fetchAny({ signal: AbortSignal.timeout(10_000) }),
  )
}

async function filesUnder(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name))
}

async function holdsNoSecret(directory: string, secrets: readonly string[]): Promise<void> {
  for (const file of await filesUnder(directory)) {
    const body = await readFile(file)
    for (const secret of secrets) assert.ok(!body.includes(secret), `${file} holds a credential`)
  }
}

const noRegistry = { programs: ['docker-registry'] }

describe('a private blob', function () {
  this.timeout(120_000)

  for (const [name, credential, code] of [
    ['no credential', undefined, 'ORIGIN_UNAUTHORIZED'],
    ['a wrong password', { kind: 'basic', username: 'alice', password: 'guessed' }, 'ORIGIN_UNAUTHORIZED'],
  ] as const satisfies readonly (readonly [string, Credential | undefined, Code])[]) {
    it(`gives a host with ${name} the registry's own refusal and no byte`, async function () {
      needs(this, noRegistry)
      await using registry = await aRegistry({ auth: 'basic' })
      const { body, digest } = await pushed(registry, 1)
      const book = await aLogBook()
      await using swarm = await aSwarm({ peers: 3, log: book.log })
      const [one, two, stranger] = swarm.agents
      await fetch(one, registryRequest(registry.url, digest, ALICE))
      await fetch(two, registryRequest(registry.url, digest, ALICE))
      assert.equal(await registry.blobGets(digest), 1)
      const before = await sentBy(swarm)
      const error = await failsWith(code, fetch(stranger, registryRequest(registry.url, digest, credential)))
      assert.match(error.message, /127\.0\.0\.1/)
      assert.equal(await sentBy(swarm), before, 'no byte left for the stranger')
      const kept = (await stranger?.peer.status())?.tasks ?? []
      assert.deepEqual(kept, [])
      assert.equal(await registry.blobGets(digest), 1)
      for (const secret of SECRETS) assert.ok(!book.text().includes(secret), 'a log holds a credential')
      assert.match(book.text(), /agent joined/, 'there are logs to look at')
      await holdsNoSecret(swarm.directory, SECRETS)
      assert.equal((await fetch(one, registryRequest(registry.url, digest, ALICE))).bytes, body.byteLength)
    })
  }

  it('costs its registry few questions, however many hosts without rights ask for it', async () => {
    await using origin = await anOrigin()
    const digest = digestOf('private')
    origin.at(`/v2/team/app/blobs/${digest}`, { status: 404 })
    await using swarm = await aSwarm({ peers: 3 })
    const asks = swarm.agents.flatMap((agent) =>
      [1, 2, 3, 4].map((bytes) =>
        failsWith('ORIGIN_NOT_FOUND', fetch(agent, registryRequest(origin.url, digest, undefined, bytes))),
      ),
    )
    await Promise.all(asks)
    assert.ok(origin.requests.length <= 3, `${origin.requests.length} requests for ${asks.length} asks`)
  })

  it('is refused with the token server’s own verdict, and lives through tokens that end', async function () {
    needs(this, noRegistry)
    await using tokens = await aTokenServer({
      users: { alice: REGISTRY_USER.password, bob: 'bob’s own' },
      granted: ['team/app'],
    })
    await using registry = await aRegistry({ auth: tokens })
    const { digest } = await pushed(registry, 2)
    // the first tokens are over before they are used: each read must get a new one and go on
    tokens.lives.push(-1, 60, -1, 60)
    const book = await aLogBook()
    await using swarm = await aSwarm({ peers: 3, log: book.log })
    const [one, two, stranger] = swarm.agents
    await fetch(one, registryRequest(registry.url, digest, ALICE))
    await fetch(two, registryRequest(registry.url, digest, ALICE))
    assert.equal(await registry.blobGets(digest), 1)
    const before = await sentBy(swarm)
    await failsWith('ORIGIN_UNAUTHORIZED', fetch(stranger, registryRequest(registry.url, digest)))
    const elsewhere = {
      ...registryRequest(registry.url, digest, { kind: 'basic', username: 'bob', password: 'bob’s own' }),
      origin: { kind: 'registry', upstream: registry.url, repository: 'bobs/own', collection: 'blobs' } as const,
    }
    await assert.rejects(fetch(stranger, elsewhere), /team|bobs|401|403|404|denied|unauthorized|not found/i)
    assert.equal(await sentBy(swarm), before)
    for (const secret of [...SECRETS, 'bob’s own']) assert.ok(!book.text().includes(secret), 'a log holds a credential')
    await holdsNoSecret(swarm.directory, SECRETS)
  })

  it('goes on with a new token when the one it began with ends in the middle', async () => {
    await using origin = await anOrigin()
    const body = randomBody(3, 6 * MIB)
    const digest = digestOf(body)
    let valid = 'first'
    let asked = 0
    const path = `/v2/team/app/blobs/${digest}`
    origin.at('/token', ({ headers }) => {
      if (headers.authorization === undefined) return { status: 401 }
      asked++
      return { body: JSON.stringify({ token: valid, expires_in: 60 }), headers: { 'content-type': 'application/json' } }
    })
    origin.at(path, ({ headers, method }) => {
      if (headers.authorization !== `Bearer ${valid}`) {
        const challenge = `Bearer realm="${origin.url}/token",service="s",scope="repository:team/app:pull"`
        return { status: 401, headers: { 'www-authenticate': challenge } }
      }
      if (method === 'GET' && headers.range === undefined) {
        valid = 'second'
        return { body, cutAfter: 4 * MIB }
      }
      return { body }
    })
    await using swarm = await aSwarm({ peers: 1 })
    const summary = await fetch(swarm.agents[0], registryRequest(origin.url, digest, ALICE))
    assert.equal(summary.digest, digest)
    assert.equal(asked, 2)
    assert.ok(swarm.supernode.supernode.traffic.origin < body.byteLength * 1.1, 'only what lacked was read again')
  })

  it('is not had by an origin of one’s own that says yes, serves other bytes, or never ends', async function () {
    needs(this, noRegistry)
    await using registry = await aRegistry({ auth: 'basic' })
    const { body, digest } = await pushed(registry, 4)
    await using own = await anOrigin()
    const path = `/v2/team/app/blobs/${digest}`
    await using swarm = await aSwarm({ peers: 3 })
    const [one, two, stranger] = swarm.agents
    await fetch(one, registryRequest(registry.url, digest, ALICE))
    await fetch(two, registryRequest(registry.url, digest, ALICE))
    const before = await sentBy(swarm)
    own.at(path, { body: randomBody(99, body.byteLength) })
    await failsWith('DIGEST_MISMATCH', fetch(stranger, registryRequest(own.url, digest)))
    own.at(path, ({ method }) => (method === 'HEAD' ? { body } : { status: 404 }))
    await failsWith('ORIGIN_NOT_FOUND', fetch(stranger, registryRequest(own.url, digest)))
    const asUrl = { origin: { kind: 'url', url: `${own.url}${path}` }, digest, priority: 'interactive' } as const
    await failsWith('ORIGIN_NOT_FOUND', fetch(stranger, asUrl))
    assert.equal(await sentBy(swarm), before)
  })

  it('is not had so even from a supernode that lost its records while hosts hold it', async function () {
    needs(this, noRegistry)
    await using registry = await aRegistry({ auth: 'basic' })
    const { body, digest } = await pushed(registry, 5)
    await using own = await anOrigin()
    const never = Promise.withResolvers<void>()
    own.at(`/v2/team/app/blobs/${digest}`, {
      body: randomBody(98, body.byteLength),
      pauseAfter: MIB,
      until: never.promise,
    })
    await using swarm = await aSwarm({ peers: 3 })
    const [one, two, stranger] = swarm.agents
    await fetch(one, registryRequest(registry.url, digest, ALICE))
    await fetch(two, registryRequest(registry.url, digest, ALICE))
    await swarm.stopSupernode()
    await swarm.wipeSupernode()
    await swarm.startSupernode()
    for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const before = await Promise.all([one, two].map(async (agent) => (await agent?.peer.status())?.bytes.sent ?? 0))
    assert.ok(stranger)
    const signal = AbortSignal.timeout(30_000)
    const content = await stranger.peer.engine.open(registryRequest(own.url, digest), { signal })
    // its own bytes come; its neighbours, whom the supernode names to it as parents, give it none
    await until(() => content.progress().have >= MIB / 2)
    const after = await Promise.all([one, two].map(async (agent) => (await agent?.peer.status())?.bytes.sent ?? 0))
    assert.deepEqual(after, before)
    const done = content[Symbol.asyncDispose]()
    never.resolve()
    await done
  })

  for (const [lost, what] of [
    ['its store', ['store']],
    ['all that it held and knew', ['store', 'state']],
  ] as const satisfies readonly (readonly [string, readonly ('store' | 'state')[]])[]) {
    it(`is not held up by an origin of one’s own that never ends, at a supernode that lost ${lost}`, async function () {
      needs(this, noRegistry)
      await using registry = await aRegistry({ auth: 'basic' })
      const { body, digest } = await pushed(registry, 8)
      await using own = await anOrigin()
      const never = Promise.withResolvers<void>()
      const slow = { body: randomBody(97, body.byteLength), pauseAfter: MIB, until: never.promise }
      own.at(`/v2/team/app/blobs/${digest}`, slow)
      await using swarm = await aSwarm({ peers: 3 })
      const [one, two, stranger] = swarm.agents
      await fetch(one, registryRequest(registry.url, digest, ALICE))
      await swarm.supernode.supernode.seed.find(digest as string as TaskId)?.whole()
      await swarm.stopSupernode()
      await swarm.wipeSupernode(what)
      await swarm.startSupernode()
      for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
      assert.ok(stranger)
      const signal = AbortSignal.timeout(30_000)
      await using content = await stranger.peer.engine.open(registryRequest(own.url, digest), { signal })
      const failure = content.whole({ signal }).catch((error: unknown) => error)
      // all that the endless origin gives has come: a read that still got on would be shared
      const given = MIB / pieceBytesFor(body.byteLength)
      const { seed } = swarm.supernode.supernode
      await until(() => (seed.find(digest as string as TaskId)?.known ?? 0) >= given)
      assert.equal((await fetch(two, registryRequest(registry.url, digest, ALICE))).digest, digest)
      assert.match(String(await failure), /read anew through another place/)
      never.resolve()
    })
  }

  it('is read once more for all who ask at once through another place, not once by each', async function () {
    needs(this, noRegistry)
    await using registry = await aRegistry({ auth: 'basic' })
    const { body, digest } = await pushed(registry, 9)
    await registry.putBlob('team/copy', digest, body)
    await using swarm = await aSwarm({ peers: 5 })
    const [first, ...others] = swarm.agents
    await fetch(first, registryRequest(registry.url, digest, ALICE))
    await swarm.supernode.supernode.seed.find(digest as string as TaskId)?.whole()
    assert.equal(await registry.blobGets(digest), 1)
    const copy = { kind: 'registry', upstream: registry.url, repository: 'team/copy', collection: 'blobs' } as const
    const asks = others.map((agent) => fetch(agent, { ...registryRequest(registry.url, digest, ALICE), origin: copy }))
    for (const { bytes } of await Promise.all(asks)) assert.equal(bytes, body.byteLength)
    assert.equal(await registry.blobGets(digest), 2, 'one read proves the place to all')
  })

  it('opens to no forged, borrowed or expired pass, at a peer or at the seed', async function () {
    needs(this, noRegistry)
    await using registry = await aRegistry({ auth: 'basic' })
    const { body: blob, digest } = await pushed(registry, 6)
    await using swarm = await aSwarm({ peers: 1 })
    const [holder] = swarm.agents
    await fetch(holder, registryRequest(registry.url, digest, ALICE))
    const issuer = swarm.supernode.identity
    const thief = await newIdentity()
    const member = await newIdentity()
    const place = `registry ${registry.url}/v2/team/app/blobs` as Place
    const task = digest as string as TaskId
    const soon = Date.now() + PASS_MS
    const of = { id: task, bytes: blob.byteLength }
    const unproven = aGrant(of, { place: ELSEWHERE, reach: 'through' })
    const passOf = (reader: PeerId, expiresMs: number, sign = issuer.sign, about = of) =>
      signPass(aGrant(about, { place }), { task: about, reader, expiresMs }, sign)
    const bent = passOf(thief.peerId, soon)
    bent[10] = (bent[10] ?? 0) ^ 1
    const body = (pass: Uint8Array) => pass.subarray(0, -SIGNATURE_BYTES)
    /** What `change` says, under the signature of another pass. */
    const edited = (real: Uint8Array, change: Uint8Array) =>
      Buffer.concat([body(change), real.subarray(-SIGNATURE_BYTES)])
    const members = passOf(member.peerId, soon)
    const late = passOf(thief.peerId, Date.now() - 1)
    const other = { ...of, id: digestOf('something else') as string as TaskId }
    const longer = { ...of, bytes: of.bytes + 1 }
    const wrong: Record<string, Uint8Array> = {
      none: new Uint8Array(),
      'signed by the thief': passOf(thief.peerId, soon, thief.sign),
      'of another member': passOf(member.peerId, soon),
      expired: passOf(thief.peerId, Date.now() - 1),
      'for another blob': passOf(thief.peerId, soon, issuer.sign, other),
      'for a blob of another length': passOf(thief.peerId, soon, issuer.sign, longer),
      'one bit turned': bent,
      'of another member, made out to the thief': edited(members, passOf(thief.peerId, soon, thief.sign)),
      'expired, its time put off': edited(late, passOf(thief.peerId, soon, thief.sign)),
      'of a place that proved nothing, made out for the registry': edited(
        signPass(unproven, { task: of, reader: thief.peerId, expiresMs: soon }, issuer.sign),
        passOf(thief.peerId, soon, thief.sign),
      ),
      'for another blob, made out for this': edited(
        passOf(thief.peerId, soon, issuer.sign, other),
        passOf(thief.peerId, soon, thief.sign),
      ),
      'of a place that proved nothing': signPass(
        unproven,
        { task: of, reader: thief.peerId, expiresMs: soon },
        issuer.sign,
      ),
    }
    const seed: PeerAddress = {
      peer: swarm.supernode.supernode.peer,
      lanes: swarm.supernode.supernode.lanes,
      multiaddrs: swarm.supernode.supernode.multiaddrs,
    }
    const places = [await addressOf(holder), seed]
    const before = await sentBy(swarm)
    for (const place of places) {
      for (const [what, pass] of Object.entries(wrong))
        await assert.rejects(ask(place, thief, digest, blob.byteLength, pass), `a pass ${what} was taken`)
    }
    assert.equal(await sentBy(swarm), before)
    // the same door opens to a right one: what was refused was the pass
    const given = await ask(await addressOf(holder), member, digest, blob.byteLength, passOf(member.peerId, soon))
    assert.ok(given !== undefined)
  })

  it('is no longer read by a host that is revoked, within 5 s, on channels that it has open', async function () {
    needs(this, noRegistry)
    await using registry = await aRegistry({ auth: 'basic' })
    const { body, digest } = await pushed(registry, 10)
    await using swarm = await aSwarm({ peers: 1 })
    const [holder] = swarm.agents
    await fetch(holder, registryRequest(registry.url, digest, ALICE))
    const member = await newIdentity()
    const right = {
      task: { id: digest as string as TaskId, bytes: body.byteLength },
      reader: member.peerId,
      expiresMs: Date.now() + PASS_MS,
    }
    const pass = signPass(aGrant(right.task), right, swarm.supernode.identity.sign)
    const parent = await addressOf(holder)
    await withChannel(parent, member, { digest, bytes: body.byteLength, pass }, async (channel) => {
      assert.ok((await channel.fetchAny({ signal: AbortSignal.timeout(10_000) })) !== undefined)
      const data = join(swarm.directory, 'supernode')
      const done = await runDarner(['supernode', 'revoke', member.peerId, '--data', data])
      assert.equal(done.code, 0, done.stderr)
      const sinceMs = performance.now()
      await channel.closed
      assert.ok(performance.now() - sinceMs < 5_000)
      await assert.rejects(channel.fetchAny({ signal: AbortSignal.timeout(10_000) }))
    })
    await assert.rejects(ask(parent, member, digest, body.byteLength, pass), 'it is let in again with the same pass')
  })

  it('keeps apart what URLs with secrets in query or headers bring', async () => {
    await using origin = await anOrigin()
    const body = randomBody(7, 2 * MIB)
    const digest = digestOf(body)
    origin.at('/file', ({ headers, path }) =>
      headers['x-api-key'] === 'open sesame' || path.includes('sig=good') ? { body } : { status: 403 },
    )
    const book = await aLogBook()
    await using swarm = await aSwarm({ peers: 3, log: book.log })
    const [one, two, stranger] = swarm.agents
    const by = (url: string, headers?: Record<string, string>): ContentRequest => ({
      origin: { kind: 'url', url, ...(headers === undefined ? {} : { headers }) },
      digest,
      priority: 'interactive',
    })
    await fetch(one, by(`${origin.url}/file`, { 'x-api-key': 'open sesame' }))
    await failsWith('ORIGIN_DENIED', fetch(stranger, by(`${origin.url}/file`)))
    await failsWith('ORIGIN_DENIED', fetch(stranger, by(`${origin.url}/file`, { 'x-api-key': 'guess' })))
    await fetch(two, by(`${origin.url}/file?sig=good`))
    await failsWith('ORIGIN_DENIED', fetch(stranger, by(`${origin.url}/file?sig=bad`)))
    for (const secret of ['open sesame', 'sig=good']) {
      assert.ok(!book.text().includes(secret), `a log holds ${secret}`)
      await holdsNoSecret(swarm.directory, [secret])
    }
  })
})

async function pushed(registry: Registry, seed: number): Promise<{ body: Uint8Array; digest: Digest }> {
  const body = randomBody(seed, 6 * MIB)
  const digest = digestOf(body)
  await registry.putBlob('team/app', digest, body)
  return { body, digest }
}
