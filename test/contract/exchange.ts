/** What every PieceExchange does, whatever its bytes travel over. */
import assert from 'node:assert/strict'
import type { PeerAddress, PieceExchange, Shelf } from '../../src/core/contracts/exchange.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { opening } from '../fixtures/exchange/a-lane.ts'
import { aShelf, aShelfOf, type TestShelf } from '../fixtures/exchange/a-shelf.ts'

export interface ExchangePair extends AsyncDisposable {
  readonly child: PieceExchange
  /** Where the child finds the one that serves the shelf. */
  readonly parent: PeerAddress
  /** Ends the serving side. */
  stopParent(): Promise<void>
}

const soon = () => AbortSignal.timeout(10_000)

const numbers = (shelf: TestShelf) =>
  Array.from({ length: Math.ceil(shelf.task.bytes / shelf.task.pieceBytes) }, (_, at) => at)

/** Registers the suite; `aPair` makes a child and a parent with that shelf. */
export function exchangeContract(name: string, aPair: (shelf: Shelf) => Promise<ExchangePair>): void {
  describe(`PieceExchange: ${name}`, () => {
    it('fetches every piece, the short last one too, byte for byte', async () => {
      const shelf = aShelf({ bytes: 1_000_001, pieceBytes: 262_144 })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(4))
      assert.equal(channel.parent, pair.parent.peer)
      const bodies = await Promise.all(numbers(shelf).map((piece) => channel.fetch(piece, { signal: soon() })))
      assert.deepEqual(Buffer.concat(bodies), shelf.body)
      assert.deepEqual(
        bodies.map(({ buffer }) => buffer.byteLength),
        [262_144, 262_144, 262_144, 213_569],
      )
      await shelf.until(() => shelf.sent.length === 4)
      assert.deepEqual([...shelf.sent].sort(), [0, 1, 2, 3])
      assert.deepEqual(shelf.unsent, [])
    })

    it('carries pieces of the greatest length', async () => {
      const shelf = aShelf({ bytes: 4 * 1024 ** 2 + 5, pieceBytes: 4 * 1024 ** 2 })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(2))
      assert.ok(shelf.piece(0).equals(await channel.fetch(0, { signal: soon() })))
      assert.ok(shelf.piece(1).equals(await channel.fetch(1, { signal: soon() })))
    })

    it('opens an empty blob', async () => {
      const shelf = aShelf({ bytes: 0 })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(0))
      assert.equal(channel.haves.size, 0)
      await assert.rejects(channel.fetch(0, { signal: soon() }), (error) => isDarnerError(error, 'BAD_ARGUMENT'))
    })

    it('knows what the parent has, and hears of what it gets', async () => {
      const shelf = aShelf({ have: [1] })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      assert.deepEqual([channel.haves.ranges(), channel.announces], [[[1, 1]], true])
      const heard: [number, number][] = []
      const all = Promise.withResolvers<void>()
      const silent = channel.onHaves(() => assert.fail('was unsubscribed'))
      silent()
      channel.onHaves((from, count) => {
        heard.push([from, count])
        if (channel.haves.full) all.resolve()
      })
      shelf.put(2, 1)
      shelf.put(3, 2)
      shelf.put(0, 1)
      await all.promise
      assert.deepEqual(heard, [
        [2, 3],
        [0, 1],
      ])
      assert.ok(shelf.piece(4).equals(await channel.fetch(4, { signal: soon() })))
    })

    it('says that a piece is absent, and goes on', async () => {
      const shelf = aShelf({ have: [1] })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      await assert.rejects(channel.fetch(0, { signal: soon() }), (error) => isDarnerError(error, 'PIECE_ABSENT'))
      assert.ok(shelf.piece(1).equals(await channel.fetch(1, { signal: soon() })))
    })

    it('is refused a task that isn’t there, and one that it may not read', async () => {
      const secret = aShelf({
        seed: 2,
        open: (_task, _reader, pass) => {
          if (Buffer.from(pass).toString() !== 'sesame') throw new DarnerError('CAPABILITY_REFUSED', 'no right to read')
        },
      })
      await using pair = await aPair(secret)
      const other = { ...secret.task, id: `sha256:${'0'.repeat(64)}` as TaskId }
      await assert.rejects(pair.child.open(pair.parent, other, opening(5, { pass: Buffer.from('sesame') })), (error) =>
        isDarnerError(error, 'PEER_REFUSED'),
      )
      await assert.rejects(pair.child.open(pair.parent, secret.task, opening(5)), (error) =>
        isDarnerError(error, 'CAPABILITY_REFUSED'),
      )
      await using channel = await pair.child.open(pair.parent, secret.task, opening(5, { pass: Buffer.from('sesame') }))
      assert.ok(secret.piece(0).equals(await channel.fetch(0, { signal: soon() })))
    })

    it('ends a channel, in the middle of a piece too, as soon as its right is over', async () => {
      let over = false
      const half = Promise.withResolvers<void>()
      const shelf = aShelf({
        bytes: 3 * 1024 ** 2,
        pieceBytes: 1024 ** 2,
        check: () => {
          if (over) throw new DarnerError('CAPABILITY_REFUSED', 'its pass ended')
        },
        read: async (piece, offset) => {
          if (piece === 1 && offset > 0) await half.promise
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(3))
      assert.ok(shelf.piece(0).equals(await channel.fetch(0, { signal: soon() })))
      const started = Promise.withResolvers<void>()
      const cut = channel.fetch(1, { signal: soon(), onStart: () => started.resolve() })
      cut.catch(() => {})
      await started.promise
      over = true
      half.resolve()
      await assert.rejects(cut, (error) => isDarnerError(error, 'CAPABILITY_REFUSED'))
      assert.ok(isDarnerError(await channel.closed, 'CAPABILITY_REFUSED'))
      await assert.rejects(channel.fetch(2, { signal: soon() }), (error) => isDarnerError(error, 'CAPABILITY_REFUSED'))
      await shelf.until(() => shelf.opened === 0)
    })

    it('ends a channel that nothing is asked on too, once its right is over', async () => {
      let over = false
      const shelf = aShelf({
        check: () => {
          if (over) throw new DarnerError('CAPABILITY_REFUSED', 'its pass ended')
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      over = true
      assert.ok(isDarnerError(await channel.closed, 'CAPABILITY_REFUSED'))
      await shelf.until(() => shelf.opened === 0)
    })

    it('shows a newer right, and loses the channel by one that doesn’t hold', async () => {
      const shown: string[] = []
      const shelf = aShelf({
        renew: (pass) => {
          shown.push(Buffer.from(pass).toString())
          if (shown.length > 1) throw new DarnerError('CAPABILITY_REFUSED', 'forged')
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      channel.renew(Buffer.from('newer'))
      assert.ok(shelf.piece(0).equals(await channel.fetch(0, { signal: soon() })))
      assert.deepEqual(shown, ['newer'])
      channel.renew(Buffer.from('forged'))
      assert.ok(isDarnerError(await channel.closed, 'CAPABILITY_REFUSED'))
      await shelf.until(() => shelf.opened === 0)
    })

    it('reads many tasks of one parent at once', async () => {
      const shelves = Array.from({ length: 20 }, (_, seed) => aShelf({ seed: seed + 1, bytes: 150_000 + seed }))
      await using pair = await aPair(aShelfOf(...shelves))
      await Promise.all(
        shelves.map(async (shelf) => {
          await using channel = await pair.child.open(pair.parent, shelf.task, opening(3))
          const bodies = await Promise.all([0, 1, 2].map((piece) => channel.fetch(piece, { signal: soon() })))
          assert.ok(Buffer.concat(bodies).equals(shelf.body))
        }),
      )
      await Promise.all(shelves.map((shelf) => shelf.until(() => shelf.opened === 0)))
    })

    it('takes what a choosing parent gives, until it has none left', async () => {
      const order = [3, 0, 4, 1, 2]
      const shelf = aShelf({ silent: true, choose: async (has) => order.find((piece) => !has.has(piece)) })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      assert.deepEqual([channel.haves.count, channel.announces], [0, false])
      const got: number[] = []
      for (;;) {
        const given = await channel.fetchAny({ signal: soon() })
        if (given === undefined) break
        assert.ok(Buffer.from(given.body).equals(shelf.piece(given.piece)))
        got.push(given.piece)
      }
      assert.deepEqual(got, order)
    })

    it('never gets the same piece twice when it asks for several at once, nor one that it told of', async () => {
      const shelf = aShelf({
        choose: async (has) => {
          const piece = has.nextClear(0)
          return piece < 0 ? undefined : piece
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      channel.tell(1, 2)
      await shelf.until(() => shelf.told.length > 0)
      assert.deepEqual(shelf.told, [[1, 2]])
      const given = await Promise.all(Array.from({ length: 6 }, () => channel.fetchAny({ signal: soon() })))
      assert.deepEqual(
        given.map((one) => one?.piece),
        [0, 3, 4, undefined, undefined, undefined],
      )
    })

    it('tells a parent what is coming and what is not, in the order in which it says so', async () => {
      const shelf = aShelf()
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      channel.coming(3)
      channel.coming(4)
      await shelf.until(() => shelf.coming.length === 2)
      channel.lost(3)
      channel.coming(0)
      channel.tell(4, 1)
      await shelf.until(() => shelf.told.length === 1)
      assert.deepEqual([shelf.coming, shelf.lost, shelf.told], [[3, 4, 0], [3], [[4, 1]]])
    })

    it('tells only the last word of a piece that it said several of', async () => {
      const shelf = aShelf()
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      channel.coming(0)
      await shelf.until(() => shelf.coming.length === 1)
      channel.lost(0)
      channel.coming(0)
      channel.coming(1)
      channel.lost(1)
      channel.coming(2, { waitMs: 60_000 })
      channel.tell(2, 1, { waitMs: 60_000 })
      channel.coming(3)
      await shelf.until(() => shelf.told.length === 1)
      assert.deepEqual([shelf.coming, shelf.lost, shelf.told], [[0, 3], [], [[2, 1]]])
    })

    it('declines what it is offered until something suits it', async () => {
      const shelf = aShelf({ choose: async (has) => has.nextClear(0) })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      const offered: number[] = []
      const onOffer = (piece: number) => {
        offered.push(piece)
        if (piece < 2) channel.tell(piece, 1)
        return piece >= 2
      }
      const given = await channel.fetchAny({ signal: soon(), onOffer })
      assert.deepEqual([given?.piece, offered], [2, [0, 1, 2]])
      assert.ok(given && shelf.piece(2).equals(given.body))
    })

    it('takes without an offer what a parent chooses for it, in that order, and hears of each at its first bytes', async () => {
      const sure: unknown[] = []
      const shelf = aShelf({
        choose: async (has, options) => {
          sure.push(options.sure)
          const piece = has.nextClear(0)
          return piece < 0 ? undefined : piece
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      const heard: string[] = []
      const ask = () =>
        channel.fetchAny({
          signal: soon(),
          sure: true,
          onOffer: (piece) => heard.push(`offered ${piece}`) === 0,
          onStart: (piece) => heard.push(`started ${piece}`),
        })
      const given = await Promise.all(Array.from({ length: 6 }, ask))
      assert.deepEqual(
        given.map((one) => one?.piece),
        [0, 1, 2, 3, 4, undefined],
      )
      for (const one of given) if (one) assert.ok(shelf.piece(one.piece).equals(one.body))
      assert.deepEqual(
        heard,
        [0, 1, 2, 3, 4].flatMap((piece) => [`offered ${piece}`, `started ${piece}`]),
      )
      assert.deepEqual(sure, Array(6).fill(true))
      await shelf.until(() => shelf.sent.length === 5)
      assert.deepEqual([shelf.sent, shelf.unsent], [[0, 1, 2, 3, 4], []])
    })

    it('gives back what it chose for a child that no longer wants it, before and during its bytes', async () => {
      const reading = Promise.withResolvers<void>()
      const goOn = Promise.withResolvers<void>()
      const first = Promise.withResolvers<void>()
      const asked = Promise.withResolvers<void>()
      const shelf = aShelf({
        bytes: 2_000_000,
        pieceBytes: 1_048_576,
        choose: async (has) => {
          asked.resolve()
          await first.promise
          return has.nextClear(0)
        },
        read: async (_piece, offset) => {
          if (offset === 0) return
          reading.resolve()
          await goOn.promise
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(2))
      const absent = { ...shelf.task, id: `sha256:${'1'.repeat(64)}` as TaskId }
      const early = new AbortController()
      const unwanted = channel.fetchAny({ signal: early.signal, sure: true })
      await asked.promise
      early.abort(new Error('too early'))
      await assert.rejects(unwanted, /too early/)
      await assert.rejects(pair.child.open(pair.parent, absent, opening(5))) // a round trip: the cancellation has arrived
      first.resolve()
      await shelf.until(() => shelf.unsent.length === 1)
      const late = new AbortController()
      const cut = channel.fetchAny({ signal: late.signal, sure: true })
      await reading.promise
      late.abort(new Error('too late'))
      await assert.rejects(cut, /too late/)
      await assert.rejects(pair.child.open(pair.parent, absent, opening(5)))
      goOn.resolve()
      await shelf.until(() => shelf.unsent.length === 2)
      const given = await Promise.all([0, 1].map(() => channel.fetchAny({ signal: soon(), sure: true })))
      assert.deepEqual(
        given.map((one) => one?.piece),
        [0, 1],
      )
      assert.deepEqual(shelf.unsent, [0, 0])
    })

    it('ends what waits for whatever comes with the channel', async () => {
      const asked = Promise.withResolvers<void>()
      const shelf = aShelf({
        choose: (_has, { signal }) => {
          asked.resolve()
          return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        },
      })
      await using pair = await aPair(shelf)
      const channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      const waiting = [0, 1].map(() => channel.fetchAny({ signal: soon(), sure: true }))
      await asked.promise
      await channel[Symbol.asyncDispose]()
      for (const one of waiting) await assert.rejects(one, (error) => isDarnerError(error, 'CLOSED'))
      await shelf.until(() => shelf.opened === 0)
      assert.deepEqual(shelf.sent, [])
    })

    it('waits for a piece that the parent has yet to choose', async () => {
      const later = Promise.withResolvers<number>()
      const shelf = aShelf({ choose: () => later.promise })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      const waiting = channel.fetchAny({ signal: soon() })
      later.resolve(2)
      assert.equal((await waiting)?.piece, 2)
    })

    it('stops at an abort before, during and after the opening', async () => {
      const asked = Promise.withResolvers<void>()
      const never = aShelf({
        open: () => {
          asked.resolve()
          return new Promise(() => undefined)
        },
      })
      await using pair = await aPair(never)
      const caller = new AbortController()
      const waiting = pair.child.open(pair.parent, never.task, opening(5, { signal: caller.signal }))
      await asked.promise
      caller.abort(new Error('enough'))
      await assert.rejects(waiting, /enough/)
      await assert.rejects(pair.child.open(pair.parent, never.task, opening(5, { signal: caller.signal })), /enough/)
    })

    it('stops at an abort of a fetch, tells the shelf, and goes on with the next', async () => {
      const reading = Promise.withResolvers<void>()
      const goOn = Promise.withResolvers<void>()
      const shelf = aShelf({
        bytes: 2_000_000,
        pieceBytes: 1_048_576,
        read: async (piece, offset) => {
          if (piece !== 0 || offset === 0) return
          reading.resolve()
          await goOn.promise
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(2))
      const caller = new AbortController()
      const cut = channel.fetch(0, { signal: caller.signal })
      await reading.promise
      caller.abort(new Error('another was quicker'))
      await assert.rejects(cut, /another was quicker/)
      await assert.rejects(channel.fetch(0, { signal: caller.signal }), /another was quicker/)
      goOn.resolve()
      await shelf.until(() => shelf.unsent.length === 1)
      assert.ok(Buffer.from(await channel.fetch(1, { signal: soon() })).equals(shelf.piece(1)))
      assert.ok(Buffer.from(await channel.fetch(0, { signal: soon() })).equals(shelf.piece(0)))
      await shelf.until(() => shelf.sent.length === 2)
      assert.deepEqual(shelf.unsent, [0])
    })

    it('gives back a piece of the parent’s choice when it is no longer wanted', async () => {
      const chosen: number[] = []
      const first = Promise.withResolvers<number>()
      const asked = Promise.withResolvers<void>()
      const shelf = aShelf({
        choose: async (has) => {
          asked.resolve()
          if (chosen.length === 0) chosen.push(await first.promise)
          else chosen.push(has.nextClear(0))
          return chosen.at(-1)
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      const caller = new AbortController()
      const unwanted = channel.fetchAny({ signal: caller.signal })
      await asked.promise
      caller.abort(new Error('enough'))
      await assert.rejects(unwanted, /enough/)
      const absent = { ...shelf.task, id: `sha256:${'1'.repeat(64)}` as TaskId }
      await assert.rejects(pair.child.open(pair.parent, absent, opening(5))) // a round trip: the cancellation has arrived
      first.resolve(0)
      await shelf.until(() => shelf.unsent.length === 1)
      assert.equal((await channel.fetchAny({ signal: soon() }))?.piece, 0)
    })

    it('ends what waits when a channel is closed, and frees the shelf', async () => {
      const reading = Promise.withResolvers<void>()
      const shelf = aShelf({
        read: (_piece, _offset, _into, { signal }) => {
          reading.resolve()
          return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        },
      })
      await using pair = await aPair(shelf)
      const channel = await pair.child.open(pair.parent, shelf.task, opening(5))
      const waiting = [0, 1, 2].map((piece) => channel.fetch(piece, { signal: soon() }))
      await reading.promise
      await channel[Symbol.asyncDispose]()
      for (const one of waiting) await assert.rejects(one, (error) => isDarnerError(error, 'CLOSED'))
      assert.ok(isDarnerError(await channel.closed, 'CLOSED'))
      await assert.rejects(channel.fetch(0, { signal: soon() }), (error) => isDarnerError(error, 'CLOSED'))
      channel.tell(0, 1)
      await shelf.until(() => shelf.opened === 0)
      assert.ok(shelf.unsent.length >= 1)
      assert.equal(shelf.sent.length, 0)
      await using again = await pair.child.open(pair.parent, shelf.task, opening(5))
      assert.equal(again.haves.full, true)
    })

    it('tells why a piece was cut short when the shelf fails in its middle', async () => {
      const shelf = aShelf({
        bytes: 1_000_000,
        pieceBytes: 1_048_576,
        read: async (_piece, offset) => {
          if (offset > 0) throw new DarnerError('PIECE_ABSENT', 'rotten')
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(1))
      await assert.rejects(channel.fetch(0, { signal: soon() }), (error) => isDarnerError(error, 'PIECE_SHORT'))
      await shelf.until(() => shelf.unsent.length === 1)
    })

    it('ends every channel when the parent vanishes in the middle of a piece', async () => {
      const reading = Promise.withResolvers<void>()
      const shelf = aShelf({
        bytes: 1_000_000,
        pieceBytes: 1_048_576,
        read: async (_piece, offset, _into, { signal }) => {
          if (offset === 0) return
          reading.resolve()
          await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        },
      })
      await using pair = await aPair(shelf)
      await using channel = await pair.child.open(pair.parent, shelf.task, opening(1))
      const cut = channel.fetch(0, { signal: soon() })
      await reading.promise
      const [error] = await Promise.all([
        cut.then(
          () => undefined,
          (reason: unknown) => reason,
        ),
        pair.stopParent(),
      ])
      assert.ok(isDarnerError(error, 'CLOSED', 'PEER_UNREACHABLE'), String(error))
      assert.ok((await channel.closed) instanceof DarnerError)
      assert.equal(shelf.opened, 0)
      await assert.rejects(pair.child.open(pair.parent, shelf.task, opening(1)), (failure) =>
        isDarnerError(failure, 'PEER_UNREACHABLE'),
      )
    })
  })
}
