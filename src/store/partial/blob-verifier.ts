/**
 * A task's way from pieces to its whole, verified. A large file is hashed along as its beginning grows, so little is left to read at the
 * end. That isn't needed if the pieces' own checks prove the whole (verified-chain.ts), or if the writer hashes it. Of what hashes to
 * something else nothing is kept.
 */
import { createHash } from 'node:crypto'
import { algorithmOf, type Digest } from '../../core/digest.ts'
import { asDarnerError, DarnerError, isUnreadable } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import type { ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { pieceCount, type Task } from '../../core/task/task.ts'
import { type Hasher, unreadableFile, type WholeHash } from '../hash/hasher.ts'
import { readAll } from '../layout.ts'
import type { DataFile } from './data-file.ts'
import { Links, type LinksParts } from './verified-chain.ts'

/** Up to this length a whole blob is read and hashed in one go at the end; the thread isn't bothered. */
export const SMALL_BYTES = 512 * 1024

export interface WholeParts extends LinksParts {
  readonly hasher: Hasher
  readonly file: DataFile
  readonly have: ReadonlyBitmap
  /** Why there is nothing to be finished any more. */
  readonly failure: () => DarnerError | undefined
  /** It hashed to that: makes it safe from a power cut, and a complete blob. */
  readonly commit: (digest: Digest) => Promise<void>
  /** Fails all waiters, and deletes everything of the task. */
  readonly discard: (reason: DarnerError) => Promise<void>
}

export class Whole {
  readonly #task: Task
  readonly #parts: WholeParts
  #links: Links
  #hash: WholeHash | undefined
  /** So many pieces, from the first on, were given to the hash. */
  #prefix = 0
  #hashedByCaller = false
  #verified: Digest | undefined
  #matched = Promise.withResolvers<Digest>()
  #finishing: Promise<Digest> | undefined

  /** `verified`: what a blob that is complete hashed to. */
  constructor({ task, verified }: { task: Task; verified: Digest | undefined }, parts: WholeParts) {
    this.#task = task
    this.#parts = parts
    this.#links = new Links(task, parts)
    this.#matched.promise.catch(() => {})
    if (verified === undefined) return
    this.#verified = verified
    this.#matched.resolve(verified)
  }

  get links(): Links {
    return this.#links
  }

  /** What it hashed to, once it matched. */
  get verified(): Digest | undefined {
    return this.#verified
  }

  get busy(): boolean {
    return this.#finishing !== undefined
  }

  /** Resolves once nobody finishes it. */
  async settled(): Promise<void> {
    await this.#finishing?.catch(() => {})
  }

  /** Resolves once {@link verified}. Rejects with what {@link fail} was given. */
  async matched({ signal }: { signal: AbortSignal }): Promise<Digest> {
    return await abortable(this.#matched.promise, signal)
  }

  hashedByCaller(): void {
    this.#hashedByCaller = true
    this.#links.unneeded()
  }

  /** More pieces are here. */
  advance(): void {
    const { bytes, pieceBytes } = this.#task
    const { have, hasher, file } = this.#parts
    if (this.#hashedByCaller || bytes <= SMALL_BYTES || !have.has(this.#prefix)) return
    // the links may prove the whole without a further look at it
    if (this.#links.count === have.count) return
    const gap = have.nextClear(this.#prefix)
    this.#prefix = gap < 0 ? pieceCount(this.#task) : gap
    this.#hash ??= hasher.whole(file.path, this.#algorithm())
    this.#hash.advance(Math.min(bytes, this.#prefix * pieceBytes))
  }

  /** As the task's own `finish`, which isn't complete yet. */
  finish({ expected, hashed, signal }: { expected?: Digest; hashed?: Digest; signal: AbortSignal }): Promise<Digest> {
    if (!this.#finishing) {
      this.#finishing = this.#finish(expected, hashed).finally(() => {
        this.#finishing = undefined
      })
      // the caller may have gone by abort; the outcome is also in the task's `complete` and `failure`
      this.#finishing.catch(() => {})
    }
    return abortable(this.#finishing, signal)
  }

  async #finish(expected: Digest | undefined, hashed: Digest | undefined): Promise<Digest> {
    const { have, commit, discard } = this.#parts
    this.#alive()
    const wanted = expected ?? this.#task.digest
    const gap = have.nextClear(0)
    if (gap >= 0)
      throw new DarnerError('PIECE_ABSENT', `finish ${this.#task.id}: piece ${gap} is not here`, {
        details: { piece: gap },
      })
    const algorithm = wanted === undefined ? 'sha256' : algorithmOf(wanted)
    const actual =
      hashed ?? (algorithm === 'sha256' ? this.#links.proven : undefined) ?? (await this.#readBack(algorithm))
    this.#alive()
    if (wanted !== undefined && actual !== wanted) {
      const error = new DarnerError(
        'DIGEST_MISMATCH',
        `verify ${wanted}: the ${this.#task.bytes} bytes hash to ${actual}`,
      )
      await discard(error)
      throw error
    }
    this.#verified = actual
    this.#matched.resolve(actual)
    await commit(actual)
    return actual
  }

  /** There will be no whole. */
  fail(reason: DarnerError): void {
    this.#matched.reject(reason)
    this.#dropHash()
  }

  /** What was seen of the pieces is of no use any more. */
  startOver(): void {
    this.#hashedByCaller = false
    this.#prefix = 0
    this.#dropHash()
    this.#links = new Links(this.#task, this.#parts)
  }

  /** It was whole, and is so no more. */
  damaged(): void {
    this.#verified = undefined
    this.#matched = Promise.withResolvers()
    this.#matched.promise.catch(() => {})
    this.startOver()
  }

  /** The digest of the whole file. Throws STORE_CORRUPT where the disk doesn't give it back, after which nothing of the task is left. */
  async #readBack(algorithm: 'sha256' | 'sha512'): Promise<Digest> {
    const { file, failure, discard } = this.#parts
    try {
      return await this.#read(algorithm)
    } catch (error) {
      if (!isUnreadable(error)) throw failure() ?? asDarnerError(error, `verify ${this.#task.id}`)
      const reason = unreadableFile(file.path, error)
      await discard(reason)
      throw reason
    }
  }

  /** The digest of the whole file, along the prefix as it grows when the file is large. */
  async #read(algorithm: 'sha256' | 'sha512'): Promise<Digest> {
    const { hasher, file } = this.#parts
    const { bytes } = this.#task
    if (bytes <= SMALL_BYTES) {
      const body = new Uint8Array(bytes)
      await file.use((handle) => readAll(handle, body, 0))
      return `${algorithm}:${createHash(algorithm).update(body).digest('hex')}` as Digest
    }
    let hash = this.#hash
    this.#hash = undefined
    if (algorithm !== this.#algorithm()) {
      hash?.drop()
      hash = undefined
    }
    hash ??= hasher.whole(file.path, algorithm)
    return `${algorithm}:${await hash.finish(bytes)}` as Digest
  }

  #algorithm(): 'sha256' | 'sha512' {
    return this.#task.digest === undefined ? 'sha256' : algorithmOf(this.#task.digest)
  }

  #dropHash(): void {
    this.#hash?.drop()
    this.#hash = undefined
  }

  #alive(): void {
    const failure = this.#parts.failure()
    if (failure) throw failure
  }
}
