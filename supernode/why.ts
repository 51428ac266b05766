/** Why bytes were read at an origin: by whom, how many, for what reason. Kept across restarts, bounded. */
import type { PeerId } from '../src/contracts/exchange.ts'
import type { TaskId } from '../src/task/task.ts'
import type { KeyValue } from './seed/access-book.ts'

export interface WhyRow {
  readonly peer: PeerId
  readonly reason: string
  bytes: number
  /** Epoch milliseconds of the last byte counted. */
  atMs: number
}

const MAX_ROWS = 256
const MAX_TASKS = 10_000

export class WhyBook {
  readonly #records: KeyValue
  readonly #rows = new Map<TaskId, WhyRow[]>()
  readonly #changed = new Set<TaskId>()

  constructor(records: KeyValue) {
    this.#records = records
  }

  /** Counts bytes that `peer` read at the task's origin. Rows of the same peer and reason add up. */
  add(task: TaskId, peer: PeerId, bytes: number, reason: string, nowMs: number): void {
    let rows = this.#rows.get(task)
    if (rows === undefined) {
      rows = []
      this.#rows.set(task, rows)
      const [oldest] = this.#rows.keys()
      if (this.#rows.size > MAX_TASKS && oldest !== undefined) this.#rows.delete(oldest)
    }
    const row = rows.find((one) => one.peer === peer && one.reason === reason)
    if (row !== undefined) {
      row.bytes += bytes
      row.atMs = nowMs
    } else if (rows.length < MAX_ROWS) rows.push({ peer, reason, bytes, atMs: nowMs })
    this.#changed.add(task)
  }

  /** What is on record for a task. */
  async of(task: TaskId): Promise<readonly WhyRow[]> {
    return merge(await this.#kept(task), this.#rows.get(task) ?? [])
  }

  async #kept(task: TaskId): Promise<WhyRow[]> {
    const kept = await this.#records.get(task)
    return Array.isArray(kept) ? (kept as WhyRow[]) : []
  }

  /** Writes what changed since the last time. */
  async save(): Promise<void> {
    for (const task of [...this.#changed]) {
      this.#changed.delete(task)
      const rows = this.#rows.get(task)
      if (rows === undefined) continue
      // taken out first: what is counted meanwhile starts a new row, and is added at the next saving
      this.#rows.delete(task)
      await this.#records.put(task, merge(await this.#kept(task), rows))
    }
  }
}

function merge(before: readonly WhyRow[], now: readonly WhyRow[]): WhyRow[] {
  const all = before.map((row) => ({ ...row }))
  for (const row of now) {
    const same = all.find((one) => one.peer === row.peer && one.reason === row.reason)
    if (same === undefined) all.push({ ...row })
    else {
      same.bytes += row.bytes
      same.atMs = Math.max(same.atMs, row.atMs)
    }
  }
  return all.slice(-MAX_ROWS)
}
