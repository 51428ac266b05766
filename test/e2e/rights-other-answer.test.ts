/** A registry that answers whoever it doesn't let in with "200 OK" and something else, which is no page: a yes has to be about the blob. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'mocha'
import { openExchange, RateLimits } from '../../peer/index.ts'
import { systemClock } from '../../src/core/clock.ts'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { PeerAddress } from '../../src/core/contracts/exchange.ts'
import { digestOf } from '../../src/core/digest.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import { silentLog } from '../../src/core/log.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import { blobTask, pieceCount } from '../../src/core/task/task.ts'
import { openIdentity } from '../../src/protocol/identity.ts'
import { askMirror } from '../fixtures/clients/ask-mirror.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { TEAM } from '../fixtures/origin/a-guarded-registry.ts'
import { anOrigin } from '../fixtures/origin/an-origin.ts'
import { aSwarm, type Swarm } from '../fixtures/swarm/a-swarm.ts'

const MIB = 1024 * 1024
/** Sent at once, as a client's own token is: such a registry asks nobody for one. */
const OWNER = { kind: 'header', value: 'Bearer of-the-owner' } as const satisfies Credential
const TOKEN = 'token=of-the-owner'
/** Longer than what comes inside an answer of the supernode. */
const LOGIN = JSON.stringify({ location: 'https://login.example/', why: 'x'.repeat(100_000) })

const soon = () => AbortSignal.timeout(60_000)

/** A private blob, fetched by its owner on the first of two hosts. Which answers of its registry state no length? */
async function aBlob({ noLength }: { noLength?: 'to strangers' | 'to all' } = {}) {
  const stack = new AsyncDisposableStack()
  const registry = stack.use(await anOrigin())
  const body = Buffer.from(randomBody(41, MIB))
  const digest = digestOf(body)
  const path = `/v2/${TEAM}/blobs/${digest}`
  registry.at('/v2/', { body: '{}' })
  registry.at(path, (request) =>
    request.headers.authorization === OWNER.value || request.path.endsWith(`?${TOKEN}`)
      ? { body, noLength: noLength === 'to all' }
      : { body: LOGIN, headers: { 'content-type': 'application/json' }, noLength: noLength !== undefined },
  )
  const agent = { originRetries: 0, mirror: '127.0.0.1:0', upstream: [`reg.test=${registry.url}`] }
  const swarm = stack.use(await aSwarm({ peers: 2, supernode: { originRetries: 0 }, agent }))
  const [owner, stranger] = swarm.agents
  assert.ok(owner && stranger)
  const request = {
    origin: { kind: 'registry', upstream: registry.url, repository: TEAM, collection: 'blobs' },
    digest,
    priority: 'interactive',
  } as const satisfies ContentRequest
  const fetch = async (of: typeof owner, more: Partial<ContentRequest>) => {
    await using content = await of.peer.engine.open({ ...request, ...more }, { signal: soon() })
    const got = Buffer.concat(await Array.fromAsync(content.read({ signal: soon() })))
    await content.whole({ signal: soon() })
    return got.equals(body)
  }
  assert.ok(await fetch(owner, { credential: OWNER, bytes: MIB }))
  return {
    ...{ body, digest, path, swarm, owner, stranger, request, fetch },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** How many of the supernode and the owner's host give the second host a piece for this pass. */
async function given(swarm: Swarm, digest: ReturnType<typeof digestOf>, pass: Uint8Array): Promise<number> {
  const identity = await openIdentity(join(swarm.directory, 'agent-1'))
  await using limits = new RateLimits({ clock: systemClock })
  const shelf = { open: () => Promise.reject(new Error('holds nothing')) }
  const parts = { identity, shelf, admit: () => false, clock: systemClock, log: silentLog(), limits }
  await using exchange = await openExchange({}, parts)
  const { peer, lanes, multiaddrs } = swarm.supernode.supernode
  const owner = (await swarm.agents[0]?.peer.status()) ?? assert.fail('no owner')
  const task = blobTask(digest, MIB)
  let gave = 0
  for (const parent of [{ peer, lanes, multiaddrs }, owner] satisfies PeerAddress[]) {
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

describe('a private blob of a registry that says "200 OK" to strangers', function () {
  this.timeout(120_000)

  for (const [which, bytes] of [
    ['of the blob', MIB],
    ['of that answer', LOGIN.length],
    ['that is left open', undefined],
  ] as const) {
    for (const lost of [false, true])
      it(`is not had for a length ${which}${lost ? ', at a supernode that lost its store' : ''}`, async () => {
        await using blob = await aBlob()
        const { swarm, stranger, request, digest, fetch } = blob
        if (lost) {
          await swarm.stopSupernode()
          await swarm.wipeSupernode(['store'])
          await swarm.startSupernode()
          for (const agent of swarm.agents) await agent.peer.scheduler.ready({ signal: soon() })
        }
        const asked = { ...request, ...(bytes === undefined ? {} : { bytes }) }
        await stranger.peer.scheduler.right({ ...asked, prove: false }, { signal: soon() }).catch(() => {})
        const passes: Uint8Array[] = []
        for (const one of [asked, request, { ...request, bytes: MIB }]) {
          try {
            await using followed = await stranger.peer.scheduler.register(one, { signal: soon() })
            passes.push(followed.pass)
          } catch (error) {
            if (!isDarnerError(error)) throw error
          }
        }
        for (const pass of passes) assert.equal(await given(swarm, digest, pass), 0)
        await assert.rejects(fetch(stranger, {}))
      })
  }

  for (const [how, query] of [
    ['that was answered so', ''],
    ['whose query held the owner’s token', `?${TOKEN}`],
  ] as const) {
    it(`is not had from a mirror after a HEAD ${how}, also once the blob is there`, async () => {
      await using blob = await aBlob()
      const { stranger, path, body, fetch, digest } = blob
      const address = stranger.mirror?.address ?? assert.fail('no mirror')
      const { status } = await askMirror(address, `${path}${query}`, { method: 'HEAD' })
      assert.equal(status, 200)
      assert.ok(await fetch(stranger, { credential: OWNER, bytes: MIB }))
      assert.ok(stranger.peer.store.byDigest(digest)?.complete)
      const got = await askMirror(address, path)
      assert.ok(!got.body.equals(body), `${got.status}: all of it`)
    })
  }

  for (const noLength of ['to strangers', 'to all'] as const) {
    it(`is not had where no length is stated ${noLength}`, async () => {
      await using blob = await aBlob({ noLength })
      const { stranger, fetch, owner, swarm, request, digest } = blob
      for (const agent of [stranger, owner]) await assert.rejects(fetch(agent, {}))
      const followed = await stranger.peer.scheduler.register(request, { signal: soon() }).catch(() => undefined)
      await using _followed = followed
      if (followed !== undefined) assert.equal(await given(swarm, digest, followed.pass), 0)
    })
  }

  for (const noLength of [undefined, 'to strangers', 'to all'] as const) {
    it(`is had by its owner all the same${noLength === undefined ? '' : `, where no length is stated ${noLength}`}`, async () => {
      await using blob = await aBlob(noLength === undefined ? {} : { noLength })
      assert.ok(await blob.fetch(blob.stranger, { credential: OWNER, bytes: MIB }))
      await blob.swarm.stopSupernode()
      for (const agent of [blob.stranger, blob.owner])
        assert.ok(await blob.fetch(agent, { credential: OWNER, bytes: MIB }))
    })
  }
})
