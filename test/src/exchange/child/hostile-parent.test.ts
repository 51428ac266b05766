import assert from 'node:assert/strict'
import type { ParentChannel } from '../../../../src/core/contracts/exchange.ts'
import { isDarnerError } from '../../../../src/core/errors.ts'
import {
  encodeOpened,
  encodeRuns,
  FRAME,
  frame,
  HEADER_BYTES,
  PIECE_LAST,
  REFUSAL,
} from '../../../../src/exchange/transport/lane-frames.ts'
import { anExchange, opening, type TestExchange } from '../../../fixtures/exchange/a-lane.ts'
import { aRawParent, type RawLane } from '../../../fixtures/exchange/a-raw-lane.ts'
import { aShelf } from '../../../fixtures/exchange/a-shelf.ts'

const soon = () => AbortSignal.timeout(10_000)
const shelf = aShelf({ bytes: 150_000 })
const { task } = shelf
const ALL = Buffer.of(0b1110_0000)
const opened = (fields = {}, more = {}) =>
  frame(
    FRAME.OPENED,
    { channel: 1, ...fields },
    encodeOpened({ bytes: task.bytes, pieceBytes: task.pieceBytes, have: ALL, ...more }),
  )

/** Opens the task at a parent that first says `answer` and then does as `script` says. */
async function against(
  script: (lane: RawLane) => Promise<void>,
  check: (child: TestExchange, channel: ParentChannel) => Promise<void>,
  answer = opened(),
): Promise<void> {
  await using parent = await aRawParent(async (lane) => {
    await lane.greet()
    await lane.hear(FRAME.OPEN)
    await lane.say(answer)
    await script(lane)
  })
  await using child = await anExchange({ listens: false })
  const channel = await child.exchange.open(parent.address, task, opening(3))
  await check(child, channel)
}

/** The channel ends with PROTOCOL_VIOLATION that names the peer, and the owner is told. */
async function violated(child: TestExchange, channel: ParentChannel, pattern: RegExp): Promise<void> {
  const error = await channel.closed
  assert.ok(isDarnerError(error, 'PROTOCOL_VIOLATION'), String(error))
  assert.match(error.message, pattern)
  assert.ok(error.message.includes(channel.parent))
  assert.deepEqual(
    child.violations.map(({ peer }) => peer),
    [channel.parent],
  )
}

describe('a child before a hostile parent', () => {
  it('refuses another geometry than its task has', async () => {
    for (const more of [
      { bytes: task.bytes + 1 },
      { pieceBytes: task.pieceBytes * 2 },
      { have: Buffer.of(0xff) },
      { have: Buffer.alloc(2) },
    ]) {
      await assert.rejects(
        against(
          async () => undefined,
          async () => undefined,
          opened({}, more),
        ),
        (error) => isDarnerError(error, 'PROTOCOL_VIOLATION'),
      )
    }
  })

  it('refuses a piece that it did not ask for', async () => {
    await against(
      (lane) => lane.say(frame(FRAME.PIECE, { channel: 1, request: 77, number: 0 }, Buffer.alloc(100))),
      (child, channel) => violated(child, channel, /not asked for/),
    )
  })

  it('refuses another piece than it asked for', async () => {
    await against(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ASK)
        await lane.say(frame(FRAME.PIECE, { channel: 1, request, number: 2 }, Buffer.alloc(100)))
      },
      async (child, channel) => {
        await assert.rejects(channel.fetch(0, { signal: soon() }), (error) =>
          isDarnerError(error, 'PROTOCOL_VIOLATION'),
        )
        await violated(child, channel, /piece 2 of .* in place of 0/)
      },
    )
  })

  it('refuses a chosen piece that the task doesn’t have', async () => {
    await against(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ANY)
        await lane.say(frame(FRAME.PIECE, { channel: 1, request, number: 3 }, Buffer.alloc(100)))
      },
      async (child, channel) => {
        await assert.rejects(channel.fetchAny({ signal: soon() }), (error) =>
          isDarnerError(error, 'PROTOCOL_VIOLATION'),
        )
        await violated(child, channel, /piece 3/)
      },
      opened({}, { have: new Uint8Array(0) }),
    )
  })

  it('refuses an offer outside the task, one for no question of its own, and another piece than was offered', async () => {
    const offer = (request: number, number: number) => frame(FRAME.OFFER, { channel: 1, request, number })
    const piece = (request: number) => frame(FRAME.PIECE, { channel: 1, request, number: 1 }, Buffer.alloc(100))
    for (const [frames, pattern] of [
      [(id: number) => [offer(id, 3)], /piece 3 of .* offered/],
      [(id: number) => [offer(id + 1, 0)], /offered for request 2/],
      [(id: number) => [offer(id, 0), offer(id, 1)], /not open to it/],
      [(id: number) => [offer(id, 0), piece(id)], /in place of 0/],
    ] as const) {
      await against(
        async (lane) => {
          const { request } = await lane.hear(FRAME.ANY)
          await lane.say(...frames(request))
        },
        async (child, channel) => {
          await assert.rejects(channel.fetchAny({ signal: soon() }), (error) =>
            isDarnerError(error, 'PROTOCOL_VIOLATION'),
          )
          await violated(child, channel, pattern)
        },
        opened({}, { have: new Uint8Array(0) }),
      )
    }
  })

  it('takes a piece that ends early for short, and the parent for a liar', async () => {
    await against(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ASK)
        await lane.say(frame(FRAME.PIECE, { channel: 1, request, number: 0, flags: PIECE_LAST }, Buffer.alloc(100)))
      },
      async (child, channel) => {
        await assert.rejects(channel.fetch(0, { signal: soon() }), (error) => isDarnerError(error, 'PIECE_SHORT'))
        await violated(child, channel, /expected 65536 bytes, peer sent 100/)
      },
    )
  })

  it('refuses a byte too many before it takes any of it', async () => {
    await against(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ASK)
        await lane.say(frame(FRAME.PIECE, { channel: 1, request, number: 0, flags: PIECE_LAST }, Buffer.alloc(65_537)))
      },
      async (child, channel) => {
        await assert.rejects(channel.fetch(0, { signal: soon() }), (error) =>
          isDarnerError(error, 'PROTOCOL_VIOLATION'),
        )
        await violated(child, channel, /expected 65536 bytes, peer sends 65537/)
      },
    )
  })

  it('refuses a piece that doesn’t end, and a segment of nothing', async () => {
    for (const [bytes, pattern] of [
      [65_536, /does not end/],
      [0, /sends 0/],
    ] as const) {
      await against(
        async (lane) => {
          const { request } = await lane.hear(FRAME.ASK)
          await lane.say(frame(FRAME.PIECE, { channel: 1, request, number: 0 }, Buffer.alloc(bytes)))
        },
        async (child, channel) => {
          await assert.rejects(channel.fetch(0, { signal: soon() }), (error) =>
            isDarnerError(error, 'PROTOCOL_VIOLATION'),
          )
          await violated(child, channel, pattern)
        },
      )
    }
  })

  it('refuses frames that are too long or unknown, or that a child says', async () => {
    const long = frame(FRAME.PIECE, { channel: 1 })
    long.writeUInt32BE(5 * 1024 ** 2, 12)
    for (const [bytes, pattern] of [
      [long, /allowed 262144/],
      [Buffer.alloc(HEADER_BYTES, 200), /unknown type 200/],
      [frame(FRAME.ASK, { channel: 1 }), /a parent sent/],
    ] as const) {
      await against(
        (lane) => lane.say(bytes),
        (child, channel) => violated(child, channel, pattern),
      )
    }
  })

  it('refuses news of pieces that the task doesn’t have, and the same news for ever', async () => {
    await against(
      (lane) => lane.say(frame(FRAME.HAVE, { channel: 1 }, encodeRuns([[2, 2]]))),
      (child, channel) => violated(child, channel, /run of 2 from 2/),
    )
    const again = frame(FRAME.HAVE, { channel: 1 }, encodeRuns([[0, 3]]))
    await against(
      (lane) => lane.say(...Array.from({ length: 400 }, () => again)),
      (child, channel) => violated(child, channel, /announced again/),
    )
  })

  it('refuses frames of channels that it never opened, and a second opening', async () => {
    await against(
      (lane) => lane.say(frame(FRAME.HAVE, { channel: 9 }, encodeRuns([[0, 1]]))),
      (child, channel) => violated(child, channel, /channel 9, which is not open/),
    )
    await against(
      (lane) => lane.say(opened()),
      (child, channel) => violated(child, channel, /opened twice/),
    )
    await against(
      (lane) => lane.say(frame(FRAME.GONE, { channel: 1, request: 5 })),
      (child, channel) => violated(child, channel, /was not made/),
    )
  })

  it('throws away what still comes of a piece that it gave up', async () => {
    const cancelled = Promise.withResolvers<void>()
    await against(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ASK)
        await lane.say(frame(FRAME.PIECE, { channel: 1, request, number: 0 }, Buffer.alloc(1000)))
        await lane.hear(FRAME.CANCEL)
        cancelled.resolve()
        await lane.say(
          frame(FRAME.PIECE, { channel: 1, request, number: 0 }, Buffer.alloc(1000)),
          frame(FRAME.GONE, { channel: 1, request, number: REFUSAL.CANCELLED }),
        )
        const next = await lane.hear(FRAME.ASK)
        await lane.say(
          frame(FRAME.PIECE, { channel: 1, request: next.request, number: 1, flags: PIECE_LAST }, shelf.piece(1)),
        )
      },
      async (child, channel) => {
        const caller = new AbortController()
        const cut = channel.fetch(0, { signal: caller.signal })
        caller.abort(new Error('enough'))
        await assert.rejects(cut, /enough/)
        await cancelled.promise
        assert.ok(shelf.piece(1).equals(await channel.fetch(1, { signal: soon() })))
        assert.deepEqual(child.violations, [])
      },
    )
  })

  it('learns that the parent ended one task, and keeps the others', async () => {
    const other = aShelf({ seed: 5, bytes: 100_000 })
    await using parent = await aRawParent(async (lane) => {
      await lane.greet()
      await lane.hear(FRAME.OPEN)
      await lane.say(opened())
      const { channel } = await lane.hear(FRAME.OPEN)
      await lane.say(
        frame(FRAME.OPENED, { channel }, encodeOpened({ bytes: 100_000, pieceBytes: 65_536, have: Buffer.of(0xc0) })),
      )
      await lane.say(frame(FRAME.ENDED, { channel: 1, number: REFUSAL.PIECE_ABSENT }, Buffer.from('collected')))
      await lane.hear(FRAME.CLOSE)
      const { request } = await lane.hear(FRAME.ASK)
      await lane.say(frame(FRAME.PIECE, { channel, request, number: 1, flags: PIECE_LAST }, other.piece(1)))
    })
    await using child = await anExchange({ listens: false })
    const first = await child.exchange.open(parent.address, task, opening(3))
    await using second = await child.exchange.open(parent.address, other.task, opening(2))
    assert.match(String(await first.closed), /collected/)
    assert.ok(other.piece(1).equals(await second.fetch(1, { signal: soon() })))
  })

  it('gives up a parent that never opens the task', async () => {
    await using parent = await aRawParent(async (lane) => {
      await lane.greet()
      for (;;) {
        await lane.hear(FRAME.OPEN, FRAME.PING)
        await lane.say(frame(FRAME.PONG, {}))
      }
    })
    await using child = await anExchange({ listens: false, fetch: { openMs: 50 } })
    await assert.rejects(child.exchange.open(parent.address, task, opening(3)), (error) =>
      isDarnerError(error, 'PEER_UNREACHABLE'),
    )
  })
})
