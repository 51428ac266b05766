/** Pieces that are passed on while they come, by chance: parents that send anything, and honest hosts to which pieces come any way. */
import assert from 'node:assert/strict'
import { setImmediate } from 'node:timers/promises'
import { PeerShelf } from '../../../../peer/shelf.ts'
import { type Clock, type Random, randomBelow, seededRandom, systemClock } from '../../../../src/core/clock.ts'
import type { FetchAnyOptions, ParentChannel } from '../../../../src/core/contracts/exchange.ts'
import { isDarnerError } from '../../../../src/core/errors.ts'
import { pieceRange } from '../../../../src/core/task/task.ts'
import { FETCH_DEFAULTS, FetchSide } from '../../../../src/exchange/child/fetch.ts'
import { RateLimits } from '../../../../src/exchange/limits/limits.ts'
import {
  encodeOpened,
  encodeRuns,
  FRAME,
  frame,
  PIECE_LAST,
  PIECE_WAITS,
  preface,
  REFUSAL,
} from '../../../../src/exchange/transport/lane-frames.ts'
import { LaneLink, LINK_DEFAULTS } from '../../../../src/exchange/transport/link.ts'
import { newIdentity } from '../../../../src/protocol/identity.ts'
import { PASS_MS, signPass } from '../../../../src/protocol/pass.ts'
import { PiecePool } from '../../../../src/store/partial/piece-pool.ts'
import type { Store, StoredTask } from '../../../../src/store/store.ts'
import { aBytePipe } from '../../../fixtures/exchange/a-byte-pipe.ts'
import { aLanePair, opening } from '../../../fixtures/exchange/a-lane.ts'
import { aSteppedBlob, type SteppedBlob } from '../../../fixtures/exchange/a-stepped-blob.ts'
import { aBlob, aStore } from '../../../fixtures/store/a-store.ts'
import { aGrant } from '../../../fixtures/swarm/a-grant.ts'

/** Goes a thousand times as fast as others. */
const QUICK: Clock = { ...systemClock, monotonicMs: () => 1000 * systemClock.monotonicMs() }

const soon = () => AbortSignal.timeout(20_000)
const PIECES = 4
const QUESTIONS = 6
const blob = aBlob({ pieces: PIECES, pieceBytes: 65_536, short: 1000 })

/** What a parent sent for a question; `withdrawn`: it said first that it waits for the rest, then that this isn't coming. */
interface Sent {
  bytes: Buffer
  waits: boolean
  withdrawn: boolean
}

/** One connection to a parent that answers `QUESTIONS` questions by chance, until that breaks the protocol or it has said enough. */
async function liesOf(seed: number): Promise<string[]> {
  const random = seededRandom(seed)
  const below = (most: number) => randomBelow(random, most)
  const { near, far } = aBytePipe()
  const link = new LaneLink(near, LINK_DEFAULTS, { clock: systemClock })
  await using limits = new RateLimits({ clock: systemClock })
  const parts = { link, limits, pieces: new PiecePool(), clock: systemClock, onClosed: () => {} }
  const side = new FetchSide(FETCH_DEFAULTS, parts)
  link.start(side)
  await far.write(preface())
  const opened = side.open(blob.task, opening(PIECES))
  const { bytes, pieceBytes } = blob.task
  await setImmediate()
  await far.write(frame(FRAME.OPENED, { channel: 1 }, encodeOpened({ bytes, pieceBytes, have: new Uint8Array(0) })))
  const channel = await opened
  const sent = new Map<number, Sent>()
  const outcomes: string[] = []
  const asked = Array.from({ length: QUESTIONS }, async (_, at) => {
    const request = at + 1
    const early = at % 3 > 0
    let reached = 0
    const came = (body: Uint8Array, bytes: number) =>
      sent.get(request)?.bytes.subarray(0, bytes).equals(body.subarray(0, bytes)) === true
    const onPart: FetchAnyOptions['onPart'] = (part) => {
      const { from, to } = pieceRange(blob.task, part.piece)
      assert.equal(part.body.byteLength, to - from)
      assert.ok(part.bytes > reached && part.bytes <= to - from)
      assert.ok(early || !part.waits)
      assert.ok(came(part.body, part.bytes))
      reached = part.bytes
    }
    try {
      const given = await channel.fetchAny({ signal: soon(), sure: at % 3 < 2 || early, early, onPart })
      if (given !== undefined) assert.ok(came(given.body, given.body.byteLength))
      outcomes.push(given === undefined ? 'none' : 'given')
    } catch (error) {
      assert.ok(isDarnerError(error), String(error))
      if (error.code === 'PIECE_WITHDRAWN') assert.ok(early && sent.get(request)?.withdrawn)
      outcomes.push(error.code)
    }
  })
  for (let said = 0; said < 60 && link.failure === undefined; said++) {
    await far.write(anything())
    if (below(3) === 0) await setImmediate()
  }
  for (let turn = 0; turn < 20; turn++) await setImmediate()
  link.close('CLOSED', 'said enough')
  await Promise.all(asked)
  return outcomes

  /** A frame of a parent, more often than not one that it might send now. */
  function anything(): Buffer {
    const request = below(40) === 0 ? below(2 ** 32) : 1 + below(QUESTIONS)
    const kind = below(20)
    if (kind === 0) return frame(FRAME.OFFER, { channel: 1, request, number: below(PIECES + 1) })
    if (kind === 1) return frame(FRAME.HAVE, { channel: 1 }, encodeRuns([[below(PIECES), 1]]))
    const refusal = below(2) === 0 ? REFUSAL.WITHDRAWN : below(REFUSAL.WITHDRAWN + 2)
    const before = sent.get(request) ?? { bytes: Buffer.alloc(0), waits: false, withdrawn: false }
    if (kind < 4) {
      before.withdrawn ||= before.waits && refusal === REFUSAL.WITHDRAWN
      return frame(FRAME.GONE, { channel: 1, request, number: refusal })
    }
    const number = below(30) === 0 ? below(PIECES + 1) : (request - 1) % PIECES
    const { from, to } = number < PIECES ? pieceRange(blob.task, number) : { from: 0, to: 65_536 }
    const left = Math.max(1, to - from - before.bytes.byteLength)
    const length = below(3) === 0 ? left : below(20) === 0 ? below(left + 2) : 1 + below(left)
    const payload = Buffer.alloc(length, below(256))
    const flags = below(10) === 0 ? below(256) : (length === left ? PIECE_LAST : 0) | (below(2) * PIECE_WAITS)
    const waits = (flags & PIECE_WAITS) !== 0
    sent.set(request, { ...before, bytes: Buffer.concat([before.bytes, payload]), waits })
    return frame(FRAME.PIECE, { channel: 1, request, number, flags }, payload)
  }
}

/** Has a piece come: from places that send what is wrong, or give up in its middle, until it is stored. */
async function comes(stored: StoredTask, whole: SteppedBlob, piece: number, random: Random): Promise<void> {
  for (let attempt = 0; !stored.has(piece); attempt++) {
    const body = Uint8Array.from(whole.piece(piece))
    const lies = attempt < 3 && random() < 0.4
    if (lies) {
      const at = randomBelow(random, body.byteLength)
      body[at] = (body[at] ?? 0) ^ 1
    }
    using arrival = stored.arriving(piece, body)
    const end = attempt < 3 && random() < 0.3 ? randomBelow(random, body.byteLength) : body.byteLength
    for (let at = 0; at < end; ) {
      at = Math.min(end, at + 1 + randomBelow(random, 2 * whole.stepBytes))
      arrival?.reached(at)
      if (random() < 0.7) await setImmediate()
    }
    if (end < body.byteLength) continue
    try {
      await stored.write(piece, body, { signal: soon() })
    } catch (error) {
      assert.ok(lies && isDarnerError(error, 'PIECE_DIGEST'), String(error))
    }
  }
}

/** Takes all pieces by questions that are taken back now and then; how many were withdrawn. */
async function takes(channel: ParentChannel, whole: SteppedBlob, random: Random): Promise<number> {
  const pieces = whole.table.byteLength / 32
  const here = new Set<number>()
  let withdrawn = 0
  const ask = async () => {
    while (here.size < pieces) {
      const over = new AbortController()
      const quits = random() < 0.2
      let piece: number | undefined
      try {
        const given = await channel.fetchAny({
          signal: AbortSignal.any([over.signal, soon()]),
          ...{ sure: true, early: random() < 0.8 },
          onStart: (started) => {
            piece = started
          },
          onPart: (part) => {
            const { body, bytes } = part
            assert.ok(Buffer.from(whole.piece(part.piece)).subarray(0, bytes).equals(body.subarray(0, bytes)))
            if (quits && random() < 0.5) over.abort(new Error('no longer wanted'))
          },
        })
        if (given === undefined) return
        assert.ok(Buffer.from(whole.piece(given.piece)).equals(given.body))
        here.add(given.piece)
        channel.tell(given.piece, 1)
      } catch (error) {
        if (isDarnerError(error, 'PIECE_WITHDRAWN')) withdrawn++
        else if (!over.signal.aborted) throw error
        else if (piece !== undefined && !here.has(piece)) channel.lost(piece)
      }
    }
  }
  await Promise.all([ask(), ask(), ask()])
  assert.equal(here.size, pieces)
  return withdrawn
}

describe('a child whose parents send anything', () => {
  it('is given exactly what was sent for a question, or told why not, and never more than the piece', async () => {
    const outcomes = new Set<string>()
    for (let seed = 1; seed <= 80; seed++) for (const outcome of await liesOf(seed)) outcomes.add(outcome)
    // the chance is such that all of them occur
    for (const one of ['given', 'none', 'PIECE_WITHDRAWN', 'PIECE_SHORT', 'PIECE_ABSENT', 'PROTOCOL_VIOLATION'])
      assert.ok(outcomes.has(one), `${one} among ${[...outcomes]}`)
  })
})

describe('a host to which pieces come from liars and who give up', () => {
  it('passes on what is right of them, all of it in the end, and none of what is wrong', async () => {
    const issuer = await newIdentity()
    await using place = await aStore()
    const { store } = place
    const parts = { store, clock: QUICK, random: seededRandom(1), admitted: () => true, sent: () => {} }
    const shelf = new PeerShelf(
      { issuer: () => issuer.peerId },
      { ...parts, came: () => undefined, beginning: () => undefined },
    )
    // what a child took back when all of it had left is given again by and by
    using stack = new DisposableStack()
    stack.adopt(
      setInterval(() => shelf.tick(), 10),
      (ticking) => clearInterval(ticking),
    )
    await using pair = await aLanePair(shelf)
    let withdrawn = 0
    for (let seed = 1; seed <= 3; seed++) withdrawn += await relayed(seed, store, pair, issuer)
    assert.ok(withdrawn > 0, 'the chance is such that some are')
    assert.deepEqual([pair.parent.violations, pair.child.violations], [[], []])
  })
})

async function relayed(
  seed: number,
  store: Store,
  { parent, child }: Awaited<ReturnType<typeof aLanePair>>,
  issuer: Awaited<ReturnType<typeof newIdentity>>,
): Promise<number> {
  const random = seededRandom(seed)
  const whole = aSteppedBlob({ pieces: 5, seed, short: randomBelow(random, 250_000) })
  const stored = await store.create(whole.task, { signal: soon() })
  whole.tell(stored)
  const right = { task: whole.task, reader: child.identity.peerId }
  const pass = signPass(aGrant(whole.task), { ...right, expiresMs: systemClock.now() + PASS_MS }, issuer.sign)
  await using channel = await child.exchange.open(parent.address, whole.task, opening(5, { pass, signal: soon() }))
  const taking = takes(channel, whole, random)
  await Promise.all([0, 1, 2, 3, 4].map((piece) => comes(stored, whole, piece, random)))
  const withdrawn = await taking
  assert.equal(await stored.finish({ signal: soon() }), whole.digest)
  return withdrawn
}
