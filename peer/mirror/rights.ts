/**
 * Whether a client may have what is already on this host. Holding a blob gives nobody a right to it: the supernode says who may
 * read (it knows what is public, and asks the origin with the reader's own credential otherwise), or the origin itself does.
 */

import type { Clock } from '../../src/core/clock.ts'
import type { OriginPort } from '../../src/core/contracts/origin.ts'
import type { SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import type { Digest } from '../../src/core/digest.ts'
import { isDarnerError } from '../../src/core/errors.ts'
import { keepNewest } from '../../src/core/keep-newest.ts'
import type { Credential, RegistryOrigin } from '../../src/core/task/origin.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { UNPROVEN } from '../../src/protocol/pass.ts'
import type { StoredTask } from '../../src/store/store.ts'
import { askKey } from './ask.ts'

/** How long a yes is kept, as the supernode does. */
const RIGHT_MS = 5 * 60_000
const MAX_RIGHTS = 16_384
const UNREACHABLE = ['SUPERNODE_UNREACHABLE', 'CLOSED', 'TIMED_OUT', 'PEER_UNREACHABLE'] as const

export interface RightsParts {
  readonly scheduler: SchedulerPort & { heldUnder(task: TaskId): string | undefined }
  readonly origin: OriginPort
  readonly clock: Clock
}

export class Rights {
  readonly #parts: RightsParts
  /** Proven (place, content, credential), oldest first, until when. */
  readonly #proven = new Map<string, number>()
  readonly #asking = new Map<string, Promise<void>>()

  constructor(parts: RightsParts) {
    this.#parts = parts
  }

  /** The origin or the supernode has just served this content to this credential. */
  note(origin: Omit<RegistryOrigin, 'collection'>, reference: string, credential: Credential | undefined): void {
    const key = askKey(origin, reference, credential)
    keepNewest(this.#proven, key, this.#parts.clock.monotonicMs() + RIGHT_MS, MAX_RIGHTS)
  }

  has(origin: Omit<RegistryOrigin, 'collection'>, reference: string, credential: Credential | undefined): boolean {
    return (this.#proven.get(askKey(origin, reference, credential)) ?? 0) > this.#parts.clock.monotonicMs()
  }

  /** Resolves when this credential may read a blob that is here or on its way. Throws the origin's refusal, or why nobody can say. */
  async show(
    origin: RegistryOrigin,
    digest: Digest,
    credential: Credential | undefined,
    stored: StoredTask,
  ): Promise<void> {
    if (this.#parts.scheduler.heldUnder(stored.task.id) === 'public') return
    // who brings more than what nobody needs may have it, too
    if (this.has(origin, digest, credential) || this.has(origin, digest, undefined)) return
    const key = askKey(origin, digest, credential)
    let asking = this.#asking.get(key)
    if (asking === undefined) {
      // shared by all who ask the same thing: it outlives the first of them
      asking = this.#ask(origin, digest, credential, stored, AbortSignal.timeout(120_000))
        .then(() => this.note(origin, digest, credential))
        .finally(() => this.#asking.delete(key))
      this.#asking.set(key, asking)
    }
    await asking
  }

  async #ask(
    origin: RegistryOrigin,
    digest: Digest,
    credential: Credential | undefined,
    stored: StoredTask,
    signal: AbortSignal,
  ): Promise<void> {
    const { scheduler, origin: port } = this.#parts
    // a second registration would disturb a download that runs, and one for what this host alone has read would have the
    // supernode read it: then the origin is asked directly
    const led = scheduler.heldUnder(stored.task.id)?.startsWith(UNPROVEN)
    if (stored.complete && led !== true) {
      try {
        await scheduler.reachable({ signal })
        await using _registration = await scheduler.register(
          {
            origin,
            digest,
            priority: 'background',
            have: stored.have,
            ...(credential === undefined ? {} : { credential }),
          },
          { signal },
        )
        return
      } catch (error) {
        if (!isDarnerError(error, ...UNREACHABLE)) throw error
      }
    }
    await port.stat({ origin, digest }, { credential, signal })
  }
}
