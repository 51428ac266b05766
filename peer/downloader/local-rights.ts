/**
 * Whether a reader on this host may have a blob that is here, or on its way. Holding a blob gives nobody a right to it. Its place is asked
 * with the reader's own credential: by the supernode, which asks once for all, or by this host while there is none.
 */

import { LRUCache } from 'lru-cache'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { OriginPort } from '../../src/core/contracts/origin.ts'
import type { SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import { SCHEDULER_UNREACHABLE } from '../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import { originName } from '../../src/core/task/origin.ts'
import type { Place } from '../../src/core/task/place.ts'
import type { Task, TaskId } from '../../src/core/task/task.ts'
import { upTo } from '../../src/core/up-to.ts'
import { readPass } from '../../src/protocol/pass.ts'
import { fitsBlob, serves, servesWhole } from '../../src/rights/ask-place.ts'
import type { CameBook } from '../../src/rights/came.ts'
import { carriesRights, placeOf } from '../../src/rights/place.ts'
import { type Accepted, type Asker, type Right, type Rights, TROUBLE } from '../../src/rights/right.ts'
import type { Stray } from '../origin-read-log.ts'

export interface LocalRightsParts {
  readonly rights: Rights
  readonly came: CameBook
  readonly scheduler: SchedulerPort
  readonly origin: OriginPort
  /** This host begins to read at an origin on its own, with why. */
  readonly straying: (task: TaskId, reason: ReadReason) => Stray
}

/** A request for a blob of known digest; `bytes` where its length is known. */
export type BlobRequest = ContentRequest & { readonly digest: Digest }

const ASK_MS = 120_000
const MAX_PROVEN = 16_384

export class LocalRights {
  readonly #parts: LocalRightsParts
  /** Places that are known to have served a blob whole. */
  readonly #proven = new LRUCache<string, true>(upTo(MAX_PROVEN))

  constructor(parts: LocalRightsParts) {
    this.#parts = parts
  }

  /** The right of a reader. Throws the refusal of its place, or why nobody can say. */
  async show(request: BlobRequest, { signal }: { signal: AbortSignal }): Promise<Right> {
    const { rights } = this.#parts
    const asker = askerOf(request)
    const right = await rights.show(asker, () => this.#ask(request), { signal })
    if (this.#covers(right.place, request.digest)) return right
    await this.#prove(request, { signal })
    return right
  }

  /** The supernode has given a pass for the request. */
  passed(request: ContentRequest, pass: Uint8Array): void {
    const { reach, place, anybody, bytes } = readPass(pass)
    // the place could not be asked
    if (reach === 'open' || request.digest === undefined) return
    if (reach === 'whole') this.#noteProven(place, request.digest)
    this.#parts.rights.accepted(askerOf({ ...request, digest: request.digest, bytes }), { place, anybody })
  }

  /** The place itself has begun to serve, or answered, the request for a task. */
  served(request: ContentRequest, { digest, bytes }: Task): void {
    if (digest !== undefined) this.#parts.rights.accepted(askerOf({ ...request, digest, bytes }))
  }

  /** More of a task comes from the place itself. What can be read of it before, where it isn't `empty`, came through that place too, or in this run. */
  comes(task: TaskId, { origin, credential }: ContentRequest, { empty }: { empty: boolean }): void {
    const { came } = this.#parts
    const place = placeOf(origin)
    // whether an earlier run needed a credential isn't known
    if (!empty && !came.has(task)) came.note(task, { place, anybody: false }, { empty: true })
    else came.note(task, { place, anybody: credential === undefined && !carriesRights(origin) }, { empty })
  }

  async #ask(request: BlobRequest): Promise<Accepted> {
    const { digest, origin, credential, bytes } = request
    const signal = AbortSignal.timeout(ASK_MS)
    const prove = !this.#covers(placeOf(origin), digest)
    try {
      return await this.#atSupernode(request, prove, signal)
    } catch (error) {
      if (!isDarnerError(error, ...SCHEDULER_UNREACHABLE, ...TROUBLE) || !mayAskItself(request)) throw error
    }
    const target = { origin, digest }
    if (!(await serves(this.#parts.origin, target, fitsBlob(bytes), { credential, signal })))
      await this.#readWhole(request, signal)
    return {}
  }

  async #prove(request: BlobRequest, { signal }: { signal: AbortSignal }): Promise<void> {
    try {
      await this.#atSupernode(request, true, signal)
    } catch (error) {
      if (!isDarnerError(error, ...SCHEDULER_UNREACHABLE, ...TROUBLE) || !mayAskItself(request)) throw error
      await this.#readWhole(request, signal)
    }
  }

  async #atSupernode(request: BlobRequest, prove: boolean, signal: AbortSignal): Promise<Accepted> {
    const { scheduler } = this.#parts
    await scheduler.reachable({ signal })
    const { place, anybody, reach } = await scheduler.right({ ...request, prove }, { signal })
    if (reach === 'whole') this.#noteProven(place, request.digest)
    return { place, anybody }
  }

  /** What others hold is this place's too once it has served the same bytes, which are let go. */
  async #readWhole({ origin, digest, bytes, credential }: BlobRequest, signal: AbortSignal): Promise<void> {
    const { origin: port, straying } = this.#parts
    await using read = await port.read({ origin, digest }, { credential, signal })
    const length = bytes ?? read.bytes
    if (length === undefined)
      throw new DarnerError('UNSUPPORTED', `${digest}: ${originName(origin)} tells no length, so it can't be compared`)
    using stray = straying(digest as string as TaskId, `proof that ${originName(origin)} holds it`)
    await servesWhole(read.stream, { origin, digest, bytes: length }, (got) => stray.read(got))
    this.#noteProven(placeOf(origin), digest)
  }

  #covers(place: Place, digest: Digest): boolean {
    return this.#parts.came.of(digest as string as TaskId)?.place === place || this.#proven.has(`${place} ${digest}`)
  }

  #noteProven(place: Place, digest: Digest): void {
    this.#proven.set(`${place} ${digest}`, true)
  }
}

function askerOf({ origin, digest, bytes, credential, preheat }: BlobRequest): Asker {
  return { origin, content: digest, bytes, credential, preheat }
}

/** A preheat's rights are the supernode's to show. */
function mayAskItself({ fromOrigin, preheat }: ContentRequest): boolean {
  return fromOrigin !== 'never' && preheat === undefined
}
