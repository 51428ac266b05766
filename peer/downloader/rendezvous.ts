/**
 * Elects the reader of the origin when the supernode is lost in the middle of a fetch. Hosts that know each other agree without a message.
 * Each ranks itself and its neighbours by a hash of host and blob (highest random weight). The first reads what nobody has, and the others
 * get it from that one. A host whose turn comes later begins only when nothing came meanwhile, so a reader that can't read costs a few
 * seconds.
 */
import { createHash } from 'node:crypto'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'

/** How long nothing may come, after the supernode is lost, before the first of the ranking reads; and each next one. */
export const FIRST_READER_MS = 2_000
export const NEXT_READER_MS = 3_000

/** This host's place among those it knows, from 0 on: the same for all that know the same hosts. */
export function rankOf(task: TaskId, self: PeerId, neighbours: Iterable<PeerId>): number {
  const own = weight(task, self)
  let rank = 0
  for (const peer of neighbours) {
    if (peer === self) continue
    const other = weight(task, peer)
    if (other > own || (other === own && peer > self)) rank++
  }
  return rank
}

/** Where this host begins to read: hosts that don't know each other then read different parts first, and give them to each other. */
export function startPiece(task: TaskId, self: PeerId, pieces: number): number {
  return Math.floor((weight(task, self) / 2 ** 32) * pieces)
}

function weight(task: TaskId, peer: PeerId): number {
  return createHash('sha256').update(`${task} ${peer}`).digest().readUInt32BE(0)
}
