import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { Blocks } from '../../../peer/downloader/blocks.ts'
import type { Fetching } from '../../../peer/downloader/fetching.ts'
import { leadRead } from '../../../peer/downloader/lead.ts'
import { LeadTurns } from '../../../peer/downloader/lead-turns.ts'
import { OpenContent } from '../../../peer/downloader/open-content.ts'
import { Tail } from '../../../peer/downloader/tail.ts'
import { systemClock } from '../../../src/core/clock.ts'
import type { OriginPort, OriginRead } from '../../../src/core/contracts/origin.ts'
import { DarnerError } from '../../../src/core/errors.ts'
import { silentLog } from '../../../src/core/log.ts'
import { PiecePool } from '../../../src/store/partial/piece-pool.ts'
import type { StoredTask } from '../../../src/store/store.ts'
import { failsWith } from '../../fixtures/fails-with.ts'
import { aBlob, aStore, never } from '../../fixtures/store/a-store.ts'

const KIB = 1024
const PIECES = 40
const ORIGIN = { kind: 'url', url: 'http://origin.test/blob' } as const

/** A lead read of a blob of 10 MiB that all lies in the kernel already, so to speak; `reached` is waited for at each place in it. */
async function aLead(
  reached: (at: number, stored: StoredTask) => Promise<void> = async () => {},
  { atWork = 1, patienceMs = 60_000 }: { atWork?: number; patienceMs?: number } = {},
) {
  const stack = new AsyncDisposableStack()
  const { store } = stack.use(await aStore())
  const blob = aBlob({ pieces: PIECES, pieceBytes: 256 * KIB })
  const stored = await store.create(blob.task, { signal: never() })
  const tail = new Tail(0, new PiecePool({ aligned: true }), { patienceMs })
  const turns = new LeadTurns({ clock: systemClock, atWork: () => atWork })
  const turn = turns.begin(2)
  let sent = 0
  const first: OriginRead = {
    from: 0,
    bytes: blob.body.byteLength,
    stream: (async function* () {
      for (let at = 0; at < blob.body.byteLength; at = sent) {
        await reached(at, stored)
        sent = Math.min(blob.body.byteLength, at + 100 * KIB)
        yield blob.body.subarray(at, sent)
      }
    })(),
    [Symbol.asyncDispose]: async () => {},
  }
  const failing = new AbortController()
  const content = new OpenContent({
    stored,
    fetching: { stored, tail, failing: failing.signal } as unknown as Fetching,
    // a reader that goes to the disk is seen
    blocks: { take: () => assert.fail('read from the disk') } as unknown as Blocks,
    release: async () => {},
  })
  const run = () =>
    leadRead(
      { origin: ORIGIN, credential: undefined, attempts: 1 },
      {
        ...{ stored, tail, clock: systemClock, random: Math.random, log: silentLog() },
        originPort: {} as OriginPort,
        retryMs: () => undefined,
        read: () => {},
        gained: () => {},
        atWork: () => atWork,
        turn,
      },
      { first, signal: never() },
    )
  return {
    blob,
    stored,
    tail,
    turns,
    content,
    run,
    sent: () => sent,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

describe('leadRead', () => {
  it('goes no faster than its only reader takes it, who finds all of it in memory', async () => {
    await using lead = await aLead()
    const reading = lead.content.read({ lend: true, pace: true, signal: never() })
    let at = 0
    const next = async () => {
      const { value } = await reading.next()
      if (value === undefined) return false
      assert.ok(Buffer.from(value).equals(lead.blob.body.subarray(at, at + value.byteLength)))
      at += value.byteLength
      return true
    }
    const began = next()
    const running = lead.run()
    await began
    while (await next()) {
      // a reader with other things to do
      for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      assert.ok(lead.sent() - at < 2 * 1024 * KIB, `${lead.sent()} bytes came, ${at} are read`)
    }
    assert.equal(at, lead.blob.body.byteLength)
    assert.equal(await running, lead.blob.digest)
  })

  it('tells its reader that the whole is right before the disk has it', async () => {
    await using lead = await aLead()
    const { stored } = lead
    const disk = Promise.withResolvers<void>()
    const lay = stored.lay.bind(stored)
    stored.lay = async (piece, body) => {
      if (piece * 256 * KIB + body.byteLength === lead.blob.body.byteLength) await disk.promise
      await lay(piece, body)
    }
    const running = lead.run()
    await lead.content.matched({ signal: never() })
    assert.equal(stored.verified, false)
    const [last] = await Array.fromAsync(
      lead.content.read({ from: lead.blob.body.byteLength - 1, lend: true, signal: never() }),
    )
    assert.deepEqual([...(last ?? [])], [lead.blob.body.at(-1)])
    disk.resolve()
    assert.equal(await running, lead.blob.digest)
  })

  it('comes to its reader by as much at once as that wants, but for ends of pieces', async () => {
    await using lead = await aLead()
    const reading = Array.fromAsync(lead.content.read({ least: 150 * KIB, signal: never() }))
    assert.equal(await lead.run(), lead.blob.digest)
    lead.tail.close()
    const chunks = await reading
    assert.ok(Buffer.concat(chunks).equals(lead.blob.body))
    let at = 0
    for (const { byteLength } of chunks) {
      at += byteLength
      const ends = at % (256 * KIB) === 0 || at === lead.blob.body.byteLength
      assert.ok(byteLength >= 150 * KIB || ends, `${byteLength} to ${at}`)
    }
  })

  it('gives its reader what there is when it ends early', async () => {
    await using lead = await aLead()
    const reading = lead.content.read({ least: 200 * KIB, signal: never() })
    const first = reading.next()
    lead.tail.push(lead.blob.body.subarray(0, 1000), () => 256 * KIB)
    lead.tail.close()
    assert.equal((await first).value?.byteLength, 1000)
  })

  it('has the disk begin while it waits for its origin, and not while it is at work itself', async () => {
    for (const [atWork, times] of [
      [0.5, 1],
      [1, 0],
    ] as const) {
      let flushes = 0
      await using lead = await aLead(async () => {}, { atWork })
      const { stored } = lead
      const flush = stored.flush.bind(stored)
      stored.flush = async () => {
        flushes++
        await flush()
      }
      assert.equal(await lead.run(), lead.blob.digest)
      assert.equal(flushes, times)
    }
  })

  it('is not whole when the disk failed meanwhile', async () => {
    await using lead = await aLead(async () => {}, { atWork: 0.5 })
    lead.stored.flush = () => Promise.reject(new DarnerError('DISK_FULL', 'no room'))
    await failsWith('DISK_FULL', lead.run())
    assert.equal(lead.stored.complete, false)
  })

  it('does not tell its reader so of other bytes', async () => {
    await using lead = await aLead()
    lead.blob.body[0] = (lead.blob.body[0] ?? 0) ^ 1
    const running = lead.run()
    const matched = lead.content.matched({ signal: never() })
    await failsWith('DIGEST_MISMATCH', running)
    await failsWith('DIGEST_MISMATCH', matched)
    assert.equal(lead.tail.proven, false)
  })

  it('stores past the cache what its one reader has from memory, and nothing that another host is told of', async () => {
    for (const [readers, heard, past] of [
      [0, false, false],
      [1, false, true],
      [2, false, false],
      [1, true, false],
    ] as const) {
      await using lead = await aLead()
      const { stored, tail } = lead
      const lay = stored.lay.bind(stored)
      const ways = new Set<boolean | undefined>()
      stored.lay = async (piece, body, options) => {
        ways.add(options?.past)
        await lay(piece, body, options)
      }
      const stop = heard ? stored.onPieces(() => {}) : () => {}
      const followers = Array.from({ length: readers }, () => tail.follow(0, { pace: true, signal: never() }))
      for (const follower of followers) follower.moved(lead.blob.body.byteLength)
      assert.equal(await lead.run(), lead.blob.digest)
      stop()
      assert.deepEqual([...ways], [past])
    }
  })

  it('leaves to the cache what a reader that is far behind will want from the disk', async () => {
    await using lead = await aLead(undefined, { patienceMs: 1 })
    const { stored, tail } = lead
    const lay = stored.lay.bind(stored)
    const past = new Map<number, boolean | undefined>()
    stored.lay = async (piece, body, options) => {
      past.set(piece, options?.past)
      await lay(piece, body, options)
    }
    using _behind = tail.follow(0, { pace: true, signal: never() })
    assert.equal(await lead.run(), lead.blob.digest)
    assert.deepEqual([past.get(0), past.get(PIECES - 4)], [true, false])
  })

  it('stores what comes fast in runs of pieces, and each by itself while another host is told of them', async () => {
    for (const heard of [false, true]) {
      await using lead = await aLead()
      const { stored } = lead
      const lay = stored.lay.bind(stored)
      const runs: number[] = []
      stored.lay = async (piece, body) => {
        runs.push(Math.ceil(body.byteLength / stored.task.pieceBytes))
        await lay(piece, body)
      }
      const stop = heard ? stored.onPieces(() => {}) : () => {}
      assert.equal(await lead.run(), lead.blob.digest)
      stop()
      assert.equal(
        runs.reduce((sum, count) => sum + count, 0),
        PIECES,
      )
      assert.equal(
        runs.some((count) => count > 1),
        !heard,
        runs.join(),
      )
    }
  })

  it('stores the pieces that are whole while nothing more comes, and keeps them when the read fails', async () => {
    const broken = new DarnerError('ORIGIN_TRUNCATED', 'the origin went away')
    await using lead = await aLead(async (at, stored) => {
      if (at === 300 * KIB) await stored.waitFor(0, { signal: never() })
      if (at === 1800 * KIB) throw broken
    })
    await assert.rejects(lead.run(), broken)
    assert.deepEqual(lead.stored.have.ranges(), [[0, 7]])
  })

  it('lets an earlier layer come first, and what comes after it in its turn when all of it has come', async () => {
    await using lead = await aLead()
    const earlier = lead.turns.begin(1)
    const later = lead.turns.begin(3)
    const reading = lead.content.read({ lend: true, signal: never() })
    const first = reading.next()
    const running = lead.run()
    await first
    assert.equal(lead.sent(), 100 * KIB)
    earlier[Symbol.dispose]()
    const disk = Promise.withResolvers<void>()
    lead.stored.flush = () => disk.promise
    await lead.tail.whenProven
    assert.equal(later.waits, false)
    disk.resolve()
    assert.equal(await running, lead.blob.digest)
    await reading.return(undefined)
  })

  it('waits for no reader, and no earlier layer, while another host is told of pieces', async () => {
    await using lead = await aLead()
    const reader = lead.tail.follow(0, { pace: true, signal: new AbortController().signal })
    using _earlier = lead.turns.begin(1)
    const stop = lead.stored.onPieces(() => {})
    assert.equal(await lead.run(), lead.blob.digest)
    stop()
    reader[Symbol.dispose]()
  })
})
