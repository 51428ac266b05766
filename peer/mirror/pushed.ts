/** Blobs that a client of this host has just pushed through the mirror: brought into the swarm at once, as others will want them. */
import PQueue from 'p-queue'
import type { ContentSource } from '../../src/core/contracts/content.ts'
import { type Digest, isDigest } from '../../src/core/digest.ts'
import { asDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { Credential, RegistryOrigin } from '../../src/core/task/origin.ts'

export interface PushedParts {
  readonly content: ContentSource
  readonly log: Log
  /** Ends what is under way. */
  readonly signal: AbortSignal
}

const CONCURRENCY = 2
/** What waits beyond this is fetched when a host asks for it. */
const MAX_WAITING = 256
const READ_MS = 10 * 60_000

export class Pushed {
  readonly #parts: PushedParts
  readonly #queue = new PQueue({ concurrency: CONCURRENCY })

  constructor(parts: PushedParts) {
    this.#parts = parts
  }

  /** The registry has taken a blob from a client with these rights. */
  take(origin: RegistryOrigin, digest: Digest, credential: Credential | undefined): void {
    if (this.#queue.size >= MAX_WAITING) return
    void this.#queue.add(() => this.#seed(origin, digest, credential))
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    await this.#queue.onIdle()
  }

  /** Never rejects. */
  async #seed(origin: RegistryOrigin, digest: Digest, credential: Credential | undefined): Promise<void> {
    const { content, log } = this.#parts
    const signal = anySignal([this.#parts.signal, AbortSignal.timeout(READ_MS)])
    if (signal.aborted) return
    try {
      const rights = credential === undefined ? {} : { credential }
      await using blob = await content.open({ origin, digest, priority: 'background', ...rights }, { signal })
      await blob.whole({ signal })
      log.debug({ digest, repository: origin.repository }, 'pushed blob seeded')
    } catch (error) {
      log.warn({ digest, error: asDarnerError(error, `seed ${digest}`).message }, 'pushed blob not seeded')
    }
  }
}

/** The digest of the blob that ends an upload (distribution-spec, "Pushing a blob monolithically" and "in chunks"). */
export function pushedDigest(method: string | undefined, query: string, status: number): Digest | undefined {
  if ((method !== 'PUT' && method !== 'POST') || status !== 201) return undefined
  const digest = new URLSearchParams(query).get('digest') ?? ''
  return isDigest(digest) ? digest : undefined
}
