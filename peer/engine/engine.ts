/**
 * The peer's engine: one running fetch per blob, shared by its readers. The swarm first; straight from the origin only when no
 * supernode can be asked, after a bounded wait and with the reason on record.
 */
import { isDeepStrictEqual } from 'node:util'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/base/errors.ts'
import { abortable, withDeadline } from '../../src/base/signals.ts'
import { workShare } from '../../src/base/work-share.ts'
import type {
  Content,
  ContentRequest,
  ContentSource,
  ManifestAnswer,
  ManifestRequest,
} from '../../src/contracts/content.ts'
import type { PieceExchange } from '../../src/contracts/exchange.ts'
import type { OriginPort, OriginRead, OriginTarget } from '../../src/contracts/origin.ts'
import type { Registration, SchedulerPort } from '../../src/contracts/scheduling.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { Store, StoredTask } from '../../src/store/store.ts'
import { type Origin, originName } from '../../src/task/origin.ts'
import { PiecePool } from '../../src/task/piece-pool.ts'
import { blobTask, pieceBytesFor, pieceCount, pieceRange, type Task, type TaskId } from '../../src/task/task.ts'
import { unlessAlone, untilBack } from './alone.ts'
import { Blocks } from './blocks.ts'
import { Download, type DownloadOptions } from './download.ts'
import { leadRead } from './lead.ts'
import { LeadOpener } from './lead-open.ts'
import { type LeadTurn, LeadTurns } from './lead-turns.ts'
import { OpenContent } from './open-content.ts'
import { OwnReads, type OwnReadsParts } from './own-reads.ts'
import { Reports } from './reports.ts'
import { inOrder, Running } from './running.ts'
import { PAGES_KEPT_BYTES, Tail } from './tail.ts'

export interface EngineOptions extends Omit<DownloadOptions, 'priority'> {
  /** How long a task waits for a session with the supernode before it falls back to the origin. */
  readonly supernodeMs: number
  /** `never` keeps this host away from origins altogether. */
  readonly fromOrigin: 'never' | 'fallback'
  readonly originAttempts: number
  /** Fetches that run at once; more are refused with LIMIT_EXCEEDED. */
  readonly maxRunning: number
}

export interface EngineParts extends OwnReadsParts {
  readonly store: Store
  readonly scheduler: SchedulerPort
  readonly exchange: PieceExchange
  /** A blob is being fetched from here. */
  readonly opened?: (task: TaskId, origin: Origin) => void
  /** From where it was last, in any run; undefined where that isn't known. */
  readonly openedAt?: (task: TaskId) => Promise<Origin | undefined>
}

interface AskOptions {
  readonly signal: AbortSignal
  readonly supernodeMs?: number
}

/** A slow peer's next piece may take about so long. */
const MIN_ALONE_MS = 1_000

/** A supernode that came back is trusted with a fetch once it has stayed for so long. */
const SETTLE_MS = 1_000

/** An origin that this host can't read any more: how long the supernode has to answer, and then to bring the next piece. */
const SECOND_WAY_MS = 10_000

/** The scheduler can't be asked: what a fallback is for. The origin's own refusals are none. */
const UNREACHABLE = ['SUPERNODE_UNREACHABLE', 'CLOSED', 'TIMED_OUT', 'PEER_UNREACHABLE'] as const

export class Engine implements ContentSource, AsyncDisposable {
  readonly #options: EngineOptions
  readonly #parts: EngineParts
  readonly #running = new Map<string, Promise<Running>>()
  /** What began each of them: others with the same credential may have what it brings. */
  readonly #begunBy = new WeakMap<Promise<Running>, ContentRequest>()
  readonly #work = new Set<Promise<unknown>>()
  /** What is being fetched, by how many. */
  readonly #fetched = new Map<StoredTask, number>()
  /** What ends each of them, also while it still waits for the supernode or its origin. */
  readonly #enders = new Set<AbortController>()
  readonly #own: OwnReads
  readonly #leads: LeadOpener
  readonly #turns: LeadTurns
  readonly #blocks = new Blocks()
  readonly #pages = new PiecePool({ most: PAGES_KEPT_BYTES, aligned: true })
  #closed = false

  constructor(options: EngineOptions, parts: EngineParts) {
    this.#options = options
    this.#parts = parts
    this.#own = new OwnReads({ attempts: options.originAttempts }, parts)
    this.#leads = new LeadOpener(parts)
    this.#turns = new LeadTurns({ clock: parts.clock, atWork: workShare() })
  }

  /** Fetches under way, for `status` and dumps. Those that still wait for the supernode are none yet, and keep nobody waiting. */
  async running(): Promise<Running[]> {
    return await began([...this.#running.values()].map((one) => Promise.race([one, undefined])))
  }

  /** Resolves once a blob whose fetch begins is in the store, or won't be; undefined where none does. */
  beginning(digest: Digest): Promise<void> | undefined {
    return this.#running.get(digest)?.then(
      () => {},
      () => {},
    )
  }

  async open(request: ContentRequest, { signal }: { signal: AbortSignal }): Promise<Content> {
    return await this.openStored(request, { signal })
  }

  /** Whether {@link openStored} would share what is here or being fetched already; if not, it asks anew, with its own rights. */
  knows(digest: Digest): boolean {
    return this.#parts.store.byDigest(digest)?.complete === true || this.#running.has(digest)
  }

  /**
   * As {@link open}, with the stored task in reach: for readers that take pieces in the order in which they land. `supernodeMs`
   * is this caller's own patience with a supernode that can't be reached.
   */
  async openStored(request: ContentRequest, { signal, supernodeMs }: AskOptions): Promise<OpenContent> {
    if (this.#closed) throw new DarnerError('CLOSED', `${originName(request.origin)}: the agent is stopping`)
    const key = request.digest ?? `${request.origin.kind} ${JSON.stringify(request.origin)}`
    for (;;) {
      const here = request.digest === undefined ? undefined : this.#parts.store.byDigest(request.digest)
      if (here?.complete) return this.#held(here, request)
      const known = this.#running.get(key)
      if (known !== undefined) {
        const joins = await this.#mayJoin(known, request, signal)
        if (!joins || this.#running.get(key) !== known) continue
      }
      const running = await abortable(known ?? this.#begin(key, request, supernodeMs), signal)
      // a fetch that its last reader just left is over: begin again
      if (running.readers < 0) continue
      running.readers++
      const lease = this.#parts.store.lease(running.stored.task.id, 'reader')
      return new OpenContent({
        stored: running.stored,
        fetching: running,
        blocks: this.#blocks,
        release: async () => {
          lease[Symbol.dispose]()
          if (--running.readers > 0) return
          if (running.stored.verified || running.tail?.proven) {
            // what is being made safe needs no reader any more
            await running.whole.catch(() => {})
            return
          }
          running.readers = -1
          if (this.#running.get(key) !== undefined) this.#running.delete(key)
          running.abort(new DOMException('nobody reads it any more', 'AbortError'))
          await running.whole.catch(() => {})
        },
      })
    }
  }

  async manifest(request: ManifestRequest, { signal, supernodeMs }: AskOptions): Promise<ManifestAnswer> {
    try {
      await this.#parts.scheduler.ready({ signal: withDeadline(signal, supernodeMs ?? this.#options.supernodeMs) })
      return await this.#parts.scheduler.manifest(request, { signal })
    } catch (error) {
      signal.throwIfAborted()
      this.#mayFallBack(error, originName({ ...request.origin, collection: 'manifests' }))
      return await this.#parts.origin.manifest(request.origin, request.reference, {
        credential: request.credential,
        signal,
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    for (const ender of this.#enders) ender.abort(new DarnerError('CLOSED', 'the agent is stopping'))
    await Promise.allSettled(this.#running.values())
    await Promise.allSettled(this.#work)
  }

  #held(stored: StoredTask, request: ContentRequest): OpenContent {
    checkSize(request, stored.task)
    const lease = this.#parts.store.lease(stored.task.id, 'reader')
    return new OpenContent({
      stored,
      fetching: undefined,
      blocks: this.#blocks,
      release: async () => lease[Symbol.dispose](),
    })
  }

  /**
   * A URL's content has no digest that its reader could know: who asks with another credential than the running fetch is judged
   * by the origin first, as it would be when it came alone. Nobody joins a fetch that may bring what came of a place which was wrong
   * before. False once that fetch is over, for these and for hosts that ask no origin. Throws the refusal.
   */
  async #mayJoin(running: Promise<Running>, request: ContentRequest, signal: AbortSignal): Promise<boolean> {
    const { origin, digest, credential, fromOrigin = this.#options.fromOrigin, wrongAt = [] } = request
    const begun = this.#begunBy.get(running)
    const avoids = (place: Origin) => begun?.wrongAt?.some((one) => isDeepStrictEqual(one, place)) === true
    if (wrongAt.every(avoids)) {
      if (digest !== undefined || isDeepStrictEqual(begun?.credential, credential)) return true
      if (fromOrigin !== 'never') {
        await this.#parts.origin.stat({ origin }, { credential, signal })
        return true
      }
    }
    const over = running.then(({ whole }) => whole)
    await abortable(
      over.then(
        () => {},
        () => {},
      ),
      signal,
    )
    return false
  }

  #begin(key: string, request: ContentRequest, supernodeMs?: number): Promise<Running> {
    if (this.#running.size >= this.#options.maxRunning) {
      throw new DarnerError(
        'LIMIT_EXCEEDED',
        `${originName(request.origin)}: ${this.#running.size} fetches run already`,
        { way: 'try again when some are done' },
      )
    }
    const starting = this.#start(key, request, supernodeMs)
    this.#running.set(key, starting)
    this.#begunBy.set(starting, request)
    starting.catch(() => {
      if (this.#running.get(key) === starting) this.#running.delete(key)
    })
    return starting
  }

  async #start(key: string, request: ContentRequest, supernodeMs?: number): Promise<Running> {
    const controller = new AbortController()
    this.#enders.add(controller)
    const aloneMs = supernodeMs === undefined ? this.#options.stallMs : Math.max(MIN_ALONE_MS, supernodeMs)
    let registration: Registration | DarnerError | undefined
    let left: StoredTask | undefined
    const place = this.#place(request)
    // from here on: what comes of later layers keeps this thread from opening it, too
    const turn = this.#turns.begin(request.order)
    try {
      const { digest } = request
      // what an earlier run left is told of, and not read again
      if (digest !== undefined) left = await this.#lookAtLeft(digest, request, controller.signal)
      const leads = this.#mayLead(request) && (await this.#readsOn(left, request))
      if (leads) left?.trust()
      else await left?.doubt()
      registration = await this.#register(leads ? request : without(request), controller.signal, supernodeMs)
      if (registration instanceof DarnerError) left?.trust()
      else if (leads && !registration.lead && left !== undefined)
        registration = await this.#followAnew(registration, left, request, controller.signal)
      if (!(registration instanceof DarnerError) && !fits(registration.task, request))
        await unmade(place, new DarnerError('CONFLICT', `${registration.task.id}: the swarm has it in other pieces`))
      const running =
        registration instanceof DarnerError
          ? await this.#straight(request, registration, controller)
          : registration.lead
            ? await this.#lead(request, registration, turn, controller, aloneMs)
            : await this.#swarm(request, registration, controller, aloneMs)
      if (running.tail === undefined) turn[Symbol.dispose]()
      this.#parts.opened?.(running.stored.task.id, request.origin)
      const over = running.whole.then(
        () => {},
        () => {},
      )
      this.#work.add(over)
      const { stored } = running
      this.#fetched.set(stored, (this.#fetched.get(stored) ?? 0) + 1)
      void over.then(() => {
        this.#work.delete(over)
        const others = (this.#fetched.get(stored) ?? 1) - 1
        if (others > 0) this.#fetched.set(stored, others)
        else this.#fetched.delete(stored)
        this.#enders.delete(controller)
        void this.#running.get(key)?.then(
          (now) => now === running && this.#running.delete(key),
          () => {},
        )
      })
      return running
    } catch (error) {
      turn[Symbol.dispose]()
      left?.trust()
      this.#enders.delete(controller)
      controller.abort(error)
      if (!(registration instanceof DarnerError)) await registration?.[Symbol.asyncDispose]()
      await unmade(place, asDarnerError(error, originName(request.origin)))
      throw error
    }
  }

  /** What an earlier fetch left: none of it is of use where that may be other bytes. */
  async #lookAtLeft(
    digest: Digest,
    { wrongAt = [] }: ContentRequest,
    signal: AbortSignal,
  ): Promise<StoredTask | undefined> {
    const left = await this.#parts.store.reopen(digest as string as TaskId, { signal })
    if (wrongAt.length === 0 || left === undefined || left.verified || left.have.count + left.doubted === 0) return left
    await left.discard(new DarnerError('DIGEST_MISMATCH', `${digest}: a place it came from served other bytes`))
    return undefined
  }

  /**
   * Whether this host may read on from what an earlier fetch left, for all. It may be of a place that was wrong, which nobody could tell
   * before the end, when others have it: so only for the origin that it was asked of before.
   */
  async #readsOn(left: StoredTask | undefined, { origin }: ContentRequest): Promise<boolean> {
    if (left === undefined || left.have.count + left.doubted === 0) return true
    return isDeepStrictEqual(await this.#parts.openedAt?.(left.task.id), origin)
  }

  /** Somebody has it, so that nothing is read on from here: what was left is in doubt, and nobody is to count on it. */
  async #followAnew(
    registration: Registration,
    left: StoredTask,
    request: ContentRequest,
    signal: AbortSignal,
  ): Promise<Registration> {
    await left.doubt()
    if (left.doubted === 0) return registration
    await registration[Symbol.asyncDispose]()
    return await this.#parts.scheduler.register(without(request), { signal })
  }

  /**
   * What this host offers to read has its place made while the supernode and the origin are asked: on a busy host that takes a tenth of
   * a second. Undefined where nothing is offered, or something is here.
   */
  #place(request: ContentRequest): Promise<StoredTask> | undefined {
    const { digest, bytes } = request
    const { store } = this.#parts
    if (digest === undefined || bytes === undefined || !this.#mayLead(request)) return undefined
    if (store.byDigest(digest) !== undefined) return undefined
    // seen to its end also when nobody waits any more, so that it can be taken away
    const making = store.create(blobTask(digest, bytes), { signal: new AbortController().signal })
    making.catch(() => {}) // told to whoever asks for the place then
    return making
  }

  #mayLead(request: ContentRequest): boolean {
    return this.#options.fromOrigin !== 'never' && this.#leads.offers(request)
  }

  /** Follows the task at the supernode; a DarnerError is why that can't be, where a fallback is allowed. */
  async #register(
    request: ContentRequest,
    signal: AbortSignal,
    supernodeMs = this.#options.supernodeMs,
    again = false,
  ): Promise<Registration | DarnerError> {
    const { store, scheduler } = this.#parts
    const partial = request.digest === undefined ? undefined : store.byDigest(request.digest)
    try {
      await scheduler.ready({ signal: withDeadline(signal, supernodeMs) })
      const lead = this.#mayLead(request)
      return await scheduler.register(
        {
          ...without(request),
          ...(lead ? { lead } : {}),
          ...(partial === undefined || partial.have.count === 0 ? {} : { have: partial.have }),
        },
        { signal },
      )
    } catch (error) {
      signal.throwIfAborted()
      const reason = this.#mayFallBack(error, originName(request.origin), request.fromOrigin)
      if (again) return reason
      // thousands of hosts may lose their supernode at once: they go to the origin one after the other, if it stays away
      await this.#parts.clock.sleep(this.#parts.random() * supernodeMs, { signal })
      return scheduler.connected ? await this.#register(request, signal, supernodeMs, true) : reason
    }
  }

  /** The reason for a fallback, or throws `error` where none is allowed. */
  #mayFallBack(error: unknown, what: string, fromOrigin = this.#options.fromOrigin): DarnerError {
    const known = asDarnerError(error, what)
    if (this.#closed || !isDarnerError(known, ...UNREACHABLE) || fromOrigin === 'never') throw known
    this.#parts.log.warn({ origin: what, error: known.message }, 'falling back to the origin')
    return known
  }

  async #swarm(
    request: ContentRequest,
    registration: Registration,
    controller: AbortController,
    aloneMs: number,
  ): Promise<Running> {
    const { store, clock } = this.#parts
    checkSize(request, registration.task)
    const stored = await store.create(registration.task, { signal: controller.signal })
    // of what has no digest nothing was looked at before
    if (request.digest === undefined && !this.#fetched.has(stored)) await stored.doubt()
    return new Running(
      stored,
      () => clock.monotonicMs(),
      controller,
      async (running, signal) => {
        await using followed = registration
        if (followed.inline !== undefined) return await this.#inline(running, followed.inline, signal)
        return await this.#download(running, request, followed, aloneMs, signal)
      },
    )
  }

  async #download(
    running: Running,
    request: ContentRequest,
    registration: Registration,
    aloneMs: number,
    signal: AbortSignal,
    stallMs = this.#options.stallMs,
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
        readOrigin: (lease, gained, inner) => this.#own.leased(stored, request, { ...lease, gained }, inner),
      },
    )
    running.use(download)
    try {
      return await unlessAlone(
        aloneMs,
        // what is all here is being hashed, and needs nobody
        { connected: () => scheduler.connected || stored.have.full, have: () => stored.have.count, clock },
        (inner) => download.run({ signal: inner }),
        { signal },
      )
    } catch (error) {
      if (signal.aborted || !isDarnerError(error, 'TASK_FAILED') || scheduler.connected) throw error
      const reason = this.#mayFallBack(
        new DarnerError('SUPERNODE_UNREACHABLE', error.message, { cause: error }),
        originName(request.origin),
        request.fromOrigin,
      )
      return await this.#fromOrigin(running, request, reason, undefined, signal)
    }
  }

  /** Nobody else holds or reads it: this host reads the origin, and the others from this host. */
  async #lead(
    request: ContentRequest,
    registration: Registration,
    turn: LeadTurn,
    controller: AbortController,
    aloneMs: number,
  ): Promise<Running> {
    const { store, clock, scheduler } = this.#parts
    const { task } = registration
    checkSize(request, task)
    const first = await this.#leads.open(request, task, { signal: controller.signal })
    if (first === undefined) {
      await registration[Symbol.asyncDispose]()
      await store.find(task.id)?.doubt()
      const anew = await scheduler.register(without(request), { signal: controller.signal })
      return await this.#swarm(request, anew, controller, aloneMs)
    }
    const stored = await store.create(task, { signal: controller.signal })
    const tail = new Tail(first.from, this.#pages)
    return new Running(
      stored,
      () => clock.monotonicMs(),
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
          const again = scheduler.register({ ...without(request), have }, { signal: late })
          await using anew = await again.catch((why: unknown) => {
            throw isDarnerError(why) ? why : error
          })
          return await this.#download(running, request, anew, aloneMs, signal, SECOND_WAY_MS)
        } finally {
          tail.close()
        }
      },
      tail,
    )
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

  async #straight(request: ContentRequest, reason: DarnerError, controller: AbortController): Promise<Running> {
    const { store, clock, origin } = this.#parts
    const { signal } = controller
    if (request.digest !== undefined && request.bytes !== undefined) {
      const stored = await store.create(blobTask(request.digest, request.bytes), { signal })
      return new Running(
        stored,
        () => clock.monotonicMs(),
        controller,
        (running, inner) => this.#fromOrigin(running, request, reason, undefined, inner),
      )
    }
    const first = await origin.read(target(request), { credential: request.credential, signal })
    const bytes = first.bytes ?? request.bytes
    if (bytes === undefined) {
      throw new DarnerError(
        'UNSUPPORTED',
        `${originName(request.origin)}: the origin tells no length, so the blob can't be cut into pieces`,
      )
    }
    const task = request.digest === undefined ? aloneTask(request, bytes, clock.now()) : blobTask(request.digest, bytes)
    const stored = await store.create(task, { signal })
    return new Running(
      stored,
      () => clock.monotonicMs(),
      controller,
      (running, inner) => this.#fromOrigin(running, request, reason, first, inner),
    )
  }

  /** Reads the origin for this host alone, as long as there is no supernode: then the swarm has the rest. */
  async #fromOrigin(
    running: Running,
    request: ContentRequest,
    reason: DarnerError,
    first: Awaited<ReturnType<OriginPort['read']>> | undefined,
    signal: AbortSignal,
  ): Promise<Digest> {
    const { clock, scheduler, log } = this.#parts
    const { stored } = running
    const alone = (inner: AbortSignal, opened?: OriginRead) => {
      stored.trust()
      return this.#own.alone(running, request, { reason, first: opened }, inner)
    }
    // what was read without a digest is known to this host only
    if (stored.task.digest === undefined) return await alone(signal, first)
    const connected = () => scheduler.connected && !stored.have.full
    const read = await untilBack(SETTLE_MS, { connected, clock }, (inner) => alone(inner, first), { signal })
    if (read !== 'handedBack') return read.done
    const { have } = stored
    try {
      await using followed = await scheduler.register({ ...without(request), have }, { signal })
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
}

/** Those of them that are there. */
async function began(all: readonly Promise<Running | undefined>[]): Promise<Running[]> {
  const settled = await Promise.allSettled(all)
  return settled.flatMap((one) => (one.status === 'fulfilled' && one.value !== undefined ? [one.value] : []))
}

function without({ lead: _lead, ...request }: ContentRequest): ContentRequest {
  return request
}

/** Whether a place made for the request is one for the task. */
function fits(task: Task, { digest, bytes }: ContentRequest): boolean {
  if (digest === undefined || bytes === undefined) return true
  return task.bytes === bytes && task.pieceBytes === pieceBytesFor(bytes)
}

/** Takes a place away in which nothing is, and which nobody uses. */
async function unmade(place: Promise<StoredTask> | undefined, why: DarnerError): Promise<void> {
  const stored = await place?.catch(() => undefined)
  if (
    stored === undefined ||
    stored.complete ||
    stored.failure ||
    stored.busy ||
    stored.have.count + stored.doubted > 0
  )
    return
  // what can't be deleted is collected later
  await stored.discard(why).catch(() => {})
}

function target({ origin, digest }: ContentRequest): OriginTarget {
  return { origin, ...(digest === undefined ? {} : { digest }) }
}

function checkSize(request: ContentRequest, task: Task): void {
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
