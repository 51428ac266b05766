import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { ManualClock } from '../../../../src/core/clock.ts'
import { type DarnerError, isDarnerError } from '../../../../src/core/errors.ts'
import {
  FRAME,
  frame,
  HEADER_BYTES,
  PREFACE_BYTES,
  preface,
  REFUSAL,
  readHeader,
} from '../../../../src/exchange/transport/lane-frames.ts'
import { LaneLink, LINK_DEFAULTS, type LinkHandler } from '../../../../src/exchange/transport/link.ts'
import { aBytePipe, type PipeEnd } from '../../../fixtures/exchange/a-byte-pipe.ts'

interface Rig {
  readonly clock: ManualClock
  readonly link: LaneLink
  /** The other side's end, in the test's hands. */
  readonly far: PipeEnd
  readonly frames: number[]
  busy: boolean
  ended: DarnerError | undefined
  step(ms: number): Promise<void>
}

function aLink(handler: Partial<LinkHandler> = {}): Rig {
  const clock = new ManualClock()
  const { near, far } = aBytePipe()
  const link = new LaneLink(near, LINK_DEFAULTS, { clock })
  const rig: Rig = {
    clock,
    link,
    far,
    frames: [],
    busy: true,
    ended: undefined,
    step: async (ms) => {
      for (let at = 0; at < ms; at += 100) {
        clock.advance(100)
        if (clock.monotonicMs() % LINK_DEFAULTS.tickMs === 0) link.tick()
        await setImmediate()
      }
    },
  }
  link.start({
    onFrame: (header) => {
      rig.frames.push(header.type)
    },
    busy: () => rig.busy,
    onClosed: (error) => {
      rig.ended = error
    },
    ...handler,
  })
  return rig
}

/** The next frame's type, the preface skipped. */
async function nextType(end: PipeEnd, skipPreface = false): Promise<number> {
  if (skipPreface) await end.readExactly(Buffer.alloc(PREFACE_BYTES))
  const header = Buffer.alloc(HEADER_BYTES)
  await end.readExactly(header)
  const read = readHeader(header)
  await end.readExactly(Buffer.alloc(read.bytes))
  return read.type
}

describe('LaneLink', () => {
  it('asks a silent peer for a sign of life, bears with a slow link, and gives it up after 10 s', async () => {
    const rig = aLink()
    await rig.far.write(preface())
    await rig.step(3500)
    assert.equal(await nextType(rig.far, true), FRAME.PING)
    await rig.step(6000)
    assert.equal(rig.ended, undefined)
    await rig.step(1000)
    assert.ok(isDarnerError(rig.ended, 'PEER_UNREACHABLE'), String(rig.ended))
    assert.match(String(rig.ended), /far: silent/)
  })

  it('keeps a peer that answers pings', async () => {
    const rig = aLink()
    await rig.far.write(preface())
    for (let round = 0; round < 10; round++) {
      await rig.step(1000)
      await rig.far.write(frame(FRAME.PONG, {}))
    }
    assert.equal(rig.ended, undefined)
  })

  it('answers pings', async () => {
    const rig = aLink()
    await rig.far.write(Buffer.concat([preface(), frame(FRAME.PING, {})]))
    await rig.step(100)
    assert.equal(await nextType(rig.far, true), FRAME.PONG)
  })

  it('forgives silence that is its own fault: a tick that came late', async () => {
    const rig = aLink()
    await rig.far.write(preface())
    await rig.step(500)
    rig.clock.advance(60_000)
    rig.link.tick()
    await setImmediate()
    assert.equal(rig.ended, undefined)
    await rig.step(10_500)
    assert.ok(isDarnerError(rig.ended, 'PEER_UNREACHABLE'))
  })

  it('closes a link that nobody uses, and says so', async () => {
    const rig = aLink()
    rig.busy = false
    await rig.far.write(preface())
    await rig.step(59_000)
    assert.equal(rig.ended, undefined)
    await rig.step(2000)
    assert.ok(isDarnerError(rig.ended, 'CLOSED'))
    assert.equal(await nextType(rig.far, true), FRAME.BYE)
  })

  it('ends a peer that doesn’t finish the frame that it began', async () => {
    const rig = aLink()
    rig.busy = false
    await rig.far.write(preface())
    await rig.far.write(frame(FRAME.HAVE, {}, Buffer.alloc(8)).subarray(0, 10))
    for (let round = 0; round < 9; round++) await rig.step(1000)
    assert.equal(rig.ended, undefined)
    await rig.step(2000)
    assert.ok(isDarnerError(rig.ended, 'PROTOCOL_VIOLATION'), String(rig.ended))
    assert.match(String(rig.ended), /peer far/)
  })

  it('ends a peer that doesn’t even finish its preface', async () => {
    const rig = aLink()
    rig.busy = false
    await rig.far.write(preface().subarray(0, 3))
    await rig.step(11_000)
    assert.ok(isDarnerError(rig.ended, 'PROTOCOL_VIOLATION'), String(rig.ended))
  })

  it('ends a peer that floods it with frames', async () => {
    const rig = aLink()
    const pings = Buffer.concat(Array.from({ length: 20_001 }, () => frame(FRAME.PONG, {})))
    await rig.far.write(Buffer.concat([preface(), pings]))
    await rig.step(600)
    assert.ok(isDarnerError(rig.ended, 'PROTOCOL_VIOLATION'), String(rig.ended))
  })

  it('ends a peer that lets small frames pile up', async () => {
    const rig = aLink()
    await rig.far.write(preface())
    await rig.step(100)
    rig.far.deaf = true
    for (let sent = 0; sent < 800 && rig.ended === undefined; sent++) {
      rig.link.send(FRAME.HAVE, {}, Buffer.alloc(4096))
      await setImmediate()
    }
    assert.ok(isDarnerError(rig.ended, 'PEER_STALLED'), String(rig.ended))
  })

  it('ends a peer that reads nothing for half a minute', async () => {
    const rig = aLink()
    rig.busy = false
    await rig.far.write(preface())
    await rig.step(100)
    rig.far.deaf = true
    const written = rig.link.sendBulk(frame(FRAME.PIECE, {}, Buffer.alloc(100)))
    written.catch(() => undefined)
    await rig.step(29_000)
    assert.equal(rig.ended, undefined)
    await rig.step(2000)
    assert.ok(isDarnerError(rig.ended, 'PEER_STALLED'), String(rig.ended))
    await assert.rejects(written, (error) => isDarnerError(error, 'PEER_STALLED'))
  })

  it('keeps ordered frames behind bulk bytes and lets the others pass', async () => {
    const rig = aLink()
    await rig.far.write(preface())
    const bulk = rig.link.sendBulk(frame(FRAME.PIECE, {}, Buffer.alloc(10)))
    rig.link.sendOrdered(FRAME.GONE, {})
    rig.link.send(FRAME.PONG, {})
    await bulk
    assert.equal(await nextType(rig.far, true), FRAME.PONG)
    assert.equal(await nextType(rig.far), FRAME.PIECE)
    assert.equal(await nextType(rig.far), FRAME.GONE)
  })

  it('asks for news when bulk bytes or any other frame leave, and when they have waited long enough', async () => {
    const rig = aLink({ onNews: () => rig.link.send(FRAME.HAVE, {}) })
    await rig.far.write(preface())
    rig.link.later(60_000)
    await rig.link.sendBulk(frame(FRAME.PIECE, {}, Buffer.alloc(10)))
    const seen = [await nextType(rig.far, true), await nextType(rig.far)]
    assert.deepEqual(seen, [FRAME.HAVE, FRAME.PIECE])
    rig.link.later(60_000)
    rig.link.send(FRAME.ANY, {})
    assert.deepEqual([await nextType(rig.far), await nextType(rig.far)], [FRAME.HAVE, FRAME.ANY])
    rig.link.later(60_000)
    rig.link.later(1)
    assert.equal(await nextType(rig.far), FRAME.HAVE)
  })

  it('has news that came during a write wait for the next one, or for their time', async () => {
    const rig = aLink({ onNews: () => rig.link.send(FRAME.HAVE, {}) })
    const writes: number[] = []
    const push = rig.far.push.bind(rig.far)
    rig.far.push = (bytes) => {
      writes.push(bytes.byteLength)
      if (writes.length === 2) rig.link.later(60_000)
      push(bytes)
    }
    await rig.far.write(preface())
    await setImmediate()
    rig.link.send(FRAME.ANY, {})
    await setImmediate()
    assert.deepEqual(writes, [PREFACE_BYTES, HEADER_BYTES])
    rig.link.send(FRAME.ANY, {})
    await setImmediate()
    assert.deepEqual(writes, [PREFACE_BYTES, HEADER_BYTES, 2 * HEADER_BYTES])
  })

  it('sends small frames in the room before bulk bytes, in one write, and first where they need more', async () => {
    const rig = aLink()
    const writes: number[] = []
    const push = rig.far.push.bind(rig.far)
    rig.far.push = (bytes) => {
      writes.push(bytes.byteLength)
      push(bytes)
    }
    const room = HEADER_BYTES + 3
    const bulk = () => Buffer.concat([Buffer.alloc(room), frame(FRAME.PIECE, {}, Buffer.alloc(10))])
    await rig.far.write(preface())
    await rig.link.sendBulk(bulk(), room)
    rig.link.send(FRAME.PONG, {})
    await rig.link.sendBulk(bulk(), room)
    rig.link.send(FRAME.PONG, {})
    rig.link.send(FRAME.PONG, {})
    await rig.link.sendBulk(bulk(), room)
    const piece = HEADER_BYTES + 10
    assert.deepEqual(writes, [PREFACE_BYTES, piece, HEADER_BYTES + piece, 2 * HEADER_BYTES, piece])
    const types = [await nextType(rig.far, true)]
    while (types.length < 6) types.push(await nextType(rig.far))
    assert.deepEqual(types, [FRAME.PIECE, FRAME.PONG, FRAME.PIECE, FRAME.PONG, FRAME.PONG, FRAME.PIECE])
  })

  it('names the refusal that ended it', async () => {
    for (const [refusal, code] of [
      ['ADMISSION_REFUSED', 'ADMISSION_REFUSED'],
      ['BUSY', 'PEER_REFUSED'],
      ['CLOSED', 'CLOSED'],
    ] as const) {
      const rig = aLink()
      await rig.far.write(
        Buffer.concat([preface(), frame(FRAME.BYE, { number: REFUSAL[refusal] }, Buffer.from('because'))]),
      )
      await rig.step(100)
      assert.ok(isDarnerError(rig.ended, code), String(rig.ended))
      assert.match(rig.ended.message, /because/)
    }
  })

  it('says what was violated to the one who did it', async () => {
    const rig = aLink()
    await rig.far.write(Buffer.concat([preface(), Buffer.from([77, ...Array(15).fill(0)])]))
    await rig.step(100)
    assert.ok(isDarnerError(rig.ended, 'PROTOCOL_VIOLATION'), String(rig.ended))
    assert.equal(await nextType(rig.far, true), FRAME.BYE)
    assert.ok(rig.far.other?.ended)
  })
})
