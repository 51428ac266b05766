/** The tasks in hand: one {@link StoredTask} for each task that is read or written, and the ways in which one comes to be. */
import { rm } from 'node:fs/promises'
import type { Clock } from '../core/clock.ts'
import type { Digest } from '../core/digest.ts'
import { asDarnerError, DarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { abortable } from '../core/signals.ts'
import type { Task, TaskId } from '../core/task/task.ts'
import type { BlobNames } from './blobs/blob-names.ts'
import type { Inventory } from './blobs/inventory.ts'
import type { Metadata } from './blobs/metadata.ts'
import type { Removal } from './blobs/removal.ts'
import type { Hasher } from './hash/hasher.ts'
import type { Layout } from './layout.ts'
import { FilePool } from './partial/data-file.ts'
import { createPartial, reopenPartial } from './partial/partials.ts'
import { PastCache } from './partial/past-cache.ts'
import { RecentPieces } from './partial/recent-pieces.ts'
import { type Keeper, StoredTask } from './partial/stored-task.ts'
import type { Room } from './space.ts'

/** What the last pieces may take of memory, over all tasks: at 100 Mbit/s one second's. */
const RECENT_BYTES = 12 * 1024 * 1024

export interface HandlesParts {
  readonly layout: Layout
  readonly metadata: Metadata
  readonly inventory: Inventory
  readonly names: BlobNames
  readonly removal: Removal
  readonly room: Room
  readonly hasher: Hasher
  readonly log: Log
  readonly clock: Clock
  /** As `Keeper.suspect`. */
  readonly suspect: (stored: StoredTask) => void
  /** Aborts when the store closes. */
  readonly signal: AbortSignal
}

export class Handles {
  readonly #parts: HandlesParts
  readonly #pool: FilePool
  readonly #keeper: Keeper
  readonly #opening = new Map<TaskId, Promise<StoredTask>>()

  constructor(options: { maxOpenFiles: number }, parts: HandlesParts) {
    this.#parts = parts
    this.#pool = new FilePool({ most: options.maxOpenFiles })
    this.#keeper = {
      hasher: parts.hasher,
      pool: this.#pool,
      past: new PastCache(parts),
      recent: new RecentPieces({ mostBytes: RECENT_BYTES }),
      log: parts.log,
      touched: (stored) => this.#touch(stored),
      commit: (stored, digest) => this.#commit(stored, digest),
      suspect: parts.suspect,
      purge: (stored) => parts.removal.stored(stored),
      tableOf: (digest) => parts.metadata.tableOf(digest),
    }
  }

  /** The task in hand, or one made of a complete blob. */
  find(id: TaskId): StoredTask | undefined {
    const { inventory, layout } = this.#parts
    const live = inventory.live.get(id)
    if (live) return live
    const digest = inventory.digestOf(id)
    const entry = inventory.complete.get(digest)
    if (!entry) return undefined
    const { bytes, pieceBytes } = entry.record
    return this.#enlive(
      new StoredTask(
        { task: { id, digest, bytes, pieceBytes }, found: { path: layout.blob(digest), digest } },
        this.#keeper,
      ),
    )
  }

  /** As `Store.create`. */
  async open(task: Task, signal: AbortSignal): Promise<StoredTask> {
    let opening = this.#opening.get(task.id)
    if (!opening) {
      const here = this.find(task.id)
      if (here) return sameGeometry(here, task)
      opening = this.#open(task).finally(() => this.#opening.delete(task.id))
      opening.catch(() => {})
      this.#opening.set(task.id, opening)
    }
    return sameGeometry(await abortable(opening, signal), task)
  }

  /** Fails all of them with `reason` and waits for what is under way; their files close with {@link closeFiles}. */
  async fail(reason: DarnerError): Promise<void> {
    const { live } = this.#parts.inventory
    await Promise.allSettled(this.#opening.values())
    for (const stored of live.values()) stored.fail(reason)
    await Promise.allSettled([...live.values()].map((stored) => stored.close()))
  }

  async closeFiles(): Promise<void> {
    await this.#pool[Symbol.asyncDispose]()
  }

  async #open(task: Task): Promise<StoredTask> {
    const { inventory, layout, names, removal, room, hasher, log, signal } = this.#parts
    const known = (await names.alias(task)) ? this.find(task.id) : undefined
    if (known) return known
    const dormant = inventory.dormant.get(task.id)
    const resumable = dormant && dormant.task.bytes === task.bytes && dormant.task.pieceBytes === task.pieceBytes
    if (dormant && resumable) {
      inventory.waking.add(task.id)
      try {
        const found = await reopenPartial(task, layout, hasher, { signal })
        inventory.dormant.delete(task.id)
        const stored = this.#enlive(new StoredTask({ task, found }, this.#keeper))
        log.debug({ taskId: task.id, pieces: found.have.count, dropped: found.dropped }, 'task reopened')
        return stored
      } catch (error) {
        if (asDarnerError(error, '').code !== 'STORE_CORRUPT') throw error
        log.warn({ taskId: task.id, error }, 'half-done task starts over')
      } finally {
        inventory.waking.delete(task.id)
      }
    }
    if (dormant) await removal.dormant(task.id)
    return room.take(task.bytes, { written: false }, async () =>
      this.#enlive(new StoredTask({ task, found: await createPartial(task, layout) }, this.#keeper)),
    )
  }

  #enlive(stored: StoredTask): StoredTask {
    this.#parts.inventory.live.set(stored.task.id, stored)
    this.#touch(stored)
    return stored
  }

  #touch(stored: StoredTask): void {
    const used = this.#parts.inventory.touch(stored)
    if (used) this.#parts.metadata.setUsed(used.digest, used.ms)
  }

  async #commit(stored: StoredTask, digest: Digest): Promise<string> {
    const { names, layout } = this.#parts
    const table = stored.table.whole()
    const path = await names.give(stored.path, digest, stored.task, { ...(table ? { table } : {}), stored })
    await rm(layout.partial(stored.task.id), { recursive: true, force: true })
    return path
  }
}

function sameGeometry(stored: StoredTask, task: Task): StoredTask {
  const { bytes, pieceBytes } = stored.task
  if (bytes === task.bytes && (stored.complete || pieceBytes === task.pieceBytes)) return stored
  const code = stored.complete ? 'SIZE_MISMATCH' : 'CONFLICT'
  const text = `open ${task.id} as ${task.bytes} bytes in pieces of ${task.pieceBytes}: here it has ${bytes} in pieces of ${pieceBytes}`
  throw new DarnerError(code, text)
}
