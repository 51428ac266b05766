/** The supernode's own look at a peer that was accused: it asks it for pieces and compares them with the table. */

import type { Random } from '../src/core/clock.ts'
import type { ParentChannel, PeerAddress, PieceExchange } from '../src/core/contracts/exchange.ts'
import { asDarnerError, isDarnerError } from '../src/core/errors.ts'
import { abortable, withDeadline } from '../src/core/signals.ts'
import { Bitmap } from '../src/core/task/bitmap.ts'
import type { Task } from '../src/core/task/task.ts'
import { pieceCount } from '../src/core/task/task.ts'
import type { PieceTable } from '../src/store/partial/piece-table.ts'
import { same } from '../src/store/partial/piece-table.ts'

/** How long one check may take, connection included. */
const CHECK_MS = 10_000
/** Pieces that are looked at: the one that was complained of and some by chance, so that a liar can't know which. */
const SAMPLE = 4

export interface Charge {
  readonly task: Task
  /** What the supernode itself read at the origin. */
  readonly table: PieceTable
  /** The piece that was complained of, if one was named. */
  readonly piece: number | undefined
  readonly pass: Uint8Array
}

export interface CheckParts {
  readonly address: PeerAddress
  readonly exchange: PieceExchange
  readonly random: Random
  readonly signal: AbortSignal
}

/** The number of a piece that it sent wrongly, `clean` when all looked at were right, `unknown` when none could be had. */
export async function checkPeer(charge: Charge, parts: CheckParts): Promise<number | 'clean' | 'unknown'> {
  const { task, table } = charge
  const signal = withDeadline(parts.signal, CHECK_MS)
  let right = 0
  try {
    await using channel = await parts.exchange.open(parts.address, task, {
      pass: charge.pass,
      have: new Bitmap(pieceCount(task)),
      priority: 'background',
      signal,
    })
    await announced(channel, signal)
    for (const piece of sample(channel, charge, parts.random)) {
      const body = await channel.fetch(piece, { signal })
      const digest = table.digest(piece)
      if (digest === undefined) continue
      if (!same(new Uint8Array(await crypto.subtle.digest('SHA-256', body as Uint8Array<ArrayBuffer>)), digest))
        return piece
      right++
    }
  } catch (error) {
    parts.signal.throwIfAborted()
    // a peer that can't be asked, or has nothing, is neither guilty nor cleared
    if (!isDarnerError(asDarnerError(error, 'check'), 'INTERNAL')) return 'unknown'
    throw error
  }
  return right > 0 ? 'clean' : 'unknown'
}

async function announced(channel: ParentChannel, signal: AbortSignal): Promise<void> {
  if (channel.haves.count > 0) return
  const heard = Promise.withResolvers<void>()
  const stop = channel.onHaves(() => heard.resolve())
  try {
    if (channel.haves.count === 0) await abortable(Promise.race([heard.promise, channel.closed.then(() => {})]), signal)
  } finally {
    stop()
  }
}

function sample(channel: ParentChannel, { table, piece }: Charge, random: Random): number[] {
  const held: number[] = []
  for (let at = channel.haves.nextSet(0); at >= 0; at = channel.haves.nextSet(at + 1))
    if (table.known.has(at)) held.push(at)
  const chosen = new Set<number>()
  if (piece !== undefined && held.includes(piece)) chosen.add(piece)
  for (let tries = 0; tries < SAMPLE * 4 && chosen.size < Math.min(SAMPLE, held.length); tries++) {
    const one = held[Math.floor(random() * held.length)]
    if (one !== undefined) chosen.add(one)
  }
  return [...chosen].sort(() => random() - 0.5)
}
