import assert from 'node:assert/strict'
import { connect as connectTcp } from 'node:net'
import { connect } from 'node:tls'
import type { Shelf } from '../../../../src/core/contracts/exchange.ts'
import type { ExchangeOptions } from '../../../../src/exchange/exchange.ts'
import {
  decodeText,
  encodeOpen,
  encodeRuns,
  FRAME,
  frame,
  HEADER_BYTES,
  LANE_ALPN,
  OPEN_METERED,
  PIECE_LAST,
  REFUSAL,
  TELL_COMING,
  TELL_LOST,
} from '../../../../src/exchange/transport/lane-frames.ts'
import { makeLaneCertificate } from '../../../../src/exchange/transport/lane-identity.ts'
import { newIdentity } from '../../../../src/protocol/identity.ts'
import { anExchange, opening, type TestExchange } from '../../../fixtures/exchange/a-lane.ts'
import { aRawChild, type RawLane } from '../../../fixtures/exchange/a-raw-lane.ts'
import { aShelf, type TestShelf } from '../../../fixtures/exchange/a-shelf.ts'

const NONE = new Uint8Array(0)

function open(shelf: TestShelf, channel = 1, more: { have?: Uint8Array; flags?: number } = {}): Buffer {
  return frame(
    FRAME.OPEN,
    { channel, flags: more.flags ?? 0 },
    encodeOpen({ task: shelf.task.id, pass: NONE, have: more.have ?? NONE }),
  )
}

/** Runs `script` as a child of a parent with `shelf`. */
async function against(
  shelf: Shelf,
  script: (lane: RawLane, parent: TestExchange) => Promise<void>,
  options: ExchangeOptions = {},
): Promise<void> {
  await using parent = await anExchange(options, { shelf })
  await using child = await aRawChild(parent.address)
  await script(await child.lane.greet(), parent)
}

/** The parent says goodbye because of a violation, and tells its owner. */
async function violated(lane: RawLane, parent: TestExchange, pattern: RegExp): Promise<void> {
  const bye = await lane.hear(FRAME.BYE)
  assert.equal(bye.number, REFUSAL.PROTOCOL_VIOLATION)
  assert.match(decodeText(bye.payload), pattern)
  assert.equal(parent.violations.length, 1)
  assert.equal(parent.exchange.stats().children, 0)
}

describe('a parent before a hostile child', () => {
  const shelf = () => aShelf({ bytes: 150_000 })

  it('refuses an absurd bitmap', async () => {
    for (const have of [Buffer.alloc(2), Buffer.of(0xff), Buffer.alloc(100_000)]) {
      const one = shelf()
      await against(one, async (lane, parent) => {
        await lane.say(open(one, 1, { have }))
        await violated(lane, parent, /bitmap/)
        assert.equal(one.opened, 0)
      })
    }
  })

  it('refuses pieces outside the task, and requests made twice', async () => {
    const ask = (number: number) => frame(FRAME.ASK, { channel: 1, request: 1, number })
    const stuck = aShelf({ bytes: 150_000, read: () => new Promise(() => undefined) })
    for (const [frames, pattern] of [
      [[ask(3)], /piece 3 of 3/],
      [[ask(0), ask(1)], /made twice/],
      [[frame(FRAME.TAKE, { channel: 1, request: 9 })], /request 9, which was not made/],
      [
        [frame(FRAME.ANY, { channel: 1, request: 1 }), frame(FRAME.PASS, { channel: 1, request: 1 })],
        /which was not made/,
      ],
    ] as const) {
      await against(stuck, async (lane, parent) => {
        await lane.say(open(stuck))
        await lane.hear(FRAME.OPENED)
        await lane.say(...frames)
        await violated(lane, parent, pattern)
      })
    }
  })

  it('refuses frames that are too long or unknown, on no channel, or that a parent says', async () => {
    const long = frame(FRAME.OPEN, { channel: 1 })
    long.writeUInt32BE(2 ** 20, 12)
    const cases = [
      [long, /allowed/],
      [Buffer.alloc(HEADER_BYTES, 99), /unknown type 99/],
      [frame(FRAME.ASK, { channel: 8 }), /channel 8, which is not open/],
      [frame(FRAME.HAVE, { channel: 1 }, encodeRuns([[0, 1]])), /a child sent/],
      [frame(FRAME.TELL, { channel: 1 }, encodeRuns([[3, 1]])), /run of 1 from 3/],
    ] as const
    for (const [bytes, pattern] of cases) {
      const one = shelf()
      await against(one, async (lane, parent) => {
        await lane.say(open(one))
        await lane.hear(FRAME.OPENED)
        await lane.say(bytes)
        await violated(lane, parent, pattern)
        await one.until(() => one.opened === 0)
      })
    }
  })

  it('refuses a flood of opens, of requests, and of the same news', async () => {
    const one = aShelf({ bytes: 150_000, read: () => new Promise(() => undefined) })
    const many = <T>(count: number, make: (at: number) => T) => Array.from({ length: count }, (_, at) => make(at))
    await against(one, async (lane, parent) => {
      for (let channel = 1; channel <= 257; channel++) {
        await lane.say(open(one, channel))
        if (channel <= 256) await lane.hear(FRAME.OPENED)
      }
      await violated(lane, parent, /more than 256 channels/)
    })
    await against(one, async (lane, parent) => {
      await lane.say(open(one))
      await lane.hear(FRAME.OPENED)
      await lane.say(...many(65, (request) => frame(FRAME.ASK, { channel: 1, request, number: 0 })))
      await violated(lane, parent, /more than 64 requests/)
    })
    await against(one, async (lane, parent) => {
      await lane.say(open(one))
      await lane.hear(FRAME.OPENED)
      await lane.say(...many(400, () => frame(FRAME.TELL, { channel: 1 }, encodeRuns([[0, 3]]))))
      await violated(lane, parent, /told again/)
    })
    await against(one, async (lane, parent) => {
      await lane.say(open(one))
      await lane.hear(FRAME.OPENED)
      const hint = (flags: number) => frame(FRAME.TELL, { channel: 1, flags }, encodeRuns([[0, 3]]))
      await lane.say(...many(200, () => Buffer.concat([hint(TELL_COMING), hint(TELL_LOST)])))
      await violated(lane, parent, /told as coming or lost/)
    })
    await against(one, async (lane, parent) => {
      await lane.say(open(one), open(one))
      await violated(lane, parent, /opened twice/)
    })
  })

  it('gives nothing that was not taken, and offers again what was declined', async () => {
    const one = aShelf({ bytes: 150_000, choose: async (has) => has.nextClear(0) })
    await against(one, async (lane) => {
      await lane.say(open(one))
      await lane.hear(FRAME.OPENED)
      await lane.say(frame(FRAME.ANY, { channel: 1, request: 1 }))
      const offer = await lane.hear(FRAME.OFFER)
      assert.deepEqual([offer.request, offer.number], [1, 0])
      await lane.say(frame(FRAME.PING, {}))
      assert.equal((await lane.hear(FRAME.PIECE, FRAME.PONG)).type, FRAME.PONG)
      const has = frame(FRAME.TELL, { channel: 1, flags: TELL_COMING }, encodeRuns([[0, 1]]))
      await lane.say(has, frame(FRAME.PASS, { channel: 1, request: 1 }))
      assert.equal((await lane.hear(FRAME.OFFER)).request, 1)
      await lane.say(frame(FRAME.TAKE, { channel: 1, request: 1 }))
      assert.equal((await lane.hear(FRAME.PIECE)).request, 1)
    })
  })

  it('asks the shelf for few tasks at a time', async () => {
    const slow: Shelf = { open: () => new Promise(() => undefined) }
    const one = shelf()
    await against(slow, async (lane) => {
      await lane.say(...Array.from({ length: 17 }, (_, at) => open(one, at + 1)))
      const refused = await lane.hear(FRAME.REFUSED)
      assert.equal(refused.channel, 17)
      assert.equal(refused.number, REFUSAL.BUSY)
    })
  })

  it('sends a metered child no byte more than it was granted', async () => {
    const one = shelf()
    await against(one, async (lane) => {
      await lane.say(open(one, 1, { flags: OPEN_METERED }))
      await lane.hear(FRAME.OPENED)
      await lane.say(frame(FRAME.ASK, { channel: 1, request: 1, number: 0 }), frame(FRAME.PING, {}))
      assert.equal((await lane.hear(FRAME.PIECE, FRAME.PONG)).type, FRAME.PONG)
      await lane.say(frame(FRAME.CREDIT, { channel: 1, number: 1000 }))
      assert.equal((await lane.hear(FRAME.PIECE)).bytes, 1000)
      await lane.say(frame(FRAME.PING, {}))
      assert.equal((await lane.hear(FRAME.PIECE, FRAME.PONG)).type, FRAME.PONG)
      await lane.say(frame(FRAME.CREDIT, { channel: 1, number: 65_536 }))
      const rest = await lane.hear(FRAME.PIECE)
      assert.equal(rest.bytes, 64_536)
      assert.equal(rest.flags, PIECE_LAST)
    })
  })

  it('ends the oldest of too many connections of one peer', async () => {
    await using parent = await anExchange({ maxLinksPerPeer: 2 }, { shelf: shelf() })
    const certificate = await makeLaneCertificate((await newIdentity()).privateKey)
    const [host, port] = (parent.address.lanes[0] ?? '').split(':')
    const sockets = []
    for (let at = 0; at < 3; at++) {
      const socket = connect({
        host,
        port: Number(port),
        cert: certificate.certPem,
        key: certificate.keyPem,
        rejectUnauthorized: false,
        ALPNProtocols: [LANE_ALPN],
      })
      socket.resume()
      await new Promise((resolve) => socket.once('data', resolve)) // the parent's preface
      sockets.push(socket)
    }
    const [oldest] = sockets
    if (oldest !== undefined && !oldest.closed) await new Promise((resolve) => oldest.once('close', resolve))
    assert.equal(parent.exchange.stats().children, 2)
    for (const socket of sockets) socket.destroy()
  })
})

describe('a parent’s handshake', () => {
  /** Connects with these TLS options and says how the connection ended; `spoke` is true when the parent said anything. */
  async function tryHandshake(
    parent: TestExchange,
    options: Parameters<typeof connect>[1],
  ): Promise<{ spoke: boolean }> {
    const [host, port] = (parent.address.lanes[0] ?? '').split(':')
    return new Promise((resolve) => {
      let spoke = false
      const socket = connect(Number(port), host, { rejectUnauthorized: false, ALPNProtocols: [LANE_ALPN], ...options })
      socket.on('data', () => {
        spoke = true
        socket.destroy()
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve({ spoke }))
    })
  }

  async function certificateOf(times?: { notBeforeMs: number; notAfterMs: number }) {
    const { certPem, keyPem } = await makeLaneCertificate((await newIdentity()).privateKey, times)
    return { cert: certPem, key: keyPem }
  }

  it('welcomes a good certificate', async () => {
    await using parent = await anExchange()
    assert.deepEqual(await tryHandshake(parent, await certificateOf()), { spoke: true })
  })

  it('refuses no certificate, an expired one, another protocol and an older TLS', async () => {
    await using parent = await anExchange()
    const good = await certificateOf()
    assert.deepEqual(await tryHandshake(parent, {}), { spoke: false })
    assert.deepEqual(await tryHandshake(parent, await certificateOf({ notBeforeMs: 1000, notAfterMs: 2000 })), {
      spoke: false,
    })
    assert.deepEqual(await tryHandshake(parent, { ...good, ALPNProtocols: ['h2'] }), { spoke: false })
    assert.deepEqual(await tryHandshake(parent, { ...good, ALPNProtocols: [] }), { spoke: false })
    assert.deepEqual(await tryHandshake(parent, { ...good, maxVersion: 'TLSv1.2' }), { spoke: false })
    assert.equal(parent.exchange.stats().children, 0)
  })

  it('cuts off a connection that never shakes hands, and bounds how many may try', async () => {
    await using parent = await anExchange({ tls: { handshakeMs: 2000, maxHandshakesPerAddress: 2 } })
    const [host, port] = (parent.address.lanes[0] ?? '').split(':')
    const ended = (socket: ReturnType<typeof connectTcp>) =>
      new Promise((resolve) => socket.on('error', () => undefined).once('close', resolve))
    const sockets = Array.from({ length: 3 }, () => connectTcp(Number(port), host))
    for (const socket of sockets) socket.resume()
    const order: number[] = []
    await Promise.all(sockets.map((socket, at) => ended(socket).then(() => order.push(at))))
    assert.equal(order.length, 3)
    assert.deepEqual(await tryHandshake(parent, await certificateOf()), { spoke: true })
  })

  it('serves on after a connection that said rubbish', async () => {
    const one = aShelf()
    await using parent = await anExchange({}, { shelf: one })
    const [host, port] = (parent.address.lanes[0] ?? '').split(':')
    const socket = connectTcp(Number(port), host)
    socket.on('error', () => undefined)
    socket.end('GET / HTTP/1.1\r\n\r\n')
    socket.resume()
    await new Promise((resolve) => socket.once('close', resolve))
    await using child = await anExchange({ listens: false })
    await using channel = await child.exchange.open(parent.address, one.task, opening(5))
    assert.ok(channel.haves.full)
  })
})
