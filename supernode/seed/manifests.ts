/**
 * Manifests for the whole swarm: one question to the origin, shared by all who ask the same thing with the same rights at the
 * same time. By digest the answer never changes and is kept for minutes; a tag's answer is kept for seconds.
 */
import type { Clock } from '../../src/base/clock.ts'
import { abortable } from '../../src/base/signals.ts'
import type { ManifestAnswer, ManifestRequest } from '../../src/contracts/content.ts'
import type { OriginPort } from '../../src/contracts/origin.ts'
import { isDigest } from '../../src/oci/digest.ts'
import type { CredentialNames } from './scope.ts'

export interface ManifestsOptions {
  readonly tagMs: number
  readonly digestMs: number
  /** Bytes of manifests kept in memory. */
  readonly cacheBytes: number
  readonly originMs: number
}

interface Entry {
  readonly answer: Promise<ManifestAnswer>
  untilMs: number
  bytes: number
}

export class Manifests {
  readonly #options: ManifestsOptions
  readonly #origin: OriginPort
  readonly #clock: Clock
  readonly #names: CredentialNames
  readonly #entries = new Map<string, Entry>()
  #bytes = 0

  constructor(options: ManifestsOptions, parts: { origin: OriginPort; clock: Clock; names: CredentialNames }) {
    this.#options = options
    this.#origin = parts.origin
    this.#clock = parts.clock
    this.#names = parts.names
  }

  /** The manifest's exact bytes. Throws the origin's errors; a failure isn't kept. */
  async get(request: ManifestRequest, { signal }: { signal: AbortSignal }): Promise<ManifestAnswer> {
    const { upstream, repository } = request.origin
    const key = JSON.stringify([upstream, repository, request.reference, this.#names.of(request.credential)])
    const known = this.#entries.get(key)
    if (known !== undefined && known.untilMs > this.#clock.monotonicMs()) return await abortable(known.answer, signal)
    // the question outlives the first asker: others may be waiting for the same answer
    const answer = this.#origin.manifest(request.origin, request.reference, {
      credential: request.credential,
      signal: AbortSignal.timeout(this.#options.originMs),
    })
    const entry: Entry = { answer, untilMs: Number.POSITIVE_INFINITY, bytes: 0 }
    this.#drop(key)
    this.#entries.set(key, entry)
    answer.then(
      (body) => {
        if (this.#entries.get(key) !== entry) return
        entry.untilMs =
          this.#clock.monotonicMs() + (isDigest(request.reference) ? this.#options.digestMs : this.#options.tagMs)
        entry.bytes = body.body.byteLength
        this.#bytes += entry.bytes
        this.#shrink()
      },
      () => {
        if (this.#entries.get(key) === entry) this.#drop(key)
      },
    )
    return await abortable(answer, signal)
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key)
    if (entry === undefined) return
    this.#bytes -= entry.bytes
    this.#entries.delete(key)
  }

  /** Oldest first, until the bound holds. */
  #shrink(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.#options.cacheBytes && this.#entries.size <= 10_000) return
      if (entry.untilMs !== Number.POSITIVE_INFINITY) this.#drop(key)
    }
  }
}
