/** The supernode as the child of a peer that reads an origin for it: pieces in order, as that peer gets them. */
import type { Clock } from '../src/core/clock.ts'
import type { ParentChannel, PeerAddress, PieceExchange } from '../src/core/contracts/exchange.ts'
import { DarnerError, isDarnerError } from '../src/core/errors.ts'
import { abortable, withDeadline } from '../src/core/signals.ts'
import { Bitmap } from '../src/core/task/bitmap.ts'
import { pieceCount, type Task } from '../src/core/task/task.ts'
import type { CutPiece } from '../src/store/partial/cut.ts'
import type { Traffic } from './traffic.ts'

/** A peer that gets no further piece for this long is given up. */
const STALL_MS = 15_000
const OPEN_PAUSE_MS = 100
/** One that is busy makes its place for the blob later than others hear of it; one that refuses has its reasons. */
const MOST_ABSENT = STALL_MS / OPEN_PAUSE_MS
const MOST_REFUSED = 20
/** Pieces asked for ahead of the one that is due. */
const AHEAD = 4

/** Throws PEER_STALLED, PEER_UNREACHABLE and what fetching throws; the bytes are as true as the peer. */
export async function* lentPieces(
  read: { task: Task; from: number; pass: Uint8Array },
  parts: { address: PeerAddress; exchange: PieceExchange; traffic: Traffic; clock: Clock; signal: AbortSignal },
): AsyncGenerator<CutPiece> {
  const { task, from, pass } = read
  const { address, exchange, traffic, clock, signal } = parts
  const pieces = pieceCount(task)
  await using channel = await opened(
    () => exchange.open(address, task, { pass, have: new Bitmap(pieces), priority: 'interactive', signal }),
    () => clock.sleep(OPEN_PAUSE_MS, { signal }),
  )
  const asked = new Map<number, Promise<Uint8Array>>()
  for (let number = from; number < pieces; number++) {
    await held(channel, number, withDeadline(signal, STALL_MS))
    for (let next = number; next < Math.min(pieces, number + AHEAD); next++) {
      if (asked.has(next) || !channel.haves.has(next)) continue
      const body = channel.fetch(next, { signal })
      body.catch(() => {})
      asked.set(next, body)
    }
    const body = await asked.get(number)
    asked.delete(number)
    if (body === undefined) continue
    traffic.fromHosts += body.byteLength
    yield { number, body }
  }
}

/** The peer may hear of the lease a moment before it has a place for the blob. */
async function opened(open: () => Promise<ParentChannel>, pause: () => Promise<void>): Promise<ParentChannel> {
  for (let tries = 1; ; tries++) {
    try {
      return await open()
    } catch (error) {
      if (!isDarnerError(error, 'PIECE_ABSENT', 'PEER_REFUSED')) throw error
      if (tries >= (error.code === 'PIECE_ABSENT' ? MOST_ABSENT : MOST_REFUSED)) throw error
      await pause()
    }
  }
}

/** Resolves once the peer says that it has the piece. */
async function held(channel: ParentChannel, number: number, signal: AbortSignal): Promise<void> {
  while (!channel.haves.has(number)) {
    const heard = Promise.withResolvers<void>()
    const stop = channel.onHaves(() => heard.resolve())
    try {
      if (channel.haves.has(number)) return
      const lost = channel.closed.then((error) => {
        throw error
      })
      lost.catch(() => {})
      await abortable(Promise.race([heard.promise, lost]), signal)
    } catch (error) {
      if (!(error instanceof Error && error.name === 'TimeoutError')) throw error
      throw new DarnerError('PEER_STALLED', `${channel.parent} got no piece ${number} within ${STALL_MS / 1000} s`)
    } finally {
      stop()
    }
  }
}
