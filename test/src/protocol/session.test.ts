import assert from 'node:assert/strict'
import { Type } from 'typebox'
import { DarnerError, isDarnerError } from '../../../src/core/errors.ts'
import { decode, encode } from '../../../src/protocol/cbor.ts'
import {
  DEAD_MS,
  MAX_GREETING_BYTES,
  MAX_OPEN_ASKS,
  MAX_QUEUED_BYTES,
  MAX_SERVED_ASKS,
} from '../../../src/protocol/constants.ts'
import { encodeFrame, readFrame } from '../../../src/protocol/frame.ts'
import { acceptSessions, openSession } from '../../../src/protocol/open-session.ts'
import { Bytes, Count } from '../../../src/protocol/schema.ts'
import type { Handlers, Session } from '../../../src/protocol/session.ts'
import { Kind } from '../../../src/protocol/session-messages.ts'
import { defineProtocol } from '../../../src/protocol/session-protocol.ts'
import type { PeerStream } from '../../../src/protocol/stream.ts'
import { aNodePair, aSessionPair } from '../../fixtures/swarm/a-node.ts'

const closed = { additionalProperties: false }
const MATHS = defineProtocol({
  id: '/test/maths/1',
  maxFrameBytes: 256 * 1024,
  methods: {
    add: {
      ask: Type.Object({ a: Count(100), b: Count(100) }, closed),
      answer: Type.Object({ sum: Count(200) }, closed),
    },
    blob: {
      ask: Type.Object({ bytes: Bytes({ maxLength: 200_000 }) }, closed),
      answer: Type.Object({ bytes: Bytes({ maxLength: 200_000 }) }, closed),
    },
  },
  notices: {
    said: Type.Object({ text: Type.String({ maxLength: 100 }) }, closed),
    filler: Type.Object({ bytes: Bytes({ maxLength: 200_000 }) }, closed),
  },
})
type Maths = Session<typeof MATHS>

const add = ({ a, b }: { a: number; b: number }) => ({ sum: a + b })
const within = () => ({ signal: AbortSignal.timeout(10_000) })

/** A dialled raw stream against a listener that serves MATHS: what a hostile peer has in its hands. */
async function aRawPeer(handlers: Handlers<typeof MATHS> = { add }) {
  const pair = await aNodePair()
  const arrived = Promise.withResolvers<Maths>()
  await acceptSessions(pair.listener, MATHS, (session) => {
    arrived.resolve(session)
    return { handlers }
  })
  const { stream } = await pair.dialler.openStream(pair.listener.multiaddrs, MATHS.id, within())
  return { ...pair, stream, session: await arrived.promise }
}

const send = (stream: PeerStream, message: unknown) => stream.write(encodeFrame(encode(message)), within())

async function violated(session: Maths): Promise<void> {
  const error = await session.closed
  assert.ok(isDarnerError(error, 'PROTOCOL_VIOLATION'), String(error))
}

describe('Session', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('answers asks of either side', async () => {
    await using pair = await aSessionPair(MATHS, { near: { handlers: { add } }, far: { handlers: { add } } })
    assert.deepEqual(await pair.near.ask('add', { a: 2, b: 3 }, within()), { sum: 5 })
    assert.deepEqual(await pair.far.ask('add', { a: 4, b: 5 }, within()), { sum: 9 })
    assert.equal(pair.near.remote, pair.listener.peerId)
    assert.equal(pair.far.remote, pair.dialler.peerId)
  })

  it('gives each of many asks its own answer, with bytes intact', async () => {
    const blob = async ({ bytes }: { bytes: Uint8Array }) => {
      await new Promise((resolve) => setImmediate(resolve))
      return { bytes: bytes.map((one) => one ^ 0xff) }
    }
    await using pair = await aSessionPair(MATHS, { far: { handlers: { blob } } })
    const sizes = Array.from({ length: 100 }, (_, n) => (n * n * 17) % 150_000)
    const answers = await Promise.all(
      sizes.map((size, n) => pair.near.ask('blob', { bytes: new Uint8Array(size).fill(n) }, within())),
    )
    for (const [n, { bytes }] of answers.entries())
      assert.ok(bytes.byteLength === sizes[n] && bytes.every((one) => one === (n ^ 0xff)))
  })

  it('carries a failure over with code, way and wait', async () => {
    const failing = () => {
      throw new DarnerError('ORIGIN_BUSY', 'registry says 429', {
        retryAfterMs: 1500,
        way: 'wait a little',
        details: { secret: 'stays' },
      })
    }
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: failing } } })
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) => {
      assert.ok(isDarnerError(error, 'ORIGIN_BUSY'))
      assert.deepEqual(
        [error.message, error.retryAfterMs, error.way, error.details],
        ['registry says 429', 1500, 'wait a little', {}],
      )
      return true
    })
  })

  it('answers INTERNAL when a handler breaks', async () => {
    const broken = () => {
      throw new TypeError('x is not a function')
    }
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: broken } } })
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) => isDarnerError(error, 'INTERNAL'))
    assert.equal(pair.near.over, undefined)
  })

  it('answers INTERNAL when a handler gives what its schema forbids', async () => {
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: () => ({ sum: 1e6 }) } } })
    await assert.rejects(
      pair.near.ask('add', { a: 1, b: 1 }, within()),
      (error) => isDarnerError(error, 'INTERNAL') && /\/sum/.test(error.message),
    )
  })

  it('refuses to send what its schema forbids', async () => {
    await using pair = await aSessionPair(MATHS)
    await assert.rejects(
      pair.near.ask('add', { a: 1, b: 101 }, within()),
      (error) => isDarnerError(error, 'INTERNAL') && /\/b/.test(error.message),
    )
    await assert.rejects(pair.near.tell('said', { text: 'x'.repeat(101) }), (error) => isDarnerError(error, 'INTERNAL'))
    assert.equal(pair.near.over, undefined)
  })

  it('answers UNSUPPORTED where nothing serves a method', async () => {
    await using pair = await aSessionPair(MATHS)
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) => isDarnerError(error, 'UNSUPPORTED'))
    assert.equal(pair.near.over, undefined)
  })

  it('delivers notices in order', async () => {
    const heard: string[] = []
    const all = Promise.withResolvers<void>()
    const said = ({ text }: { text: string }) => {
      if (heard.push(text) === 200) all.resolve()
    }
    await using pair = await aSessionPair(MATHS, { far: { notices: { said } } })
    const told = Array.from({ length: 200 }, (_, n) => `notice ${n}`)
    await Promise.all(told.map((text) => pair.near.tell('said', { text })))
    await all.promise
    assert.deepEqual(heard, told)
  })

  it('tells the handler when the asker gives up', async () => {
    const started = Promise.withResolvers<void>()
    const stopped = Promise.withResolvers<unknown>()
    const waits = (_: unknown, { signal }: { signal: AbortSignal }) =>
      new Promise<{ sum: number }>((_resolve, reject) => {
        started.resolve()
        signal.addEventListener('abort', () => {
          stopped.resolve(signal.reason)
          reject(signal.reason)
        })
      })
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: waits } } })
    const abort = new AbortController()
    const asking = assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, { signal: abort.signal }), /never mind/)
    await started.promise
    abort.abort(new Error('never mind'))
    await asking
    assert.ok(isDarnerError(await stopped.promise, 'INTERRUPTED'))
    assert.equal(pair.near.over, undefined)
  })

  it('gives up on an answer after its time', async () => {
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: () => new Promise(() => undefined) } } })
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, { ...within(), timeoutMs: 20 }), (error) =>
      isDarnerError(error, 'TIMED_OUT'),
    )
  })

  it('serves a bounded number of asks at once and refuses to ask beyond the bound', async () => {
    let running = 0
    let most = 0
    const gate = Promise.withResolvers<void>()
    const full = Promise.withResolvers<void>()
    const counted = async ({ a, b }: { a: number; b: number }) => {
      most = Math.max(most, ++running)
      if (running === MAX_SERVED_ASKS) full.resolve()
      await gate.promise
      running--
      return add({ a, b })
    }
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: counted } } })
    const asks = Array.from({ length: MAX_OPEN_ASKS }, (_, n) => pair.near.ask('add', { a: n % 100, b: 1 }, within()))
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) =>
      isDarnerError(error, 'PEER_STALLED'),
    )
    await full.promise
    gate.resolve()
    const answers = await Promise.all(asks)
    assert.equal(most, MAX_SERVED_ASKS)
    assert.ok(answers.every(({ sum }, n) => sum === (n % 100) + 1))
  })

  it('ends in order: what was queued arrives, both sides hear CLOSED', async () => {
    const heard: string[] = []
    await using pair = await aSessionPair(MATHS, { far: { notices: { said: ({ text }) => void heard.push(text) } } })
    const telling = Promise.all([pair.near.tell('said', { text: 'one' }), pair.near.tell('said', { text: 'two' })])
    await pair.near.close()
    await telling
    assert.ok(isDarnerError(await pair.far.closed, 'CLOSED'))
    assert.ok(isDarnerError(await pair.near.closed, 'CLOSED'))
    assert.deepEqual(heard, ['one', 'two'])
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) => isDarnerError(error, 'CLOSED'))
  })

  it('tells the other side why it ends', async () => {
    await using pair = await aSessionPair(MATHS)
    await pair.far.close(new DarnerError('PEER_BANNED', 'three corrupt pieces', { way: 'ask the operator' }))
    const error = await pair.near.closed
    assert.ok(
      isDarnerError(error, 'PEER_BANNED') &&
        error.message === 'three corrupt pieces' &&
        error.way === 'ask the operator',
    )
  })

  it('lets a handler close its own session', async () => {
    const bye = Promise.withResolvers<void>()
    const handler = async (_: unknown, { session }: { session: Maths }) => {
      await session.close(new DarnerError('ADMISSION_REFUSED', 'unknown token'))
      bye.resolve()
      return { sum: 0 }
    }
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: handler } } })
    await assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) =>
      isDarnerError(error, 'ADMISSION_REFUSED'),
    )
    await bye.promise
  })

  it('fails open asks when the connection is lost', async () => {
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add: () => new Promise(() => undefined) } } })
    const asking = assert.rejects(pair.near.ask('add', { a: 1, b: 1 }, within()), (error) =>
      isDarnerError(error, 'PEER_UNREACHABLE'),
    )
    await pair.listener.disconnect(pair.dialler.peerId, new Error('cut'))
    await asking
    assert.ok(isDarnerError(await pair.near.closed, 'PEER_UNREACHABLE'))
  })

  it('refuses a session whose acceptance throws, with the reason', async () => {
    await using pair = await aNodePair()
    await acceptSessions(pair.listener, MATHS, () => {
      throw new DarnerError('ADMISSION_REFUSED', 'the swarm is full')
    })
    const session = await openSession(pair.dialler, pair.listener.multiaddrs, MATHS, {}, within())
    assert.ok(isDarnerError(await session.closed, 'ADMISSION_REFUSED'))
  })

  it('is refused by a peer that does not speak the protocol', async () => {
    await using pair = await aNodePair()
    await assert.rejects(openSession(pair.dialler, pair.listener.multiaddrs, MATHS, {}, within()), (error) =>
      isDarnerError(error, 'PEER_REFUSED'),
    )
  })
})

describe('Session with a hostile peer', function () {
  // real sockets on a machine that may be busy
  this.timeout(20_000)

  it('closes on bytes that are no message, and says so', async () => {
    await using peer = await aRawPeer()
    await peer.stream.write(encodeFrame(new Uint8Array([0xff, 0x13, 0x37])), within())
    await violated(peer.session)
    const farewell = await readFrame(peer.stream, 65_536, within())
    assert.equal(farewell[1], Kind.farewell)
  })

  it('closes on a frame that is announced too long, before it comes', async () => {
    await using peer = await aRawPeer()
    await peer.stream.write(new Uint8Array([0xff, 0xff, 0xff, 0xff]), within())
    await violated(peer.session)
  })

  for (const [what, message] of [
    ['an unknown kind', [99, 1]],
    ['no list', { kind: 'ask' }],
    ['a kind that is no number', ['ask', 1, 'add', {}]],
    ['a name of the wrong type', [Kind.ask, 1, 7, {}]],
    ['a negative id', [Kind.cancel, -1]],
    ['an answer that nobody asked for', [Kind.answer, 77, { sum: 1 }]],
    ['a notice that does not exist', [Kind.notice, 'toString', {}]],
    ['a notice of the wrong shape', [Kind.notice, 'said', { text: 5 }]],
  ] as const) {
    it(`closes on ${what}`, async () => {
      await using peer = await aRawPeer()
      await send(peer.stream, message)
      await violated(peer.session)
    })
  }

  it('answers an ask of the wrong shape with its fault, and goes on', async () => {
    await using peer = await aRawPeer()
    await send(peer.stream, [Kind.ask, 1, 'add', { a: 'x', b: 1 }])
    const answer = await readFrame(peer.stream, 65_536, within())
    assert.match(Buffer.from(answer).toString('latin1'), /PROTOCOL_VIOLATION.*\/a/s)
    await send(peer.stream, [Kind.ask, 2, 'constructor', {}])
    assert.match(Buffer.from(await readFrame(peer.stream, 65_536, within())).toString('latin1'), /UNSUPPORTED/)
    assert.equal(peer.session.over, undefined)
  })

  it('fails an ask whose answer has the wrong shape', async () => {
    await using pair = await aNodePair()
    await pair.listener.handle(MATHS.id, async (stream) => {
      await readFrame(stream, 65_536, within())
      await send(stream, [Kind.answer, 1, { sum: 'many' }])
    })
    const session = await openSession(pair.dialler, pair.listener.multiaddrs, MATHS, {}, within())
    await assert.rejects(
      session.ask('add', { a: 1, b: 1 }, within()),
      (error) => isDarnerError(error, 'PROTOCOL_VIOLATION') && /\/sum/.test(error.message),
    )
    await session.close()
  })

  it('makes an unknown code of a failure INTERNAL', async () => {
    await using pair = await aNodePair()
    await pair.listener.handle(MATHS.id, async (stream) => {
      await readFrame(stream, 65_536, within())
      await send(stream, [Kind.failure, 1, { code: 'hasOwnProperty', message: 'odd' }])
    })
    const session = await openSession(pair.dialler, pair.listener.multiaddrs, MATHS, {}, within())
    await assert.rejects(
      session.ask('add', { a: 1, b: 1 }, within()),
      (error) => isDarnerError(error, 'INTERNAL') && /odd/.test(error.message),
    )
    await session.close()
  })

  it('closes on more open asks than agreed', async () => {
    await using peer = await aRawPeer({ add: () => new Promise(() => undefined) })
    const flood = Array.from({ length: MAX_OPEN_ASKS + 1 }, (_, n) =>
      encodeFrame(encode([Kind.ask, n, 'add', { a: 1, b: 1 }])),
    )
    await peer.stream.write(Buffer.concat(flood), within())
    await violated(peer.session)
  })

  it('closes on an ask number that is in use', async () => {
    await using peer = await aRawPeer({ add: () => new Promise(() => undefined) })
    await send(peer.stream, [Kind.ask, 1, 'add', { a: 1, b: 1 }])
    await send(peer.stream, [Kind.ask, 1, 'add', { a: 1, b: 1 }])
    await violated(peer.session)
  })

  it('closes on a stream that ends inside a frame', async () => {
    await using peer = await aRawPeer()
    await peer.stream.write(new Uint8Array([0, 0, 0, 9, 1]), within())
    await peer.stream.end(within())
    await violated(peer.session)
  })

  it('ends instead of growing when the peer does not receive', async () => {
    await using peer = await aRawPeer()
    let most = 0
    let failed: unknown
    const bytes = new Uint8Array(190_000)
    for (let n = 0; n < 200 && failed === undefined; n++) {
      peer.session.tell('filler', { bytes }).catch((error: unknown) => {
        failed ??= error
      })
      most = Math.max(most, peer.session.queuedBytes)
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.ok(isDarnerError(failed, 'PEER_STALLED'), String(failed))
    assert.ok(isDarnerError(await peer.session.closed, 'PEER_STALLED'))
    assert.ok(most <= MAX_QUEUED_BYTES)
  })

  it('lets other work through while a peer floods heartbeats', async () => {
    await using peer = await aRawPeer()
    const flooding = peer.stream.write(new Uint8Array(4 * 400_000), within())
    await flooding
    await send(peer.stream, [Kind.ask, 1, 'add', { a: 20, b: 22 }])
    const answer = await (async () => {
      for (;;) {
        const frame = await readFrame(peer.stream, 65_536, within())
        if (frame.byteLength > 0) return frame
      }
    })()
    assert.deepEqual(Buffer.from(answer), Buffer.from(encode([Kind.answer, 1, { sum: 42 }])))
    assert.equal(peer.session.over, undefined)
  })

  it('notices a peer that fell silent, and drops its connection', async function () {
    this.timeout(DEAD_MS * 4)
    await using peer = await aRawPeer()
    const gone = Promise.withResolvers<string>()
    peer.listener.onDisconnect(gone.resolve)
    const error = await peer.session.closed
    assert.ok(isDarnerError(error, 'PEER_STALLED') && /silent/.test(error.message), String(error))
    assert.equal(await gone.promise, peer.dialler.peerId)
  })

  it('keeps a session alive in which nobody has anything to say', async function () {
    this.timeout(DEAD_MS * 4)
    await using pair = await aSessionPair(MATHS, { far: { handlers: { add } } })
    // longer than the time after which a silent peer is dead
    await using other = await aRawPeer()
    await other.session.closed
    assert.equal(pair.near.over, undefined)
    assert.deepEqual(await pair.near.ask('add', { a: 1, b: 2 }, within()), { sum: 3 })
  })
})

describe('a session with a greeting (row 6)', function () {
  this.timeout(20_000)
  const GREETED = defineProtocol({ ...MATHS, greeting: 'add' })
  const greet = [Kind.ask, 1, 'add', { a: 1, b: 2 }]

  /** A stranger's stream to a listener whose protocol begins with `add`, and what reached the listener's handlers. */
  async function aStranger(refusing = false) {
    const pair = await aNodePair({ vouched: true })
    const heard: string[] = []
    const refused = new DarnerError('ADMISSION_REFUSED', 'no token')
    const handlers: Handlers<typeof GREETED> = {
      add: (sum) => {
        heard.push('add')
        if (refusing) throw refused
        return add(sum)
      },
      blob: (body) => {
        heard.push('blob')
        return body
      },
    }
    const arrived = Promise.withResolvers<Session<typeof GREETED>>()
    await acceptSessions(pair.listener, GREETED, (session) => {
      arrived.resolve(session)
      return { handlers, notices: { said: () => void heard.push('said') } }
    })
    const lost = Promise.withResolvers<void>()
    pair.dialler.onDisconnect(() => lost.resolve())
    const { stream } = await pair.dialler.openStream(pair.listener.multiaddrs, GREETED.id, within())
    return { ...pair, stream, heard, lost: lost.promise, session: await arrived.promise }
  }

  for (const [what, message] of [
    ['another ask', [Kind.ask, 1, 'blob', { bytes: new Uint8Array(3) }]],
    ['a notice', [Kind.notice, 'said', { text: 'hello' }]],
    ['an answer', [Kind.answer, 1, { sum: 1 }]],
    ['a greeting that fits no schema', [Kind.ask, 1, 'add', { a: 1 }]],
    ['a greeting of too many values', [Kind.ask, 1, 'add', Array(300).fill(0)]],
  ] as const)
    it(`ends the connection of a peer whose first message is ${what}`, async () => {
      await using one = await aStranger()
      await send(one.stream, message)
      await one.lost
      assert.deepEqual(one.heard, [])
      // nothing of the session is left, and it was not its silence that ended it
      await one.session.close()
      assert.doesNotMatch(String(await one.session.closed), /silent/)
    })

  it('reads no greeting of more than 8 KiB', async () => {
    await using one = await aStranger()
    await one.stream.write(encodeFrame(new Uint8Array(MAX_GREETING_BYTES + 1)), within())
    await one.lost
  })

  it('ends the connection of a peer that is refused, which learns why', async () => {
    await using one = await aStranger(true)
    await send(one.stream, greet)
    const answer = decode(await readFrame(one.stream, MATHS.maxFrameBytes, within())) as [
      number,
      number,
      { code: string },
    ]
    assert.deepEqual([answer[0], answer[1], answer[2].code], [Kind.failure, 1, 'ADMISSION_REFUSED'])
    await one.lost
  })

  it('reads on once the greeting was answered, and takes none twice', async () => {
    await using one = await aStranger()
    await send(one.stream, greet)
    await send(one.stream, [Kind.ask, 2, 'blob', { bytes: new Uint8Array(3) }])
    for (const id of [1, 2]) {
      const answer = decode(await readFrame(one.stream, MATHS.maxFrameBytes, within())) as [number, number]
      assert.deepEqual(answer.slice(0, 2), [Kind.answer, id])
    }
    await send(one.stream, [Kind.ask, 3, 'add', { a: 1, b: 2 }])
    const farewell = decode(await readFrame(one.stream, MATHS.maxFrameBytes, within())) as [number, { code: string }]
    assert.deepEqual([farewell[0], farewell[1].code], [Kind.farewell, 'PROTOCOL_VIOLATION'])
    assert.deepEqual(one.heard, ['add', 'blob'])
  })
})
