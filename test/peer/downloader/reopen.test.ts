/** A download whose connection to a parent breaks, on the real lane. */
import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { Download } from '../../../peer/downloader/download.ts'
import { seededRandom, systemClock } from '../../../src/core/clock.ts'
import type { Registration, TaskUpdate } from '../../../src/core/contracts/scheduling.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { pieceCount } from '../../../src/core/task/task.ts'
import { aLanePair } from '../../fixtures/exchange/a-lane.ts'
import { aShelf } from '../../fixtures/exchange/a-shelf.ts'
import { aStore } from '../../fixtures/store/a-store.ts'
import { DOWNLOAD_OPTIONS } from '../../fixtures/swarm/download-options.ts'

const WAYS = [
  ['in a mesh', {}, 0],
  ['in a line', { turn: 1 }, 0],
  ['by name', {}, 2],
] as const

describe('a download whose connection to a parent breaks', () => {
  for (const [way, turn, demanded] of WAYS) {
    it(`opens it again, and blames nobody: ${way}`, async () => {
      const reading = Promise.withResolvers<void>()
      const broken = Promise.withResolvers<void>()
      const shelf = aShelf({
        bytes: 600_000,
        choose: async (has) => {
          const piece = has.nextClear(0)
          return demanded > 0 && opens === 1 ? new Promise(() => {}) : piece < 0 ? undefined : piece
        },
        read: async () => {
          reading.resolve()
          await broken.promise
        },
        open: () => void opens++,
      })
      let opens = 0
      await using pair = await aLanePair(shelf)
      await using place = await aStore()
      const over = new AbortController()
      const stored = await place.store.create(shelf.task, { signal: over.signal })
      const table = Array.from({ length: pieceCount(shelf.task) }, (_, piece) => hashOf(shelf.piece(piece)))
      stored.table.setDigests(0, Buffer.concat(table))
      const blamed: string[] = []
      const registration: Registration = {
        task: shelf.task,
        inline: undefined,
        pass: new Uint8Array(0),
        updates: (async function* (): AsyncGenerator<TaskUpdate> {
          yield { kind: 'parents', add: [{ ...pair.parent.address, seed: false, ...turn }], drop: [] }
          await new Promise(() => {})
        })(),
        report: () => {},
        unsourced: () => {},
        blame: (_parent, code) => {
          blamed.push(code)
          over.abort(new Error(`blamed: ${code}`))
        },
        [Symbol.asyncDispose]: async () => {},
      }
      const options = { ...DOWNLOAD_OPTIONS, openRetryMs: [20, 60, 200] }
      const parts = { registration, stored, clock: systemClock, random: seededRandom(1), log: silentLog() }
      const download = new Download(options, { ...parts, exchange: pair.child.exchange })
      const run = download.run({ signal: over.signal })
      using _wanted = demanded > 0 ? download.demand(0, demanded) : { [Symbol.dispose]: () => {} }
      await reading.promise
      pair.child.exchange.drop(pair.parent.address.peer, 'broken')
      broken.resolve()
      assert.equal(await run, shelf.task.digest)
      assert.deepEqual([blamed, opens], [[], 2])
    })
  }
})

function hashOf(bytes: Uint8Array): Buffer {
  return Buffer.from(digestOf(bytes).slice('sha256:'.length), 'hex')
}
