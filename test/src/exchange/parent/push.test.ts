/** Questions whose child takes whatever comes (ANY_SURE), frame by frame. */
import assert from 'node:assert/strict'
import type { ParentChannel, Shelf } from '../../../../src/core/contracts/exchange.ts'
import { DarnerError, isDarnerError } from '../../../../src/core/errors.ts'
import {
  ANY_EARLY,
  ANY_SURE,
  decodeText,
  encodeOpen,
  encodeOpened,
  FRAME,
  type FrameHeader,
  frame,
  OPEN_METERED,
  PIECE_LAST,
  PIECE_WAITS,
  REFUSAL,
} from '../../../../src/exchange/transport/lane-frames.ts'
import { anExchange, opening, type TestExchange } from '../../../fixtures/exchange/a-lane.ts'
import { aRawChild, aRawParent, type RawLane } from '../../../fixtures/exchange/a-raw-lane.ts'
import { aShelf, type TestShelf } from '../../../fixtures/exchange/a-shelf.ts'

const soon = () => AbortSignal.timeout(10_000)
const aChoosingShelf = () => aShelf({ bytes: 150_000, choose: async (has) => has.nextClear(0) })

const early = (request: number) => frame(FRAME.ANY, { channel: 1, request, flags: ANY_SURE | ANY_EARLY })
const sure = (request: number) => frame(FRAME.ANY, { channel: 1, request, flags: ANY_SURE })

/** Runs `script` as a child that opened the task at a parent with `shelf`. */
async function asChild(
  shelf: TestShelf,
  script: (lane: RawLane, parent: TestExchange) => Promise<void>,
  flags = 0,
): Promise<void> {
  await using parent = await anExchange({}, { shelf: shelf as Shelf })
  await using child = await aRawChild(parent.address)
  const lane = await child.lane.greet()
  const pass = new Uint8Array(0)
  await lane.say(frame(FRAME.OPEN, { channel: 1, flags }, encodeOpen({ task: shelf.task.id, pass, have: pass })))
  await lane.hear(FRAME.OPENED)
  await script(lane, parent)
}

const seen = ({ request, number }: FrameHeader) => [request, number]

describe('a parent whose child takes whatever comes', () => {
  it('sends what it chooses without an offer, and offers the rest', async () => {
    await asChild(aChoosingShelf(), async (lane) => {
      await lane.say(sure(1), sure(2), frame(FRAME.ANY, { channel: 1, request: 3 }))
      assert.deepEqual(seen(await lane.hear(FRAME.PIECE, FRAME.OFFER)), [1, 0])
      const heard = [await lane.hear(FRAME.PIECE, FRAME.OFFER), await lane.hear(FRAME.PIECE, FRAME.OFFER)]
      heard.sort((a, b) => a.request - b.request)
      assert.deepEqual(heard.map(seen), [
        [2, 1],
        [3, 2],
      ])
      assert.deepEqual(
        heard.map(({ type }) => type),
        [FRAME.PIECE, FRAME.OFFER],
      )
    })
  })

  it('sends no byte more than a metered child granted', async () => {
    await asChild(
      aChoosingShelf(),
      async (lane) => {
        await lane.say(sure(1), frame(FRAME.PING, {}))
        assert.equal((await lane.hear(FRAME.PIECE, FRAME.PONG)).type, FRAME.PONG)
        await lane.say(frame(FRAME.CREDIT, { channel: 1, number: 1000 }))
        assert.equal((await lane.hear(FRAME.PIECE)).bytes, 1000)
        await lane.say(frame(FRAME.CREDIT, { channel: 1, number: 65_536 }))
        const rest = await lane.hear(FRAME.PIECE)
        assert.deepEqual([rest.bytes, rest.flags], [64_536, PIECE_LAST])
      },
      OPEN_METERED,
    )
  })

  it('takes the question back, and gives what it had chosen again', async () => {
    const chosen = Promise.withResolvers<void>()
    const one = aShelf({
      bytes: 150_000,
      choose: async (has) => {
        await chosen.promise
        return has.nextClear(0)
      },
    })
    await asChild(one, async (lane) => {
      await lane.say(sure(1), frame(FRAME.CANCEL, { channel: 1, request: 1 }))
      const gone = await lane.hear(FRAME.GONE)
      assert.deepEqual(seen(gone), [1, REFUSAL.CANCELLED])
      chosen.resolve()
      await one.until(() => one.unsent.length === 1)
      await lane.say(sure(1))
      assert.deepEqual(seen(await lane.hear(FRAME.PIECE)), [1, 0])
    })
  })

  it('passes on what is still coming as far as that is here, and says that it waits itself', async () => {
    const { shelf, grow } = aGrowingShelf()
    await asChild(shelf, async (lane) => {
      await lane.say(early(1))
      for (const [checked, flags] of [
        [20_000, PIECE_WAITS],
        [30_000, PIECE_WAITS],
        [65_536, PIECE_LAST],
      ] as const) {
        grow(checked)
        const { bytes, flags: told, payload } = await lane.hear(FRAME.PIECE)
        assert.deepEqual([told, payload], [flags, shelf.piece(0).subarray(checked - bytes, checked)])
      }
    })
  })

  it('withdraws what isn’t coming any more after a part of it went out, else gives something else', async () => {
    for (const checked of [0, 20_000]) {
      const { shelf, grow } = aGrowingShelf()
      await asChild(shelf, async (lane) => {
        await lane.say(early(1))
        grow(checked)
        if (checked > 0) await lane.hear(FRAME.PIECE)
        grow(undefined)
        const { type, request, number } = await lane.hear(FRAME.GONE, FRAME.PIECE)
        assert.deepEqual(
          [type, request, number],
          checked > 0 ? [FRAME.GONE, 1, REFUSAL.WITHDRAWN] : [FRAME.PIECE, 1, 1],
        )
        if (checked > 0) assert.deepEqual(shelf.unsent, [0])
      })
    }
  })

  it('sends what it has while it waits for more of a piece, which then goes on', async () => {
    const { shelf, grow } = aGrowingShelf()
    await asChild(shelf, async (lane) => {
      await lane.say(early(1))
      grow(20_000)
      assert.equal((await lane.hear(FRAME.PIECE)).number, 0)
      await lane.say(early(2), frame(FRAME.ASK, { channel: 1, request: 3, number: 2 }))
      const heard = [await lane.hear(FRAME.PIECE), await lane.hear(FRAME.PIECE)]
      assert.deepEqual(heard.map(({ number }) => number).toSorted(), [1, 2])
      grow(65_536)
      const { request, number, bytes, flags } = await lane.hear(FRAME.PIECE)
      assert.deepEqual([request, number, bytes, flags], [1, 0, 45_536, PIECE_LAST])
    })
  })

  it('goes on with whichever grows first of those that it waits for', async () => {
    const { shelf, grow } = aGrowingShelf([0, 1])
    await asChild(shelf, async (lane) => {
      for (const [request, number] of [
        [1, 0],
        [2, 1],
      ] as const) {
        await lane.say(early(request))
        grow(20_000, number)
        assert.deepEqual(seen(await lane.hear(FRAME.PIECE)), [request, number])
      }
      for (const [number, to] of [
        [0, 30_000],
        [1, 30_000],
        [0, 65_536],
        [1, 65_536],
      ] as const) {
        grow(to, number)
        const { number: sent, flags } = await lane.hear(FRAME.PIECE)
        assert.deepEqual([sent, flags], [number, to === 65_536 ? PIECE_LAST : PIECE_WAITS])
      }
    })
  })

  it('says that it waits until the piece is stored, since it may have to withdraw it before', async () => {
    const { shelf, grow } = aGrowingShelf()
    await asChild(
      shelf,
      async (lane) => {
        grow(65_536)
        await lane.say(early(1), frame(FRAME.CREDIT, { channel: 1, number: 1000 }))
        assert.equal((await lane.hear(FRAME.PIECE)).flags, PIECE_WAITS)
        grow(undefined)
        await lane.say(frame(FRAME.CREDIT, { channel: 1, number: 65_536 }))
        assert.deepEqual(seen(await lane.hear(FRAME.GONE)), [1, REFUSAL.WITHDRAWN])
      },
      OPEN_METERED,
    )
  })

  it('ends a wait for more of a piece when the child no longer wants it, and gives it the next', async () => {
    const { shelf, grow } = aGrowingShelf()
    await asChild(shelf, async (lane) => {
      await lane.say(early(1))
      grow(20_000)
      await lane.hear(FRAME.PIECE)
      await lane.say(frame(FRAME.CANCEL, { channel: 1, request: 1 }))
      assert.deepEqual(seen(await lane.hear(FRAME.GONE)), [1, REFUSAL.CANCELLED])
      grow(undefined)
      await lane.say(early(2))
      assert.deepEqual(seen(await lane.hear(FRAME.PIECE)), [2, 1])
    })
  })

  it('doesn’t choose what is still coming for one that didn’t ask for such', async () => {
    const asked: (boolean | undefined)[] = []
    const one = aShelf({
      bytes: 150_000,
      choose: async (has, { early }) => {
        asked.push(early)
        return has.nextClear(0)
      },
    })
    await asChild(one, async (lane) => {
      await lane.say(sure(1), early(2))
      await lane.hear(FRAME.PIECE)
      await lane.hear(FRAME.PIECE)
      assert.deepEqual(asked, [false, true])
    })
  })

  it('refuses a flood of such questions, one made twice, and an answer to what it didn’t offer', async () => {
    const stuck = () => aShelf({ bytes: 150_000 })
    const many = Array.from({ length: 65 }, (_, request) => sure(request))
    for (const [frames, pattern] of [
      [many, /more than 64 requests/],
      [[sure(1), sure(1)], /made twice/],
      [[sure(1), frame(FRAME.TAKE, { channel: 1, request: 1 })], /which was not made/],
      [[sure(1), frame(FRAME.PASS, { channel: 1, request: 1 })], /which was not made/],
    ] as const) {
      await asChild(stuck(), async (lane, parent) => {
        await lane.say(...frames)
        const bye = await lane.hear(FRAME.BYE)
        assert.equal(bye.number, REFUSAL.PROTOCOL_VIOLATION)
        assert.match(decodeText(bye.payload), pattern)
        assert.equal(parent.violations.length, 1)
      })
    }
  })
})

/** A shelf some of whose pieces are coming, the first by default; `grow` says how far one is, or that it isn't any more. */
function aGrowingShelf(comingAtFirst: readonly number[] = [0]) {
  const checked = new Map(comingAtFirst.map((piece) => [piece, 0]))
  let grew = Promise.withResolvers<void>()
  const shelf = aShelf({
    bytes: 150_000,
    have: [0, 1, 2].filter((piece) => !checked.has(piece)),
    choose: async (has) => {
      for (;;) {
        const piece = [0, 1, 2].find((one) => !has.has(one) && (checked.has(one) || !comingAtFirst.includes(one)))
        if (piece !== undefined) return piece
        await grew.promise
      }
    },
    growing: {
      checked: (piece) => checked.get(piece),
      beyond: async (piece, bytes) => {
        while ((checked.get(piece) ?? bytes + 1) <= bytes) await grew.promise
      },
    },
    read: async (piece, offset, into) => {
      if (comingAtFirst.includes(piece) && offset + into.byteLength > (checked.get(piece) ?? 0))
        throw new DarnerError('PIECE_ABSENT', `piece ${piece} isn't here`)
    },
  })
  const grow = (to: number | undefined, piece = 0) => {
    if (to === undefined) checked.delete(piece)
    else checked.set(piece, to)
    grew.resolve()
    grew = Promise.withResolvers()
  }
  return { shelf, grow }
}

const shelf = aShelf({ bytes: 150_000 })
const { task } = shelf

/** Opens the task at a parent that does as `script` says with what it hears. */
async function asParent(
  script: (lane: RawLane) => Promise<void>,
  check: (child: TestExchange, channel: ParentChannel) => Promise<void>,
): Promise<void> {
  const { bytes, pieceBytes } = task
  await using parent = await aRawParent(async (lane) => {
    await lane.greet()
    await lane.hear(FRAME.OPEN)
    await lane.say(frame(FRAME.OPENED, { channel: 1 }, encodeOpened({ bytes, pieceBytes, have: new Uint8Array(0) })))
    await script(lane)
  })
  await using child = await anExchange({ listens: false })
  await check(child, await child.exchange.open(parent.address, task, opening(3)))
}

const piece = (request: number, number: number, body: Uint8Array = shelf.piece(number), flags = PIECE_LAST) =>
  frame(FRAME.PIECE, { channel: 1, request, number, flags }, body)

describe('a child that takes whatever comes', () => {
  it('says so, and also takes what is offered first', async () => {
    await asParent(
      async (lane) => {
        const asked = await lane.hear(FRAME.ANY)
        assert.equal(asked.flags, ANY_SURE)
        await lane.say(frame(FRAME.OFFER, { channel: 1, request: asked.request, number: 2 }))
        const { request } = await lane.hear(FRAME.TAKE)
        await lane.say(piece(request, 2))
      },
      async (child, channel) => {
        const given = await channel.fetchAny({ signal: soon(), sure: true })
        assert.ok(given && shelf.piece(2).equals(given.body))
        assert.deepEqual(child.violations, [])
      },
    )
  })

  it('declines what is offered first and doesn’t suit it', async () => {
    await asParent(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ANY)
        await lane.say(frame(FRAME.OFFER, { channel: 1, request, number: 0 }))
        await lane.hear(FRAME.PASS)
        await lane.say(piece(request, 1))
      },
      async (_child, channel) => {
        const given = await channel.fetchAny({ signal: soon(), sure: true, onOffer: (number) => number > 0 })
        assert.equal(given?.piece, 1)
      },
    )
  })

  it('asks like others without the word, and then refuses what comes without an offer', async () => {
    await asParent(
      async (lane) => {
        const { request, flags } = await lane.hear(FRAME.ANY)
        assert.equal(flags, 0)
        await lane.say(piece(request, 0))
      },
      async (_child, channel) => {
        await assert.rejects(channel.fetchAny({ signal: soon() }), /in place of one that was offered/)
      },
    )
  })

  it('hears how far a piece is, and that its parent waits for the rest, when it asks for such', async () => {
    const body = shelf.piece(0)
    await asParent(
      async (lane) => {
        const { request, flags } = await lane.hear(FRAME.ANY)
        assert.equal(flags, ANY_SURE | ANY_EARLY)
        await lane.say(
          piece(request, 0, body.subarray(0, 20_000), PIECE_WAITS),
          piece(request, 0, body.subarray(20_000, 30_000), 0),
          piece(request, 0, body.subarray(30_000)),
        )
      },
      async (_child, channel) => {
        const parts: [number, boolean][] = []
        const given = await channel.fetchAny({
          signal: soon(),
          sure: true,
          early: true,
          onPart: ({ piece: number, body: memory, bytes, waits }) => {
            assert.equal(number, 0)
            assert.ok(body.subarray(0, bytes).equals(memory.subarray(0, bytes)))
            parts.push([bytes, waits])
          },
        })
        assert.ok(given && body.equals(given.body))
        assert.deepEqual(parts, [
          [20_000, true],
          [30_000, false],
          [65_536, false],
        ])
      },
    )
  })

  it('takes a piece that was withdrawn as such, and one that was cut short for short', async () => {
    for (const [refusal, waits, code] of [
      [REFUSAL.WITHDRAWN, PIECE_WAITS, 'PIECE_WITHDRAWN'],
      [REFUSAL.WITHDRAWN, 0, 'PIECE_SHORT'],
      [REFUSAL.PEER_REFUSED, PIECE_WAITS, 'PIECE_SHORT'],
    ] as const) {
      await asParent(
        async (lane) => {
          const { request } = await lane.hear(FRAME.ANY)
          await lane.say(piece(request, 0, Buffer.alloc(1000), waits))
          await lane.say(frame(FRAME.GONE, { channel: 1, request, number: refusal }))
          const next = await lane.hear(FRAME.ANY)
          await lane.say(piece(next.request, 0))
        },
        async (child, channel) => {
          const ask = () => channel.fetchAny({ signal: soon(), sure: true, early: true, onPart: () => {} })
          await assert.rejects(ask(), { code })
          assert.equal((await ask())?.piece, 0)
          assert.deepEqual(child.violations, [])
        },
      )
    }
  })

  it('throws away what still comes of a question that it took back', async () => {
    await asParent(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ANY)
        await lane.hear(FRAME.CANCEL)
        await lane.say(piece(request, 0))
        const next = await lane.hear(FRAME.ANY)
        await lane.say(piece(next.request, 1))
      },
      async (child, channel) => {
        const caller = new AbortController()
        const offered: number[] = []
        const onOffer = (number: number) => offered.push(number) > 0
        const cut = channel.fetchAny({ signal: caller.signal, sure: true, onOffer })
        caller.abort(new Error('enough'))
        await assert.rejects(cut, /enough/)
        const given = await channel.fetchAny({ signal: soon(), sure: true, onOffer })
        assert.deepEqual([given?.piece, offered], [1, [1]])
        assert.deepEqual(child.violations, [])
      },
    )
  })

  it('refuses a piece that the task doesn’t have, a short or a long one, another in its middle, and two for one question', async () => {
    const half = (request: number, number: number) => piece(request, number, Buffer.alloc(1000), 0)
    for (const [frames, pattern] of [
      [(id: number) => [piece(id, 3, Buffer.alloc(100))], /piece 3 of .* in place of one that was offered/],
      [(id: number) => [piece(id, 2 ** 31, Buffer.alloc(100))], /in place of/],
      [(id: number) => [piece(id, 0, Buffer.alloc(100))], /expected 65536 bytes, peer sent 100/],
      [(id: number) => [piece(id, 0, Buffer.alloc(65_537))], /expected 65536 bytes, peer sends 65537/],
      [(id: number) => [piece(id, 2, Buffer.alloc(65_536))], /expected 18928 bytes, peer sends 65536/],
      [(id: number) => [half(id, 0), half(id, 1)], /piece 1 of .* in place of 0/],
      [(id: number) => [half(id, 0), frame(FRAME.OFFER, { channel: 1, request: id, number: 1 })], /not open to it/],
    ] as const) {
      await asParent(
        async (lane) => {
          const { request } = await lane.hear(FRAME.ANY)
          await lane.say(...frames(request))
        },
        async (child, channel) => {
          await assert.rejects(channel.fetchAny({ signal: soon(), sure: true }), (error) =>
            isDarnerError(error, 'PROTOCOL_VIOLATION', 'PIECE_SHORT'),
          )
          const error = await channel.closed
          assert.ok(isDarnerError(error, 'PROTOCOL_VIOLATION'), String(error))
          assert.match(error.message, pattern)
          assert.equal(child.violations.length, 1)
        },
      )
    }
    await asParent(
      async (lane) => {
        const { request } = await lane.hear(FRAME.ANY)
        await lane.say(piece(request, 0), piece(request, 1))
      },
      async (child, channel) => {
        assert.equal((await channel.fetchAny({ signal: soon(), sure: true }))?.piece, 0)
        assert.match(String(await channel.closed), /not asked for/)
        assert.equal(child.violations.length, 1)
      },
    )
  })
})
