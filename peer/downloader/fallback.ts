/**
 * Straight to the origin, when the swarm can't help: no supernode answered in time, or it knows no way. Every byte read so has
 * a reason. Pieces that are here already are kept; reading goes on at the first one that lacks.
 */
import { pipe } from 'it-pipe'
import type { Clock, Random } from '../../src/core/clock.ts'
import type { OriginPort, OriginRead, Version } from '../../src/core/contracts/origin.ts'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { untilAborted } from '../../src/core/signals.ts'
import { type Credential, type Origin, originName } from '../../src/core/task/origin.ts'
import { pieceCount, pieceRange } from '../../src/core/task/task.ts'
import { tellsApart } from '../../src/origin/validator.ts'
import { cut } from '../../src/store/partial/cut.ts'
import type { StoredTask } from '../../src/store/store.ts'

export interface OriginReadOptions {
  readonly origin: Origin
  readonly credential: Credential | undefined
  readonly attempts: number
}

export interface OriginReadParts {
  readonly stored: StoredTask
  readonly originPort: OriginPort
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
  /** Bytes that came from the origin. */
  readonly read: (bytes: number) => void
  /** A piece is stored. */
  readonly gained?: (piece: number) => void
}

/** Reads what lacks and verifies the whole. Throws the origin's errors, DIGEST_MISMATCH, SIZE_MISMATCH, DISK_FULL. */
export async function fetchFromOrigin(
  options: OriginReadOptions,
  parts: OriginReadParts,
  context: { first: OriginRead | undefined; signal: AbortSignal },
): Promise<Digest> {
  await readPieces(options, parts, context)
  const { stored } = parts
  const { digest } = stored.task
  return await stored.finish({ ...(digest === undefined ? {} : { expected: digest }), signal: context.signal })
}

/** A read ends before so many pieces in a row that are here, and goes on behind them: others may bring pieces meanwhile. */
const HERE_PIECES = 8

/**
 * As {@link fetchFromOrigin}, without a word on the whole, and from piece `context.from` on only. Of content without a digest, only what
 * `context.first` began is read on: throws ORIGIN_UNVERSIONED else, ORIGIN_CHANGED where it is another now.
 */
export async function readPieces(
  options: OriginReadOptions,
  parts: OriginReadParts,
  context: { first: OriginRead | undefined; from?: number; signal: AbortSignal },
): Promise<void> {
  const { stored, clock, random, retryMs, log } = parts
  const { from = 0, signal } = context
  const { task } = stored
  // without a digest only its validator shows that what comes next belongs to what is here
  const version: Version | undefined = task.digest === undefined ? context.first : undefined
  if (task.digest === undefined && version === undefined) {
    throw new DarnerError(
      'ORIGIN_UNVERSIONED',
      `${task.id}: this host can't tell whether ${originName(options.origin)} still has this content`,
    )
  }
  const target = { origin: options.origin, ...(task.digest === undefined ? {} : { digest: task.digest }) }
  for (let attempt = 0, first = context.first; ; first = undefined) {
    const gap = stored.have.nextClear(from)
    if (gap < 0 || gap >= pieceCount(task)) break
    const at = pieceRange(task, gap).from
    try {
      const ifMatch = version === undefined ? {} : { ifMatch: version }
      await using read =
        first ?? (await parts.originPort.read(target, { from: at, credential: options.credential, ...ifMatch, signal }))
      checkRead(read, task, at, options.origin)
      const stream = untilAborted(read.stream, signal)
      await pipe(stream, counted(parts.read), cut(task, { first: gap, skip: at - read.from }), async (pieces) => {
        for await (const { number, body } of pieces) {
          if (stored.have.has(number)) {
            const next = stored.have.nextClear(number)
            if (next < 0 || next - number >= HERE_PIECES) break
            continue
          }
          await stored.append(number, body)
          parts.gained?.(number)
        }
      })
    } catch (error) {
      signal.throwIfAborted()
      if (stored.have.nextClear(from) !== gap) attempt = 0
      const waitMs = ++attempt >= options.attempts ? undefined : retryMs(error, attempt, random)
      if (waitMs === undefined) throw error
      if (task.digest === undefined && !tellsApart(version) && stored.have.count > 0) {
        const text = `${originName(options.origin)}: a read of content without a validator broke, and can't go on`
        throw new DarnerError('ORIGIN_UNVERSIONED', text, { cause: error })
      }
      log.warn({ taskId: task.id, attempt, waitMs }, 'origin read broke')
      await clock.sleep(waitMs, { signal })
    }
  }
}

/** Throws SIZE_MISMATCH for a read of content of another length, ORIGIN_FAILED for one that begins behind `at`. */
export function checkRead(read: OriginRead, task: { id: string; bytes: number }, at: number, origin: Origin): void {
  if (read.bytes !== undefined && read.bytes !== task.bytes) {
    const text = `${task.id}: expected ${task.bytes} bytes, ${originName(origin)} has ${read.bytes}`
    throw new DarnerError('SIZE_MISMATCH', text)
  }
  if (read.from > at)
    throw new DarnerError('ORIGIN_FAILED', `${task.id}: the origin sent bytes from ${read.from}, asked for ${at}`)
}

function counted(count: (bytes: number) => void): (source: AsyncIterable<Uint8Array>) => AsyncGenerator<Uint8Array> {
  return async function* (source) {
    for await (const chunk of source) {
      count(chunk.byteLength)
      yield chunk
    }
  }
}
