/** A blob on its way, shared by all its readers: through the swarm, or straight from the origin when the swarm can't help. */
import type { ByteSources, ContentSummary } from '../../src/core/contracts/content.ts'
import type { StoredTask } from '../../src/store/store.ts'
import type { Tail } from './tail.ts'

export interface Fetching {
  readonly stored: StoredTask
  /** Resolves once complete, verified and safe from a power cut; rejects with what failed it. */
  readonly whole: Promise<ContentSummary>
  /** Resolves once all is here and the whole digest matched, which is what a reader waits for; rejects as {@link whole} does. */
  readonly matched: Promise<ContentSummary>
  /** Aborts when the fetch fails, with what failed it. For waits: a promise would keep each that ever raced against it. */
  readonly failing: AbortSignal
  readonly from: ByteSources
  /** What comes in order right now, where that is so. */
  readonly tail: Tail | undefined
  /** A reader waits for pieces [from, to). */
  demand(from: number, to: number): Disposable
  /** Human-readable state, for a dump. */
  describe(): string
}
