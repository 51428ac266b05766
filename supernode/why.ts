/** Why bytes were read at an origin: by whom, how many, for what reason (src/core/read-reason.ts). Kept across restarts, bounded. */
import { LRUCache } from 'lru-cache'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import type { TaskId } from '../src/core/task/task.ts'
import { upTo } from '../src/core/up-to.ts'
import type { KeyValue } from './seed/access-book.ts'

export interface WhyRow {
  readonly peer: PeerId
  readonly reason: string
  bytes: number
  /** Epoch milliseconds of the last byte counted. */
  atMs: number
}

const MAX_ROWS = 256
/** Rows of one host about one blob; what it says beyond them adds up in one more. */
const MAX_PEER_ROWS = 16
const OTHER = 'other reasons'
const MAX_TASKS = 10_000
/** So many bytes may be lost from the record by a kill -9; what comes slower is written once a second. */
const MAX_UNSAVED_BYTES = 1024 * 1024

export class WhyBook {
  readonly #records: KeyValue
  readonly #rows = new LRUCache<TaskId, WhyRow[]>(upTo(MAX_TASKS))
  readonly #changed = new Set<TaskId>()
  #unsavedBytes = 0
  #saving: Promise<void> = Promise.resolve()

  constructor(records: KeyValue) {
    this.#records = records
  }

  /** Counts bytes that `peer` read at the task's origin. Rows of the same peer and reason add up. */
  add(task: TaskId, peer: PeerId, bytes: number, reason: string, nowMs: number): void {
    let rows = this.#rows.get(task)
    if (rows === undefined) {
      rows = []
      this.#rows.set(task, rows)
    }
    count(rows, { peer, reason, bytes, atMs: nowMs })
    this.#changed.add(task)
    this.#unsavedBytes += bytes
    // what fails now is tried again within the second
    if (this.#unsavedBytes >= MAX_UNSAVED_BYTES) this.save().catch(() => {})
  }

  /** The blob is gone, and the reports about it with it. */
  async forget(task: TaskId): Promise<void> {
    this.#rows.delete(task)
    this.#changed.delete(task)
    const gone = this.#saving.then(() => this.#records.del(task))
    this.#saving = gone.catch(() => {})
    await gone
  }

  /** What is on record for a task. */
  async of(task: TaskId): Promise<readonly WhyRow[]> {
    return merge(await this.#kept(task), this.#rows.get(task) ?? [])
  }

  async #kept(task: TaskId): Promise<WhyRow[]> {
    const kept = await this.#records.get(task)
    return Array.isArray(kept) ? (kept as WhyRow[]) : []
  }

  /** Writes what changed since the last time, one saving after the other. Also call it about once a second. */
  save(): Promise<void> {
    this.#unsavedBytes = 0
    const saving = this.#saving.then(() => this.#save())
    this.#saving = saving.catch(() => {})
    return saving
  }

  async #save(): Promise<void> {
    for (const task of [...this.#changed]) {
      const rows = this.#rows.get(task)
      this.#changed.delete(task)
      if (rows === undefined) continue
      // taken out first: what is counted meanwhile starts a new row, and is added at the next saving
      this.#rows.delete(task)
      try {
        await this.#records.put(task, merge(await this.#kept(task), rows))
      } catch (error) {
        this.#rows.set(task, merge(rows, this.#rows.get(task) ?? []))
        this.#changed.add(task)
        throw error
      }
    }
  }
}

function merge(before: readonly WhyRow[], now: readonly WhyRow[]): WhyRow[] {
  const all = before.map((row) => ({ ...row }))
  for (const row of now) count(all, row)
  return all.slice(-MAX_ROWS)
}

/** Adds to the row of the same host and reason. */
function count(all: WhyRow[], { peer, reason, bytes, atMs }: WhyRow): void {
  const own = all.filter((one) => one.peer === peer)
  const same =
    own.find((one) => one.reason === reason) ??
    (own.length < MAX_PEER_ROWS ? undefined : own.find((one) => one.reason === OTHER))
  if (same !== undefined) {
    same.bytes += bytes
    same.atMs = Math.max(same.atMs, atMs)
  } else if (all.length < 2 * MAX_ROWS)
    all.push({ peer, reason: own.length < MAX_PEER_ROWS ? reason : OTHER, bytes, atMs })
}

/** When something of a record was last counted, in epoch milliseconds. */
export function whyAtMs(record: unknown): number {
  return Array.isArray(record) ? Math.max(0, ...(record as WhyRow[]).map(({ atMs }) => Number(atMs) || 0)) : 0
}
