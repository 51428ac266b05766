import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { Blocks } from '../../../peer/engine/blocks.ts'
import type { Fetching } from '../../../peer/engine/fetching.ts'
import { leadRead } from '../../../peer/engine/lead.ts'
import { OpenContent } from '../../../peer/engine/open-content.ts'
import { PageMemory, Tail } from '../../../peer/engine/tail.ts'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLog } from '../../../src/base/log.ts'
import type { OriginPort, OriginRead } from '../../../src/contracts/origin.ts'
import { aBlob, aStore, never } from '../../fixtures/a-store.ts'
import { failsWith } from '../../fixtures/fails-with.ts'

const KIB = 1024
const PIECES = 40
const ORIGIN = { kind: 'url', url: 'http://origin.test/blob' } as const

/** A lead read of a blob of 10 MiB that all lies in the kernel already, so to speak. */
async function aLead() {
  const stack = new AsyncDisposableStack()
  const { store } = stack.use(await aStore())
  const blob = aBlob({ pieces: PIECES, pieceBytes: 256 * KIB })
  const stored = await store.create(blob.task, { signal: never() })
  const tail = new Tail(0, new PageMemory(), { patienceMs: 60_000 })
  let sent = 0
  const first: OriginRead = {
    from: 0,
    bytes: blob.body.byteLength,
    stream: (async function* () {
      for (let at = 0; at < blob.body.byteLength; at = sent) {
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
      },
      { first, signal: never() },
    )
  return { blob, stored, tail, content, run, sent: () => sent, [Symbol.asyncDispose]: () => stack.disposeAsync() }
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
      assert.ok(lead.sent() - at < 1.5 * 1024 * KIB, `${lead.sent()} bytes came, ${at} are read`)
    }
    assert.equal(at, lead.blob.body.byteLength)
    assert.equal(await running, lead.blob.digest)
  })

  it('tells its reader that the whole is right before the disk has it', async () => {
    await using lead = await aLead()
    const { stored } = lead
    const disk = Promise.withResolvers<void>()
    const append = stored.append.bind(stored)
    stored.append = async (piece, ...rest) => {
      if (piece === PIECES - 1) await disk.promise
      return await append(piece, ...rest)
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

  it('does not tell its reader so of other bytes', async () => {
    await using lead = await aLead()
    lead.blob.body[0] = (lead.blob.body[0] ?? 0) ^ 1
    const running = lead.run()
    const matched = lead.content.matched({ signal: never() })
    await failsWith('DIGEST_MISMATCH', running)
    await failsWith('DIGEST_MISMATCH', matched)
    assert.equal(lead.tail.proven, false)
  })

  it('waits for no reader while another host is told of pieces', async () => {
    await using lead = await aLead()
    const reader = lead.tail.follow(0)
    const stop = lead.stored.onPieces(() => {})
    assert.equal(await lead.run(), lead.blob.digest)
    stop()
    reader[Symbol.dispose]()
  })
})
