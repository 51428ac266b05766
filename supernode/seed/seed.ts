/**
 * The seed: the first full holder of each blob. It reads each blob at the origin under one lease, shared by all askers. It gives the bytes
 * only to askers that the origin itself would serve.
 */

import { LRUCache } from 'lru-cache'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, type DarnerError, DarnerError as Failure, isDarnerError } from '../../src/core/errors.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import type { Scope } from '../../src/core/scope.ts'
import { abortable } from '../../src/core/signals.ts'
import type { Task, TaskId } from '../../src/core/task/task.ts'
import { upTo } from '../../src/core/up-to.ts'
import type { Grant } from '../../src/protocol/pass.ts'
import type { Came } from '../../src/rights/came.ts'
import { carriesRights, placeOf } from '../../src/rights/place.ts'
import type { Rights } from '../../src/rights/right.ts'
import { PiecePool } from '../../src/store/partial/piece-pool.ts'
import type { Store } from '../../src/store/store.ts'
import { type Access, type AccessBook, checkedLength, settle } from './access-book.ts'
import type { FirstReadParts, SeedRequest } from './first-read.ts'
import { Grants } from './grants.ts'
import { type LendOptions, type Lent, SeedTask } from './seed-task.ts'
import { type Adopted, type Opened, TaskOpener, tooLarge } from './task-opener.ts'
import { UnprovenReads } from './unproven-reads.ts'
import { UrlNames } from './url-names.ts'

export interface SeedOptions {
  readonly attempts: number
  readonly ingestDepth: number
  readonly maxTaskBytes: number
  /** How long a URL's validator is believed without asking again. */
  readonly validatorMs: number
  /** Nothing to speak of came this long through a place that has proven nothing: other places need not wait for it. */
  readonly rivalMs: number
}

export interface SeedParts extends FirstReadParts {
  readonly store: Store
  readonly access: AccessBook
  readonly rights: Rights
  readonly scope: Scope
}

/** The owner's callbacks of all tasks; each names its task. */
export interface SeedListener {
  known(task: SeedTask, from: number, count: number): void
  sealed(task: SeedTask, digest: Digest): void
  failed(task: SeedTask, error: DarnerError): void
  read(task: TaskId, bytes: number, reason: ReadReason): void
  /** The origin can't be read from here: returns another reader. `open`: without a credential. */
  lend(task: SeedTask, open: boolean, failure: DarnerError, options: LendOptions): Promise<Lent | undefined>
}

/** A followed task, and what the asker may read of it. */
export interface Granted {
  readonly task: SeedTask
  readonly grant: Grant
}

/** Somebody's question about a blob, that others share. */
interface Opening {
  readonly answer: Promise<Opened>
  /** Whose rights it was asked with. */
  readonly who: string
}

/** How often an asker shares in another's refusal before it asks the origin by itself. */
const MAX_SHARED_REFUSALS = 3

/** Places that are remembered for having stalled, or served other bytes. */
const MAX_DOUBTED = 1024

export class Seed {
  readonly #options: SeedOptions
  readonly #parts: SeedParts
  readonly #listener: SeedListener
  readonly #tasks = new Map<TaskId, SeedTask>()
  readonly #access = new Map<TaskId, Access>()
  /** By digest, or by URL for content that has none yet. */
  readonly #opening = new Map<string, Opening>()
  readonly #urls: UrlNames
  readonly #grants: Grants
  readonly #opener: TaskOpener
  readonly #pool = new PiecePool()
  readonly #unproven = new UnprovenReads()
  /** Places whose unproven reads nobody else waits for any more. */
  readonly #doubted = new LRUCache<string, true>(upTo(MAX_DOUBTED))

  constructor(options: SeedOptions, parts: SeedParts, listener: SeedListener) {
    this.#options = options
    this.#parts = parts
    this.#listener = listener
    this.#urls = new UrlNames(options, parts)
    this.#grants = new Grants(options, {
      ...parts,
      unproven: this.#unproven,
      signal: parts.scope.signal,
      read: (task, bytes, reason) => listener.read(task, bytes, reason),
    })
    this.#opener = new TaskOpener(options, {
      ...parts,
      grants: this.#grants,
      urls: this.#urls,
      adopt: (adopted) => this.#adopt(adopted),
      read: (task, bytes, reason) => listener.read(task, bytes, reason),
    })
  }

  /** The task, when the seed holds or reads it now. */
  find(id: TaskId): SeedTask | undefined {
    return this.#tasks.get(id)
  }

  /** Whether the seed holds any of a blob, or is about to. */
  knows(digest: Digest): boolean {
    const id = digest as string as TaskId
    return this.#opening.has(digest) || this.#tasks.has(id) || this.#parts.store.byDigest(digest) !== undefined
  }

  tasks(): Iterable<SeedTask> {
    return this.#tasks.values()
  }

  /**
   * The task that `request` means, its geometry known and its read under way or done, if the asker may have it. Throws the
   * origin's own refusal (ORIGIN_UNAUTHORIZED, ORIGIN_DENIED, ORIGIN_NOT_FOUND…), SIZE_MISMATCH, LIMIT_EXCEEDED.
   */
  async obtain(request: SeedRequest, { signal }: { signal: AbortSignal }): Promise<Granted> {
    if (request.bytes !== undefined && request.bytes > this.#options.maxTaskBytes)
      throw tooLarge(request, request.bytes, this.#options.maxTaskBytes)
    for (let attempt = 0; ; attempt++) {
      const { key, stale } = await this.#urls.key(request, { signal })
      if (stale) this.#opening.delete(key)
      const known = attempt < MAX_SHARED_REFUSALS ? this.#opening.get(key) : undefined
      const opening = known ?? this.#begin(key, request)
      let opened: Opened
      try {
        opened = await abortable(opening.answer, signal)
      } catch (error) {
        // the refusal of an asker with other rights isn't ours: ask again
        if (
          known !== undefined &&
          known.who !== this.#who(request) &&
          attempt < MAX_SHARED_REFUSALS &&
          isDarnerError(error, 'ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_NOT_FOUND')
        )
          continue
        throw error
      }
      const { task } = opened.task
      if (await this.#isOvertaken(opened, request, signal)) {
        await this.#giveUp(opened, key)
        continue
      }
      if (!(await this.#shares(opened, request, signal))) {
        await this.#giveUp(opened, key)
        continue
      }
      if (opened.task.error !== undefined && known !== undefined) {
        // it failed while this asker waited for it; the asker has a read of its own due
        if (this.#opening.get(key) === opening) this.#opening.delete(key)
        continue
      }
      if (request.bytes !== undefined && request.bytes !== task.bytes) {
        throw new Failure(
          'SIZE_MISMATCH',
          `${task.id}: the manifest states ${request.bytes} bytes, the blob has ${task.bytes}`,
        )
      }
      const grant = await this.#grants.of(task, opened.access, request, { prove: true, signal })
      return { task: opened.task, grant }
    }
  }

  /**
   * What an asker may have of a blob that a host holds. Nothing is read here for it, except by `prove` to see that its place has the blob.
   * Throws as {@link obtain}.
   */
  async grant(
    request: SeedRequest & { readonly digest: Digest },
    options: { prove: boolean; signal: AbortSignal },
  ): Promise<Grant> {
    const id = request.digest as string as TaskId
    const access = this.#access.get(id) ?? (await this.#parts.access.load(id))
    const { digest } = request
    const bytes = checkedLength(request, access)
    return await this.#grants.of({ id, digest, bytes }, access, request, options)
  }

  /** What a follower may read from now on. Throws the refusal of its place. */
  async grantAgain(
    task: Task,
    grant: Grant,
    request: SeedRequest,
    { signal }: { signal: AbortSignal },
  ): Promise<Grant> {
    const access = this.#access.get(task.id)
    if (grant.right === undefined) return grant
    if (access === undefined) {
      const asker = grant.right.anybody && !carriesRights(request.origin) ? { origin: request.origin } : request
      return { right: await this.#grants.ask(task, { served: new Map() }, asker, { signal }), reach: grant.reach }
    }
    return await this.#grants.of(task, access, request, { prove: false, signal })
  }

  /** A read that hosts do for the supernode without a credential makes way for an asker whose own the place accepts again. */
  async #isOvertaken({ task: seed, access }: Opened, request: SeedRequest, signal: AbortSignal): Promise<boolean> {
    const { reading } = access
    const own = reading?.unasked === true && reading.place === placeOf(request.origin)
    if (!own || request.credential === undefined || seed.stored.verified || seed.error !== undefined) return false
    await this.#grants.ask(seed.task, access, request, { signal })
    return !seed.stored.verified && seed.error === undefined
  }

  /**
   * Whether an asker waits for the read under way. A read through another, unproven place is raced by the asker's own place. The first that
   * gives the whole blob is the one that counts. An asker's word alone ends nobody's read.
   */
  async #shares(opened: Opened, request: SeedRequest, signal: AbortSignal): Promise<boolean> {
    const { task, access } = opened
    const place = placeOf(request.origin)
    const elsewhere = () =>
      access.reading !== undefined &&
      access.reading.place !== place &&
      !task.stored.verified &&
      task.error === undefined
    const { reading } = access
    if (reading === undefined || !elsewhere()) return true
    if (access.served.has(place)) return false
    if (request.wrongAt?.some((one) => placeOf(one) === reading.place)) {
      // what is wrong ends by itself as a rule, and the other place is read once then
      await task.ends(this.#options.rivalMs, { signal })
      if (!elsewhere()) return true
      await this.#grants.prove(task.task, access, request, { signal })
      return !elsewhere()
    }
    const alive = !this.#doubted.has(reading.place) && (await task.alive(this.#options.rivalMs, { signal }))
    if (!elsewhere()) return true
    const proof = this.#grants.prove(task.task, access, request, { signal })
    // a reader that is given bytes of the other place before finds out only at the end that they are wrong
    try {
      await (alive ? Promise.race([proof, task.over()]) : proof)
    } catch (error) {
      // a place that doesn't give it has nothing to race with
      if (!alive || reading.open === undefined || !isDarnerError(error)) throw error
      return true
    }
    return !elsewhere()
  }

  /** A read through a place that has proven nothing makes way: its followers fail, the next asker reads anew. */
  async #giveUp({ task: { task }, task: seed, access }: Opened, key: string): Promise<void> {
    const reason = new Failure('TASK_FAILED', `${task.id}: read anew through another place`)
    this.#doubt(access)
    if (this.#tasks.get(task.id) === seed) {
      this.drop(task.id)
      this.#listener.failed(seed, reason)
    }
    this.#opening.delete(key)
    await seed.giveUp(reason)
  }

  #doubt({ reading }: Access): void {
    if (reading === undefined) return
    this.#doubted.set(reading.place, true)
  }

  /** What a follower may read now: of a place that has served the whole blob meanwhile, all. */
  grantNow(id: TaskId, grant: Grant): Grant {
    if (grant.reach !== 'through') return grant
    return this.#access.get(id)?.served.has(grant.right.place) ? { right: grant.right, reach: 'whole' } : grant
  }

  /** Forgets a task that failed or was collected; the next asker starts it anew. */
  drop(id: TaskId): void {
    this.#tasks.delete(id)
    this.#access.delete(id)
    for (const [key, opening] of this.#opening) {
      void opening.answer.then(
        ({ task }) => {
          if (task.task.id === id && this.#opening.get(key) === opening) this.#opening.delete(key)
        },
        () => {},
      )
    }
    this.#urls.forget(id)
  }

  /** All askers of the same place with the same credential get the same answer. */
  #who({ origin, credential }: SeedRequest): string {
    return `${placeOf(origin)} ${this.#parts.rights.nameOf(credential)}`
  }

  #begin(key: string, request: SeedRequest): Opening {
    const over = this.#unproven.begin(request.by)
    const opening = { answer: this.#opener.open(request, this.#parts.scope.signal), who: this.#who(request) }
    this.#opening.set(key, opening)
    void opening.answer
      .then(({ task, access }) => (access.reading === undefined ? undefined : task.over()))
      .then(over, over)
    opening.answer.catch(() => {
      if (this.#opening.get(key) === opening) this.#opening.delete(key)
    })
    return opening
  }

  #adopt({ stored, request, read, credential, access, broken = 0 }: Adopted): SeedTask {
    const known = this.#tasks.get(stored.task.id)
    if (known !== undefined && known.error === undefined) {
      if (read !== undefined) void read[Symbol.asyncDispose]()
      return known
    }
    const { log, clock, random, retryMs, origin } = this.#parts
    const id = stored.task.id
    const task = new SeedTask(
      {
        origin: request.origin,
        credential,
        came: stored.complete ? undefined : cameOf(access),
        version: request.digest === undefined ? read : undefined,
        attempts: this.#options.attempts,
        broken,
        ingestDepth: this.#options.ingestDepth,
      },
      {
        stored,
        originPort: origin,
        clock,
        random,
        retryMs,
        log,
        pool: this.#pool,
        lend: (failure, options) => this.#listener.lend(task, credential === undefined, failure, options),
      },
      {
        known: (from, count) => this.#listener.known(task, from, count),
        sealed: async (digest) => {
          settle(access, stored.task.bytes, clock.now())
          this.#listener.sealed(task, digest)
          await this.#remember(id, access)
        },
        failed: (error) => {
          // it may have made way for another read of the same blob
          if (this.#tasks.get(id) !== task) return
          if (access.reading !== undefined && isDarnerError(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH')) {
            log.warn({ taskId: id, place: access.reading.place, error: error.message }, 'origin served other bytes')
            this.#doubt(access)
            access.reading = undefined
            void this.#remember(id, access)
          }
          this.drop(id)
          this.#listener.failed(task, error)
        },
        read: (bytes, reason) => this.#listener.read(id, bytes, reason),
      },
    )
    this.#tasks.set(id, task)
    this.#access.set(id, access)
    if (!stored.complete) this.#parts.scope.run((signal) => task.run(read, { signal }))
    return task
  }

  /** A record that can't be written costs a question, or a read, later. */
  async #remember(id: TaskId, access: Access): Promise<void> {
    try {
      await this.#parts.access.save(id, access)
    } catch (error) {
      this.#parts.log.warn({ taskId: id, error: asDarnerError(error, 'access record').message }, 'rights not recorded')
    }
  }
}

/** How what is being read comes here. */
function cameOf({ reading }: Access): Came | undefined {
  return reading && { place: reading.place, anybody: reading.open !== undefined }
}
