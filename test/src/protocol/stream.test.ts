import assert from 'node:assert/strict'
import { isDarnerError } from '../../../src/core/errors.ts'
import { YAMUX_MAX_WINDOW_BYTES } from '../../../src/protocol/constants.ts'
import { aStreamPair } from '../../fixtures/swarm/a-node.ts'

const MIB = 1024 * 1024
const within = () => ({ signal: AbortSignal.timeout(10_000) })

/** Lets the event loop turn until `done` says so; fails with the last state after ten seconds. */
async function until(done: () => boolean, state: () => string): Promise<void> {
  const end = AbortSignal.timeout(10_000)
  while (!done()) {
    if (end.aborted) assert.fail(state())
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function patterned(bytes: number, seed = 0): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, at) => (at * 31 + (at >> 8) + seed) & 0xff)
}

describe('PeerStream', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('reads what was written, in any cut', async () => {
    await using pair = await aStreamPair()
    const sent = patterned(300_000)
    const writing = pair.near.write(sent, within())
    const parts: Uint8Array[] = []
    for (const bytes of [1, 0, 7, 65_536, 100_000, 134_456]) parts.push(await pair.far.readExactly(bytes, within()))
    await writing
    assert.deepEqual(Buffer.concat(parts), Buffer.from(sent))
  })

  it('carries bytes both ways at once', async () => {
    await using pair = await aStreamPair()
    const [up, down] = [patterned(3 * MIB, 1), patterned(2 * MIB, 2)]
    const [, , gotUp, gotDown] = await Promise.all([
      pair.near.write(up, within()),
      pair.far.write(down, within()),
      pair.far.readExactly(up.byteLength, within()),
      pair.near.readExactly(down.byteLength, within()),
    ])
    assert.ok(Buffer.from(gotUp).equals(up))
    assert.ok(Buffer.from(gotDown).equals(down))
  })

  it('stops a writer whose reader does not read, with at most a window held', async () => {
    await using pair = await aStreamPair()
    // a warm stream first: the window has grown to its cap
    const warm = new Uint8Array(16 * MIB)
    await Promise.all([pair.near.write(warm, within()), pair.far.readExactly(warm.byteLength, within())])
    const total = 32 * MIB
    let written = 0
    const chunk = new Uint8Array(64 * 1024)
    const writing = (async () => {
      for (; written < total; written += chunk.byteLength) await pair.near.write(chunk, within())
    })()
    let before = -1
    let still = 0
    await until(
      () => {
        still = written === before && pair.far.waitingBytes > 0 ? still + 1 : 0
        before = written
        return still > 500
      },
      () => `still moving at ${written}`,
    )
    assert.ok(written < 8 * MIB, `${written} bytes were taken from the writer`)
    assert.ok(
      pair.far.waitingBytes <= YAMUX_MAX_WINDOW_BYTES + 256 * 1024,
      `${pair.far.waitingBytes} bytes held by the reader`,
    )
    assert.ok(pair.near.unsentBytes <= 128 * 1024, `${pair.near.unsentBytes} bytes held by the writer`)
    for (let read = 0; read < total; read += MIB) await pair.far.readExactly(MIB, within())
    await writing
    assert.equal(written, total)
  })

  it('wakes a stalled writer every time the reader moves on', async () => {
    await using pair = await aStreamPair()
    const total = 12 * MIB
    const writing = pair.near.write(patterned(total), within())
    const got = Buffer.alloc(total)
    for (let at = 0; at < total; at += 384 * 1024) {
      await new Promise((resolve) => setImmediate(resolve))
      await pair.far.readInto(got.subarray(at, at + 384 * 1024), within())
    }
    await writing
    assert.ok(got.equals(patterned(total)))
  })

  it('delivers bytes that waited when the end came', async () => {
    await using pair = await aStreamPair()
    const sent = patterned(200_000)
    await pair.near.write(sent, within())
    await pair.near.end(within())
    await until(
      () => pair.far.waitingBytes === sent.byteLength,
      () => `${pair.far.waitingBytes} bytes wait`,
    )
    assert.ok(Buffer.from(await pair.far.readExactly(sent.byteLength, within())).equals(sent))
    await assert.rejects(
      pair.far.readExactly(1, within()),
      (error) => isDarnerError(error, 'CLOSED') && error.details.got === 0,
    )
  })

  it('delivers bytes that waited when both sides have ended', async () => {
    await using pair = await aStreamPair()
    const sent = patterned(200_000)
    await pair.near.write(sent, within())
    await Promise.all([pair.near.end(within()), pair.far.end(within())])
    assert.equal(await pair.near.closed, undefined)
    assert.ok(Buffer.from(await pair.far.readExactly(sent.byteLength, within())).equals(sent))
    await assert.rejects(pair.far.readExactly(1, within()), (error) => isDarnerError(error, 'CLOSED'))
  })

  it('says how much came when a stream ends inside a read', async () => {
    await using pair = await aStreamPair()
    const reading = pair.far.readExactly(100, within())
    await pair.near.write(new Uint8Array(40), within())
    await pair.near.end(within())
    await assert.rejects(
      reading,
      (error) => isDarnerError(error, 'CLOSED') && error.details.got === 40 && error.details.wanted === 100,
    )
  })

  it('fails a read that waits when the other side resets', async () => {
    await using pair = await aStreamPair()
    const reading = pair.far.readExactly(MIB, within())
    await pair.near.write(new Uint8Array(1000), within())
    pair.near.abort(new Error('enough'))
    await assert.rejects(reading, (error) => isDarnerError(error, 'PEER_UNREACHABLE') && /reset/.test(error.message))
    assert.ok(isDarnerError(await pair.far.closed, 'PEER_UNREACHABLE'))
  })

  it('fails a write that waits when the other side resets', async () => {
    await using pair = await aStreamPair()
    const writing = pair.near.write(new Uint8Array(16 * MIB), within())
    await pair.far.readExactly(1, within())
    pair.far.abort(new Error('enough'))
    await assert.rejects(writing, (error) => isDarnerError(error, 'PEER_UNREACHABLE'))
  })

  it('does not take a lost connection for an orderly end', async () => {
    await using pair = await aStreamPair()
    const reading = pair.far.readExactly(10, within())
    await pair.dialler.disconnect(pair.listener.peerId, new Error('cut'))
    await assert.rejects(reading, (error) => isDarnerError(error, 'PEER_UNREACHABLE'))
  })

  it('loses nothing when a read is aborted', async () => {
    await using pair = await aStreamPair()
    const abort = new AbortController()
    const sent = patterned(1000)
    const reading = pair.far.readExactly(1000, { signal: abort.signal })
    const refused = assert.rejects(reading, /stop reading/)
    const quiet = pair.far.heardMs
    await pair.near.write(sent.subarray(0, 600), within())
    await until(
      () => pair.far.heardMs > quiet,
      () => 'nothing arrived',
    )
    abort.abort(new Error('stop reading'))
    await refused
    await pair.near.write(sent.subarray(600), within())
    assert.ok(Buffer.from(await pair.far.readExactly(1000, within())).equals(sent))
  })

  it('gives the reason of the signal when a write is aborted while it waits', async () => {
    await using pair = await aStreamPair()
    const abort = new AbortController()
    const writing = pair.near.write(new Uint8Array(16 * MIB), { signal: abort.signal })
    await pair.far.readExactly(1, within())
    abort.abort(new Error('stop writing'))
    await assert.rejects(writing, /stop writing/)
  })

  it('gives the reason of a signal that was aborted before', async () => {
    await using pair = await aStreamPair()
    const { signal } = aborted()
    await assert.rejects(pair.near.readExactly(1, { signal }), /before/)
    await assert.rejects(pair.near.write(new Uint8Array(1), { signal }), /before/)
    await assert.rejects(pair.near.end({ signal }), /before/)
  })

  it('refuses a second reader and a second writer', async () => {
    await using pair = await aStreamPair()
    const reading = assert.rejects(pair.near.readExactly(1, within()), (error) => isDarnerError(error, 'CLOSED'))
    await assert.rejects(pair.near.readExactly(1, within()), (error) => isDarnerError(error, 'INTERNAL'))
    const writing = assert.rejects(pair.near.write(new Uint8Array(16 * MIB), within()))
    await assert.rejects(pair.near.write(new Uint8Array(1), within()), (error) => isDarnerError(error, 'INTERNAL'))
    await pair.near[Symbol.asyncDispose]()
    await Promise.all([reading, writing])
  })

  it('refuses a write after the end', async () => {
    await using pair = await aStreamPair()
    await pair.near.end(within())
    await assert.rejects(pair.near.write(new Uint8Array(1), within()), (error) => isDarnerError(error, 'CLOSED'))
  })
})

function aborted(): AbortController {
  const controller = new AbortController()
  controller.abort(new Error('aborted before'))
  return controller
}
