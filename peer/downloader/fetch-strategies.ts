/**
 * The strategies by which a blob comes here: from the swarm, by a delegated read, or by a read for this host alone. The last is for the
 * time while no supernode can be asked. One may follow another in one fetch: what is here is kept, and the readers hear nothing of it.
 */

import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { PeerId, PieceExchange } from '../../src/core/contracts/exchange.ts'
import type { OriginRead, OriginTarget } from '../../src/core/contracts/origin.ts'
import type { Registration, SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { withDeadline } from '../../src/core/signals.ts'
import { originName } from '../../src/core/task/origin.ts'
import { blobTask, pieceBytesFor, pieceCount, pieceRange, type Task, type TaskId } from '../../src/core/task/task.ts'
import { workShare } from '../../src/core/work-share.ts'
import { fitsBlob, serves } from '../../src/rights/ask-place.ts'
import { TROUBLE } from '../../src/rights/right.ts'
import { PiecePool } from '../../src/store/partial/piece-pool.ts'
import type { Store, StoredTask } from '../../src/store/store.ts'
import { unlessAlone, untilBack } from './alone.ts'
import { Download, type DownloadOptions } from './download.ts'
import { leadRead } from './lead.ts'
import type { LeadOpener } from './lead-open.ts'
import type { LeadTurn } from './lead-turns.ts'
import type { LocalRights } from './local-rights.ts'
import { OwnReads, type OwnReadsParts } from './own-reads.ts'
import { Reports } from './progress-reporter.ts'
import { inOrder, Running } from './running.ts'
import { PAGES_KEPT_BYTES, Tail } from './tail.ts'

/** The reason for a fallback to the origin, or throws `error` where none is allowed. */
export type FallBack = (error: unknown, what: string, fromOrigin?: 'never' | 'fallback') => DarnerError

export interface WaysOptions extends Omit<DownloadOptions, 'priority'> {
  readonly originAttempts: number
}

export interface WaysParts extends OwnReadsParts {
  /** This host. */
  readonly self: PeerId
  readonly store: Store
  readonly scheduler: SchedulerPort
  readonly exchange: PieceExchange
  readonly leads: LeadOpener
  readonly local: LocalRights
  readonly mayFallBack: FallBack
}

/** What another's rights may have met. */
const REFUSED = ['ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_NOT_FOUND'] as const

/** A supernode that came back is trusted with a fetch once it has stayed for so long. */
const SETTLE_MS = 1_000

/** An origin that this host can't read any more: how long the supernode has to answer, and then to bring the next piece. */
const SECOND_WAY_MS = 10_000

export class Ways {
  readonly #options: WaysOptions
  readonly #parts: WaysParts
  readonly #own: OwnReads
  readonly #pages = new PiecePool({ most: PAGES_KEPT_BYTES, aligned: true })
  /** What is being fetched, by how many. */
  readonly #fetched = new Map<StoredTask, number>()

  constructor(options: WaysOptions, parts: WaysParts) {
    this.#options = options
    this.#parts = parts
    this.#own = new OwnReads({ attempts: options.originAttempts }, parts)
  }

  /** Others have it, or the supernode reads it. */
  async swarm(
    request: ContentRequest,
    registration: Registration,
    controller: AbortController,
    aloneMs: number,
  ): Promise<Running> {
    const { store, local } = this.#parts
    checkSize(request, registration.task)
    local.passed(request, registration.pass)
    const stored = await store.create(registration.task, { signal: controller.signal })
    // of what has no digest nothing was looked at before
    if (request.digest === undefined && !this.#fetched.has(stored)) await stored.doubt()
    return this.#begun(stored, controller, async (running, signal) => {
      await using followed = registration
      if (followed.inline !== undefined) return await this.#inline(running, followed.inline, signal)
      return await this.#download(running, request, followed, aloneMs, signal)
    })
  }

  async #download(
    running: Running,
    request: ContentRequest,
    registration: Registration,
    aloneMs: number,
    signal: AbortSignal,
    { stallMs = this.#options.stallMs, again = false }: { stallMs?: number; again?: boolean } = {},
  ): Promise<Digest> {
    const { clock, random, exchange, log, scheduler } = this.#parts
    const { stored } = running
    // what was read for all has to agree with what others say of the blob
    await stored.learn({ signal })
    const download = new Download(
      { ...this.#options, stallMs, priority: request.priority },
      {
        registration,
        stored,
        exchange,
        clock,
        random,
        log,
        // a host with another way to go doesn't wait for long
        mayWait: () => scheduler.connected && stallMs === this.#options.stallMs,
        connected: () => scheduler.connected,
        // only a digest shows a host that what it reads now is what the others have
        ...(request.digest !== undefined && {
          elected: {
            self: this.#parts.self,
            read: async (from, gained, inner) => {
              const lost = new DarnerError('SUPERNODE_UNREACHABLE', 'supernode lost')
              this.#parts.mayFallBack(lost, originName(request.origin), request.fromOrigin)
              await this.#own.elected(stored, request, { from, gained }, inner)
            },
          },
        }),
        readOrigin: (lease, gained, inner) => this.#own.leased(stored, request, { ...lease, gained }, inner),
      },
    )
    running.use(download)
    try {
      return await unlessAlone(
        aloneMs,
        // what is all here is being hashed, and needs nobody
        {
          connected: () => scheduler.connected || stored.have.full,
          have: () => stored.have.count,
          neighbours: () => download.neighbours.length,
          clock,
        },
        (inner) => download.run({ signal: inner }),
        { signal },
      )
    } catch (error) {
      if (!signal.aborted && !again && isDarnerError(error, ...REFUSED)) {
        // the rights with which it was read for all may have ended, and ours not
        await registration[Symbol.asyncDispose]()
        const { have } = stored
        await using anew = await scheduler.register({ ...withoutLead(request), have }, { signal })
        this.#parts.local.passed(request, anew.pass)
        return await this.#download(running, request, anew, aloneMs, signal, { stallMs, again: true })
      }
      if (signal.aborted || !isDarnerError(error, 'TASK_FAILED') || scheduler.connected) throw error
      const reason = this.#parts.mayFallBack(
        new DarnerError('SUPERNODE_UNREACHABLE', error.message, { cause: error }),
        originName(request.origin),
        request.fromOrigin,
      )
      return await this.#fromOrigin(running, request, reason, undefined, signal)
    }
  }

  /** Nobody else holds or reads it: this host reads the origin, and the others from this host. */
  async lead(
    request: ContentRequest,
    registration: Registration,
    turn: LeadTurn,
    controller: AbortController,
    aloneMs: number,
  ): Promise<Running> {
    const { store, scheduler, leads, local } = this.#parts
    const { task } = registration
    checkSize(request, task)
    const first = await leads.open(request, task, { signal: controller.signal })
    if (first === undefined) {
      await registration[Symbol.asyncDispose]()
      await store.find(task.id)?.doubt()
      const anew = await scheduler.register(withoutLead(request), { signal: controller.signal })
      return await this.swarm(request, anew, controller, aloneMs)
    }
    const stored = await store.create(task, { signal: controller.signal })
    local.comes(task.id, request, { empty: stored.have.count === 0 })
    const tail = new Tail(first.from, this.#pages)
    const running = this.#begun(
      stored,
      controller,
      async (running, signal) => {
        try {
          await using followed = registration
          return await this.#readForAll(running, request, followed, { first, tail, turn }, signal)
        } catch (error) {
          if (signal.aborted || !asDarnerError(error, task.id).facts.retry) throw error
          // the supernode may have another way there, and what is here is kept; a reader isn't kept waiting for long, though
          const { have } = stored
          const late = withDeadline(signal, SECOND_WAY_MS)
          const again = scheduler.register({ ...withoutLead(request), have }, { signal: late })
          await using anew = await again.catch((why: unknown) => {
            throw isDarnerError(why) ? why : error
          })
          return await this.#download(running, request, anew, aloneMs, signal, { stallMs: SECOND_WAY_MS })
        } finally {
          tail.close()
        }
      },
      tail,
    )
    this.#noteRight(running, request, first)
    return running
  }

  async #readForAll(
    running: Running,
    request: ContentRequest,
    registration: Registration,
    { first, tail, turn }: { first: OriginRead; tail: Tail; turn: LeadTurn },
    signal: AbortSignal,
  ): Promise<Digest> {
    const { origin: originPort, clock, random, log, retryMs, straying } = this.#parts
    const { stored } = running
    using stray = straying(stored.task.id, 'first to ask, for all')
    const from = { origin: 0, supernode: 0, peers: 0 }
    running.use({
      from,
      demand: inOrder,
      describe: () => `reads the origin for all, at ${tail.end} of ${stored.task.bytes}`,
    })
    const heard = () => stored.heard
    const reports = new Reports({ registration, clock, heard }, this.#options.reportPieces, from)
    try {
      const digest = await leadRead(
        { origin: request.origin, credential: request.credential, attempts: this.#options.originAttempts },
        {
          ...{ stored, originPort, clock, random, log, retryMs, tail },
          read: (bytes) => {
            from.origin += bytes
            stray.read(bytes)
          },
          gained: (piece, count) => reports.gained(piece, count),
          atWork: workShare(),
          turn,
        },
        { first, signal },
      )
      reports.send(true)
      return digest
    } finally {
      turn[Symbol.dispose]()
      tail.close()
    }
  }

  /** A small blob came inside the answer. */
  async #inline(running: Running, bytes: Uint8Array, signal: AbortSignal): Promise<Digest> {
    const { stored } = running
    const { task } = stored
    if (bytes.byteLength !== task.bytes) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `${task.id}: expected ${task.bytes} bytes inside the answer, got ${bytes.byteLength}`,
      )
    }
    for (let piece = 0; piece < pieceCount(task); piece++) {
      const { from, to } = pieceRange(task, piece)
      if (!stored.have.has(piece)) await stored.append(piece, bytes.subarray(from, to))
    }
    running.use({
      from: { origin: 0, supernode: bytes.byteLength, peers: 0 },
      demand: inOrder,
      describe: () => 'inline',
    })
    return await stored.finish({ expected: task.digest ?? digestOf(bytes), signal })
  }

  /** There is no supernode to ask: `reason` says why. */
  async straight(request: ContentRequest, reason: DarnerError, controller: AbortController): Promise<Running> {
    const { store, clock } = this.#parts
    const { signal } = controller
    if (request.digest !== undefined && request.bytes !== undefined) {
      const stored = await store.create(blobTask(request.digest, request.bytes), { signal })
      // no byte leaves, not even one that is here, before the origin has answered this asker
      const first = await this.#answered(request, stored, signal)
      const running = this.#begun(stored, controller, (running, inner) =>
        this.#fromOrigin(running, request, reason, first, inner),
      )
      this.#noteRight(running, request, first)
      return running
    }
    const first = await this.#opened(request, 0, signal)
    const bytes = first.bytes ?? request.bytes
    if (bytes === undefined) {
      throw new DarnerError(
        'UNSUPPORTED',
        `${originName(request.origin)}: the origin tells no length, so the blob can't be cut into pieces`,
      )
    }
    const task = request.digest === undefined ? aloneTask(request, bytes, clock.now()) : blobTask(request.digest, bytes)
    const stored = await store.create(task, { signal })
    const running = this.#begun(stored, controller, (running, inner) =>
      this.#fromOrigin(running, request, reason, first, inner),
    )
    this.#noteRight(running, request, first)
    return running
  }

  /** Its place serves this asker: that is known at once where it states the blob's length, and else when the whole has come. */
  #noteRight({ stored, whole }: Running, request: ContentRequest, read: OriginRead | undefined): void {
    const note = () => this.#parts.local.served(request, stored.task)
    if (read === undefined || read.bytes === stored.task.bytes) note()
    else whole.then(note, () => {})
  }

  /** The read of what lacks; of what is all here, the origin's yes alone. Throws the refusal. */
  async #answered(request: ContentRequest, stored: StoredTask, signal: AbortSignal): Promise<OriginRead | undefined> {
    const { origin, credential, bytes } = request
    const gap = stored.have.nextClear(0)
    if (gap >= 0) {
      const read = await this.#opened(request, pieceRange(stored.task, gap).from, signal)
      if (stored.have.count === 0 || read.bytes === bytes) return read
      await read[Symbol.asyncDispose]()
    } else if (await serves(this.#parts.origin, target(request), fitsBlob(bytes), { credential, signal }))
      return undefined
    throw new DarnerError('ORIGIN_DENIED', `${stored.task.id}: ${originName(origin)} doesn't say whether it has it`)
  }

  async #opened(request: ContentRequest, from: number, signal: AbortSignal): Promise<OriginRead> {
    const { origin, clock, random, retryMs, log } = this.#parts
    for (let attempt = 1; ; attempt++) {
      try {
        return await origin.read(target(request), { from, credential: request.credential, signal })
      } catch (error) {
        signal.throwIfAborted()
        const waitMs = attempt >= this.#options.originAttempts ? undefined : retryMs(error, attempt, random)
        if (waitMs === undefined) throw error
        log.warn({ origin: originName(request.origin), attempt, waitMs }, 'origin not read')
        await clock.sleep(waitMs, { signal })
      }
    }
  }

  /** Reads the origin for this host alone, as long as there is no supernode: then the swarm has the rest. */
  async #fromOrigin(
    running: Running,
    request: ContentRequest,
    reason: DarnerError,
    first: OriginRead | undefined,
    signal: AbortSignal,
  ): Promise<Digest> {
    const { clock, scheduler, log } = this.#parts
    const { stored } = running
    const alone = (inner: AbortSignal, opened?: OriginRead) => {
      stored.trust()
      this.#parts.local.comes(stored.task.id, request, { empty: stored.have.count === 0 })
      return this.#own.alone(running, request, { reason, first: opened }, inner)
    }
    // what was read without a digest is known to this host only
    if (stored.task.digest === undefined) return await alone(signal, first)
    // a supernode that is there, and can't ask the origin, has nothing to give
    if (isDarnerError(reason, ...TROUBLE) && scheduler.connected) return await alone(signal, first)
    const connected = () => scheduler.connected && !stored.have.full
    const read = await untilBack(SETTLE_MS, { connected, clock }, (inner) => alone(inner, first), { signal })
    if (read !== 'handedBack') return read.done
    const { have } = stored
    try {
      await using followed = await scheduler.register({ ...withoutLead(request), have }, { signal })
      if (followed.inline !== undefined) return await this.#inline(running, followed.inline, signal)
      if (followed.task.pieceBytes === stored.task.pieceBytes) {
        log.info({ taskId: stored.task.id, have: have.count }, 'there is a supernode again: the swarm has the rest')
        return await this.#download(running, request, followed, this.#options.stallMs, signal)
      }
    } catch (error) {
      // the disk, or the whole that is wrong, is nobody else's matter; what the supernode can't read, this host could
      if (signal.aborted || stored.failure !== undefined || isDarnerError(error, 'DISK_FULL')) throw error
      const { message } = asDarnerError(error, 'handing back')
      log.warn({ taskId: stored.task.id, error: message }, 'the swarm has no way to it: back to the origin')
    }
    return await alone(signal)
  }

  /** The fetch is under way from here on, and counted. */
  #begun(
    stored: StoredTask,
    controller: AbortController,
    work: (running: Running, signal: AbortSignal) => Promise<Digest>,
    tail?: Tail,
  ): Running {
    const { clock } = this.#parts
    const running = new Running(stored, () => clock.monotonicMs(), controller, work, tail)
    this.#fetched.set(stored, (this.#fetched.get(stored) ?? 0) + 1)
    const over = () => {
      const others = (this.#fetched.get(stored) ?? 1) - 1
      if (others > 0) this.#fetched.set(stored, others)
      else this.#fetched.delete(stored)
    }
    void running.whole.then(over, over)
    return running
  }
}

/** The request of a host that doesn't offer to read it for all. */
export function withoutLead({ lead: _lead, ...request }: ContentRequest): ContentRequest {
  return request
}

function target({ origin, digest }: ContentRequest): OriginTarget {
  return { origin, ...(digest === undefined ? {} : { digest }) }
}

/** Throws SIZE_MISMATCH where the task isn't as long as the manifest says. */
export function checkSize(request: ContentRequest, task: Task): void {
  if (request.bytes === undefined || request.bytes === task.bytes) return
  throw new DarnerError(
    'SIZE_MISMATCH',
    `${task.id}: the manifest states ${request.bytes} bytes, the blob has ${task.bytes}`,
  )
}

/** A URL read without a supernode is a task of its own: nothing ties it to what others see there. */
function aloneTask(request: ContentRequest, bytes: number, nowMs: number): Task {
  const name = digestOf(JSON.stringify(['alone', originName(request.origin), nowMs]))
  return { id: `url:${name.slice('sha256:'.length)}` as TaskId, bytes, pieceBytes: pieceBytesFor(bytes) }
}
