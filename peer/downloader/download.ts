/**
 * One task being fetched: performs what the plan decides. Events come from the scheduler (parents, digests), from channels
 * (haves, endings) and from fetches; after each the plan is asked what to do now.
 */

import type { Clock, Random } from '../../src/core/clock.ts'
import type { ByteSources, Priority } from '../../src/core/contracts/content.ts'
import type { FetchAnyOptions, ParentChannel, PeerId, PieceExchange } from '../../src/core/contracts/exchange.ts'
import type { Parent, Registration, TaskUpdate } from '../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import { abortable, anySignal, untilAborted, withDeadline } from '../../src/core/signals.ts'
import { Bitmap } from '../../src/core/task/bitmap.ts'
import { addRun } from '../../src/core/task/runs.ts'
import { pieceCount, pieceRange, stepBytesOf } from '../../src/core/task/task.ts'
import type { Arrival, StoredTask } from '../../src/store/store.ts'
import { blameCode, failReason } from './fail-reason.ts'
import { type Action, LAST_OPEN_TURN, PLAN_DEFAULTS, Plan } from './plan.ts'
import { FIRST_READER_MS, NEXT_READER_MS, rankOf, startPiece } from './rendezvous.ts'

/** A host that couldn't read for all doesn't try again before. */
const ELECT_AGAIN_MS = 10_000

export interface DownloadOptions {
  readonly priority: Priority
  /** Pieces that arrive at once, over all parents, and bytes of them. */
  readonly maxInFlight: number
  readonly inFlightBytes: number
  /** How often late parents are looked for. */
  readonly tickMs: number
  /** News are reported to the scheduler after this many pieces, or after `reportMs` when there are any. */
  readonly reportPieces: number
  readonly reportMs: number
  /** How long a piece may wait for its digest to come from the scheduler. */
  readonly digestMs: number
  /** Waits between attempts to open a parent; after the last the parent is reported. */
  readonly openRetryMs: readonly number[]
  /** Nothing came for this long although pieces lack: the download fails with TASK_FAILED, or says so where it may only wait. */
  readonly stallMs: number
}

export interface DownloadParts {
  readonly registration: Registration
  readonly stored: StoredTask
  readonly exchange: PieceExchange
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Whether a download of which nothing comes waits on rather than fails. */
  readonly mayWait?: () => boolean
  /** Whether there is a supernode now; without this it isn't asked. */
  readonly connected?: () => boolean
  /** This host, and its read of what nobody has while there is no supernode. Left out where it mustn't read, or can't tell what it reads. */
  readonly elected?: {
    readonly self: PeerId
    read(from: number, gained: (piece: number) => void, signal: AbortSignal): Promise<void>
  }
  /** Performs a delegated read, as the supernode leased it; `gained` is called for each piece, before it counts as ours. */
  readonly readOrigin?: (lease: Lease, gained: (piece: number) => void, signal: AbortSignal) => Promise<void>
}

/** From which piece on to read for all; `open`: without a credential. */
export type Lease = Pick<Extract<TaskUpdate, { kind: 'lease' }>, 'from' | 'open'>

interface ParentState {
  readonly parent: Parent
  readonly controller: AbortController
  /** As {@link Plan} takes it. */
  turn: number
  /** Has its channel opened, if it isn't. */
  readonly wake: () => void
  channel: ParentChannel | undefined
}

export class Download {
  readonly #options: DownloadOptions
  readonly #parts: DownloadParts
  readonly #plan: Plan<PeerId>
  readonly #parents = new Map<PeerId, ParentState>()
  readonly #asks = new Map<string, AbortController>()
  readonly #fetches = new Map<AbortController, Promise<void>>()
  readonly #done = Promise.withResolvers<void>()
  readonly #from = { origin: 0, supernode: 0, peers: 0 }
  #pass: Uint8Array
  #sealed: Digest | undefined
  #sourcing = false
  /** Ends the read that this host does in the place of a lost supernode. */
  #endElected: (() => void) | undefined
  #electAgainMs = 0
  /** Some of what an earlier fetch left was wrong. */
  #dropped = false
  /** The supernode has other digests than it, or the one before it, published in this fetch. */
  #contradicted = false
  #tableGrew = Promise.withResolvers<void>()
  #unreported: [from: number, count: number][] = []
  #unreportedPieces = 0
  #untold: [from: number, count: number][] = []
  #reportedAtMs = 0
  #progressAtMs: number

  constructor(options: DownloadOptions, parts: DownloadParts) {
    this.#options = options
    this.#parts = parts
    this.#pass = parts.registration.pass
    this.#progressAtMs = parts.clock.monotonicMs()
    const { task } = parts.stored
    this.#plan = new Plan<PeerId>(
      {
        ...PLAN_DEFAULTS,
        pieces: pieceCount(task),
        pieceBytes: task.pieceBytes,
        maxInFlight: options.maxInFlight,
        inFlightBytes: options.inFlightBytes,
      },
      parts.random,
    )
    this.#done.promise.catch(() => {})
  }

  /** Bytes fetched by this download so far. */
  get from(): ByteSources {
    return { ...this.#from }
  }

  /** Hosts that this one fetches from, and which fetch themselves or have it: all but the seed. */
  get neighbours(): PeerId[] {
    return [...this.#parents.values()].filter(({ channel }) => channel?.announces).map(({ parent }) => parent.peer)
  }

  /** The state as text, for a dump when something stalls. */
  describe(): string {
    return this.#plan.describe()
  }

  /** A reader waits for pieces [from, to): they come first. Dispose when it has them or is gone. */
  demand(from: number, to: number): Disposable {
    const priority = this.#options.priority === 'interactive' ? 1 : 0
    this.#plan.demand(from, to, priority)
    this.#pump()
    return { [Symbol.dispose]: () => this.#plan.undemand(from, to) }
  }

  /**
   * Fetches until every piece is here and the whole digest matched; leaves the task's registration open. Throws what failed
   * the task (TASK_FAILED with the scheduler's error, DIGEST_MISMATCH, DISK_FULL), or the signal's reason.
   */
  async run({ signal }: { signal: AbortSignal }): Promise<Digest> {
    const { stored, registration, log } = this.#parts
    const scope = new Scope(signal)
    try {
      for (const [from, count] of stored.have.ranges()) this.#plan.have(from, count)
      for (const [from, count] of stored.table.known.ranges()) this.#plan.pieceKnown(from, count)
      scope.run((inner) => this.#follow(scope, inner))
      scope.run((inner) => this.#ticking(scope, inner))
      void scope.failed.then((error) => this.#done.reject(error))
      this.#settle()
      await abortable(this.#done.promise, signal)
      const expected = stored.task.digest ?? this.#sealed
      const digest = await stored.finish({ ...(expected === undefined ? {} : { expected }), signal })
      this.#report(true)
      log.debug({ taskId: stored.task.id, plan: this.describe(), from: this.from }, 'download done')
      return digest
    } catch (error) {
      log.debug(
        { taskId: stored.task.id, plan: this.describe(), error: asDarnerError(error, 'download').message },
        'download failed',
      )
      if (!signal.aborted && isDarnerError(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH')) {
        for (const id of this.#parents.keys()) registration.blame(id, 'DIGEST_MISMATCH')
      }
      if (!signal.aborted && this.#contradicted) throw await this.#mistaken(error)
      // the scheduler may have found the whole wrong before all of it was here: none of it is of use
      if (!signal.aborted && !stored.complete && error instanceof DarnerError && error.code === 'DIGEST_MISMATCH')
        await stored.discard(error)
      throw error
    } finally {
      this.#report(stored.complete)
      await scope.close()
      for (const state of this.#parents.values())
        state.controller.abort(new DOMException('download over', 'AbortError'))
      for (const controller of this.#fetches.keys()) controller.abort(new DOMException('download over', 'AbortError'))
      await Promise.all(this.#fetches.values())
    }
  }

  /** Until it is known which digests are right, the disputed pieces are served to nobody; readers may have had some of them. */
  async #mistaken(error: unknown): Promise<DarnerError> {
    const { stored, log } = this.#parts
    const { id } = stored.task
    const { message } = asDarnerError(error, id)
    log.warn({ taskId: id, have: stored.have.count, error: message }, 'the blob is read otherwise now: fetch given up')
    await stored.doubt()
    const text = `${id}: the supernode has other bytes now than this fetch was given before (${message})`
    return new DarnerError('TASK_FAILED', text, { cause: error, way: 'try again: the wrong pieces are fetched again' })
  }

  async #follow(scope: Scope, signal: AbortSignal): Promise<void> {
    for await (const update of untilAborted(this.#parts.registration.updates, signal)) {
      this.#apply(update, scope)
      this.#pump()
    }
  }

  #apply(update: TaskUpdate, scope: Scope): void {
    const { stored } = this.#parts
    switch (update.kind) {
      case 'parents':
        for (const id of update.drop) this.#letGo(id)
        for (const parent of update.add) this.#take(parent, scope)
        this.#wakeKnown()
        return
      case 'table':
        this.#hear(update)
        if (update.states !== undefined) stored.table.setStates(update.from, update.states)
        // of other tasks they would be of no use, and there may be a million pieces of which memory is taken for them
        if (update.steps !== undefined && stepBytesOf(stored.task) !== undefined)
          stored.table.setSteps(update.from, update.steps)
        this.#plan.pieceKnown(update.from, update.digests.byteLength / 32)
        this.#tableGrew.resolve()
        this.#tableGrew = Promise.withResolvers<void>()
        return
      case 'sealed':
        this.#sealed = update.digest
        this.#settle()
        return
      case 'pass':
        this.#pass = update.pass
        for (const { channel } of this.#parents.values()) channel?.renew(update.pass)
        return
      case 'failed':
        this.#done.reject(update.error)
        return
      case 'lease':
        this.#source(update, scope)
        return
      case 'rejoined':
        return
    }
  }

  /** Digests arrive. What an earlier fetch left counts where it agrees, and is fetched again where it doesn't. */
  #hear({ from, digests }: { from: number; digests: Uint8Array }): void {
    const { stored, log, clock } = this.#parts
    let judged: ReturnType<StoredTask['told']>
    try {
      judged = stored.told(from, digests)
    } catch (error) {
      if (isDarnerError(error, 'PROTOCOL_VIOLATION') && error.details.contradicted !== undefined)
        this.#contradicted = true
      throw error
    }
    const { right, wrong } = judged
    if (wrong.length > 0 && !this.#dropped) {
      this.#dropped = true
      const about = { taskId: stored.task.id, piece: wrong[0] }
      log.warn(about, 'an earlier fetch left other pieces than the supernode has: fetched again')
    }
    for (const piece of right) {
      this.#plan.have(piece, 1)
      addRun(this.#unreported, piece, 1)
      addRun(this.#untold, piece, 1)
    }
    if (right.length === 0) return
    this.#progressAtMs = clock.monotonicMs()
    this.#unreportedPieces += right.length
    this.#report(false)
    this.#settle()
  }

  /** Reads the origin under a lease, once at a time; others get the pieces from us. */
  #source(lease: Lease, scope: Scope): void {
    const { readOrigin, registration } = this.#parts
    if (readOrigin === undefined || this.#sourcing) return
    this.#read(scope, (gained, signal) => readOrigin(lease, gained, signal), registration.unsourced.bind(registration))
  }

  /** Reads the origin where the supernode is lost, nothing comes any more, and it is this host's turn among those that it knows. */
  #electSelf(scope: Scope, nowMs: number): void {
    const { elected, connected, stored, log } = this.#parts
    if (elected === undefined || connected === undefined || this.#sourcing || this.#plan.done || connected()) return
    if (nowMs < this.#electAgainMs) return
    const { id } = stored.task
    const { neighbours } = this
    const turnMs = FIRST_READER_MS + NEXT_READER_MS * rankOf(id, elected.self, neighbours)
    if (neighbours.length === 0 || nowMs - this.#progressAtMs < turnMs) return
    log.warn({ taskId: id, have: stored.have.count }, 'supernode lost: this host reads what nobody has, for all')
    const from = startPiece(id, elected.self, pieceCount(stored.task))
    const back = new AbortController()
    this.#endElected = () => back.abort(new DOMException('there is a supernode again', 'AbortError'))
    this.#read(
      scope,
      (gained, signal) =>
        elected.read(from, gained, anySignal([signal, back.signal])).catch((error: unknown) => {
          if (!back.signal.aborted) throw error
        }),
      () => {
        this.#electAgainMs = this.#parts.clock.monotonicMs() + ELECT_AGAIN_MS
      },
    )
  }

  /** One read of the origin at a time, whose pieces others get from us; `failed` is called when it ends with an error. */
  #read(
    scope: Scope,
    read: (gained: (piece: number) => void, signal: AbortSignal) => Promise<void>,
    failed: (error: DarnerError) => void,
  ): void {
    const { clock, stored, log } = this.#parts
    this.#sourcing = true
    const gained = (piece: number) => {
      this.#plan.have(piece, 1)
      const { from, to } = pieceRange(stored.task, piece)
      this.#from.origin += to - from
      this.#progressAtMs = clock.monotonicMs()
      addRun(this.#unreported, piece, 1)
      addRun(this.#untold, piece, 1)
      if (++this.#unreportedPieces >= this.#options.reportPieces) this.#report(false)
      this.#settle()
    }
    scope.run(async (signal) => {
      try {
        await read(gained, signal)
      } catch (error) {
        if (signal.aborted || stored.failure !== undefined) return
        const known = asDarnerError(error, 'reading the origin for all')
        log.warn({ taskId: stored.task.id, error: known.message }, 'read for all failed')
        failed(known)
      } finally {
        this.#sourcing = false
        this.#endElected = undefined
      }
    })
  }

  #take(parent: Parent, scope: Scope): void {
    const known = this.#parents.get(parent.peer)
    if (known !== undefined) {
      known.turn = parent.turn ?? 0
      if (known.channel !== undefined) this.#plan.parentTurn(parent.peer, known.turn)
      if (known.turn <= LAST_OPEN_TURN) known.wake()
      return
    }
    const { promise, resolve: wake } = Promise.withResolvers<void>()
    const state: ParentState = {
      parent,
      controller: new AbortController(),
      turn: parent.turn ?? 0,
      wake,
      channel: undefined,
    }
    this.#parents.set(parent.peer, state)
    if (state.turn <= LAST_OPEN_TURN) wake()
    scope.run(async (signal) => {
      const ending = anySignal([signal, state.controller.signal])
      await abortable(promise, ending).catch(() => {})
      await this.#hold(state, ending)
    })
  }

  /** Opens parents that were only known of, once there is none left to ask. */
  #wakeKnown(): void {
    const states = [...this.#parents.values()]
    if (states.some(({ turn, channel }) => turn <= LAST_OPEN_TURN || channel !== undefined)) return
    for (const state of states) state.wake()
  }

  #letGo(id: PeerId): void {
    const state = this.#parents.get(id)
    if (state === undefined) return
    this.#parents.delete(id)
    this.#plan.parentLeft(id)
    state.controller.abort(new DOMException('parent let go', 'AbortError'))
  }

  /** Keeps a channel to one parent as long as it is one of ours. */
  async #hold(state: ParentState, signal: AbortSignal): Promise<void> {
    const { stored, exchange, log, clock, registration } = this.#parts
    const { parent } = state
    const longestMs = Math.max(0, ...this.#options.openRetryMs)
    for (let attempt = 0; !signal.aborted; ) {
      try {
        const had = Bitmap.fromBytes(stored.have.size, stored.have.toBytes())
        const pass = this.#pass
        await using channel = await exchange.open(parent, stored.task, {
          pass,
          have: had,
          priority: this.#options.priority,
          signal,
        })
        if (pass !== this.#pass) channel.renew(this.#pass)
        this.#begin(state, channel, had)
        const openedMs = clock.monotonicMs()
        const why = await abortable(channel.closed, signal)
        // one that breaks as soon as it is open counts as one that doesn't open
        if (clock.monotonicMs() - openedMs > longestMs) attempt = 0
        log.debug({ taskId: stored.task.id, parent: parent.peer, error: why.message }, 'channel ended')
      } catch (error) {
        if (signal.aborted) return
        log.debug(
          { taskId: stored.task.id, parent: parent.peer, error: asDarnerError(error, 'open').message },
          'parent not opened',
        )
        if (isDarnerError(error, 'PROTOCOL_VIOLATION', 'PEER_BANNED')) attempt = this.#options.openRetryMs.length
      } finally {
        state.channel = undefined
        this.#plan.parentLeft(parent.peer)
        this.#pump()
      }
      const waitMs = this.#options.openRetryMs[attempt++]
      if (waitMs === undefined) {
        registration.blame(parent.peer, 'PEER_UNREACHABLE')
        this.#parents.delete(parent.peer)
        this.#wakeKnown()
        return
      }
      await clock.sleep(waitMs, { signal }).catch(() => {})
    }
  }

  /** A parent's channel is open. It first gets what came and what began to come while it opened, then our questions. */
  #begin(state: ParentState, channel: ParentChannel, had: Bitmap): void {
    const { stored } = this.#parts
    const { peer } = state.parent
    for (let piece = stored.have.nextSet(0); piece >= 0; piece = stored.have.nextSet(piece + 1))
      if (!had.has(piece)) channel.tell(piece, 1)
    for (const piece of this.#plan.underWay) if (!had.has(piece)) channel.coming(piece)
    state.channel = channel
    this.#plan.parentJoined(peer, channel.announces ? channel.haves : undefined, state.turn)
    channel.onHaves((from, count) => {
      if (this.#plan.parentHaves(peer, from, count)) this.#pump()
    })
    this.#pump()
  }

  async #ticking(scope: Scope, signal: AbortSignal): Promise<void> {
    const { clock, stored } = this.#parts
    while (!signal.aborted) {
      await clock.sleep(this.#options.tickMs, { signal })
      const now = clock.monotonicMs()
      this.#plan.tick(now, (id) => this.#parents.get(id)?.channel?.movedBytes ?? 0)
      if (this.#parts.connected?.() === true) this.#endElected?.()
      else this.#electSelf(scope, now)
      if (this.#unreportedPieces > 0 && now - this.#reportedAtMs >= this.#options.reportMs) this.#report(false)
      if (now - this.#progressAtMs >= this.#options.stallMs && !this.#plan.done && !this.#waitsOn(now)) {
        throw new DarnerError(
          'TASK_FAILED',
          `${stored.task.id}: nothing came for ${Math.round(this.#options.stallMs / 1000)} s; ${this.describe().replaceAll('\n', '; ')}`,
        )
      }
      this.#pump()
    }
  }

  /**
   * While the supernode follows this fetch it reports when nobody can bring the rest. Giving up before would send every host to the origin
   * at once.
   */
  #waitsOn(nowMs: number): boolean {
    const { stored, log, mayWait } = this.#parts
    if (mayWait?.() !== true) return false
    this.#progressAtMs = nowMs
    const seconds = Math.round(this.#options.stallMs / 1000)
    log.warn({ taskId: stored.task.id, seconds, plan: this.describe() }, 'nothing comes from anybody: still waiting')
    return true
  }

  #pump(): void {
    for (const action of this.#plan.decide(this.#parts.clock.monotonicMs())) this.#perform(action)
    this.#tell()
  }

  #perform(action: Action<PeerId>): void {
    switch (action.kind) {
      case 'ask':
      case 'askAny': {
        const piece = action.kind === 'ask' ? action.piece : -1
        const channel = this.#parents.get(action.parent)?.channel
        if (channel === undefined) {
          this.#plan.pieceFailed(action.parent, piece, 'unreachable')
          return
        }
        const controller = new AbortController()
        const fetch = this.#fetch(channel, piece, controller, action.kind === 'askAny' ? action : {})
        this.#fetches.set(controller, fetch)
        void fetch.finally(() => this.#fetches.delete(controller))
        return
      }
      case 'coming':
        for (const { channel, parent } of this.#parents.values())
          if (parent.peer !== action.from)
            channel?.coming(action.piece, { waitMs: this.#plan.comingMs(parent.peer, action.piece) })
        return
      case 'lost':
        for (const { channel } of this.#parents.values()) channel?.lost(action.piece)
        return
      case 'cancel':
        this.#asks
          .get(askName(action.parent, action.piece))
          ?.abort(new DOMException('piece came from elsewhere', 'AbortError'))
        return
      case 'replace': {
        this.#parts.log.info(
          { taskId: this.#parts.stored.task.id, parent: action.parent, reason: action.reason },
          'parent replaced',
        )
        this.#parts.registration.blame(action.parent, blameCode(action.reason), action.piece)
        this.#letGo(action.parent)
        this.#wakeKnown()
        return
      }
    }
  }

  /** One question and its answer. Never throws: failures are the plan's to weigh, but those of our own disk end the task. */
  async #fetch(
    channel: ParentChannel,
    piece: number,
    controller: AbortController,
    { sure = false, early = false, ahead = 0 }: { sure?: boolean; early?: boolean; ahead?: number },
  ): Promise<void> {
    const { stored, clock, log } = this.#parts
    const any = piece < 0
    const name = askName(channel.parent, piece)
    if (!any) this.#asks.set(name, controller)
    let got = piece
    let body: Uint8Array | undefined
    const release = (bytes: Uint8Array) => channel.release?.(bytes)
    let askedMs = clock.monotonicMs()
    let startedMs = askedMs
    const onOffer = (offered: number) => {
      if (this.#parents.get(channel.parent)?.channel !== channel) return false
      askedMs = clock.monotonicMs()
      if (!this.#plan.pieceOffered(channel.parent, offered, clock.monotonicMs())) return false
      // the parent's choice has a name from here on, by which the plan may cancel it
      this.#asks.set(askName(channel.parent, offered), controller)
      got = offered
      this.#pump()
      return true
    }
    const stepBytes = stepBytesOf(stored.task)
    let arrival: Arrival | undefined
    const onPart: FetchAnyOptions['onPart'] = (part) => {
      const steps = Math.floor(part.bytes / (stepBytes ?? stored.task.pieceBytes))
      this.#plan.pieceWaits(channel.parent, part.piece, { steps, waits: part.waits }, clock.monotonicMs())
      arrival ??= stored.arriving(part.piece, part.body)
      arrival?.reached(part.bytes)
    }
    const onStart = (started: number) => {
      startedMs = clock.monotonicMs()
      this.#plan.pieceStarted(channel.parent, started, startedMs)
    }
    try {
      const given = any
        ? await channel.fetchAny({
            signal: controller.signal,
            sure,
            early,
            ahead,
            onOffer,
            onStart,
            ...(sure && { onPart }),
          })
        : { piece, body: await channel.fetch(piece, { signal: controller.signal, onStart }) }
      if (given === undefined) {
        this.#plan.parentDrained(channel.parent)
        return
      }
      got = given.piece
      body = given.body
      const bodyMs = clock.monotonicMs() - startedMs
      if (!stored.table.known.has(got)) await this.#digestOf(got, controller.signal)
      const bytes = body.byteLength
      const fresh = await stored.write(got, body, { signal: controller.signal })
      const now = clock.monotonicMs()
      this.#plan.pieceArrived(channel.parent, got, now)
      if (fresh) {
        stored.keep(got, body, release)
        body = undefined
      }
      if (!fresh) return
      log.trace(
        { taskId: stored.task.id, piece: got, parent: channel.parent, waitMs: startedMs - askedMs, bodyMs },
        'piece stored',
      )
      this.#gained(got, bytes, this.#parents.get(channel.parent)?.parent.seed ?? false, now)
    } catch (error) {
      if (stored.failure !== undefined || isDarnerError(error, 'DISK_FULL', 'STORE_CORRUPT')) {
        this.#done.reject(error)
        return
      }
      // a cancelled question is over for the plan, and a channel that ended has taken its questions with it
      if (controller.signal.aborted || this.#parents.get(channel.parent)?.channel !== channel) return
      const failed = failReason(error)
      // its connection broke: the transport makes it anew, or reports that it can't
      if (failed === 'unreachable') {
        await channel[Symbol.asyncDispose]()
        return
      }
      // a parent that sends wrong bytes is to blame, also if it withdraws the piece before all of it is here
      const reason = failed === 'withdrawn' && arrival?.wrong ? 'corrupt' : failed
      if (reason === 'corrupt' || reason === 'short') {
        log.warn(
          { taskId: stored.task.id, parent: channel.parent, piece: got, error: asDarnerError(error, 'piece').message },
          'piece refused',
        )
      }
      this.#plan.pieceFailed(channel.parent, got, reason)
    } finally {
      arrival?.[Symbol.dispose]()
      if (body !== undefined) release(body)
      for (const one of [name, askName(channel.parent, got)])
        if (this.#asks.get(one) === controller) this.#asks.delete(one)
      this.#pump()
    }
  }

  #gained(piece: number, bytes: number, fromSeed: boolean, now: number): void {
    this.#progressAtMs = now
    if (fromSeed) this.#from.supernode += bytes
    else this.#from.peers += bytes
    addRun(this.#unreported, piece, 1)
    addRun(this.#untold, piece, 1)
    if (++this.#unreportedPieces >= this.#options.reportPieces) this.#report(false)
    this.#settle()
  }

  /** Waits for a piece's digest: a seed's piece may overtake the notice that carries it. Throws INTERRUPTED where it doesn't come, which is no parent's fault. */
  async #digestOf(piece: number, signal: AbortSignal): Promise<void> {
    const { stored } = this.#parts
    const deadline = withDeadline(signal, this.#options.digestMs)
    try {
      while (!stored.table.known.has(piece)) await abortable(this.#tableGrew.promise, deadline)
    } catch (cause) {
      throw new DarnerError('INTERRUPTED', `${stored.task.id}: no digest of piece ${piece}`, { cause })
    }
  }

  #settle(): void {
    const { task } = this.#parts.stored
    if (this.#plan.done && (task.digest !== undefined || this.#sealed !== undefined)) this.#done.resolve()
  }

  #report(complete: boolean): void {
    if (this.#unreportedPieces === 0 && !complete) return
    const runs = this.#unreported.splice(0)
    this.#unreportedPieces = 0
    this.#reportedAtMs = this.#parts.clock.monotonicMs()
    this.#parts.registration.report({ runs, complete, from: this.from })
  }

  /** Parents hear what we hold, so that they give us something else. */
  #tell(): void {
    if (this.#untold.length === 0) return
    for (const [from, count] of this.#untold.splice(0)) {
      for (const { channel, parent } of this.#parents.values())
        channel?.tell(from, count, { waitMs: this.#plan.hereMs(parent.peer) })
    }
  }
}

function askName(parent: PeerId, piece: number): string {
  return `${parent} ${piece}`
}
