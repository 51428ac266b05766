import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { PeerShelf } from '../../peer/shelf.ts'
import { type Clock, seededRandom, systemClock } from '../../src/core/clock.ts'
import type { ParentChannel, PeerId } from '../../src/core/contracts/exchange.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { Feed } from '../../src/core/feed.ts'
import type { Place } from '../../src/core/task/place.ts'
import { STEPS, type TaskId } from '../../src/core/task/task.ts'
import { newIdentity } from '../../src/protocol/identity.ts'
import { PASS_MS, signPass } from '../../src/protocol/pass.ts'
import type { Came } from '../../src/rights/came.ts'
import { aLanePair, opening } from '../fixtures/exchange/a-lane.ts'
import { aSteppedBlob } from '../fixtures/exchange/a-stepped-blob.ts'
import { failsWith } from '../fixtures/fails-with.ts'
import { aBlob, aStore, fill, never } from '../fixtures/store/a-store.ts'
import { aGrant, ELSEWHERE, HERE } from '../fixtures/swarm/a-grant.ts'

/** A peer that holds a blob of eight pieces, a child of it, and a clock on which their passes end. */
async function aHolder() {
  const stack = new AsyncDisposableStack()
  const { store } = stack.use(await aStore())
  const blob = aBlob({ pieceBytes: 65_536 })
  const stored = await fill(store, blob)
  const issuer = await newIdentity()
  const revoked = new Set<PeerId>()
  let aheadMs = 0
  const clock: Clock = { ...systemClock, now: () => Date.now() + aheadMs }
  const shelf = new PeerShelf(
    { issuer: () => issuer.peerId },
    {
      store,
      clock,
      random: seededRandom(1),
      admitted: (peer) => !revoked.has(peer),
      came: () => ({ place: HERE, anybody: false }),
      beginning: () => undefined,
      sent: () => {},
    },
  )
  const { parent, child } = stack.use(await aLanePair(shelf))
  const { task } = blob
  const signal = AbortSignal.timeout(20_000)
  const pass = (
    change: { reader?: typeof child.identity; task?: TaskId; sign?: typeof issuer.sign; place?: Place } = {},
  ) => {
    const of = { ...task, ...(change.task === undefined ? {} : { id: change.task }) }
    return signPass(
      aGrant(of, change.place === undefined ? {} : { place: change.place, reach: 'through' }),
      {
        task: of,
        reader: (change.reader ?? child.identity).peerId,
        expiresMs: clock.now() + PASS_MS,
      },
      change.sign ?? issuer.sign,
    )
  }
  return {
    blob,
    stored,
    pass,
    revoke: () => revoked.add(child.identity.peerId),
    later: (ms: number) => {
      aheadMs += ms
    },
    open: (shown: Uint8Array) => child.exchange.open(parent.address, task, opening(8, { pass: shown, signal })),
    piece: async (channel: ParentChannel, piece: number) =>
      assert.deepEqual(Buffer.from(await channel.fetch(piece, { signal })), Buffer.from(blob.piece(piece))),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** A peer whose fetch of a blob begins: nothing of it is in the store yet. */
async function aBeginner({ place = HERE } = {}) {
  const stack = new AsyncDisposableStack()
  const { store } = stack.use(await aStore())
  const blob = aBlob({ pieceBytes: 65_536 })
  const issuer = await newIdentity()
  const begun = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  let came: Came | undefined
  const shelf = new PeerShelf(
    { issuer: () => issuer.peerId },
    {
      store,
      clock: systemClock,
      random: seededRandom(1),
      admitted: () => true,
      came: () => came,
      beginning: (task) => {
        assert.equal(task, blob.task.id)
        asked.resolve()
        return begun.promise
      },
      sent: () => {},
    },
  )
  const { parent, child } = stack.use(await aLanePair(shelf))
  const reader = child.identity.peerId
  const expiresMs = Date.now() + PASS_MS
  const pass = signPass(aGrant(blob.task, { reach: 'through' }), { task: blob.task, reader, expiresMs }, issuer.sign)
  return {
    blob,
    asked: asked.promise,
    open: () =>
      child.exchange.open(parent.address, blob.task, opening(8, { pass, signal: AbortSignal.timeout(20_000) })),
    /** The fetch has begun: the task is in the store, held under a right. */
    begin: async () => {
      came = { place, anybody: false }
      const stored = await fill(store, blob, [])
      begun.resolve()
      return stored
    },
    /** It came to nothing. */
    over: () => begun.resolve(),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

describe('a pass on a channel that stays open', () => {
  it('gives pieces until it ends, and none from then on, nor by opening anew', async () => {
    await using holder = await aHolder()
    const pass = holder.pass()
    await using channel = await holder.open(pass)
    await holder.piece(channel, 0)
    holder.later(PASS_MS - 5_000)
    await holder.piece(channel, 1)
    holder.later(5_001)
    await failsWith('CAPABILITY_REFUSED', channel.fetch(2, { signal: AbortSignal.timeout(10_000) }), /pass/)
    await failsWith('CAPABILITY_REFUSED', Promise.reject(await channel.closed))
    await failsWith('CAPABILITY_REFUSED', holder.open(pass), /expired/)
  })

  it('is followed by no other for a child that was revoked', async () => {
    await using holder = await aHolder()
    await using channel = await holder.open(holder.pass())
    await holder.piece(channel, 0)
    holder.revoke()
    await failsWith('CAPABILITY_REFUSED', holder.open(holder.pass()), /not admitted/)
  })

  it('is followed by a newer one without a gap', async () => {
    await using holder = await aHolder()
    await using channel = await holder.open(holder.pass())
    for (let piece = 0; piece < 8; piece++) {
      await holder.piece(channel, piece)
      holder.later(PASS_MS * 0.7)
      channel.renew(holder.pass())
    }
  })

  it('is not followed by a forged, borrowed or unproven one, nor by one for another blob', async () => {
    await using holder = await aHolder()
    const other = await newIdentity()
    const wrong = {
      forged: holder.pass({ sign: other.sign }),
      'of another host': holder.pass({ reader: other }),
      'for another blob': holder.pass({ task: aBlob({ seed: 2 }).task.id }),
      'of a place that proved nothing': holder.pass({ place: ELSEWHERE }),
      empty: new Uint8Array(0),
    }
    for (const pass of Object.values(wrong)) {
      await using channel = await holder.open(holder.pass())
      await holder.piece(channel, 0)
      channel.renew(pass)
      await failsWith('CAPABILITY_REFUSED', Promise.reject(await channel.closed))
      await failsWith('CAPABILITY_REFUSED', channel.fetch(1, { signal: AbortSignal.timeout(10_000) }))
    }
  })
})

describe('a piece that is still coming here', () => {
  const signal = AbortSignal.timeout(20_000)

  /** A host to which the first piece of a blob begins to come, and a child that takes such. */
  async function aRelay() {
    const stack = new AsyncDisposableStack()
    const { store } = stack.use(await aStore())
    const blob = aSteppedBlob()
    const stored = await store.create(blob.task, { signal })
    blob.tell(stored)
    const issuer = await newIdentity()
    const parts = { store, clock: systemClock, random: seededRandom(1), admitted: () => true, sent: () => {} }
    const shelf = new PeerShelf(
      { issuer: () => issuer.peerId },
      { ...parts, came: () => undefined, beginning: () => undefined },
    )
    const { parent, child } = stack.use(await aLanePair(shelf))
    const right = { task: blob.task, reader: child.identity.peerId }
    const pass = signPass(aGrant(blob.task), { ...right, expiresMs: systemClock.now() + PASS_MS }, issuer.sign)
    const channel = await child.exchange.open(parent.address, blob.task, opening(3, { pass, signal }))
    const body = Uint8Array.from(blob.piece(0))
    const arrival = stored.arriving(0, body)
    assert.ok(arrival)
    return { blob, stored, channel, body, arrival, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  }

  it('is passed on as it comes, each step once it is right, and whole once it is stored', async () => {
    await using relay = await aRelay()
    const { blob, stored, channel, body, arrival } = relay
    const parts = new Feed<number>(STEPS)
    const heard = parts[Symbol.asyncIterator]()
    const onPart = ({ bytes }: { bytes: number }) => parts.push(bytes)
    const given = channel.fetchAny({ signal, sure: true, early: true, onPart })
    for (let step = 1; step < STEPS; step++) {
      arrival.reached(step * blob.stepBytes)
      assert.equal((await heard.next()).value, step * blob.stepBytes)
    }
    assert.equal(stored.has(0), false)
    await stored.write(0, body, { signal })
    arrival[Symbol.dispose]()
    const got = await given
    assert.equal(got?.piece, 0)
    assert.deepEqual(Buffer.from(got.body), Buffer.from(blob.piece(0)))
  })

  it('is withdrawn when it turns out wrong, of which nothing left, and given once it is right', async () => {
    await using relay = await aRelay()
    const { blob, stored, channel, body, arrival } = relay
    body[blob.stepBytes] = (body[blob.stepBytes] ?? 0) ^ 1
    const parts = new Feed<number>(STEPS)
    const heard = parts[Symbol.asyncIterator]()
    const onPart = ({ bytes }: { bytes: number }) => parts.push(bytes)
    const given = channel.fetchAny({ signal, sure: true, early: true, onPart })
    arrival.reached(blob.stepBytes)
    assert.equal((await heard.next()).value, blob.stepBytes)
    arrival.reached(body.byteLength)
    await assert.rejects(stored.write(0, body, { signal }), { code: 'PIECE_DIGEST' })
    arrival[Symbol.dispose]()
    await assert.rejects(given, { code: 'PIECE_WITHDRAWN' })
    parts.end()
    assert.equal((await heard.next()).done, true)
    const again = channel.fetchAny({ signal, sure: true, early: true, onPart: () => {} })
    await stored.write(0, blob.piece(0), { signal })
    assert.deepEqual(Buffer.from((await again)?.body ?? []), Buffer.from(blob.piece(0)))
  })
})

describe('a child of a task that is discarded here', () => {
  it('hears anew what is here once pieces are in doubt', async () => {
    await using holder = await aHolder()
    const { stored, blob } = holder
    await using channel = await holder.open(holder.pass())
    await holder.piece(channel, 0)
    await stored.doubt()
    stored.told(0, blob.table.subarray(0, 2 * 32))
    await failsWith('PIECE_ABSENT', Promise.reject(await channel.closed), /no longer held here/)
    await using anew = await holder.open(holder.pass())
    assert.deepEqual(anew.haves.ranges(), [[0, 2]])
    await holder.piece(anew, 1)
  })

  it('has its channel ended, so that it asks elsewhere', async () => {
    await using a = await aBeginner()
    const opening = a.open()
    await a.asked
    const stored = await a.begin()
    await using channel = await opening
    const given = channel.fetchAny({ signal: AbortSignal.timeout(10_000), sure: true, early: true })
    const refused = failsWith('PIECE_ABSENT', given)
    await stored.discard(new DarnerError('DISK_FULL', 'no room'))
    await refused
    assert.match(String(await channel.closed), /no longer held here/)
  })
})

describe('a task whose fetch only begins here', () => {
  it('is opened for a child once it is in the store', async () => {
    await using holder = await aBeginner()
    const opening = holder.open()
    await holder.asked
    const stored = await holder.begin()
    await using channel = await opening
    await stored.write(3, holder.blob.piece(3), { signal: never() })
    assert.deepEqual(
      Buffer.from((await channel.fetchAny({ signal: AbortSignal.timeout(10_000) }))?.body ?? []),
      Buffer.from(holder.blob.piece(3)),
    )
  })

  it('is not there when it came to nothing, and refused when it comes through another place than that of the pass', async () => {
    await using nothing = await aBeginner()
    const absent = failsWith('PEER_REFUSED', nothing.open())
    nothing.over()
    await absent
    await using other = await aBeginner({ place: ELSEWHERE })
    const opening = failsWith('CAPABILITY_REFUSED', other.open())
    await other.asked
    await other.begin()
    await opening
  })
})
