/** What the origin itself says of an asker's rights: asked once per credential, whoever asks at the same time. */

import { algorithmOf, type Digest, Digester } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import { abortable } from '../../src/core/signals.ts'
import type { Task, TaskId } from '../../src/core/task/task.ts'
import type { AccessBook } from './access-book.ts'
import { type Access, type CredentialNames, scopeOf } from './access-scope.ts'
import { type FirstReadParts, firstRead, type SeedRequest } from './first-read.ts'

export interface RightsOptions {
  /** How long an origin's yes to a credential is kept. */
  readonly rightMs: number
  readonly attempts: number
}

export interface RightsParts extends FirstReadParts {
  readonly access: AccessBook
  readonly names: CredentialNames
  /** Ends every question; an asker that goes away ends none, since others may share it. */
  readonly signal: AbortSignal
  /** Bytes came in from an origin. */
  readonly read: (task: TaskId, bytes: number, reason: ReadReason) => void
}

export class Rights {
  readonly #options: RightsOptions
  readonly #parts: RightsParts
  readonly #kept = new Map<string, { answer: Promise<void>; untilMs: number }>()
  readonly #proofs = new Map<string, Promise<void>>()

  constructor(options: RightsOptions, parts: RightsParts) {
    this.#options = options
    this.#parts = parts
  }

  /** One HEAD with the asker's own credential, shared with all who ask with the same one, and kept for minutes. Throws the refusal. */
  async ask(request: SeedRequest, digest: Digest | undefined, { signal }: { signal: AbortSignal }): Promise<void> {
    const key = this.#key(request, digest)
    const now = this.#parts.clock.monotonicMs()
    for (const [old, { untilMs }] of this.#kept) {
      if (untilMs > now) break
      this.#kept.delete(old)
    }
    const kept = this.#kept.get(key)
    if (kept !== undefined && kept.untilMs > now) return await abortable(kept.answer, signal)
    const { origin, credential } = request
    const answer = this.#parts.origin
      .stat({ origin, ...(digest === undefined ? {} : { digest }) }, { credential, signal: this.#parts.signal })
      .then(() => {})
    this.#keep(key, answer)
    await abortable(answer, signal)
  }

  /**
   * Another place counts once the same blob came through it whole; one read with each credential at a time. The bytes are hashed
   * and let go. Throws the origin's refusal, DIGEST_MISMATCH, CAPABILITY_REFUSED for content without a digest.
   */
  async prove(task: Task, access: Access, request: SeedRequest, { signal }: { signal: AbortSignal }): Promise<void> {
    const { digest } = task
    const scope = scopeOf(request.origin)
    if (digest === undefined) {
      const text = `${scope}: content without a digest is only shared where it was read`
      throw new DarnerError('CAPABILITY_REFUSED', text)
    }
    const key = this.#key(request, digest)
    let proof = this.#proofs.get(key)
    if (proof === undefined) {
      proof = this.#read(task, digest, access, request).finally(() => this.#proofs.delete(key))
      this.#proofs.set(key, proof)
      proof.catch(() => {})
    }
    await abortable(proof, signal)
  }

  async #read(task: Task, digest: Digest, access: Access, request: SeedRequest): Promise<void> {
    const scope = scopeOf(request.origin)
    const { read: note, signal } = this.#parts
    const { read, open } = await firstRead({ ...request, digest }, this.#parts, {
      attempts: this.#options.attempts,
      signal,
    })
    await using _read = read
    const digester = new Digester(algorithmOf(digest))
    for await (const chunk of read.stream) {
      note(task.id, chunk.byteLength, `proof that ${scope} holds it`)
      digester.update(chunk)
      if (digester.bytes > task.bytes) break
    }
    if (digester.bytes !== task.bytes || digester.finish() !== digest)
      throw new DarnerError('DIGEST_MISMATCH', `${digest}: ${scope} served other bytes under this digest`)
    access.scopes.set(scope, open)
    // who was served the whole need not be asked about
    this.#keep(this.#key(request, digest), Promise.resolve())
    await this.#parts.access.save(task.id, access)
  }

  #keep(key: string, answer: Promise<void>): void {
    this.#kept.delete(key)
    this.#kept.set(key, { answer, untilMs: this.#parts.clock.monotonicMs() + this.#options.rightMs })
    answer.catch(() => this.#kept.delete(key))
  }

  #key({ origin, credential }: SeedRequest, digest: Digest | undefined): string {
    return `${scopeOf(origin)} ${digest ?? ''} ${this.#parts.names.of(credential)}`
  }
}
