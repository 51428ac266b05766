import assert from 'node:assert/strict'
import { Engine } from '../../../peer/engine/engine.ts'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import type { PieceExchange } from '../../../src/contracts/exchange.ts'
import type { OriginPort } from '../../../src/contracts/origin.ts'
import type { SchedulerPort } from '../../../src/contracts/scheduling.ts'
import { aStore, never } from '../../fixtures/a-store.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

describe('Engine', () => {
  it('ends, as it stops, a fetch that still waits for the answer of the supernode', async () => {
    await using kept = await aStore()
    const asked = Promise.withResolvers<void>()
    const scheduler = {
      connected: true,
      ready: async () => {},
      register: (_request: unknown, { signal }: { signal: AbortSignal }) => {
        asked.resolve()
        return new Promise<never>((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true })
        })
      },
    }
    const engine = new Engine(
      {
        maxInFlight: 1,
        inFlightBytes: 1 << 20,
        tickMs: 100,
        reportPieces: 1,
        reportMs: 1000,
        digestMs: 1000,
        openRetryMs: [20],
        stallMs: 1000,
        supernodeMs: 1000,
        fromOrigin: 'fallback',
        originAttempts: 1,
        maxRunning: 4,
      },
      {
        store: kept.store,
        scheduler: scheduler as unknown as SchedulerPort,
        exchange: {} as PieceExchange,
        origin: {} as OriginPort,
        clock: systemClock,
        random: Math.random,
        log: silentLog(),
        retryMs: () => undefined,
        straying: () => assert.fail('nothing is read at the origin'),
      },
    )
    const opening = engine.open(
      { origin: { kind: 'url', url: 'http://origin.test/file' }, priority: 'interactive' },
      { signal: never() },
    )
    opening.catch(() => {})
    await asked.promise
    await engine[Symbol.asyncDispose]()
    await failsWith('CLOSED', opening, /the agent is stopping/)
  })
})
