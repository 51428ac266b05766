/**
 * The begin of a fetch: a place for the blob, what an earlier fetch left of it, and whether this host offers a delegated read. Then the
 * supernode is asked, and its answer selects the strategy (fetch-strategies.ts). What fails before it goes is undone.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Clock, Random } from '../../src/core/clock.ts'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { Registration, SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { type Origin, originName } from '../../src/core/task/origin.ts'
import { blobTask, pieceBytesFor, type Task, type TaskId } from '../../src/core/task/task.ts'
import { workShare } from '../../src/core/work-share.ts'
import type { CameBook } from '../../src/rights/came.ts'
import { placeOf } from '../../src/rights/place.ts'
import { TROUBLE } from '../../src/rights/right.ts'
import type { Store, StoredTask } from '../../src/store/store.ts'
import { type FallBack, type Ways, withoutLead } from './fetch-strategies.ts'
import type { LeadOpener } from './lead-open.ts'
import { LeadTurns } from './lead-turns.ts'
import type { Running } from './running.ts'

/** From where all that is here of a blob came, in any run. */
export interface OriginRecord {
  /** Undefined where that isn't known. */
  of(task: TaskId): Promise<Origin | undefined>
  note(task: TaskId, origin: Origin): void
  /** It comes from more than one. */
  forget(task: TaskId): Promise<void>
}

export interface FetchStartOptions {
  /** `never` keeps this host away from origins altogether. */
  readonly fromOrigin: 'never' | 'fallback'
}

export interface FetchStartParts {
  readonly store: Store
  readonly scheduler: SchedulerPort
  readonly clock: Clock
  readonly random: Random
  readonly leads: LeadOpener
  readonly ways: Ways
  readonly mayFallBack: FallBack
  readonly came: CameBook
  readonly origins?: OriginRecord
}

/** Hosts whose supernode is too busy to answer ask it again at different times, within so long. */
const AGAIN_MS = 1_000

export class FetchStarter {
  readonly #options: FetchStartOptions
  readonly #parts: FetchStartParts
  readonly #turns: LeadTurns

  constructor(options: FetchStartOptions, parts: FetchStartParts) {
    this.#options = options
    this.#parts = parts
    this.#turns = new LeadTurns({ clock: parts.clock, atWork: workShare() })
  }

  /** `controller` ends the fetch, which is under way when this resolves; `aloneMs`: as `Engine.openStored` has it. */
  async start(request: ContentRequest, controller: AbortController, aloneMs: number): Promise<Running> {
    const { ways } = this.#parts
    let registration: Registration | DarnerError | undefined
    let left: StoredTask | undefined
    let back: (() => void) | undefined
    const place = this.#place(request)
    // from here on: what comes of later layers keeps this thread from opening it, too
    const turn = this.#turns.begin(request.order)
    try {
      const { digest } = request
      // what an earlier run left is reported, and not read again
      if (digest !== undefined) left = await this.#lookAtLeft(digest, request, controller.signal)
      const readsOn = await this.#readsOn(left, request)
      if (!readsOn) back = await left?.withhold()
      const leads = this.#mayLead(request) && readsOn
      if (leads) left?.trust()
      else await left?.doubt()
      registration = await this.#register(leads ? request : withoutLead(request), controller.signal)
      if (registration instanceof DarnerError) left?.trust()
      else if (leads && !registration.lead && left !== undefined)
        registration = await this.#followAnew(registration, left, request, controller.signal)
      if (!(registration instanceof DarnerError) && !fits(registration.task, request))
        await unmade(place, new DarnerError('CONFLICT', `${registration.task.id}: the swarm has it in other pieces`))
      const running =
        registration instanceof DarnerError
          ? await ways.straight(request, registration, controller)
          : registration.lead
            ? await ways.lead(request, registration, turn, controller, aloneMs)
            : await ways.swarm(request, registration, controller, aloneMs)
      if (running.tail === undefined) turn[Symbol.dispose]()
      await this.#note(running, request, { mixed: !readsOn })
      return running
    } catch (error) {
      turn[Symbol.dispose]()
      left?.trust()
      // nothing came of the place of this request
      if (registration === undefined || registration instanceof DarnerError) back?.()
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
    if (wrongAt.length === 0 || left === undefined || left.verified || left.empty) return left
    await left.discard(new DarnerError('DIGEST_MISMATCH', `${digest}: a place it came from served other bytes`))
    return undefined
  }

  /**
   * Whether this host may read on from what an earlier fetch left. What is left may be of a place that was wrong, or of one that the asker
   * has no right to. So the host reads on only if all of it came through this place.
   */
  async #readsOn(left: StoredTask | undefined, { origin }: ContentRequest): Promise<boolean> {
    if (left === undefined || left.empty) return true
    const { came, origins } = this.#parts
    const { id } = left.task
    if (came.has(id)) return came.of(id)?.place === placeOf(origin)
    return isDeepStrictEqual(await origins?.of(id), origin)
  }

  /** Puts on record from where the blob comes: of what is `mixed` with another place's only once it is whole, and proven. */
  async #note({ stored, whole }: Running, { origin }: ContentRequest, { mixed }: { mixed: boolean }): Promise<void> {
    const { origins } = this.#parts
    const { id } = stored.task
    if (!mixed) return origins?.note(id, origin)
    await origins?.forget(id)
    whole.then(
      () => origins?.note(id, origin),
      () => {},
    )
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
    return await this.#parts.scheduler.register(withoutLead(request), { signal })
  }

  /**
   * If this host offers to read, the place is made while supernode and origin are asked: on a busy host it takes a tenth of a second.
   * Undefined where nothing is offered, or something is here.
   */
  #place(request: ContentRequest): Promise<StoredTask> | undefined {
    const { digest, bytes } = request
    const { store } = this.#parts
    if (digest === undefined || bytes === undefined || !this.#mayLead(request)) return undefined
    if (store.byDigest(digest) !== undefined) return undefined
    // seen to its end also when nobody waits any more, so that it can be taken away
    const making = store.create(blobTask(digest, bytes), { signal: new AbortController().signal })
    making.catch(() => {}) // the caller that asks for the place then gets the failure
    return making
  }

  #mayLead(request: ContentRequest): boolean {
    return this.#options.fromOrigin !== 'never' && this.#parts.leads.offers(request)
  }

  /** Follows the task at the supernode; a DarnerError is why that can't be, where a fallback is allowed. */
  async #register(request: ContentRequest, signal: AbortSignal): Promise<Registration | DarnerError> {
    const { store, scheduler, clock, random } = this.#parts
    const partial = request.digest === undefined ? undefined : store.byDigest(request.digest)
    const lead = this.#mayLead(request)
    const ask = {
      ...withoutLead(request),
      ...(lead ? { lead } : {}),
      ...(partial === undefined || partial.have.count === 0 ? {} : { have: partial.have }),
    }
    for (let attempt = 1; ; attempt++) {
      let asked = false
      try {
        await scheduler.reachable({ signal })
        asked = true
        return await scheduler.register(ask, { signal })
      } catch (error) {
        signal.throwIfAborted()
        const { fromOrigin = this.#options.fromOrigin } = request
        // the supernode can't ask the origin: this host can, with rights of its own
        if (request.credential !== undefined && fromOrigin !== 'never' && isDarnerError(error, ...TROUBLE)) return error
        const reason = this.#parts.mayFallBack(error, originName(request.origin), request.fromOrigin)
        if (!asked || attempt > 1) return reason
        if (scheduler.connected) await clock.sleep(random() * AGAIN_MS, { signal })
      }
    }
  }
}

/** Whether a place made for the request is one for the task. */
function fits(task: Task, { digest, bytes }: ContentRequest): boolean {
  if (digest === undefined || bytes === undefined) return true
  return task.bytes === bytes && task.pieceBytes === pieceBytesFor(bytes)
}

/** Takes a place away in which nothing is, and which nobody uses. */
async function unmade(place: Promise<StoredTask> | undefined, why: DarnerError): Promise<void> {
  const stored = await place?.catch(() => undefined)
  if (stored === undefined || stored.complete || stored.failure || stored.busy || !stored.empty) return
  // what can't be deleted is collected later
  await stored.discard(why).catch(() => {})
}
