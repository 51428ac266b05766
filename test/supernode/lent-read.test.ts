import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import type { Clock } from '../../src/core/clock.ts'
import type { PeerAddress, PeerId, PieceExchange } from '../../src/core/contracts/exchange.ts'
import { digestOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import { blobTask, pieceCount, pieceRange } from '../../src/core/task/task.ts'
import { lentPieces } from '../../supernode/lent-read.ts'
import { Traffic } from '../../supernode/traffic.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { randomBody } from '../fixtures/images/an-image.ts'

const BODY = randomBody(3, 200_000)
const TASK = blobTask(digestOf(BODY), BODY.byteLength)

/** A host that opens the blob after `late` tries only, each failing with `code`; what is waited for between them is counted and not slept. */
function aReader(code: 'PIECE_ABSENT' | 'PEER_REFUSED', late: number) {
  const tries = { opens: 0, waitedMs: 0 }
  const channel = {
    parent: 'one',
    haves: Bitmap.full(pieceCount(TASK)),
    onHaves: () => () => {},
    closed: new Promise<Error>(() => {}),
    fetch: async (piece: number) => BODY.subarray(pieceRange(TASK, piece).from, pieceRange(TASK, piece).to),
    [Symbol.asyncDispose]: async () => {},
  }
  const exchange = {
    open: async () => {
      if (tries.opens++ < late) throw new DarnerError(code, 'not yet')
      return channel
    },
  } as unknown as PieceExchange
  const clock = {
    sleep: async (ms: number) => {
      tries.waitedMs += ms
    },
  } as unknown as Clock
  const address = { peer: 'one' as PeerId, lanes: [], multiaddrs: [] } as unknown as PeerAddress
  const traffic = new Traffic()
  const signal = AbortSignal.timeout(10_000)
  const pieces = lentPieces(
    { task: TASK, from: 0, pass: new Uint8Array() },
    { address, exchange, traffic, clock, signal },
  )
  return { tries, traffic, read: async () => Buffer.concat((await Array.fromAsync(pieces)).map(({ body }) => body)) }
}

describe('what the supernode reads through a host', () => {
  it('is waited for while that host, being busy, has no place for the blob yet', async () => {
    const { tries, traffic, read } = aReader('PIECE_ABSENT', 100)
    assert.ok((await read()).equals(BODY))
    assert.equal(traffic.fromHosts, BODY.byteLength)
    assert.equal(tries.waitedMs, 10_000)
  })

  it('is given up when the place takes as long as a stall, and sooner when the host refuses', async () => {
    const absent = aReader('PIECE_ABSENT', Number.POSITIVE_INFINITY)
    await failsWith('PIECE_ABSENT', absent.read())
    assert.equal(absent.tries.opens, 150)
    const refused = aReader('PEER_REFUSED', Number.POSITIVE_INFINITY)
    await failsWith('PEER_REFUSED', refused.read())
    assert.equal(refused.tries.opens, 20)
  })
})
