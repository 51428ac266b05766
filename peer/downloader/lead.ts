/**
 * A delegated read: the first host that wants a blob reads it at the origin itself, for all. The bytes go to its own readers, into the
 * store and from there to other hosts, without a stop in between. A read that breaks goes on at the next byte.
 */

import type { OriginRead } from '../../src/core/contracts/origin.ts'
import { algorithmOf, type Digest, Digester } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { checkRead, type OriginReadOptions, type OriginReadParts } from './fallback.ts'
import type { LeadTurn } from './lead-turns.ts'
import type { Page, Tail } from './tail.ts'

export interface LeadParts extends Omit<OriginReadParts, 'gained'> {
  /** Pieces are stored. */
  readonly gained: (from: number, count: number) => void
  /** Begins where the first read does. */
  readonly tail: Tail
  /** Share of the time since it was asked last that this thread was at work. */
  readonly atWork: () => number
  /** Its turn among other blobs that are read at once; over once all of it has come. */
  readonly turn: LeadTurn
}

/** Bytes on their way to the disk at most. */
const WRITING_BYTES = 2 * 1024 * 1024
/** Short pieces that come within this time are stored in runs as long as this. */
const RUN_BYTES = 1024 * 1024
const RUN_MS = 20
/**
 * While the host waits for the origin, the disk begins with each so many bytes. Otherwise it would get all of them at the end, beside what
 * the client writes there. A thread that is at work for more than this share of the time isn't waiting, and has no time to give.
 */
const FLUSH_BYTES = 8 * 1024 * 1024
const BUSY_SHARE = 0.95

/**
 * Reads what lacks of a blob and verifies the whole. `first` is a read opened at `tail.end`, which is the start of a piece. Throws the
 * origin's errors, SIZE_MISMATCH, DIGEST_MISMATCH, DISK_FULL.
 */
export async function leadRead(
  options: OriginReadOptions,
  parts: LeadParts,
  context: { first: OriginRead; signal: AbortSignal },
): Promise<Digest> {
  const { stored, tail, turn, clock, random, retryMs, log } = parts
  const { signal } = context
  const { task } = stored
  const digest = task.digest
  if (digest === undefined) throw new DarnerError('INTERNAL', `${task.id}: only what has a digest is read for all`)
  // bytes that are here from before can be hashed only where they lie
  const hash = tail.end === 0 ? new Digester(algorithmOf(digest)) : undefined
  if (hash !== undefined) stored.hashedByCaller()
  await using pieces = new Pieces(parts)
  const target = { origin: options.origin, digest }
  for (let attempt = 0, read: OriginRead | undefined = context.first; tail.end < task.bytes; read = undefined) {
    const before = tail.end
    try {
      await using opened =
        read ?? (await parts.originPort.read(target, { from: before, credential: options.credential, signal }))
      checkRead(opened, task, before, options.origin)
      let skip = before - opened.from
      for await (const chunk of opened.stream) {
        parts.read(chunk.byteLength)
        const fresh = skip > 0 ? chunk.subarray(Math.min(skip, chunk.byteLength)) : chunk
        skip -= chunk.byteLength - fresh.byteLength
        if (tail.end + fresh.byteLength > task.bytes)
          throw new DarnerError('SIZE_MISMATCH', `${task.id}: expected ${task.bytes} bytes, the origin sent more`)
        hash?.update(fresh)
        await pieces.take(fresh)
        opened.done?.(chunk)
        // what other hosts wait for comes as fast as it can
        if (stored.heard) continue
        if (turn.waits && tail.end < task.bytes) await turn.come({ signal })
        if (tail.ahead) await tail.paced()
      }
      if (tail.end < task.bytes) {
        const text = `${task.id}: expected ${task.bytes} bytes, the origin ended after ${tail.end}`
        throw new DarnerError('ORIGIN_TRUNCATED', text)
      }
    } catch (error) {
      signal.throwIfAborted()
      if (tail.end > before) attempt = 0
      const waitMs = ++attempt >= options.attempts ? undefined : retryMs(error, attempt, random)
      if (waitMs === undefined) throw error
      log.warn({ taskId: task.id, attempt, waitMs, at: tail.end, error: (error as Error).message }, 'origin read broke')
      await clock.sleep(waitMs, { signal })
    }
  }
  turn[Symbol.dispose]()
  const hashed = hash?.finish()
  // readers that followed wait for no disk
  if (hashed === digest) tail.prove()
  await pieces.done()
  return await stored.finish({ expected: digest, signal, ...(hashed === undefined ? {} : { hashed }) })
}

/** A page on its way to the disk, as far as it was handed on. */
interface Filling {
  readonly page: Page
  /** Up to where in the blob. */
  laid: number
  /** Writes under way. */
  writes: number
}

/**
 * Cuts a stream into runs of pieces and stores them, several at once. A run costs the same whatever its length; what doesn't come fast,
 * or is waited for by other hosts, is stored piece by piece.
 */
class Pieces implements AsyncDisposable {
  readonly #parts: LeadParts
  readonly #writing = new Set<Promise<void>>()
  #filling: Filling | undefined
  readonly #late: NodeJS.Timeout
  #isLate = false
  #bytes = 0
  /** Stored since the disk began last. */
  #unflushed = 0
  #flushing: Promise<void> | undefined
  #failed: unknown

  constructor(parts: LeadParts) {
    this.#parts = parts
    this.#late = setTimeout(() => {
      this.#isLate = true
      this.#layWhole()
    }, RUN_MS)
  }

  /** The stream went on; waits while too much is on its way to the disk, and then has a copy. Throws what storing threw. */
  async take(chunk: Uint8Array): Promise<void> {
    const { tail, stored } = this.#parts
    for (let at = 0; at < chunk.byteLength; ) {
      const { taken, page, full } = tail.push(at === 0 ? chunk : chunk.subarray(at), this.#pageBytes)
      at += taken
      if (this.#filling?.page !== page) this.#begin(page)
      if (full) this.#lay(tail.end)
      else if (this.#isLate || stored.heard) this.#layWhole()
      while (this.#writing.size > 1 && this.#bytes >= WRITING_BYTES) await Promise.race(this.#writing)
      if (this.#failed !== undefined) throw this.#failed
    }
  }

  /** Resolves when all is stored. Throws what storing threw. */
  async done(): Promise<void> {
    await this.#settled()
    if (this.#failed !== undefined) throw this.#failed
  }

  readonly #pageBytes = (): number => {
    const { tail, stored } = this.#parts
    const { bytes, pieceBytes } = stored.task
    return Math.min(bytes - tail.end, Math.max(pieceBytes, Math.floor(RUN_BYTES / pieceBytes) * pieceBytes))
  }

  #begin(page: Page): void {
    this.#filling = { page, laid: page.at, writes: 0 }
    this.#isLate = false
    this.#late.refresh()
  }

  /** Stores the pieces that have come whole. */
  #layWhole(): void {
    const { tail, stored } = this.#parts
    this.#lay(tail.end - (tail.end % stored.task.pieceBytes))
  }

  /** Stores what has come, up to `to`: a piece's end. */
  #lay(to: number): void {
    const filling = this.#filling
    if (filling === undefined || to <= filling.laid) return
    const from = filling.laid
    filling.laid = to
    filling.writes++
    this.#bytes += to - from
    const writing: Promise<void> = this.#store(filling, from, to).finally(() => this.#writing.delete(writing))
    this.#writing.add(writing)
  }

  /** Never rejects. */
  async #store(filling: Filling, from: number, to: number): Promise<void> {
    const { stored, gained, tail } = this.#parts
    const { pieceBytes } = stored.task
    const { page } = filling
    try {
      // a reader that follows has it from memory
      const past = tail.onlyOneNear && !stored.heard
      await stored.lay(from / pieceBytes, page.body.subarray(from - page.at, to - page.at), { past })
      gained(from / pieceBytes, Math.ceil((to - from) / pieceBytes))
      this.#stored(to - from)
    } catch (error) {
      this.#failed ??= error
    }
    this.#bytes -= to - from
    filling.writes--
    if (filling.writes === 0 && filling.laid === page.at + page.body.byteLength) tail.written(page)
  }

  #stored(bytes: number): void {
    this.#unflushed += bytes
    if (this.#unflushed < FLUSH_BYTES || this.#flushing !== undefined) return
    this.#unflushed = 0
    if (this.#parts.atWork() > BUSY_SHARE) return
    this.#flushing = this.#flush().finally(() => {
      this.#flushing = undefined
    })
  }

  /** Never rejects: the disk reports a failure once, and the writer gets it. */
  async #flush(): Promise<void> {
    try {
      await this.#parts.stored.flush()
    } catch (error) {
      this.#failed ??= error
    }
  }

  async #settled(): Promise<void> {
    await Promise.all(this.#writing)
    await this.#flushing
  }

  /** What has come whole is kept, whatever ended the stream. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#late)
    if (this.#failed === undefined) this.#layWhole()
    await this.#settled()
  }
}
