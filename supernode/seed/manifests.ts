/**
 * Manifests for the whole swarm. Concurrent askers of the same thing with the same rights share one question to the origin. By digest the
 * answer never changes and is kept for minutes. A tag's answer is kept for seconds, then asked again by a HEAD, which brings the manifest
 * only when it is another one. While the origin is down, what was answered before still is.
 */
import type { Clock } from '../../src/core/clock.ts'
import type { ManifestAnswer, ManifestRequest } from '../../src/core/contracts/content.ts'
import type { OriginPort } from '../../src/core/contracts/origin.ts'
import { isDigest } from '../../src/core/digest.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import type { CredentialNames } from '../../src/rights/credential-names.ts'

export interface ManifestsOptions {
  readonly tagMs: number
  readonly digestMs: number
  /** Bytes of manifests kept in memory. */
  readonly cacheBytes: number
  readonly originMs: number
}

interface Entry {
  /** The last answer of the origin, and when it came. */
  last?: { readonly answer: ManifestAnswer; readonly atMs: number }
  /** The question under way. */
  asking?: Promise<ManifestAnswer>
  untilMs: number
}

/** The origin is not there, or not well: no word of its own about this manifest. */
const DOWN = ['ORIGIN_UNREACHABLE', 'ORIGIN_FAILED', 'ORIGIN_BUSY', 'ORIGIN_TRUNCATED', 'TIMED_OUT'] as const
const MAX_ENTRIES = 10_000

export class Manifests {
  readonly #options: ManifestsOptions
  readonly #origin: OriginPort
  readonly #clock: Clock
  readonly #names: CredentialNames
  /** By (upstream, repository, reference, credential), oldest first. */
  readonly #entries = new Map<string, Entry>()
  #bytes = 0

  constructor(options: ManifestsOptions, parts: { origin: OriginPort; clock: Clock; names: CredentialNames }) {
    this.#options = options
    this.#origin = parts.origin
    this.#clock = parts.clock
    this.#names = parts.names
  }

  /** The manifest's exact bytes. Throws the origin's errors; a refusal isn't kept. */
  async get(request: ManifestRequest, { signal }: { signal: AbortSignal }): Promise<ManifestAnswer> {
    const key = this.#key(request, request.reference)
    const entry = this.#entries.get(key) ?? { untilMs: 0 }
    if (entry.last !== undefined && entry.untilMs > this.#clock.monotonicMs()) return entry.last.answer
    entry.asking ??= this.#begin(key, entry, request)
    try {
      return await abortable(entry.asking, signal)
    } catch (error) {
      signal.throwIfAborted()
      const { last } = entry
      if (last === undefined || !isDarnerError(error, ...DOWN)) throw error
      if (isDigest(request.reference)) return last.answer
      const ageMs = Math.round(this.#clock.monotonicMs() - last.atMs)
      if (ageMs > (request.staleMs ?? 0)) throw error
      return { ...last.answer, ageMs }
    }
  }

  /** The question outlives the first asker: others may be waiting for the same answer. */
  #begin(key: string, entry: Entry, request: ManifestRequest): Promise<ManifestAnswer> {
    const asking = this.#ask(request, entry.last?.answer)
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    void asking
      .then(
        (answer) => {
          this.#keep(entry, answer, isDigest(request.reference))
          if (!isDigest(request.reference)) this.#keepByDigest(request, answer)
        },
        (error: unknown) => {
          if (!isDarnerError(error, ...DOWN) || entry.last === undefined) this.#drop(key, entry)
        },
      )
      .finally(() => {
        delete entry.asking
        this.#shrink()
      })
    return asking
  }

  async #ask(request: ManifestRequest, before: ManifestAnswer | undefined): Promise<ManifestAnswer> {
    const { origin, reference, credential } = request
    const options = { credential, signal: AbortSignal.timeout(this.#options.originMs) }
    if (before !== undefined && (await this.#unchanged(request, before, options))) return before
    return await this.#origin.manifest(origin, reference, options)
  }

  async #unchanged(
    { origin, reference }: ManifestRequest,
    before: ManifestAnswer,
    options: Parameters<OriginPort['manifestHead']>[2],
  ): Promise<boolean> {
    try {
      return (await this.#origin.manifestHead(origin, reference, options)).digest === before.digest
    } catch (error) {
      // ORIGIN_FAILED and refusals: a registry may not answer HEAD as it does GET, so GET has the last word
      if (isDarnerError(error, 'ORIGIN_UNREACHABLE', 'TIMED_OUT')) throw error
      return false
    }
  }

  #key({ origin, credential }: ManifestRequest, reference: string): string {
    return JSON.stringify([origin.upstream, origin.repository, reference, this.#names.of(credential)])
  }

  #keep(entry: Entry, answer: ManifestAnswer, byDigest: boolean): void {
    const now = this.#clock.monotonicMs()
    this.#bytes += answer.body.byteLength - (entry.last?.answer.body.byteLength ?? 0)
    entry.last = { answer, atMs: now }
    entry.untilMs = now + (byDigest ? this.#options.digestMs : this.#options.tagMs)
  }

  /** An asker of a tag asks for its digest next, or will when the origin is down. */
  #keepByDigest(request: ManifestRequest, answer: ManifestAnswer): void {
    const key = this.#key(request, answer.digest)
    const entry = this.#entries.get(key) ?? { untilMs: 0 }
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    this.#keep(entry, answer, true)
  }

  #drop(key: string, entry: Entry): void {
    if (this.#entries.get(key) !== entry) return
    this.#bytes -= entry.last?.answer.body.byteLength ?? 0
    this.#entries.delete(key)
  }

  /** Oldest first, until the bound holds. */
  #shrink(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.#options.cacheBytes && this.#entries.size <= MAX_ENTRIES) return
      if (entry.asking === undefined) this.#drop(key, entry)
    }
  }
}
