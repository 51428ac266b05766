import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Download, type DownloadParts } from '../../../peer/engine/download.ts'
import { seededRandom, systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import type { OpenOptions, ParentChannel, PeerId, PieceExchange } from '../../../src/contracts/exchange.ts'
import type { Registration, TaskUpdate } from '../../../src/contracts/scheduling.ts'
import { Bitmap } from '../../../src/task/bitmap.ts'
import { aBlob, aStore } from '../../fixtures/a-store.ts'

const PIECES = 8
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString()

/** A parent of which every piece is asked and none comes; what it was shown. */
class SilentParent {
  readonly shown: string[] = []
  readonly #opened = Promise.withResolvers<void>()
  readonly opening = Promise.withResolvers<OpenOptions>()
  #told = Promise.withResolvers<void>()

  /** Lets the opening come to its end. */
  open(): void {
    this.#opened.resolve()
  }

  async until(shown: number): Promise<void> {
    while (this.shown.length < shown) {
      this.#told = Promise.withResolvers<void>()
      await this.#told.promise
    }
  }

  async channel(parent: PeerId, options: OpenOptions): Promise<ParentChannel> {
    this.shown.push(text(options.pass))
    this.opening.resolve(options)
    await this.#opened.promise
    const closed = Promise.withResolvers<Error>()
    return {
      parent,
      haves: Bitmap.full(PIECES),
      onHaves: () => () => {},
      fetch: (_piece, { signal }) => pending(signal),
      fetchAny: ({ signal }) => pending(signal),
      renew: (pass) => {
        this.shown.push(text(pass))
        this.#told.resolve()
      },
      tell: () => {},
      coming: () => {},
      lost: () => {},
      closed: closed.promise,
      [Symbol.asyncDispose]: async () => closed.resolve(new Error('closed')),
    }
  }
}

function pending(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
}

/** Updates that the test sends as it goes. */
function updates() {
  const waiting: TaskUpdate[] = []
  let wake = Promise.withResolvers<void>()
  return {
    send: (update: TaskUpdate) => {
      waiting.push(update)
      wake.resolve()
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<TaskUpdate> {
      for (;;) {
        for (let update = waiting.shift(); update !== undefined; update = waiting.shift()) yield update
        await wake.promise
        wake = Promise.withResolvers<void>()
      }
    },
  }
}

describe('a download', () => {
  it('shows each parent every newer pass, also one that came while the parent was being opened', async () => {
    await using place = await aStore()
    const blob = aBlob({ pieces: PIECES })
    const over = new AbortController()
    const stored = await place.store.create(blob.task, { signal: over.signal })
    const said = updates()
    const [early, late] = [new SilentParent(), new SilentParent()]
    const parents = new Map([['early', early] as const, ['late', late] as const])
    const exchange: PieceExchange = {
      lanes: [],
      open: async ({ peer }, _task, options) => {
        const parent = parents.get(peer as string as 'early' | 'late')
        assert.ok(parent)
        return await parent.channel(peer, options)
      },
      drop: () => {},
      [Symbol.asyncDispose]: async () => {},
    }
    const registration: Registration = {
      task: blob.task,
      inline: undefined,
      pass: Buffer.from('first'),
      updates: said,
      report: () => {},
      unsourced: () => {},
      blame: () => {},
      [Symbol.asyncDispose]: async () => {},
    }
    const parts: DownloadParts = {
      registration,
      stored,
      exchange,
      clock: systemClock,
      random: seededRandom(1),
      log: silentLog(),
    }
    const options = {
      priority: 'interactive',
      maxInFlight: 4,
      inFlightBytes: 1024 ** 2,
      tickMs: 100,
      reportPieces: 16,
      reportMs: 1_000,
      digestMs: 10_000,
      openRetryMs: [20],
      stallMs: 30_000,
    } as const
    const run = new Download(options, parts).run({ signal: over.signal })
    const ended = run.catch((error: unknown) => error)
    early.open()
    const add = [...parents.keys()].map((peer) => ({
      peer: peer as string as PeerId,
      lanes: ['127.0.0.1:1'],
      multiaddrs: [],
      seed: false,
    }))
    said.send({ kind: 'parents', add, drop: [] })
    await Promise.all([early.opening.promise, late.opening.promise])
    said.send({ kind: 'pass', pass: Buffer.from('second') })
    await early.until(2)
    late.open()
    await late.until(2)
    said.send({ kind: 'pass', pass: Buffer.from('third') })
    await Promise.all([early.until(3), late.until(3)])
    assert.deepEqual(early.shown, ['first', 'second', 'third'])
    assert.deepEqual(late.shown, ['first', 'second', 'third'])
    over.abort(new Error('seen enough'))
    assert.match(String(await ended), /seen enough/)
  })
})
