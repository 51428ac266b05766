/**
 * Reads at origins by this host's own requests: for itself, when the swarm can't help, and for all, when the supernode can't read an
 * origin. Each read goes on record with its reason.
 */

import PQueue from 'p-queue'
import type { Clock, Random } from '../../src/core/clock.ts'
import type { ContentRequest } from '../../src/core/contracts/content.ts'
import type { OriginPort, OriginRead } from '../../src/core/contracts/origin.ts'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { ReadReason } from '../../src/core/read-reason.ts'
import { abortable } from '../../src/core/signals.ts'
import { originName } from '../../src/core/task/origin.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import type { StoredTask } from '../../src/store/store.ts'
import type { Stray } from '../origin-read-log.ts'
import type { Lease } from './download.ts'
import { fetchFromOrigin, readPieces } from './fallback.ts'
import { inOrder, type Running } from './running.ts'

/** Blobs that this host reads for itself at the same time. */
const MAX_ALONE = 4

export interface OwnReadsParts {
  readonly origin: OriginPort
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly retryMs: (error: unknown, attempt: number, random: Random) => number | undefined
  /** This host begins to read at an origin on its own, with why. */
  readonly straying: (task: TaskId, reason: ReadReason) => Stray
}

export class OwnReads {
  readonly #attempts: number
  readonly #parts: OwnReadsParts
  readonly #queue = new PQueue({ concurrency: MAX_ALONE })

  constructor(options: { attempts: number }, parts: OwnReadsParts) {
    this.#attempts = options.attempts
    this.#parts = parts
  }

  /** The supernode can't read the origin and asked this host to, for all. */
  async leased(
    stored: StoredTask,
    request: ContentRequest,
    how: Lease & { gained: (piece: number) => void },
    signal: AbortSignal,
  ): Promise<void> {
    if (request.fromOrigin === 'never') {
      const text = `${stored.task.id}: this host was told to leave ${originName(request.origin)} alone`
      throw new DarnerError('ORIGIN_FORBIDDEN', text)
    }
    const { origin: originPort, clock, random, log, retryMs, straying } = this.#parts
    const credential = how.open ? undefined : request.credential
    using stray = straying(stored.task.id, 'origin lease: the supernode could not read it')
    const read = (bytes: number) => stray.read(bytes)
    await readPieces(
      { origin: request.origin, credential, attempts: this.#attempts },
      { stored, originPort, clock, random, log, retryMs, read, gained: how.gained },
      // the supernode has what is before
      { first: undefined, from: how.from, signal },
    )
  }

  /**
   * The supernode is lost, and this host ranks first among those that know each other. It reads what nobody has, piece `from` first, for
   * all of them.
   */
  async elected(
    stored: StoredTask,
    request: ContentRequest,
    how: { from: number; gained: (piece: number) => void },
    signal: AbortSignal,
  ): Promise<void> {
    const { origin: originPort, clock, random, log, retryMs, straying } = this.#parts
    using stray = straying(stored.task.id, 'supernode lost: for all neighbours')
    const read = (bytes: number) => stray.read(bytes)
    for (const from of how.from > 0 ? [how.from, 0] : [0]) {
      await readPieces(
        { origin: request.origin, credential: request.credential, attempts: this.#attempts },
        { stored, originPort, clock, random, log, retryMs, read, gained: how.gained },
        { first: undefined, from, signal },
      )
    }
  }

  /** Reads what lacks of a blob for this host, and verifies the whole. Throws as {@link fetchFromOrigin}. */
  async alone(
    running: Running,
    request: ContentRequest,
    { reason, first }: { reason: DarnerError; first: OriginRead | undefined },
    signal: AbortSignal,
  ): Promise<Digest> {
    const { origin: originPort, clock, random, log, retryMs, straying } = this.#parts
    const { stored } = running
    const from = { origin: 0, supernode: 0, peers: 0 }
    running.use({
      from,
      demand: inOrder,
      describe: () => `from the origin: ${reason.message}`,
    })
    using stray = straying(stored.task.id, `${reason.code}: ${reason.message}`)
    const read = (bytes: number) => {
      from.origin += bytes
      stray.read(bytes)
    }
    let begun = false
    const reading = this.#queue.add(() => {
      // its turn may come when nobody waits for it any more
      signal.throwIfAborted()
      begun = true
      return fetchFromOrigin(
        { origin: request.origin, credential: request.credential, attempts: this.#attempts },
        { stored, originPort, clock, random, log, retryMs, read },
        { first, signal },
      )
    })
    reading.catch(() => {})
    try {
      return await abortable(reading, signal)
    } finally {
      if (begun) await reading.catch(() => {})
    }
  }
}
