/** Half a private blob lies on a host, and a reader there asks for it through a registry of their own, which says yes to everything. */
import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import { digestOf } from '../../src/core/digest.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'
import { TEAM } from '../fixtures/origin/a-guarded-registry.ts'
import { REGISTRY_USER } from '../fixtures/origin/a-registry.ts'
import { anOrigin, type Behaviour } from '../fixtures/origin/an-origin.ts'
import { aSwarm } from '../fixtures/swarm/a-swarm.ts'
import { until } from '../fixtures/until.ts'

const MIB = 1024 * 1024
const HALF = 2 * MIB
const CHUNK_BYTES = 4096
const OWNER = { kind: 'basic', ...REGISTRY_USER } as const
const BASIC = `Basic ${btoa(`${REGISTRY_USER.username}:${REGISTRY_USER.password}`)}`

const soon = () => AbortSignal.timeout(60_000)

/** A host with half of a blob of a guarded registry, and a registry that gives other bytes under its digest, all but a few of them later. */
async function aHalf() {
  const stack = new AsyncDisposableStack()
  const [guarded, own] = [stack.use(await anOrigin()), stack.use(await anOrigin())]
  const body = Buffer.from(randomBody(31, 2 * HALF))
  const digest = digestOf(body)
  const [rest, ownRest] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  stack.defer(() => {
    rest.resolve()
    ownRest.resolve()
  })
  const path = `/v2/${TEAM}/blobs/${digest}`
  const challenge = { status: 401, headers: { 'www-authenticate': 'Basic realm="test"' } }
  guarded.at(path, ({ headers }) =>
    headers.authorization === BASIC ? { body, pauseAfter: HALF, until: rest.promise } : challenge,
  )
  const yes: Behaviour = { body: randomBody(32, body.byteLength), pauseAfter: 256 * 1024, until: ownRest.promise }
  own.at(path, yes)
  const swarm = stack.use(await aSwarm({ peers: 1, agent: { originRetries: 0 }, supernode: { originRetries: 0 } }))
  const at = (upstream: string, more: Partial<ContentRequest> = {}) => ({
    ...{ digest, bytes: body.byteLength, priority: 'interactive' as const, lead: true, ...more },
    origin: { kind: 'registry', upstream, repository: TEAM, collection: 'blobs' } as const,
  })
  const open = async (request: ContentRequest) => {
    const content = await swarm.agents[0]?.peer.engine.open(request, { signal: soon() })
    return content ?? assert.fail('no host')
  }
  {
    await using content = await open(at(guarded.url, { credential: OWNER }))
    await until(() => content.progress().have >= HALF)
  }
  return {
    ...{ swarm, body, guarded, own, open, rest, ownRest },
    theirs: at(own.url),
    refused: at(guarded.url),
    rightful: at(guarded.url, { credential: OWNER }),
    /** How many parts of the blob are among the bytes that a reader gets before the fetch fails. */
    given: async (request: ContentRequest, chunks = Number.POSITIVE_INFINITY) => {
      await using content = await open(request)
      let parts = 0
      let offset = 0
      try {
        for await (const chunk of content.read({ signal: soon() })) {
          for (let from = 0; from < chunk.byteLength; from += CHUNK_BYTES) {
            const at = offset + from
            const part = chunk.subarray(from, from + CHUNK_BYTES)
            if (body.subarray(at, at + part.byteLength).equals(part)) parts++
          }
          offset += chunk.byteLength
          if (--chunks <= 0) break
        }
      } catch (error) {
        assert.match((error as Error).message, /hash to/)
      }
      assert.ok(offset > 0)
      return parts
    },
    /** A supernode that knows nothing of it, and has hosts read it for all. */
    anew: async () => {
      await swarm.stopSupernode()
      await swarm.wipeSupernode()
      await swarm.startSupernode()
      await swarm.agents[0]?.peer.scheduler.ready({ signal: soon() })
    },
    away: async () => {
      await swarm.stopSupernode()
      await until(() => swarm.agents[0]?.peer.scheduler.connected === false)
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

describe('half of a private blob', function () {
  this.timeout(120_000)

  for (const [how, without, restarted] of [
    ['with a supernode that starts anew between', false, false],
    ['without a supernode', true, false],
    ['without a supernode, on a host that was started again', true, true],
  ] as const)
    it(`is not shown to readers with a registry of their own, the first time nor the second, ${how}`, async () => {
      await using half = await aHalf()
      if (without) await half.away()
      if (restarted) {
        await half.swarm.agents[0]?.[Symbol.asyncDispose]()
        await half.swarm.start(0)
      }
      assert.equal(await half.given(half.theirs, 1), 0)
      half.ownRest.resolve()
      if (!without) await half.anew()
      assert.equal(await half.given(half.theirs), 0)
    })

  for (const restarted of [false, true])
    it(`is read on by its owner after another reader was refused${restarted ? ', on a host that was started again' : ''}`, async () => {
      await using half = await aHalf()
      await half.away()
      await failsWith('ORIGIN_UNAUTHORIZED', half.open(half.refused))
      if (restarted) {
        await half.swarm.agents[0]?.[Symbol.asyncDispose]()
        await half.swarm.start(0)
      }
      half.own.at(half.guarded.requests[0]?.path ?? '', { status: 403 })
      await failsWith('ORIGIN_DENIED', half.open(half.theirs))
      half.rest.resolve()
      const before = half.guarded.requests.length
      await using content = await half.open(half.rightful)
      assert.ok(Buffer.concat(await Array.fromAsync(content.read({ signal: soon() }))).equals(half.body))
      await content.whole({ signal: soon() })
      const ranges = half.guarded.requests.slice(before).map(({ headers }) => headers.range)
      assert.ok(ranges.includes(`bytes=${HALF}-`), `asked for ${ranges.join(', ')}`)
    })
})
