/** How a task comes to be at the seed: from what is in the store, or by the first read at the origin, which states its length. */
import type { OriginRead } from '../../src/core/contracts/origin.ts'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import { type Credential, originName } from '../../src/core/task/origin.ts'
import { blobTask, MAX_TASK_BYTES, pieceBytesFor, type Task, type TaskId } from '../../src/core/task/task.ts'
import { placeOf } from '../../src/rights/place.ts'
import { type Rights, TROUBLE } from '../../src/rights/right.ts'
import type { Store, StoredTask } from '../../src/store/store.ts'
import { type Access, type AccessBook, checkedLength, settle } from './access-book.ts'
import { type FirstReadParts, firstRead, type SeedRequest, unread } from './first-read.ts'
import { askerOf, type Grants } from './grants.ts'
import type { SeedTask } from './seed-task.ts'
import { type UrlNames, urlTaskId } from './url-names.ts'

export interface TaskOpenerOptions {
  readonly attempts: number
  readonly maxTaskBytes: number
}

/** What the seed does with a task that is open: it may have it already, and a read may be under way. */
export interface Adopted {
  readonly stored: StoredTask
  readonly request: SeedRequest
  readonly access: Access
  readonly read?: OriginRead | undefined
  readonly credential?: Credential | undefined
  /** How often its read was tried already. */
  readonly broken?: number
}

export interface TaskOpenerParts extends FirstReadParts {
  readonly store: Store
  readonly access: AccessBook
  readonly rights: Rights
  readonly grants: Grants
  readonly urls: UrlNames
  readonly adopt: (adopted: Adopted) => SeedTask
  readonly read: (task: TaskId, bytes: number, reason: ReadReason) => void
}

export interface Opened {
  readonly task: SeedTask
  readonly access: Access
}

export class TaskOpener {
  readonly #options: TaskOpenerOptions
  readonly #parts: TaskOpenerParts

  constructor(options: TaskOpenerOptions, parts: TaskOpenerParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Throws the origin's refusal, SIZE_MISMATCH, LIMIT_EXCEEDED. */
  async open(asked: SeedRequest, signal: AbortSignal): Promise<Opened> {
    const { digest, origin } = asked
    const { attempts } = this.#options
    const place = placeOf(origin)
    const kept = digest === undefined ? undefined : await this.#kept(digest, asked, signal)
    if (kept !== undefined) return kept
    const access: Access =
      digest === undefined ? { served: new Map() } : await this.#parts.access.load(digest as string as TaskId)
    const request = { ...asked, bytes: checkedLength(asked, access) }
    // without a credential first: content that anybody may read needs no question about rights later
    const { read, open } = await firstRead(request, this.#parts, { attempts, signal }).catch((error: unknown) => {
      const served = access.served.get(place)
      if (served !== undefined && served.open === undefined) throw error
      return unread(error, request)
    })
    const unasked = read === undefined ? { unasked: true } : {}
    access.reading = access.served.has(place) ? undefined : { place, ...(open ? { open: origin } : {}), ...unasked }
    const credential = open ? undefined : request.credential
    const asker = open ? { origin } : request
    if (read !== undefined && read.bytes === undefined && request.bytes === undefined) {
      const opened = await this.#spool(request, read, access, signal)
      this.#parts.rights.accepted(askerOf(opened.task.task, asker))
      return opened
    }
    // the first read was tried so often already: another host is to try it soon
    const broken = read === undefined ? attempts - 1 : 0
    const task = this.#geometry(request, read)
    const stored = await this.#parts.store.create(task, { signal })
    if (read !== undefined) this.#parts.rights.accepted(askerOf(task, asker))
    if (stored.complete) {
      // an earlier run read all of it: what a URL's task is known by names the place, which so has served the whole
      await read?.[Symbol.asyncDispose]()
      await this.#parts.store.cut(stored, { signal })
      if (digest === undefined) settle(access, task.bytes, this.#parts.clock.now())
    }
    await this.#parts.access.save(task.id, access)
    if (digest === undefined) this.#parts.urls.believe(request.origin, task.id)
    const running = stored.complete ? undefined : read
    return { task: this.#parts.adopt({ stored, request, access, read: running, credential, broken }), access }
  }

  /** What an earlier run left of a blob, whole or partial, if its readers' rights are known. */
  async #kept(digest: Digest, request: SeedRequest, signal: AbortSignal): Promise<Opened | undefined> {
    const { store, access: book } = this.#parts
    const stored = store.byDigest(digest) ?? (await store.reopen(digest as string as TaskId, { signal }))
    if (stored === undefined) return undefined
    const access = await book.load(stored.task.id)
    const place = placeOf(request.origin)
    if (!stored.complete && access.reading?.place !== place && !access.served.has(place)) {
      // a partial blob of another place would be shown to readers of this place, and may be wrong besides
      await stored.discard(new DarnerError('PIECE_ABSENT', `${digest}: read anew through ${place}`))
      return undefined
    }
    if (stored.complete) {
      await store.cut(stored, { signal })
      return { task: this.#parts.adopt({ stored, request, access }), access }
    }
    const credential = await this.#goesOn(stored.task, access, request, signal)
    return { task: this.#parts.adopt({ stored, request, access, credential }), access }
  }

  /** With which credential a half-done read goes on. Throws the refusal: an asker without a right begins no read. */
  async #goesOn(
    task: Task,
    access: Access,
    request: SeedRequest,
    signal: AbortSignal,
  ): Promise<Credential | undefined> {
    const { reading, served } = access
    const place = placeOf(request.origin)
    const open = reading === undefined ? served.get(place)?.open?.origin : reading.open
    try {
      if (open !== undefined) {
        await this.#parts.grants.ask(task, access, { origin: open }, { signal })
        return undefined
      }
    } catch (error) {
      signal.throwIfAborted()
      if (isDarnerError(error, ...TROUBLE)) {
        unread(error, { bytes: task.bytes, ...request })
        if (reading !== undefined) access.reading = { ...reading, unasked: true }
        return undefined
      }
      if (!isDarnerError(error)) throw error
    }
    await this.#parts.grants.ask(task, access, request, { signal })
    if (reading !== undefined) access.reading = { place }
    return request.credential
  }

  /** An origin that states no length is read to its end first; then the blob's length and digest are known. */
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
    this.#parts.read(stored.task.id, bytes, 'first read, of an origin that tells no length')
    await store.cut(stored, { signal })
    settle(access, stored.task.bytes, this.#parts.clock.now())
    await book.save(stored.task.id, access)
    if (request.digest === undefined) this.#parts.urls.believe(request.origin, stored.task.id)
    return { task: this.#parts.adopt({ stored, request, access }), access }
  }

  #geometry(request: SeedRequest, read: OriginRead | undefined): Task {
    const bytes = read?.bytes ?? request.bytes ?? 0
    if (bytes > Math.min(this.#options.maxTaskBytes, MAX_TASK_BYTES))
      throw tooLarge(request, bytes, this.#options.maxTaskBytes)
    if (request.bytes !== undefined && bytes !== request.bytes) {
      throw new DarnerError(
        'SIZE_MISMATCH',
        `${request.digest ?? originName(request.origin)}: the manifest states ${request.bytes} bytes, the origin has ${bytes}`,
      )
    }
    if (request.digest !== undefined) return blobTask(request.digest, bytes)
    return { id: urlTaskId(request.origin, read ?? {}), bytes, pieceBytes: pieceBytesFor(bytes) }
  }
}

/** LIMIT_EXCEEDED: the content is longer than the seed takes. */
export function tooLarge({ origin }: SeedRequest, bytes: number, limit: number): DarnerError {
  return new DarnerError('LIMIT_EXCEEDED', `${originName(origin)}: ${bytes} bytes are over the limit of ${limit}`)
}
