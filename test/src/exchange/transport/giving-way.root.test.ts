import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { roundTripOf } from '../../../../src/exchange/transport/tcp-round-trip.ts'
import { aLanePair, opening } from '../../../fixtures/exchange/a-lane.ts'
import { aShelf } from '../../../fixtures/exchange/a-shelf.ts'
import { needs } from '../../../fixtures/host/needs.ts'

const PIECE = 65_536
/** More than the link carries while the stream runs. */
const PIECES = 256
const MIB = 1024 * 1024

/** Loopback as a link of 40 Mbit/s with a queue of 100 ms, until it is disposed. */
function aNarrowLoopback(): Disposable {
  const tc = (...words: string[]) => execFileSync('tc', ['qdisc', ...words])
  tc('add', 'dev', 'lo', 'root', 'tbf', 'rate', '40mbit', 'burst', '70kb', 'latency', '100ms')
  return { [Symbol.dispose]: () => tc('del', 'dev', 'lo', 'root') }
}

/** A plain TCP stream of so many bytes, until its reader has them all. */
async function aStream(bytes: number): Promise<void> {
  const server = createServer((socket: Socket) => socket.end(Buffer.alloc(bytes)))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  const reader = connect(port, '127.0.0.1').resume()
  await once(reader, 'end')
  assert.equal(reader.bytesRead, bytes)
  reader.destroy()
  server.close()
}

describe('what is served to a background download', () => {
  it('gives way to another stream on the link, where the host says so', async function () {
    needs(this, { root: true, programs: ['tc'] })
    using _link = aNarrowLoopback()
    const shelf = aShelf({ bytes: PIECES * PIECE, pieceBytes: PIECE })
    const had: Record<string, number> = {}
    for (const giveWay of ['none', 'background'] as const) {
      await using pair = await aLanePair(shelf)
      pair.parent.limits.uploadYield = giveWay
      const ended = new AbortController()
      const signal = AbortSignal.any([ended.signal, AbortSignal.timeout(30_000)])
      const options = opening(PIECES, { priority: 'background', signal })
      await using channel = await pair.child.exchange.open(pair.parent.address, shelf.task, options)
      let [asked, pieces] = [0, 0]
      const started = Promise.withResolvers<void>()
      const some = async () => {
        while (asked < PIECES) {
          await channel.fetch(asked++, { signal })
          pieces++
          started.resolve()
        }
      }
      const download = Promise.all(Array.from({ length: 8 }, some)).catch((error: unknown) => {
        if (!ended.signal.aborted) throw error
      })
      await Promise.race([started.promise, download])
      await aStream(6 * MIB)
      had[giveWay] = pieces
      ended.abort()
      await download
    }
    const { none = 0, background = PIECES } = had
    assert.ok(background < none / 2, `pieces beside the stream: ${background} giving way, ${none} not`)
  })
})

describe('roundTripOf', () => {
  it('says how long bytes take to be confirmed, now and at best, and nothing of what is no connection', async () => {
    const server = createServer((socket) => socket.pipe(socket))
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    const socket = connect(port, '127.0.0.1')
    socket.write('a word')
    await once(socket, 'data')
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle
    const seen = roundTripOf(fd)
    assert.ok(seen && seen.leastMs > 0 && seen.leastMs <= seen.nowMs + 0.001, JSON.stringify(seen))
    socket.destroy()
    server.close()
    assert.equal(roundTripOf(process.stdin.fd), undefined)
    assert.equal(roundTripOf(-1), undefined)
  })
})
