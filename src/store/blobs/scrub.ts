/** Looks for bit rot in complete blobs. */
import type { Clock } from '../../core/clock.ts'
import { algorithmOf, type Digest } from '../../core/digest.ts'
import { asDarnerError, DarnerError, systemCode } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { Task } from '../../core/task/task.ts'
import type { Hasher } from '../hash/hasher.ts'
import { type PieceTable, same } from '../partial/piece-table.ts'
import type { StoredTask } from '../partial/stored-task.ts'
import type { BlobRecord } from './metadata.ts'

export interface ScrubOptions {
  /** Reading slows down to this; unlimited when absent. */
  readonly bytesPerSec?: number
  readonly signal: AbortSignal
}

/** Pieces of a blob that no longer hash to what they did. */
export interface Damage {
  readonly task: Task
  readonly digest: Digest
  readonly pieces: readonly number[]
}

export interface ScrubReport {
  readonly blobs: number
  readonly bytes: number
  readonly damaged: readonly Damage[]
}

/** What a scrub asks of the store. */
export interface ScrubParts {
  readonly hasher: Hasher
  readonly clock: Clock
  readonly log: Log
  pathOf(digest: Digest): string
  stored(digest: Digest): StoredTask | undefined
  /** Keeps the blob from being collected while it is read. */
  lease(digest: Digest): Disposable
  /** Records piece digests of a blob whose whole digest has just been seen to be right. */
  cut(stored: StoredTask): Promise<PieceTable>
  demote(stored: StoredTask, bad: readonly number[]): Promise<void>
  /** The blob is rotten and nobody knows where. */
  lost(stored: StoredTask, digest: Digest, reason: DarnerError): Promise<void>
}

/** Checks one blob after the other; one that is removed meanwhile is passed over. */
export async function scrubBlobs(
  blobs: readonly { digest: Digest; record: BlobRecord; lastUsedMs: number }[],
  options: ScrubOptions,
  parts: ScrubParts,
): Promise<ScrubReport> {
  const damaged: Damage[] = []
  let bytes = 0
  for (const { digest, record, lastUsedMs } of blobs) {
    options.signal.throwIfAborted()
    const stored = parts.stored(digest)
    if (!stored?.complete) continue
    const startedMs = parts.clock.monotonicMs()
    const pieces = await checkedPieces(stored, digest, options, parts)
    bytes += record.bytes
    if (pieces.length > 0) {
      damaged.push({ task: stored.task, digest, pieces })
      parts.log.warn({ digest, pieces: pieces.length, lastUsedMs }, 'bit rot found')
    }
    if (options.bytesPerSec !== undefined) {
      const dueMs = (record.bytes / options.bytesPerSec) * 1000 - (parts.clock.monotonicMs() - startedMs)
      if (dueMs > 0) await parts.clock.sleep(dueMs, { signal: options.signal })
    }
  }
  return { blobs: blobs.length, bytes, damaged }
}

/** As {@link badPieces}, for a blob that may be deleted while it is read, or whose file is gone. One that can't be read is passed over. */
async function checkedPieces(
  stored: StoredTask,
  digest: Digest,
  options: ScrubOptions,
  parts: ScrubParts,
): Promise<number[]> {
  using _lease = parts.lease(digest)
  try {
    return await badPieces(stored, digest, options, parts)
  } catch (error) {
    options.signal.throwIfAborted()
    if (stored.failure || !stored.complete) return []
    if (systemCode(error) !== 'ENOENT') {
      parts.log.warn({ digest, error: asDarnerError(error, 'scrub').message }, 'blob not looked at')
      return []
    }
    const gone = new DarnerError('STORE_CORRUPT', `scrub ${digest}: its file is gone`, { cause: error })
    await parts.lost(stored, digest, gone)
    return Array.from({ length: stored.pieces }, (_, piece) => piece)
  }
}

async function badPieces(
  stored: StoredTask,
  digest: Digest,
  options: ScrubOptions,
  parts: ScrubParts,
): Promise<number[]> {
  const { task, table } = stored
  const numbers = Array.from({ length: stored.pieces }, (_, piece) => piece)
  if (!table.known.full) {
    const whole = parts.hasher.whole(parts.pathOf(digest), algorithmOf(digest))
    const hex = await whole.finish(task.bytes).catch(() => 'unreadable')
    if (digest.endsWith(`:${hex}`)) await parts.cut(stored)
    else {
      await parts.lost(stored, digest, new DarnerError('STORE_CORRUPT', `scrub ${digest}: its bytes hash to ${hex}`))
      return numbers
    }
    return []
  }
  const bad: number[] = []
  for await (const { piece, digest: actual } of parts.hasher.pieces(parts.pathOf(digest), task, numbers, options)) {
    if (actual === undefined || !same(actual, table.digest(piece) ?? actual.subarray(1))) bad.push(piece)
  }
  if (bad.length > 0) await parts.demote(stored, bad)
  return stored.failure ? [] : bad
}
