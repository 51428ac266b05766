import assert from 'node:assert/strict'
import { Engine, type EngineParts } from '../../../peer/downloader/downloader.ts'
import { ManualClock, systemClock } from '../../../src/core/clock.ts'
import type { PeerId, PieceExchange } from '../../../src/core/contracts/exchange.ts'
import type { OriginPort } from '../../../src/core/contracts/origin.ts'
import type { SchedulerPort } from '../../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../../src/core/digest.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { SIGNATURE_BYTES } from '../../../src/protocol/identity.ts'
import { signPass } from '../../../src/protocol/pass.ts'
import { CameBook } from '../../../src/rights/came.ts'
import { Rights } from '../../../src/rights/right.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aBlob, aStore, never } from '../../fixtures/store/a-store.ts'
import { aGrant } from '../../fixtures/swarm/a-grant.ts'

function anEngine(parts: Partial<EngineParts> & Pick<EngineParts, 'store' | 'scheduler'>): Engine {
  return new Engine(
    {
      maxInFlight: 1,
      inFlightBytes: 1 << 20,
      tickMs: 100,
      reportPieces: 1,
      reportMs: 1000,
      digestMs: 1000,
      openRetryMs: [20],
      stallMs: 1000,
      fromOrigin: 'fallback',
      originAttempts: 1,
      maxRunning: 4,
    },
    {
      self: 'self' as PeerId,
      exchange: {} as PieceExchange,
      origin: {} as OriginPort,
      rights: new Rights({ clock: systemClock }),
      came: new CameBook(),
      clock: systemClock,
      random: Math.random,
      log: silentLog(),
      retryMs: () => undefined,
      straying: () => ({ read: () => {}, [Symbol.dispose]: () => {} }),
      ...parts,
    },
  )
}

const toLead = (digest: Digest, bytes: number) =>
  ({
    origin: { kind: 'url', url: 'http://origin.test/file' },
    digest,
    bytes,
    priority: 'interactive',
    lead: true,
  }) as const

describe('Engine', () => {
  it('ends, as it stops, a fetch that still waits for the answer of the supernode', async () => {
    await using kept = await aStore()
    const asked = Promise.withResolvers<void>()
    const scheduler = {
      connected: true,
      reachable: async () => {},
      register: (_request: unknown, { signal }: { signal: AbortSignal }) => {
        asked.resolve()
        return new Promise<never>((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true })
        })
      },
    }
    const engine = anEngine({
      store: kept.store,
      scheduler: scheduler as unknown as SchedulerPort,
      straying: () => assert.fail('nothing is read at the origin'),
    })
    const opening = engine.open(
      { origin: { kind: 'url', url: 'http://origin.test/file' }, priority: 'interactive' },
      { signal: never() },
    )
    opening.catch(() => {})
    await asked.promise
    await engine[Symbol.asyncDispose]()
    await failsWith('CLOSED', opening, /the agent is stopping/)
  })

  it('goes on where an earlier run left a blob, and says what it has, also when nobody has looked at that yet', async () => {
    await using kept = await aStore()
    const { body, digest, task, piece } = aBlob({ pieces: 3, pieceBytes: 64 * 1024 })
    await (await kept.store.create(task, { signal: never() })).lay(0, piece(0))
    const store = await kept.restart()
    const request = toLead(digest, body.byteLength)
    const told: (number | undefined)[] = []
    const scheduler = {
      connected: true,
      reachable: async () => {},
      register: async ({ have }: { have?: { count: number } }) => {
        told.push(have?.count)
        return { task, lead: true, report: () => {}, [Symbol.asyncDispose]: async () => {} }
      },
    }
    const read = async (_target: unknown, { from = 0 }: { from?: number }) => {
      told.push(from)
      return {
        from,
        bytes: body.byteLength,
        stream: (async function* () {
          yield body.subarray(from)
        })(),
        [Symbol.asyncDispose]: async () => {},
      }
    }
    await using engine = anEngine({
      store,
      scheduler: scheduler as unknown as SchedulerPort,
      origin: { read } as unknown as OriginPort,
      origins: { of: async () => request.origin, note: () => {}, forget: async () => {} },
    })
    await using content = await engine.openStored(request, { signal: never() })
    assert.equal((await content.whole({ signal: never() })).digest, digest)
    assert.deepEqual(told, [1, 64 * 1024])
  })

  it('brings what it reads for all to the disk, also when its reader has all of it before that and leaves', async () => {
    await using kept = await aStore()
    const { store } = kept
    const { body, digest, task } = aBlob({ pieces: 3, pieceBytes: 64 * 1024 })
    const disk = Promise.withResolvers<void>()
    const stored = await store.create(task, { signal: never() })
    const lay = stored.lay.bind(stored)
    stored.lay = async (...args) => {
      await disk.promise
      await lay(...args)
    }
    const scheduler = {
      connected: true,
      reachable: async () => {},
      register: async () => ({ task, lead: true, report: () => {}, [Symbol.asyncDispose]: async () => {} }),
    }
    const read = async () => ({
      from: 0,
      stream: (async function* () {
        yield body
      })(),
      [Symbol.asyncDispose]: async () => {},
    })
    await using engine = anEngine({
      store,
      scheduler: scheduler as unknown as SchedulerPort,
      origin: { read } as unknown as OriginPort,
    })
    const request = toLead(digest, body.byteLength)
    const content = await engine.openStored(request, { signal: never() })
    await content.matched({ signal: never() })
    const left = content[Symbol.asyncDispose]()
    disk.resolve()
    await left
    assert.equal(store.byDigest(digest)?.complete, true)
  })

  it('goes to the origin at once for each blob while no supernode can be reached', async () => {
    await using kept = await aStore()
    const away = new DarnerError('SUPERNODE_UNREACHABLE', 'no session')
    const scheduler = { connected: false, reachable: () => Promise.reject(away) }
    const blobs = [1, 2].map((seed) => aBlob({ pieces: 1, pieceBytes: 64 * 1024, seed }))
    const reasons: string[] = []
    await using engine = anEngine({
      store: kept.store,
      scheduler: scheduler as unknown as SchedulerPort,
      // it never moves: a fetch that sleeps before its read never ends
      clock: new ManualClock(),
      straying: (_task, reason) => {
        reasons.push(reason)
        return { read: () => {}, [Symbol.dispose]: () => {} }
      },
      origin: {
        read: async (target: { digest?: string }) => ({
          from: 0,
          stream: (async function* () {
            yield blobs.find(({ digest }) => digest === target.digest)?.body ?? assert.fail('another blob')
          })(),
          [Symbol.asyncDispose]: async () => {},
        }),
      } as unknown as OriginPort,
    })
    for (const { digest, body } of blobs) {
      const { lead: _lead, ...request } = toLead(digest, body.byteLength)
      await using content = await engine.openStored(request, { signal: never() })
      assert.equal((await content.whole({ signal: never() })).digest, digest)
    }
    assert.deepEqual(reasons, ['SUPERNODE_UNREACHABLE: no session', 'SUPERNODE_UNREACHABLE: no session'])
  })

  it('asks a supernode once more that was lost, or gave no answer, before it goes to the origin', async () => {
    await using kept = await aStore()
    const { body, digest, task } = aBlob({ pieces: 1, pieceBytes: 64 * 1024 })
    const reader = { task, reader: 'host' as PeerId, expiresMs: 1 }
    const pass = signPass(aGrant(task), reader, () => new Uint8Array(SIGNATURE_BYTES))
    let asked = 0
    const scheduler = {
      connected: false,
      reachable: async () => {},
      register: async () => {
        if (++asked === 1) throw new DarnerError('CLOSED', 'closed by the other side')
        return {
          ...{ task, inline: body, pass, updates: (async function* () {})(), report: () => {} },
          [Symbol.asyncDispose]: async () => {},
        }
      },
    }
    await using engine = anEngine({
      store: kept.store,
      scheduler: scheduler as unknown as SchedulerPort,
      straying: () => assert.fail('nothing is read at the origin'),
    })
    const { lead: _lead, ...request } = toLead(digest, body.byteLength)
    await using content = await engine.openStored(request, { signal: never() })
    assert.equal((await content.whole({ signal: never() })).digest, digest)
    assert.equal(asked, 2)
  })
})
