import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { request } from 'undici'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import { digestOf } from '../../src/core/digest.ts'
import { pieceBytesFor } from '../../src/core/task/task.ts'
import type { RunningAgent } from '../../src/daemon/compose-agent.ts'
import { openIdentity } from '../../src/protocol/identity.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { fetchUrl } from '../fixtures/origin/fetch-url.ts'
import { runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { askAdmin } from '../fixtures/swarm/ask-admin.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024

async function idOf(agent: RunningAgent | undefined): Promise<PeerId> {
  assert.ok(agent)
  return (await agent.peer.status()).peer
}

const admin = (swarm: Swarm, verb: string, peer: string) =>
  runDarner(['supernode', verb, peer, '--data', join(swarm.directory, 'supernode')])

describe('admission', function () {
  this.timeout(120_000)

  it('lets hosts on the allow-list in without the token, and nobody else', async () => {
    await using dir = await aDir()
    const named = await openIdentity(join(dir.path))
    await using swarm = await aSwarm({ peers: 0, supernode: { open: false, allow: [named.peerId] } })
    const stranger = await swarm.start(0)
    await failsWith('ADMISSION_REFUSED', stranger.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) }))
    const member = await swarm.start(1, { data: dir.path })
    await member.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const id = await idOf(stranger)
    assert.equal((await admin(swarm, 'allow', id)).code, 0)
    await until(() => stranger.peer.scheduler.connected)
  })

  it('ends a revoked host within 5 s: session, connections, passes, and for good', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3 })
    const [one, two, out] = swarm.agents
    const body = randomBody(1, 24 * MIB)
    const gate = Promise.withResolvers<void>()
    origin.at('/blob', { body, pauseAfter: 8 * MIB, until: gate.promise })
    const digest = digestOf(body)
    const url = `${origin.url}/blob`
    const going = [one, two].map((agent) => fetchUrl(agent, url, digest))
    const cut = fetchUrl(out, url, digest).catch((error: unknown) => error)
    const id = await idOf(out)
    await until(async () => ((await out?.peer.status())?.tasks[0]?.have ?? 0) > 20)
    const done = await admin(swarm, 'revoke', id)
    assert.equal(done.code, 0, done.stderr)
    const sinceMs = Date.now()
    await until(() => !swarm.supernode.supernode.control.hosts.has(id) && out?.peer.scheduler.connected === false)
    const before = (await out?.peer.status())?.tasks[0]?.have
    assert.ok(Date.now() - sinceMs < 5_000)
    gate.resolve()
    for (const summary of await Promise.all(going)) assert.equal(summary.digest, digest)
    const after = (await out?.peer.status())?.tasks[0]?.have
    assert.ok((after ?? 0) - (before ?? 0) <= 1, `it got pieces after it was revoked: ${before} -> ${after}`)
    await swarm.stopSupernode()
    await swarm.startSupernode()
    for (const agent of [one, two]) await agent?.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    assert.ok(out)
    await failsWith('ADMISSION_REFUSED', out.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) }), /revoked/)
    assert.ok(!swarm.supernode.supernode.control.hosts.has(id))
    assert.equal((await admin(swarm, 'allow', id)).code, 0)
    await until(() => out.peer.scheduler.connected)
    void cut
  })

  it('takes changes on the admin socket only, which is its owner’s alone', async () => {
    await using swarm = await aSwarm({ peers: 0 })
    const path = join(swarm.directory, 'supernode', 'admin.sock')
    const socket = await stat(path)
    assert.equal(socket.mode & 0o777, 0o600)
    const { http, routes } = swarm.supernode
    assert.ok(routes.length > 4)
    for (const route of routes) assert.match(route, /^(GET|HEAD) /, 'no route of the public side changes anything')
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'] as const) {
      for (const path of [
        ...routes.map((route) => route.split(' ')[1] ?? '/'),
        '/v1/peers/x/revoke',
        '/v1/peers/x/allow',
      ]) {
        const answer = await request(`${http}${path.replace(':task', 'x')}`, { method })
        await answer.body.dump()
        assert.equal(answer.statusCode, 403, `${method} ${path}`)
      }
    }
    const missing = await runDarner(['supernode', 'revoke', 'x', '--data', join(swarm.directory, 'nowhere')])
    assert.equal(missing.code, 1)
    assert.match(missing.stderr, /no supernode answers/)
    await swarm.stopSupernode()
    assert.ok(!existsSync(path), 'it goes with its supernode')
  })

  it('names no host and no blob to whoever reaches its address: those are told on the admin socket', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 1 })
    const body = randomBody(4, MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    await fetchUrl(swarm.agents[0], `${origin.url}/blob`, digest)
    const peer = await idOf(swarm.agents[0])
    const { http, routes } = swarm.supernode
    const open = ['/v1/peers', '/v1/tasks', `/v1/tasks/${digest}`, `/v1/why/${digest}`]
    for (const path of open) {
      const answer = await request(`${http}${path}`)
      await answer.body.dump()
      assert.equal(answer.statusCode, 404, path)
      assert.ok(JSON.stringify(await askAdmin(swarm.directory, path)).includes(path === '/v1/peers' ? peer : digest))
    }
    const told = routes.filter((route) => route.startsWith('GET ')).map((route) => route.slice(4))
    for (const path of told) {
      const text = await (await request(`${http}${path}`)).body.text()
      for (const secret of [peer, digest.slice(7), origin.url]) assert.ok(!text.includes(secret), `${path}: ${secret}`)
    }
  })
})

describe('a liar', function () {
  this.timeout(120_000)

  it('that serves corrupt pieces is found out by one complaint and banned, with the evidence on record', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3 })
    const [liar, honest, late] = swarm.agents
    const body = randomBody(2, 12 * MIB)
    const digest = digestOf(body)
    origin.at('/blob', { body })
    const url = `${origin.url}/blob`
    await fetchUrl(liar, url, digest)
    // the pieces that it stored last are in its memory, too
    await liar?.[Symbol.asyncDispose]()
    await corrupt(join(swarm.directory, 'agent-0', 'store', 'blobs', 'sha256', digest.slice(7)), body)
    const again = await swarm.start(0)
    await again.peer.scheduler.ready({ signal: AbortSignal.timeout(10_000) })
    const id = await idOf(again)
    assert.equal((await fetchUrl(honest, url, digest)).digest, digest)
    await until(() => swarm.supernode.supernode.admission.expelled.has(id))
    type Peers = { expelled: { peer: string; kind: string; why: string }[] }
    const { expelled } = await askAdmin<Peers>(swarm.directory, '/v1/peers')
    assert.deepEqual(
      expelled.map(({ peer, kind }) => [peer, kind]),
      [[id, 'banned']],
    )
    assert.match(expelled[0]?.why ?? '', /corrupt piece/)
    assert.ok(!swarm.supernode.supernode.control.hosts.has(id))
    assert.equal((await fetchUrl(late, url, digest)).digest, digest)
    assert.equal(origin.requests.filter(({ method }) => method === 'GET').length, 1)
  })

  it('that accuses honest peers gets none of them banned, nor do two together, and they are heard no more', async () => {
    await using origin = await anOrigin()
    await using swarm = await aSwarm({ peers: 3 })
    const [honest, ...liars] = swarm.agents
    assert.ok(honest)
    const victim = await idOf(honest)
    const { supernode } = swarm.supernode
    const falseReports = async () =>
      await Promise.all(liars.map(async (liar) => supernode.loop.state.peers.get(await idOf(liar))?.falseReports ?? 0))
    for (let seed = 3; seed < 7; seed++) {
      const body = randomBody(seed, 2 * MIB)
      origin.at(`/${seed}`, { body })
      const digest = digestOf(body)
      await fetchUrl(honest, `${origin.url}/${seed}`, digest)
      const signal = AbortSignal.timeout(10_000)
      const request = {
        origin: { kind: 'url', url: `${origin.url}/${seed}` },
        digest,
        priority: 'interactive',
      } as const
      const registrations = await Promise.all(
        liars.map(async (liar) => await liar.peer.scheduler.register(request, { signal })),
      )
      const before = Math.min(...(await falseReports()))
      // at the same instant, about the same piece
      for (const registration of registrations) registration.blame(victim, 'PIECE_DIGEST', 0)
      await until(async () => before >= 3 || Math.min(...(await falseReports())) > before)
      for (const registration of registrations) await registration[Symbol.asyncDispose]()
    }
    assert.ok(Math.min(...(await falseReports())) >= 3)
    assert.deepEqual([...supernode.admission.expelled.keys()], [])
    assert.ok(supernode.control.hosts.has(victim))
  })
})

/** Turns one byte in each piece of a blob that a host goes on serving. */
async function corrupt(path: string, body: Uint8Array): Promise<void> {
  await using file = await open(path, 'r+')
  for (let at = 100; at < body.byteLength; at += pieceBytesFor(body.byteLength))
    await file.write(Buffer.from([~(body[at] ?? 0)]), 0, 1, at)
}
