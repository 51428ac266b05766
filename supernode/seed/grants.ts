/**
 * Decides who may read a blob, and how far. The asker's place is asked with the asker's own credential, unless a place that has served the
 * blob gives it to anybody. Trouble at a place leaves askers what they had and grants nothing else.
 */

import type { Version } from '../../src/core/contracts/origin.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import { abortable } from '../../src/core/signals.ts'
import type { Origin } from '../../src/core/task/origin.ts'
import type { Place } from '../../src/core/task/place.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import type { Grant } from '../../src/protocol/pass.ts'
import { fitsBlob, serves, servesWhole } from '../../src/rights/ask-place.ts'
import { carriesRights, PUT_PLACE, placeOf } from '../../src/rights/place.ts'
import { type Asker, type Right, type Rights, TROUBLE } from '../../src/rights/right.ts'
import { type Access, type AccessBook, noteServed } from './access-book.ts'
import { type FirstReadParts, firstRead, type SeedRequest } from './first-read.ts'
import type { UnprovenReads } from './unproven-reads.ts'
import { urlTaskId } from './url-names.ts'

export interface GrantsParts extends FirstReadParts {
  readonly access: AccessBook
  readonly rights: Rights
  readonly unproven: UnprovenReads
  /** Ends every question; an asker that goes away ends none, since others may share it. */
  readonly signal: AbortSignal
  /** Bytes came in from an origin. */
  readonly read: (task: TaskId, bytes: number, reason: ReadReason) => void
}

/** What is asked for: a blob with its length, or content without a digest. */
export interface Asked {
  readonly id: TaskId
  readonly digest?: Digest | undefined
  readonly bytes?: number | undefined
}

export class Grants {
  readonly #attempts: number
  readonly #parts: GrantsParts
  readonly #proofs = new Map<string, Promise<void>>()

  constructor(options: { attempts: number }, parts: GrantsParts) {
    this.#attempts = options.attempts
    this.#parts = parts
  }

  /**
   * What an asker may read now. Throws the refusal of its place, or what is the trouble there. `prove` has a place that has served
   * nothing of the blob read to its end; without it, such a place gives a right through itself.
   */
  async of(
    asked: Asked,
    access: Access,
    request: SeedRequest,
    options: { prove: boolean; signal: AbortSignal },
  ): Promise<Grant> {
    const { signal } = options
    const open = await this.#toAnybody(asked, access, signal)
    if (open !== undefined) return { right: open, reach: 'whole' }
    const place = placeOf(request.origin)
    if (access.served.has(place)) return { right: await this.ask(asked, access, request, { signal }), reach: 'whole' }
    const { reading } = access
    const shared = reading === undefined ? undefined : await this.#throughReading(asked, access, request, signal)
    if (shared !== undefined) return shared
    if (!options.prove) return { right: await this.ask(asked, access, request, { signal }), reach: 'through' }
    await this.prove(asked, access, request, { signal })
    return { right: await this.ask(asked, access, request, { signal }), reach: 'whole' }
  }

  /** The asker's own credential at its own place. Throws the refusal. */
  async ask(asked: Asked, access: Access, request: SeedRequest, { signal }: { signal: AbortSignal }): Promise<Right> {
    const { origin, credential } = request
    const asker = askerOf(asked, request)
    const known = this.#parts.rights.known(asker)
    if (known !== undefined) return known
    const right = await this.#parts.rights.show(
      asker,
      async () => {
        await this.#asks(asked, { origin, credential })
        return {}
      },
      { signal },
    )
    if (credential === undefined) await this.#noteOpen(asked.id, access, origin)
    return right
  }

  /**
   * Another place counts once the same blob came through it whole; one read with each credential at a time. The bytes are hashed
   * and let go. Throws the refusal, DIGEST_MISMATCH, CAPABILITY_REFUSED for content without a digest.
   */
  async prove(
    { id, digest, bytes }: Asked,
    access: Access,
    request: SeedRequest,
    { signal }: { signal: AbortSignal },
  ): Promise<void> {
    if (digest === undefined || bytes === undefined) {
      const text = `${placeOf(request.origin)}: content without a digest is only shared where it was read`
      throw new DarnerError('CAPABILITY_REFUSED', text)
    }
    const key = `${placeOf(request.origin)} ${id} ${bytes} ${this.#parts.rights.nameOf(request.credential)}`
    let proof = this.#proofs.get(key)
    if (proof === undefined) {
      const blob = { origin: request.origin, digest, bytes }
      const over = this.#parts.unproven.begin(request.by)
      proof = this.#readWhole(id, blob, access, request).finally(() => {
        over()
        this.#proofs.delete(key)
      })
      this.#proofs.set(key, proof)
      proof.catch(() => {})
    }
    await abortable(proof, signal)
  }

  async #readWhole(
    id: TaskId,
    blob: { origin: Origin; digest: Digest; bytes: number },
    access: Access,
    request: SeedRequest,
  ): Promise<void> {
    const { read: note, signal, clock } = this.#parts
    const place = placeOf(request.origin)
    const options = { attempts: this.#attempts, signal }
    const { read, open } = await firstRead({ ...request, digest: blob.digest, bytes: blob.bytes }, this.#parts, options)
    await using _read = read
    const { bytes } = blob
    await servesWhole(read.stream, blob, (got) => note(id, got, `proof that ${place} holds it`))
    noteServed(access, place, open ? { open: { origin: request.origin, atMs: clock.now() } } : {}, bytes)
    this.#parts.rights.accepted(askerOf({ id, bytes }, open ? { origin: request.origin } : request))
    await this.#parts.access.save(id, access)
  }

  /** The right that anybody has at a place that served the blob, where one still gives it without a credential. */
  async #toAnybody(asked: Asked, access: Access, signal: AbortSignal): Promise<Right | undefined> {
    const { rights } = this.#parts
    if (access.served.has(PUT_PLACE)) return rights.put(asked.id, asked.bytes)
    for (const [place, { open }] of access.served) {
      if (open === undefined) continue
      const asker = askerOf(asked, { origin: open.origin })
      const known = rights.known(asker)
      if (known !== undefined) return known
      rights.remember(asker, open.atMs)
      try {
        return await this.ask(asked, access, { origin: open.origin }, { signal })
      } catch (error) {
        signal.throwIfAborted()
        if (!isDarnerError(error)) throw error
        if (isDarnerError(error, ...TROUBLE)) continue
        // it isn't open any more
        access.served.set(place, {})
        await this.#save(asked.id, access)
      }
    }
    return undefined
  }

  /** An asker shares a read through a place that has proven nothing: of its own place with its own right, of another with anybody's. */
  async #throughReading(
    asked: Asked,
    access: Access,
    request: SeedRequest,
    signal: AbortSignal,
  ): Promise<Grant | undefined> {
    const { reading } = access
    if (reading === undefined) return undefined
    const own = reading.place === placeOf(request.origin)
    if (reading.unasked === true) {
      if (request.credential === undefined && own) return { reach: 'open', place: reading.place }
      if (!own) return undefined
      return { right: await this.ask(asked, access, request, { signal }), reach: 'through' }
    }
    const { open } = reading
    if (open !== undefined) {
      try {
        return { right: await this.ask(asked, access, { origin: open }, { signal }), reach: 'through' }
      } catch (error) {
        signal.throwIfAborted()
        if (!isDarnerError(error)) throw error
      }
    }
    return own ? { right: await this.ask(asked, access, request, { signal }), reach: 'through' } : undefined
  }

  async #asks(asked: Asked, request: Pick<SeedRequest, 'origin' | 'credential'>): Promise<void> {
    const { origin: port, signal } = this.#parts
    const { origin, credential } = request
    const { digest, bytes, id } = asked
    const target = { origin, ...(digest === undefined ? {} : { digest }) }
    const same = (version: Version) => urlTaskId(origin, version) === id
    const fits = digest === undefined ? same : fitsBlob(bytes)
    if (await serves(port, target, fits, { credential, signal })) return
    if (digest === undefined || bytes === undefined)
      throw new DarnerError('ORIGIN_DENIED', `${placeOf(origin)} does not say what it would serve`)
    await using read = await port.read(target, { credential, signal })
    await servesWhole(read.stream, { origin, digest, bytes }, (got) =>
      this.#parts.read(id, got, `proof that ${placeOf(origin)} holds it`),
    )
  }

  async #noteOpen(id: TaskId, access: Access, origin: Origin): Promise<void> {
    const place: Place = placeOf(origin)
    if (!access.served.has(place) || carriesRights(origin)) return
    access.served.set(place, { open: { origin, atMs: this.#parts.clock.now() } })
    await this.#save(id, access)
  }

  /** A record that can't be written costs a question, or a read, later. */
  async #save(id: TaskId, access: Access): Promise<void> {
    try {
      await this.#parts.access.save(id, access)
    } catch (error) {
      this.#parts.log.warn({ taskId: id, error: asDarnerError(error, 'access record').message }, 'rights not recorded')
    }
  }
}

/** Whose right it is that is asked for. */
export function askerOf({ id, bytes }: Pick<Asked, 'id' | 'bytes'>, { origin, credential }: SeedRequest): Asker {
  return { origin, content: id, bytes, credential }
}
