import assert from 'node:assert/strict'
import { systemClock } from '../../../src/core/clock.ts'
import type { OriginPort, OriginRead } from '../../../src/core/contracts/origin.ts'
import { digestOf } from '../../../src/core/digest.ts'
import { silentLog } from '../../../src/core/log.ts'
import { blobTask, pieceCount } from '../../../src/core/task/task.ts'
import { PiecePool } from '../../../src/store/partial/piece-pool.ts'
import { SeedTask } from '../../../supernode/seed/seed-task.ts'
import { randomBody } from '../../fixtures/images/an-image.ts'
import { aStore, never } from '../../fixtures/store/a-store.ts'

const CHUNK_BYTES = 10_000

class CountingPool extends PiecePool {
  given = 0
  back = 0

  override get(bytes: number): Buffer<ArrayBuffer> {
    this.given++
    return super.get(bytes)
  }

  override put(body: Uint8Array): void {
    this.back++
    super.put(body)
  }
}

/** A read whose chunks come in memory that is written over as soon as the reader is done with it. */
function aReadInLentMemory(body: Uint8Array) {
  const lent = new Set<Uint8Array>()
  async function* stream() {
    for (let at = 0; at < body.byteLength; at += CHUNK_BYTES) {
      const chunk = body.slice(at, at + CHUNK_BYTES)
      lent.add(chunk)
      yield chunk
    }
  }
  const read: OriginRead = {
    from: 0,
    bytes: body.byteLength,
    stream: stream(),
    done: (chunk) => {
      assert.ok(lent.delete(chunk), 'given back once, as it came')
      chunk.fill(0xff)
    },
    [Symbol.asyncDispose]: async () => {},
  }
  return { read, lent }
}

describe('SeedTask', () => {
  it('gives the memory of what it has read back, and keeps the bytes', async () => {
    await using here = await aStore()
    const body = randomBody(1, 14 * 1024 * 1024)
    const blob = blobTask(digestOf(body), body.byteLength)
    const { read, lent } = aReadInLentMemory(body)
    const pool = new CountingPool()
    const failures: Error[] = []
    const task = new SeedTask(
      {
        origin: { kind: 'url', url: 'http://origin.example/blob' },
        credential: undefined,
        came: undefined,
        version: undefined,
        attempts: 1,
        broken: 0,
        ingestDepth: 3,
      },
      {
        stored: await here.store.create(blob, { signal: never() }),
        originPort: {} as OriginPort,
        clock: systemClock,
        random: () => 0.5,
        log: silentLog(),
        pool,
        retryMs: () => undefined,
        lend: async () => undefined,
      },
      { known: () => {}, sealed: async () => {}, failed: (error) => failures.push(error), read: () => {} },
    )
    await task.run(read, { signal: never() })
    assert.deepEqual([failures, await task.whole()], [[], blob.digest])
    assert.equal(lent.size, 0, 'chunks that were not given back')
    assert.equal(pool.given, pieceCount(blob))
    // the store keeps the last 12 MiB for those who pass them on
    assert.ok(pool.back * blob.pieceBytes >= 2 * 1024 * 1024, `${pool.back} of ${pool.given} pieces came back`)
    const whole = new Uint8Array(body.byteLength)
    await task.stored.read(0, whole)
    assert.ok(Buffer.compare(whole, body) === 0)
  })
})
