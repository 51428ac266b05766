/** What the store holds and what keeps it: the index in memory, without effects on disk. */
import type { Clock } from '../../core/clock.ts'
import type { Digest } from '../../core/digest.ts'
import { Bitmap, type ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { pieceCount, type Task, type TaskId } from '../../core/task/task.ts'
import type { StoredTask } from '../partial/stored-task.ts'
import type { Dormant } from '../recover.ts'
import type { Collectable } from './collect.ts'
import { Leases, Pins } from './leases.ts'
import type { BlobRecord, Remembered } from './metadata.ts'

/** One line of the inventory. */
export interface Holding extends Collectable {
  readonly task: Task
  /** `dormant`: left by an earlier run, its pieces not counted before `Store.reopen` or `Store.create`. */
  readonly state: 'complete' | 'partial' | 'dormant'
  readonly complete: boolean
  /** Pieces that can be read. */
  readonly have: ReadonlyBitmap
  readonly mediaType: string | undefined
  readonly pins: readonly string[]
  readonly leases: readonly string[]
}

export interface Usage {
  readonly completeBytes: number
  readonly partialBytes: number
  /** Bytes of the above that collection must leave, by reason. */
  readonly pinnedBytes: number
  readonly leasedBytes: number
  readonly blobs: number
  readonly partials: number
}

interface Entry {
  record: BlobRecord
  lastUsedMs: number
}

export class Inventory {
  /** Complete blobs, and which blob a task's id leads to. */
  readonly complete = new Map<Digest, Entry>()
  readonly digests = new Map<TaskId, Digest>()
  readonly dormant: Map<TaskId, Dormant>
  /** Every task in hand, complete or not. */
  readonly live = new Map<TaskId, StoredTask>()
  readonly leases = new Leases()
  readonly pins = new Pins()
  /** Half-done tasks in hand that nobody fetches any more. */
  readonly left = new WeakSet<StoredTask>()
  /** Half-done tasks that are being opened. */
  readonly waking = new Set<TaskId>()
  readonly #touched = new WeakMap<StoredTask, number>()
  readonly #partialIdleMs: number
  readonly #clock: Clock

  constructor(
    options: { partialIdleMs: number },
    parts: { clock: Clock; found: Remembered; dormant: Map<TaskId, Dormant> },
  ) {
    this.#partialIdleMs = options.partialIdleMs
    this.#clock = parts.clock
    this.dormant = parts.dormant
    for (const [digest, record] of parts.found.blobs) this.index(digest, record, parts.found.used.get(digest) ?? 0)
    for (const [id, owner] of parts.found.pins) this.pins.add(id, owner)
  }

  index(digest: Digest, record: BlobRecord, lastUsedMs: number): void {
    this.complete.set(digest, { record, lastUsedMs })
    for (const id of record.ids) this.digests.set(id, digest)
  }

  digestOf(id: TaskId): Digest {
    return this.digests.get(id) ?? (id as string as Digest)
  }

  /** Notes the use; returns the digest and instant to remember when it is a complete blob. */
  touch(stored: StoredTask): { digest: Digest; ms: number } | undefined {
    const ms = this.#clock.now()
    this.#touched.set(stored, ms)
    const { digest } = stored
    const entry = stored.complete && digest !== undefined ? this.complete.get(digest) : undefined
    if (!entry || digest === undefined) return undefined
    entry.lastUsedMs = ms
    return { digest, ms }
  }

  /** Takes a blob out, under all its names; returns the handles that lead to it. */
  forget(digest: Digest): Set<StoredTask> {
    const ids = [...(this.complete.get(digest)?.record.ids ?? []), digest as string as TaskId]
    const handles = new Set<StoredTask>()
    for (const id of ids) {
      const live = this.live.get(id)
      if (live?.complete && live.digest === digest) {
        handles.add(live)
        this.live.delete(id)
      }
      if (this.digests.get(id) === digest) this.digests.delete(id)
    }
    this.complete.delete(digest)
    return handles
  }

  /** Bytes that are taken or promised: half-done tasks in hand count whole. */
  reservedBytes(): number {
    let sum = 0
    for (const { record } of this.complete.values()) sum += record.bytes
    for (const stored of this.live.values()) if (!stored.complete) sum += stored.task.bytes
    for (const { claimedBytes } of this.dormant.values()) sum += claimedBytes
    return sum
  }

  /** A line per task; a blob that several tasks lead to has several. */
  *tasks(): Iterable<Holding> {
    for (const entry of this.complete.values()) for (const id of entry.record.ids) yield this.#complete(id, entry)
    yield* this.#halfDone()
  }

  /** Everything that takes space, once each. */
  holdings(): Holding[] {
    const all: Holding[] = []
    for (const entry of this.complete.values()) {
      const [id] = entry.record.ids
      if (id !== undefined) all.push(this.#complete(id, entry))
    }
    return all.concat([...this.#halfDone()])
  }

  /** Bytes on disk: half-done tasks count with what is here of them. */
  usedBytes(): number {
    let sum = 0
    for (const { record } of this.complete.values()) sum += record.bytes
    for (const one of this.#halfDone()) sum += one.bytes
    return sum
  }

  usage(): Usage {
    const sums = { completeBytes: 0, partialBytes: 0, pinnedBytes: 0, leasedBytes: 0, blobs: 0, partials: 0 }
    for (const [digest, { record }] of this.complete) {
      const ids = namesOf(record, digest)
      sums.blobs++
      sums.completeBytes += record.bytes
      if (ids.some((id) => this.pins.has(id))) sums.pinnedBytes += record.bytes
      if (ids.some((id) => this.leases.has(id))) sums.leasedBytes += record.bytes
    }
    for (const one of this.#halfDone()) {
      sums.partials++
      sums.partialBytes += one.bytes
      if (one.pins.length > 0) sums.pinnedBytes += one.bytes
      if (one.leases.length > 0) sums.leasedBytes += one.bytes
    }
    return sums
  }

  *#halfDone(): Iterable<Holding> {
    const recently = (ms: number) => this.#clock.now() - ms < this.#partialIdleMs
    for (const stored of this.live.values()) {
      if (stored.complete) continue
      const { task, have, haveBytes: bytes } = stored
      const lastUsedMs = this.#touched.get(stored) ?? 0
      const idle = recently(lastUsedMs) && (this.left.has(stored) ? 'recent' : 'in use')
      const keeping = this.#keeping(idsOf(task), stored.busy ? 'in use' : idle || undefined)
      yield { task, state: 'partial', complete: false, have, bytes, lastUsedMs, mediaType: undefined, ...keeping }
    }
    for (const { task, claimedBytes: bytes, lastUsedMs } of this.dormant.values()) {
      const have = new Bitmap(pieceCount(task))
      const idle = recently(lastUsedMs) ? 'recent' : undefined
      const keeping = this.#keeping(idsOf(task), this.waking.has(task.id) ? 'in use' : idle)
      yield { task, state: 'dormant', complete: false, have, bytes, lastUsedMs, mediaType: undefined, ...keeping }
    }
  }

  #complete(id: TaskId, { record, lastUsedMs }: Entry): Holding {
    const digest = this.digestOf(id)
    const { bytes, pieceBytes, mediaType } = record
    const task = { id, digest, bytes, pieceBytes }
    const ids = namesOf(record, digest)
    const keeping = this.#keeping(ids, ids.some((one) => this.live.get(one)?.busy) ? 'in use' : undefined)
    return {
      task,
      state: 'complete',
      complete: true,
      bytes,
      lastUsedMs,
      mediaType,
      pins: keeping.pins,
      leases: keeping.leases,
      keep: keeping.keep,
      // made when asked for: collection looks at thousands of blobs and at no bitmap
      get have() {
        return Bitmap.full(pieceCount(task))
      },
    }
  }

  #keeping(ids: readonly TaskId[], otherwise: Holding['keep']): Pick<Holding, 'pins' | 'leases' | 'keep'> {
    const pins = ids.some((id) => this.pins.has(id)) ? ids.flatMap((id) => this.pins.owners(id)) : NONE
    const leases = ids.some((id) => this.leases.has(id)) ? ids.flatMap((id) => this.leases.owners(id)) : NONE
    const keep = pins.length > 0 ? 'pinned' : leases.length > 0 ? 'leased' : otherwise
    return { pins, leases, keep }
  }
}

const NONE: readonly string[] = []

/** All names that a complete blob can be held by. */
function namesOf(record: BlobRecord, digest: Digest): readonly TaskId[] {
  const own = digest as string as TaskId
  return record.ids.includes(own) ? record.ids : [...record.ids, own]
}

function idsOf(task: Task): TaskId[] {
  return task.digest === undefined ? [task.id] : [...new Set([task.id, task.digest as string as TaskId])]
}
