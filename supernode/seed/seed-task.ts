/**
 * One blob at the seed, read at the origin once for all askers. Each piece is in the store and its digest known the moment it is verified.
 * A read that breaks goes on at the next byte. When the origin can't be read any more the task fails for all its followers with the
 * origin's own error.
 */

import { pipe } from 'it-pipe'
import type { Clock, Random } from '../../src/core/clock.ts'
import type { OriginPort, OriginRead, Version } from '../../src/core/contracts/origin.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, type DarnerError, DarnerError as Failure, isDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import { settles } from '../../src/core/settles.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { Credential, Origin } from '../../src/core/task/origin.ts'
import { originName } from '../../src/core/task/origin.ts'
import { pieceCount, pieceRange, type Task } from '../../src/core/task/task.ts'
import type { Came } from '../../src/rights/came.ts'
import { type CutPiece, cut } from '../../src/store/partial/cut.ts'
import type { PiecePool } from '../../src/store/partial/piece-pool.ts'
import type { StoredTask } from '../../src/store/partial/stored-task.ts'
import { GIVE_UP_MS } from './first-read.ts'
import { Pulse } from './pulse.ts'

export interface SeedTaskOptions {
  readonly origin: Origin
  readonly credential: Credential | undefined
  /** How it is read, while its place has proven nothing; undefined where that is settled. */
  readonly came: Came | undefined
  /** The validator of a URL's content: a read that goes on must still meet it. */
  readonly version: Version | undefined
  /** Breaks in a row, without a byte between them, before the task fails. */
  readonly attempts: number
  /** Such breaks before the task began. */
  readonly broken: number
  /** Pieces that may be on their way into the store at once. */
  readonly ingestDepth: number
}

export interface SeedTaskParts {
  readonly stored: StoredTask
  readonly originPort: OriginPort
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** What pieces are cut into, and where their memory goes back to. */
  readonly pool: PiecePool
  /** Milliseconds to wait before a read is tried again; undefined where trying again can't help. */
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
  /** Somebody else to read the origin for us; undefined when there is nobody. `again`: somebody has tried it already. */
  readonly lend: (failure: DarnerError, options: LendOptions) => Promise<Lent | undefined>
}

export interface LendOptions {
  readonly again: boolean
  readonly signal: AbortSignal
}

/** A read at the origin that a peer does for the seed. */
export interface Lent {
  readonly peer: string
  /** Whole pieces from `from` on, in order, as that peer gets them. */
  pieces(from: number): AsyncIterable<CutPiece>
}

/** Peers that are asked to read an origin, one after the other, before its failure counts. */
const MAX_LENDS = 3

/** The owner's callbacks of a task. */
export interface SeedEvents {
  /** Pieces [from, from + count) are stored and their digests known. */
  known(from: number, count: number): void
  /** The whole digest matched; the read is over when this is. */
  sealed(digest: Digest): Promise<void>
  failed(error: DarnerError): void
  /** Bytes came in from the origin. */
  read(bytes: number, reason: ReadReason): void
}

export class SeedTask {
  readonly task: Task
  readonly stored: StoredTask
  readonly #options: SeedTaskOptions
  readonly #parts: SeedTaskParts
  readonly #events: SeedEvents
  readonly #whole = Promise.withResolvers<Digest>()
  readonly #pulse: Pulse
  readonly #given = new AbortController()
  #known = 0
  #error: DarnerError | undefined

  constructor(options: SeedTaskOptions, parts: SeedTaskParts, events: SeedEvents) {
    this.task = parts.stored.task
    this.stored = parts.stored
    this.#options = options
    this.#parts = parts
    this.#events = events
    this.#pulse = new Pulse({ clock: parts.clock })
    this.#whole.promise.catch(() => {})
    const gap = parts.stored.have.nextClear(0)
    this.#known = gap < 0 ? pieceCount(this.task) : gap
    if (parts.stored.complete && parts.stored.digest !== undefined) this.#whole.resolve(parts.stored.digest)
  }

  /** How many pieces, from the first on, are stored with their digests known. */
  get known(): number {
    return this.#known
  }

  /** How this is, or was, read through a place that had not proven itself before. */
  get came(): Came | undefined {
    return this.#options.came
  }

  get error(): DarnerError | undefined {
    return this.#error
  }

  /** Resolves once the whole digest matched. */
  whole(): Promise<Digest> {
    return this.#whole.promise
  }

  /** True as soon as the read gets on, or is over; false when nothing to speak of comes for `withinMs`. */
  async alive(withinMs: number, { signal }: { signal: AbortSignal }): Promise<boolean> {
    if (this.stored.complete || this.#error !== undefined) return true
    return await this.#pulse.beats(withinMs, { signal })
  }

  /** Resolves once the read is over, well or not. */
  async over(): Promise<void> {
    await this.#whole.promise.catch(() => {})
  }

  /** True once the read is over, well or not; false when it goes on for `withinMs`. */
  async ends(withinMs: number, { signal }: { signal: AbortSignal }): Promise<boolean> {
    return await settles(this.#whole.promise, withinMs, { clock: this.#parts.clock, signal })
  }

  /** Ends the read, to make way for another of the same blob. Nothing of it is kept, and `failed` isn't called. */
  async giveUp(reason: DarnerError): Promise<void> {
    this.#error ??= reason
    this.#given.abort(reason)
    this.#pulse.beat(Number.POSITIVE_INFINITY)
    await this.stored.discard(reason)
  }

  /** Reads what is missing, to the end. `first`, when given, is a read already opened at `first.from`. Never throws: failure is an event. */
  async run(first: OriginRead | undefined, options: { signal: AbortSignal }): Promise<void> {
    const signal = anySignal([options.signal, this.#given.signal])
    try {
      await this.#fill(first, signal)
      const kept = this.stored.finish({
        ...(this.task.digest === undefined ? {} : { expected: this.task.digest }),
        signal,
      })
      // readers of the whole need it verified; that it outlives a power cut is the store's own affair
      const digest = await Promise.race([kept, this.stored.matched({ signal }).catch(() => kept)])
      this.#whole.resolve(digest)
      this.#pulse.beat(Number.POSITIVE_INFINITY)
      await Promise.all([kept, this.#events.sealed(digest)])
    } catch (error) {
      if (signal.aborted) {
        this.#whole.reject(signal.reason)
        return
      }
      this.#error = asDarnerError(error, `${this.task.id}: reading ${originName(this.#options.origin)}`)
      if (isDarnerError(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH', 'DISK_FULL')) await this.stored.discard(this.#error)
      this.#whole.reject(this.#error)
      this.#pulse.beat(Number.POSITIVE_INFINITY)
      this.#events.failed(this.#error)
    }
  }

  async #fill(first: OriginRead | undefined, signal: AbortSignal): Promise<void> {
    const pieces = pieceCount(this.task)
    let reason: ReadReason = 'first read'
    let lends = 0
    let aliveMs = this.#parts.clock.monotonicMs()
    for (let attempt = this.#options.broken, read = first; this.#known < pieces; read = undefined) {
      const before = this.#known
      try {
        const at = pieceRange(this.task, before).from
        const opened = read ?? (await this.#open(at, signal))
        if (opened.from > at)
          throw new Failure(
            'ORIGIN_FAILED',
            `${this.task.id}: the origin sent bytes from ${opened.from}, asked for ${at}`,
          )
        await pipe(
          this.#counted(opened, reason, signal),
          cut(this.task, { first: before, skip: at - opened.from, pool: this.#parts.pool }),
          (pieces) => this.#ingest(pieces, signal),
        )
      } catch (error) {
        if (signal.aborted) throw signal.reason
        const nowMs = this.#parts.clock.monotonicMs()
        if (this.#known > before) {
          attempt = 0
          aliveMs = nowMs
        }
        const failure = asDarnerError(error, 'reading the origin')
        const retryMs = this.#parts.retryMs(error, ++attempt, this.#parts.random)
        const late = attempt > 1 && nowMs - aliveMs >= GIVE_UP_MS
        const waitMs = attempt >= this.#options.attempts || late ? undefined : retryMs
        if (waitMs === undefined) {
          // nothing came from anybody for twice the time: waiting readers get the error
          const over = nowMs - aliveMs >= 2 * GIVE_UP_MS
          if (
            !failure.facts.retry ||
            over ||
            lends >= MAX_LENDS ||
            !(await this.#borrow(failure, { again: lends++ > 0, signal }))
          )
            throw error
          reason = `read on after ${failure.code}`
          continue
        }
        reason = `retry after ${failure.code}`
        this.#parts.log.warn(
          { taskId: this.task.id, attempt, waitMs, known: this.#known, error: failure.message },
          'origin read broke',
        )
        await this.#parts.clock.sleep(waitMs, { signal })
        if (failure.retryAfterMs !== undefined) aliveMs += waitMs
      }
    }
  }

  /** Goes on through a peer's read; false when there is none to be had. What that read leaves open is tried here again. */
  async #borrow(failure: DarnerError, options: LendOptions): Promise<boolean> {
    const { lend, log } = this.#parts
    const { signal } = options
    const lent = await lend(failure, options)
    if (lent === undefined) return false
    log.warn(
      { taskId: this.task.id, peer: lent.peer, known: this.#known, error: failure.message },
      'origin lease moved',
    )
    try {
      await this.#ingest(lent.pieces(this.#known), signal)
    } catch (error) {
      if (signal.aborted) throw signal.reason
      const seen = asDarnerError(error, 'reading through a peer')
      log.warn({ taskId: this.task.id, peer: lent.peer, known: this.#known, error: seen.message }, 'leased read ended')
    }
    return true
  }

  async #open(from: number, signal: AbortSignal): Promise<OriginRead> {
    const { origin, credential, version } = this.#options
    const { digest } = this.task
    const opened = await this.#parts.originPort.read(
      { origin, ...(digest === undefined ? {} : { digest }) },
      { from, credential, signal, ...(version === undefined ? {} : { ifMatch: version }) },
    )
    if (opened.bytes !== undefined && opened.bytes !== this.task.bytes) {
      throw new Failure(
        'SIZE_MISMATCH',
        `${this.task.id}: expected ${this.task.bytes} bytes, ${originName(origin)} says it has ${opened.bytes}`,
      )
    }
    return opened
  }

  async *#counted(opened: OriginRead, reason: ReadReason, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const stop = () => void opened[Symbol.asyncDispose]()
    signal.addEventListener('abort', stop, { once: true })
    try {
      for await (const chunk of opened.stream) {
        this.#events.read(chunk.byteLength, reason)
        this.#pulse.beat(chunk.byteLength)
        yield chunk
        // the cutter asked for the next: it has copied this one
        opened.done?.(chunk)
      }
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }

  /** Stores pieces, a few at once, and makes each known in order, as soon as it and all before it are stored. */
  async #ingest(pieces: AsyncIterable<CutPiece>, signal: AbortSignal): Promise<void> {
    const underway = new Set<Promise<void>>()
    const stored = new Set<number>()
    let failed: unknown
    const store = async ({ number, body }: CutPiece) => {
      await this.stored.append(number, body)
      this.stored.keep(number, body, (done) => this.#parts.pool.put(done))
      stored.add(number)
      this.#pulse.beat(body.byteLength)
      while (stored.delete(this.#known)) this.#events.known(this.#known++, 1)
    }
    try {
      for await (const piece of pieces) {
        signal.throwIfAborted()
        const storing = store(piece)
          .catch((error: unknown) => {
            failed ??= error
          })
          .finally(() => underway.delete(storing))
        underway.add(storing)
        if (underway.size >= this.#options.ingestDepth) await Promise.race(underway)
        if (failed !== undefined) throw failed
      }
    } finally {
      // whatever ended the stream, what was cut whole is kept
      await Promise.all(underway)
    }
    if (failed !== undefined) throw failed
  }
}
