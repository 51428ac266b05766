/**
 * The seed: the first full holder of each blob. It reads at the origin under one lease per blob, shared by all askers, and
 * decides who may have the bytes: whoever the origin itself would serve.
 */
import { createHash } from 'node:crypto'
import type { Clock, Random } from '../../src/base/clock.ts'
import { type DarnerError, DarnerError as Failure, isDarnerError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import type { Scope } from '../../src/base/scope.ts'
import { abortable } from '../../src/base/signals.ts'
import type { OriginPort, OriginRead, Version } from '../../src/contracts/origin.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { Store, StoredTask } from '../../src/store/store.ts'
import { type Credential, type Origin, originName } from '../../src/task/origin.ts'
import { blobTask, MAX_TASK_BYTES, pieceBytesFor, type Task, type TaskId } from '../../src/task/task.ts'
import type { AccessBook } from './access-book.ts'
import { type Access, type CredentialNames, carriesRights, isPublic, scopeOf, unproven } from './scope.ts'
import { type Lent, SeedTask } from './seed-task.ts'

export interface SeedOptions {
  readonly attempts: number
  readonly ingestDepth: number
  readonly maxTaskBytes: number
  /** How long an origin's yes to a credential is kept. */
  readonly rightMs: number
  /** How long a URL's validator is believed without asking again. */
  readonly validatorMs: number
}

export interface SeedParts {
  readonly store: Store
  readonly origin: OriginPort
  readonly access: AccessBook
  readonly names: CredentialNames
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly scope: Scope
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
}

/** What the owner hears of all tasks; each names its task. */
export interface SeedListener {
  known(task: SeedTask, from: number, count: number): void
  sealed(task: SeedTask, digest: Digest): void
  failed(task: SeedTask, error: DarnerError): void
  read(task: TaskId, bytes: number, reason: string): void
  /** The origin can't be read from here: who reads it for us? `open`: without a credential. */
  lend(task: SeedTask, open: boolean, failure: DarnerError, options: { signal: AbortSignal }): Promise<Lent | undefined>
}

export interface SeedRequest {
  readonly origin: Origin
  readonly digest?: Digest | undefined
  readonly bytes?: number | undefined
  readonly credential?: Credential | undefined
}

/** A followed task, and the scope under which the asker may read it. */
export interface Granted {
  readonly task: SeedTask
  /** `public` or the scope that accepted the asker's credential; marked while that has not served the whole blob yet. */
  readonly scope: string
}

/** Somebody's question about a blob, that others share. */
interface Opening {
  readonly answer: Promise<Opened>
  /** Whose rights it was asked with. */
  readonly who: string
}

interface Opened {
  readonly task: SeedTask
  readonly access: Access
}

/** How often an asker shares in another's refusal before it asks the origin by itself. */
const MAX_SHARED_REFUSALS = 3

export class Seed {
  readonly #options: SeedOptions
  readonly #parts: SeedParts
  readonly #listener: SeedListener
  readonly #tasks = new Map<TaskId, SeedTask>()
  readonly #access = new Map<TaskId, Access>()
  /** By digest, or by URL for content that has none yet. */
  readonly #opening = new Map<string, Opening>()
  readonly #urls = new Map<string, { id: TaskId; untilMs: number }>()
  readonly #rights = new Map<string, { answer: Promise<void>; untilMs: number }>()

  constructor(options: SeedOptions, parts: SeedParts, listener: SeedListener) {
    this.#options = options
    this.#parts = parts
    this.#listener = listener
  }

  /** The task, when the seed holds or reads it now. */
  find(id: TaskId): SeedTask | undefined {
    return this.#tasks.get(id)
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
      throw this.#tooLarge(request, request.bytes)
    for (let attempt = 0; ; attempt++) {
      const key = await this.#key(request, signal)
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
      if (this.#outranks(request, opened)) {
        // a place that has proven itself isn't held up by one that has not
        const { task } = opened.task
        const reason = new Failure('TASK_FAILED', `${task.id}: read anew through another place`)
        this.drop(task.id)
        this.#opening.delete(key)
        this.#listener.failed(opened.task, reason)
        await opened.task.stored.discard(reason)
        continue
      }
      if (request.bytes !== undefined && request.bytes !== opened.task.task.bytes) {
        throw new Failure(
          'SIZE_MISMATCH',
          `${opened.task.task.id}: the manifest states ${request.bytes} bytes, the blob has ${opened.task.task.bytes}`,
        )
      }
      return { task: opened.task, scope: await this.#right(opened, request, signal) }
    }
  }

  #outranks({ origin }: SeedRequest, { task, access }: Opened): boolean {
    const { reading } = access
    if (reading === undefined || task.stored.complete || task.error !== undefined) return false
    const scope = scopeOf(origin)
    return scope !== reading.scope && access.scopes.has(scope)
  }

  /** Under which scope a follower of this task reads now: what was unproven at first may be proven since. */
  scopeNow(id: TaskId, scope: string): string {
    const access = this.#access.get(id)
    if (access === undefined || !scope.startsWith(unproven(''))) return scope
    if (isPublic(access)) return 'public'
    const bare = scope.slice(unproven('').length)
    return access.scopes.has(bare) ? bare : scope
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
    for (const [url, known] of this.#urls) if (known.id === id) this.#urls.delete(url)
  }

  #tooLarge(request: SeedRequest, bytes: number): DarnerError {
    return new Failure(
      'LIMIT_EXCEEDED',
      `${originName(request.origin)}: ${bytes} bytes are over the limit of ${this.#options.maxTaskBytes}`,
    )
  }

  /** A digest is its own key. A URL is keyed by what its content is now: address and validator, asked again when old. */
  async #key(request: SeedRequest, signal: AbortSignal): Promise<string> {
    if (request.digest !== undefined) return request.digest
    const url = urlKey(request.origin)
    const known = this.#urls.get(url)
    if (known === undefined || known.untilMs > this.#parts.clock.monotonicMs()) return url
    const version = await this.#parts.origin.stat(
      { origin: request.origin },
      {
        credential: request.credential,
        signal,
      },
    )
    const now = urlTaskId(url, version)
    if (now === known.id) known.untilMs = this.#parts.clock.monotonicMs() + this.#options.validatorMs
    else {
      this.#urls.delete(url)
      this.#opening.delete(url)
    }
    return url
  }

  /** The same answer is due to all who ask the same place with the same credential. */
  #who({ origin, credential }: SeedRequest): string {
    return `${scopeOf(origin)} ${this.#parts.names.of(credential)}`
  }

  #begin(key: string, request: SeedRequest): Opening {
    const opening = { answer: this.#open(request, this.#parts.scope.signal), who: this.#who(request) }
    this.#opening.set(key, opening)
    opening.answer.catch(() => {
      if (this.#opening.get(key) === opening) this.#opening.delete(key)
    })
    return opening
  }

  async #open(request: SeedRequest, signal: AbortSignal): Promise<Opened> {
    const { digest } = request
    const scope = scopeOf(request.origin)
    const kept = digest === undefined ? undefined : await this.#kept(digest, request, signal)
    if (kept !== undefined) return kept
    // without a credential first: content that anybody may read needs no question about rights later
    const { read, open } = await this.#firstRead(request, signal).catch((error: unknown) => unread(error, request))
    const access: Access =
      digest === undefined ? { scopes: new Map() } : await this.#parts.access.load(digest as string as TaskId)
    if (access.scopes.has(scope)) access.scopes.set(scope, open)
    access.reading = access.scopes.has(scope) ? undefined : { scope, open }
    const credential = open ? undefined : request.credential
    if (read !== undefined && read.bytes === undefined && request.bytes === undefined)
      return await this.#spool(request, read, access, signal)
    const task = this.#geometry(request, read)
    const stored = await this.#parts.store.create(task, { signal })
    await this.#parts.access.save(task.id, access)
    if (digest === undefined) this.#believe(request.origin, task.id)
    return { task: this.#adopt(stored, request, read, credential, access), access }
  }

  /** What an earlier run left of a blob, whole or half done, where it is known who may read it. */
  async #kept(digest: Digest, request: SeedRequest, signal: AbortSignal): Promise<Opened | undefined> {
    const { store, access: book } = this.#parts
    const stored = store.byDigest(digest) ?? (await store.reopen(digest as string as TaskId, { signal }))
    if (stored === undefined) return undefined
    const access = await book.load(stored.task.id)
    const scope = scopeOf(request.origin)
    const open = access.scopes.get(scope) ?? (access.reading?.scope === scope ? access.reading.open : undefined)
    if (!stored.complete && open === undefined) {
      // half a blob of another place would be shown to whoever this place serves, and may be wrong besides
      await stored.discard(new Failure('PIECE_ABSENT', `${digest}: read anew through ${scope}`))
      return undefined
    }
    if (stored.complete) await store.cut(stored, { signal })
    return { task: this.#adopt(stored, request, undefined, open ? undefined : request.credential, access), access }
  }

  /** An origin that tells no length is read to its end first; then the blob's length and digest are known. */
  async #spool(request: SeedRequest, read: OriginRead, access: Access, signal: AbortSignal): Promise<Opened> {
    const { store, access: book } = this.#parts
    let bytes = 0
    const counted = async function* () {
      for await (const chunk of read.stream) {
        bytes += chunk.byteLength
        yield chunk
      }
    }
    const stored = await store.ingest(counted(), {
      maxBytes: this.#options.maxTaskBytes,
      signal,
      ...(request.digest === undefined ? {} : { expectedDigest: request.digest }),
    })
    this.#listener.read(stored.task.id, bytes, 'first read, of an origin that tells no length')
    await store.cut(stored, { signal })
    settle(access)
    await book.save(stored.task.id, access)
    if (request.digest === undefined) this.#believe(request.origin, stored.task.id)
    return { task: this.#adopt(stored, request, undefined, undefined, access), access }
  }

  /** For a while the URL is taken to hold this content without asking again. */
  #believe(origin: Origin, id: TaskId): void {
    this.#urls.set(urlKey(origin), { id, untilMs: this.#parts.clock.monotonicMs() + this.#options.validatorMs })
  }

  async #firstRead(request: SeedRequest, signal: AbortSignal): Promise<{ read: OriginRead; open: boolean }> {
    const { origin, digest, credential } = request
    const { clock, random, retryMs, log } = this.#parts
    const target = { origin, ...(digest === undefined ? {} : { digest }) }
    for (let attempt = 1; ; attempt++) {
      try {
        return { read: await this.#parts.origin.read(target, { signal }), open: !carriesRights(origin) }
      } catch (error) {
        if (
          // FORBIDDEN: a token that anybody may have is given out where it may not be asked for; one's own may do
          isDarnerError(error, 'ORIGIN_UNAUTHORIZED', 'ORIGIN_DENIED', 'ORIGIN_NOT_FOUND', 'ORIGIN_FORBIDDEN') &&
          credential !== undefined
        ) {
          return { read: await this.#parts.origin.read(target, { credential, signal }), open: false }
        }
        const waitMs = attempt >= this.#options.attempts ? undefined : retryMs(error, attempt, random)
        if (waitMs === undefined) throw error
        log.warn({ origin: originName(origin), attempt, waitMs, error: (error as Error).message }, 'origin not read')
        await clock.sleep(waitMs, { signal })
      }
    }
  }

  #geometry(request: SeedRequest, read: OriginRead | undefined): Task {
    const bytes = read?.bytes ?? request.bytes ?? 0
    if (bytes > Math.min(this.#options.maxTaskBytes, MAX_TASK_BYTES)) throw this.#tooLarge(request, bytes)
    if (request.bytes !== undefined && bytes !== request.bytes) {
      throw new Failure(
        'SIZE_MISMATCH',
        `${request.digest ?? originName(request.origin)}: the manifest states ${request.bytes} bytes, the origin has ${bytes}`,
      )
    }
    if (request.digest !== undefined) return blobTask(request.digest, bytes)
    return { id: urlTaskId(urlKey(request.origin), read ?? {}), bytes, pieceBytes: pieceBytesFor(bytes) }
  }

  #adopt(
    stored: StoredTask,
    request: SeedRequest,
    read: OriginRead | undefined,
    credential: Credential | undefined,
    access: Access,
  ): SeedTask {
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
        readScope: stored.complete ? undefined : access.reading && unproven(access.reading.scope),
        version: request.digest === undefined ? read : undefined,
        attempts: this.#options.attempts,
        ingestDepth: this.#options.ingestDepth,
      },
      {
        stored,
        originPort: origin,
        clock,
        random,
        retryMs,
        log,
        lend: (failure, options) => this.#listener.lend(task, credential === undefined, failure, options),
      },
      {
        known: (from, count) => this.#listener.known(task, from, count),
        sealed: (digest) => {
          settle(access)
          this.#parts.access.save(id, access).catch(() => {})
          this.#listener.sealed(task, digest)
        },
        failed: (error) => {
          // it may have made way for another read of the same blob
          if (this.#tasks.get(id) !== task) return
          if (access.reading !== undefined && isDarnerError(error, 'DIGEST_MISMATCH', 'SIZE_MISMATCH')) {
            log.warn({ taskId: id, scope: access.reading.scope, error: error.message }, 'origin served other bytes')
            access.reading = undefined
            this.#parts.access.save(id, access).catch(() => {})
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

  /** Whether the asker may read, and under which scope. */
  async #right({ task, access }: Opened, request: SeedRequest, signal: AbortSignal): Promise<string> {
    if (isPublic(access)) return 'public'
    const scope = scopeOf(request.origin)
    const { reading } = access
    if (!access.scopes.has(scope) && reading !== undefined && (reading.open || reading.scope === scope)) {
      if (!reading.open) await this.#ask(scope, request, task.task.digest, signal)
      return this.scopeNow(task.task.id, unproven(reading.scope))
    }
    if (!access.scopes.has(scope)) await this.#prove(task, access, request, scope)
    if (isPublic(access)) return 'public'
    await this.#ask(scope, request, task.task.digest, signal)
    return scope
  }

  /** One HEAD with the asker's own credential, shared with all who ask with the same one, and kept for minutes. */
  async #ask(scope: string, request: SeedRequest, digest: Digest | undefined, signal: AbortSignal): Promise<void> {
    const key = `${scope} ${digest ?? ''} ${this.#parts.names.of(request.credential)}`
    const now = this.#parts.clock.monotonicMs()
    for (const [old, { untilMs }] of this.#rights) {
      if (untilMs > now) break
      this.#rights.delete(old)
    }
    let right = this.#rights.get(key)
    if (right === undefined || right.untilMs <= now) {
      const answer = this.#parts.origin
        .stat(
          { origin: request.origin, ...(digest === undefined ? {} : { digest }) },
          { credential: request.credential, signal: this.#parts.scope.signal },
        )
        .then(() => {})
      right = { answer, untilMs: now + this.#options.rightMs }
      this.#rights.delete(key)
      this.#rights.set(key, right)
      answer.catch(() => this.#rights.delete(key))
    }
    await abortable(right.answer, signal)
  }

  /** Another scope counts once the same blob came through it whole. The bytes are hashed and let go. */
  async #prove(task: SeedTask, access: Access, request: SeedRequest, scope: string): Promise<void> {
    const { digest, bytes } = task.task
    if (digest === undefined)
      throw new Failure('CAPABILITY_REFUSED', `${scope}: content without a digest is only shared where it was read`)
    const signal = this.#parts.scope.signal
    const { read, open } = await this.#firstRead({ ...request, digest }, signal)
    const hash = createHash(digest.startsWith('sha512:') ? 'sha512' : 'sha256')
    let seen = 0
    for await (const chunk of read.stream) {
      seen += chunk.byteLength
      if (seen > bytes) break
      hash.update(chunk)
      this.#listener.read(task.task.id, chunk.byteLength, `proof that ${scope} holds it`)
    }
    if (seen !== bytes || !digest.endsWith(`:${hash.digest('hex')}`)) {
      throw new Failure('DIGEST_MISMATCH', `${digest}: ${scope} served other bytes under this digest`)
    }
    access.scopes.set(scope, open)
    await this.#parts.access.save(task.task.id, access)
  }
}

/**
 * An origin that fails in a way that can pass may be read by another host, if it is known what to expect of it: then what it
 * serves without a credential is had so. Rights can't be asked there now, so nothing else is. Throws `error` otherwise.
 */
function unread(error: unknown, { origin, digest, bytes }: SeedRequest): { read: undefined; open: true } {
  if (digest === undefined || bytes === undefined || carriesRights(origin)) throw error
  if (!isDarnerError(error) || !error.facts.retry) throw error
  return { read: undefined, open: true }
}

/** The place that was read through has served the whole blob. */
function settle(access: Access): void {
  const { reading } = access
  if (reading === undefined) return
  access.scopes.set(reading.scope, reading.open)
  access.reading = undefined
}

/** What of a URL request the content depends on. */
function urlKey(origin: Origin): string {
  if (origin.kind === 'registry')
    throw new Failure('BAD_ARGUMENT', `${originName(origin)}: a registry's blob is named by its digest`)
  const headers = Object.entries(origin.headers ?? {})
    .map(([name, value]) => [name.toLowerCase(), value])
    .sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
  return JSON.stringify([scopeOf(origin), headers])
}

function urlTaskId(url: string, version: Version): TaskId {
  const name = digestOf(JSON.stringify([url, version.etag ?? '', version.lastModified ?? '', version.bytes ?? -1]))
  return `url:${name.slice('sha256:'.length)}` as TaskId
}
