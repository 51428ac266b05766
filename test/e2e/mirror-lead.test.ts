import assert from 'node:assert/strict'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import { MIN_PIECE_BYTES, type TaskId } from '../../src/core/task/task.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { askMirror } from '../fixtures/clients/ask-mirror.ts'
import { aDir } from '../fixtures/host/a-dir.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { anOrigin, type Behaviour, type TestOrigin } from '../fixtures/origin/an-origin.ts'
import { anAgentProcess, aSupernodeProcess, runDarner } from '../fixtures/swarm/a-daemon.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const BYTES = 5 * 1024 * 1024 + 77

interface Place {
  readonly origin: TestOrigin
  readonly body: Buffer
  readonly digest: Digest
  readonly path: string
}

/** An origin with one manifest, which states the length of its one layer; `layer` says what the layer's path does. */
async function aPlace(layer: Behaviour | readonly Behaviour[] = {}, stated = BYTES): Promise<Place> {
  const origin = await anOrigin()
  const body = Buffer.from(randomBody(7, BYTES))
  const digest = digestOf(body)
  const config = digestOf('{}')
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: config, size: 2 },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: stated }],
  })
  origin.at('/v2/', { body: '{}' })
  for (const reference of ['v1', digestOf(manifest)])
    origin.at(`/v2/app/manifests/${reference}`, { body: manifest, headers: { 'content-type': MEDIA.ociManifest } })
  const turns = (Array.isArray(layer) ? layer : [layer]).map((one: Behaviour) => ({ body, ...one }))
  let gets = 0
  origin.at(`/v2/app/blobs/${digest}`, ({ method }) =>
    method === 'HEAD' ? { body } : (turns[Math.min(gets++, turns.length - 1)] ?? {}),
  )
  return { origin, body, digest, path: `/v2/app/blobs/${digest}` }
}

async function aMirroredSwarm(
  place: Place,
  peers: number,
  flags: Record<string, unknown> = {},
): Promise<Swarm & { address(agent: number): string }> {
  const swarm = await aSwarm({
    peers,
    agent: { mirror: '127.0.0.1:0', upstream: [`reg.test=${place.origin.url}`], ...flags },
  })
  const address = (agent: number) => swarm.agents[agent]?.mirror?.address ?? assert.fail('no mirror')
  return Object.assign(swarm, { address })
}

/** Pulls manifest and layer, as an engine does. */
async function pull(address: string, { path }: Place) {
  assert.equal((await askMirror(address, '/v2/app/manifests/v1')).status, 200)
  return await askMirror(address, path)
}

function getsOf({ origin, path }: Place): (string | undefined)[] {
  return origin.requests
    .filter((request) => request.method === 'GET' && request.path === path)
    .map(({ headers }) => headers.range)
}

describe('a blob that the first host reads at its origin for all', function () {
  this.timeout(60_000)

  it('passes no supernode, and is in the store of the host afterwards', async () => {
    const place = await aPlace()
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 1)
    const got = await pull(swarm.address(0), place)
    assert.ok(got.complete && got.body.equals(place.body))
    assert.deepEqual(getsOf(place), [undefined])
    assert.equal(swarm.supernode.supernode.traffic.origin, 0)
    const again = await askMirror(swarm.address(0), place.path)
    assert.ok(again.complete && again.body.equals(place.body))
    assert.deepEqual(getsOf(place), [undefined])
  })

  it('comes to a second host from the first, while that still reads and afterwards', async () => {
    const { promise: paused, resolve: goOn } = Promise.withResolvers<void>()
    const place = await aPlace({ pauseAfter: 2_000_000, until: paused })
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 3)
    const first = pull(swarm.address(0), place)
    await until(() => getsOf(place).length > 0)
    const second = pull(swarm.address(1), place)
    await until(() => swarm.supernode.supernode.followers.count(place.digest as string as TaskId) === 1)
    // what is whole of the first two million bytes comes while the origin sends no more
    const come = Math.floor(2_000_000 / MIN_PIECE_BYTES)
    await until(() => swarm.agents[1]?.peer.store.byDigest(place.digest)?.have.count === come)
    goOn()
    for (const got of await Promise.all([first, second])) assert.ok(got.complete && got.body.equals(place.body))
    const sent = (await swarm.agents[0]?.peer.status())?.bytes.sent
    assert.ok(sent !== undefined && sent >= BYTES, 'the first host gives it to the supernode')
    assert.ok(sent <= 2 * BYTES, 'and no more than once to the second host')
    const third = await pull(swarm.address(2), place)
    assert.ok(third.complete && third.body.equals(place.body))
    assert.deepEqual(getsOf(place), [undefined], 'one read at the origin')
    assert.equal(swarm.supernode.supernode.traffic.origin, 0)
  })

  it('goes on at the next byte when the read breaks, for its own client too', async () => {
    const place = await aPlace([{ cutAfter: 1_500_000 }, {}])
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 1)
    const got = await pull(swarm.address(0), place)
    assert.ok(got.complete && got.body.equals(place.body))
    const [whole, rest = ''] = getsOf(place)
    assert.equal(whole, undefined)
    assert.match(rest, /^bytes=[1-9]\d*-$/)
  })

  it('goes on at about the byte where kill -9 ended the first host', async () => {
    await using dir = await aDir()
    const cut = 2_000_000
    const { promise: paused, resolve: goOn } = Promise.withResolvers<void>()
    const place = await aPlace([{ pauseAfter: cut, until: paused }, {}])
    await using _origin = place.origin
    await using supernode = await aSupernodeProcess(dir.path)
    const start = async () => {
      const flags = ['--mirror', '127.0.0.1:0', '--upstream', `reg.test=${place.origin.url}`]
      const agent = await anAgentProcess(dir.path, 'agent', supernode.line, flags)
      const { stdout } = await runDarner(['mirror', '--json', '--socket', agent.socket])
      return { agent, address: (JSON.parse(stdout) as { address: string }).address }
    }
    const first = await start()
    const data = join(dir.path, 'agent', 'store', 'partial', place.digest.replace(':', '-'), 'journal')
    const left = pull(first.address, place).catch(() => undefined)
    // what is whole of the two million bytes, one record each
    const records = Math.floor(cut / MIN_PIECE_BYTES)
    await until(async () => ((await stat(data).catch(() => undefined))?.size ?? 0) >= 512 + records * 40)
    await first.agent.kill('SIGKILL')
    goOn()
    await left
    const second = await start()
    await using _second = second.agent
    const got = await pull(second.address, place)
    assert.ok(got.complete && got.body.equals(place.body))
    assert.deepEqual(getsOf(place), [undefined, `bytes=${records * MIN_PIECE_BYTES}-`])
  })

  it('ends for its client, in bounded time, when the origin dies in the middle and nobody else has the blob', async () => {
    const place = await aPlace([{ cutAfter: 1_500_000 }, { hangUp: true }])
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 1, { originRetries: 1 })
    // the client's own patience is the bound: askMirror gives up after 30 s, and rejects then
    const got = await pull(swarm.address(0), place)
    assert.equal(got.status, 200)
    assert.equal(got.complete, false)
    assert.ok(place.body.subarray(0, got.body.byteLength).equals(got.body))
    assert.notEqual(swarm.agents[0]?.peer.store.byDigest(place.digest)?.complete, true)
  })

  it('is read on by the supernode when the first host is gone', async () => {
    const { promise: paused, resolve: goOn } = Promise.withResolvers<void>()
    const place = await aPlace([{ pauseAfter: 2_000_000, until: paused }, {}])
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 2)
    const first = pull(swarm.address(0), place).catch(() => {})
    await until(() => getsOf(place).length > 0)
    const second = pull(swarm.address(1), place)
    await until(() => swarm.supernode.supernode.followers.count(place.digest as string as TaskId) === 1)
    await swarm.agents[0]?.[Symbol.asyncDispose]()
    const got = await second
    goOn()
    await first
    assert.ok(got.complete && got.body.equals(place.body))
    assert.equal(getsOf(place).length, 2)
  })

  it('breaks the connection, and keeps nothing, when the digest does not match', async () => {
    const other = randomBody(8, BYTES)
    const place = await aPlace([{ body: other }, {}])
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 2)
    const bad = await pull(swarm.address(0), place)
    assert.equal(bad.complete, false)
    assert.ok(bad.body.byteLength < BYTES)
    const good = await pull(swarm.address(1), place)
    assert.ok(good.complete && good.body.equals(place.body))
  })

  it("is had all the same when a manifest states another length, with the origin's", async () => {
    const place = await aPlace({}, BYTES - 1)
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 1)
    const got = await pull(swarm.address(0), place)
    assert.ok(got.complete && got.body.equals(place.body))
  })

  it('is refused in the words of the origin, and leaves nothing behind', async () => {
    const challenge = { status: 401, headers: { 'www-authenticate': 'Basic realm="here"' }, body: 'no' }
    const place = await aPlace(challenge)
    await using _origin = place.origin
    await using swarm = await aMirroredSwarm(place, 1)
    const got = await pull(swarm.address(0), place)
    assert.deepEqual(
      [got.status, got.headers['www-authenticate'], got.body.toString()],
      [401, 'Basic realm="here"', 'no'],
    )
    assert.equal(swarm.agents[0]?.peer.store.byDigest(place.digest), undefined)
  })
})
