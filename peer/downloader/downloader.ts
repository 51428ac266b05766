/**
 * The peer's engine: one running fetch per blob, shared by its readers, and the rule for joining it. How a fetch begins is fetch-start.ts,
 * what it does then fetch-strategies.ts. The swarm first; straight from the origin only when no supernode can be asked, after a bounded
 * wait and with the reason on record.
 */

import { isDeepStrictEqual } from 'node:util'
import type {
  Content,
  ContentRequest,
  ContentSource,
  ManifestAnswer,
  ManifestRequest,
} from '../../src/core/contracts/content.ts'
import type { PeerId, PieceExchange } from '../../src/core/contracts/exchange.ts'
import type { SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import { SCHEDULER_UNREACHABLE } from '../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import { type Origin, originName } from '../../src/core/task/origin.ts'
import type { Task, TaskId } from '../../src/core/task/task.ts'
import type { CameBook } from '../../src/rights/came.ts'
import { PUT_PLACE } from '../../src/rights/place.ts'
import type { Rights } from '../../src/rights/right.ts'
import type { Store, StoredTask } from '../../src/store/store.ts'
import { Blocks } from './blocks.ts'
import { FetchStarter, type FetchStartOptions, type OriginRecord } from './fetch-start.ts'
import { checkSize, type FallBack, Ways, type WaysOptions } from './fetch-strategies.ts'
import { LeadOpener } from './lead-open.ts'
import { type BlobRequest, LocalRights } from './local-rights.ts'
import { OpenContent } from './open-content.ts'
import type { OwnReadsParts } from './own-reads.ts'
import type { Running } from './running.ts'

export interface EngineOptions extends WaysOptions, FetchStartOptions {
  /** Fetches that run at once; more are refused with LIMIT_EXCEEDED. */
  readonly maxRunning: number
}

export interface EngineParts extends OwnReadsParts {
  /** This host. */
  readonly self: PeerId
  readonly store: Store
  readonly scheduler: SchedulerPort
  readonly exchange: PieceExchange
  readonly rights: Rights
  readonly came: CameBook
  readonly origins?: OriginRecord
}

interface AskOptions {
  readonly signal: AbortSignal
  /** How long a fetch may stand still without a supernode before it goes to the origin; by default `stallMs`. */
  readonly aloneMs?: number
}

export class Engine implements ContentSource, AsyncDisposable {
  readonly #options: EngineOptions
  readonly #parts: EngineParts
  readonly #running = new Map<string, Promise<Running>>()
  /** What began each of them: others with the same credential may have what it brings. */
  readonly #begunBy = new WeakMap<Promise<Running>, ContentRequest>()
  readonly #work = new Set<Promise<unknown>>()
  /** What ends each of them, also while it still waits for the supernode or its origin. */
  readonly #enders = new Set<AbortController>()
  readonly #starter: FetchStarter
  readonly #blocks = new Blocks()
  readonly #rights: LocalRights
  #closed = false

  constructor(options: EngineOptions, parts: EngineParts) {
    this.#options = options
    this.#parts = parts
    const leads = new LeadOpener(parts)
    const mayFallBack: FallBack = (error, what, fromOrigin) => this.#mayFallBack(error, what, fromOrigin)
    this.#rights = new LocalRights(parts)
    const ways = new Ways(options, { ...parts, leads, local: this.#rights, mayFallBack })
    this.#starter = new FetchStarter(options, { ...parts, leads, ways, mayFallBack })
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

  async openHeld(digest: Digest): Promise<Content | undefined> {
    const here = this.#parts.store.byDigest(digest)
    return here?.complete ? this.#held(here) : undefined
  }

  async right(request: BlobRequest, options: { signal: AbortSignal }): Promise<void> {
    const never = this.#options.fromOrigin === 'never' ? { fromOrigin: 'never' as const } : {}
    await this.#rights.show({ ...request, ...never }, options)
  }

  /** A blob that is here whole is given to all hosts of the swarm. */
  puts(task: TaskId): void {
    this.#parts.came.note(task, { place: PUT_PLACE, anybody: true }, { empty: true })
  }

  /**
   * As {@link open}, with the stored task in reach: for readers that take pieces in the order in which they land. Whatever is here
   * is opened for the asker's own right, which is asked for anew, or was shown lately.
   */
  async openStored(request: ContentRequest, { signal, aloneMs }: AskOptions): Promise<OpenContent> {
    if (this.#closed) throw new DarnerError('CLOSED', `${originName(request.origin)}: the agent is stopping`)
    const key = request.digest ?? `${request.origin.kind} ${JSON.stringify(request.origin)}`
    for (;;) {
      const here = request.digest === undefined ? undefined : this.#parts.store.byDigest(request.digest)
      if (here?.complete) {
        await this.#show(request, here.task, { signal })
        checkSize(request, here.task)
        return this.#held(here)
      }
      const known = this.#running.get(key)
      if (known !== undefined) {
        const joins = await this.#mayJoin(known, request, { signal })
        if (!joins || this.#running.get(key) !== known) continue
      }
      const running = await abortable(known ?? this.#begin(key, request, aloneMs), signal)
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

  async manifest(request: ManifestRequest, { signal }: { signal: AbortSignal }): Promise<ManifestAnswer> {
    try {
      await this.#parts.scheduler.reachable({ signal })
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

  #held(stored: StoredTask): OpenContent {
    const lease = this.#parts.store.lease(stored.task.id, 'reader')
    return new OpenContent({
      stored,
      fetching: undefined,
      blocks: this.#blocks,
      release: async () => lease[Symbol.dispose](),
    })
  }

  /** The right of an asker to a blob that is here, or on its way. Throws the refusal. */
  async #show(request: ContentRequest, task: Task, options: { signal: AbortSignal }): Promise<void> {
    const { digest } = task
    if (digest !== undefined) await this.right({ ...request, digest, bytes: task.bytes }, options)
  }

  /**
   * An asker with the same credential as the running fetch shares it. Any other asker shows a right first, as for what is here. Of a URL's
   * content without a digest the origin is asked for that. Nobody joins a fetch that may bring what came of a place which was wrong before.
   * False once that fetch is over, for these and for hosts that ask no origin, and when it came to nothing. Throws the refusal.
   */
  async #mayJoin(
    running: Promise<Running>,
    request: ContentRequest,
    options: { signal: AbortSignal },
  ): Promise<boolean> {
    const { origin, digest, credential, fromOrigin = this.#options.fromOrigin, wrongAt = [] } = request
    const { signal } = options
    const begun = this.#begunBy.get(running)
    const avoids = (place: Origin) => begun?.wrongAt?.some((one) => isDeepStrictEqual(one, place)) === true
    if (wrongAt.every(avoids)) {
      if (sameAsker(begun, request)) return true
      const started = await abortable(
        running.catch(() => undefined),
        signal,
      )
      // the refusal of another asker isn't ours
      if (started === undefined) return false
      if (digest !== undefined) {
        await this.#show(request, started.stored.task, options)
        return true
      }
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

  #begin(key: string, request: ContentRequest, aloneMs?: number): Promise<Running> {
    if (this.#running.size >= this.#options.maxRunning) {
      throw new DarnerError(
        'LIMIT_EXCEEDED',
        `${originName(request.origin)}: ${this.#running.size} fetches run already`,
        { way: 'try again when some are done' },
      )
    }
    const starting = this.#start(key, request, aloneMs)
    this.#running.set(key, starting)
    this.#begunBy.set(starting, request)
    starting.catch(() => {
      if (this.#running.get(key) === starting) this.#running.delete(key)
    })
    return starting
  }

  async #start(key: string, request: ContentRequest, aloneMs = this.#options.stallMs): Promise<Running> {
    const controller = new AbortController()
    this.#enders.add(controller)
    let running: Running
    try {
      running = await this.#starter.start(request, controller, aloneMs)
    } catch (error) {
      this.#enders.delete(controller)
      throw error
    }
    const over = running.whole.then(
      () => {},
      () => {},
    )
    this.#work.add(over)
    void over.then(() => {
      if (!running.stored.complete) this.#parts.store.left(running.stored)
      this.#work.delete(over)
      this.#enders.delete(controller)
      void this.#running.get(key)?.then(
        (now) => now === running && this.#running.delete(key),
        () => {},
      )
    })
    return running
  }

  /** The reason for a fallback, or throws `error` where none is allowed. */
  #mayFallBack(error: unknown, what: string, fromOrigin = this.#options.fromOrigin): DarnerError {
    const known = asDarnerError(error, what)
    if (this.#closed || !isDarnerError(known, ...SCHEDULER_UNREACHABLE) || fromOrigin === 'never') throw known
    this.#parts.log.warn({ origin: what, error: known.message }, 'falling back to the origin')
    return known
  }
}

/** Whether two requests are one asker's for one place. */
function sameAsker(one: ContentRequest | undefined, other: ContentRequest): boolean {
  return (
    isDeepStrictEqual(one?.origin, other.origin) &&
    isDeepStrictEqual(one?.credential, other.credential) &&
    one?.preheat === other.preheat
  )
}

/** Those of them that are there. */
async function began(all: readonly Promise<Running | undefined>[]): Promise<Running[]> {
  const settled = await Promise.allSettled(all)
  return settled.flatMap((one) => (one.status === 'fulfilled' && one.value !== undefined ? [one.value] : []))
}
