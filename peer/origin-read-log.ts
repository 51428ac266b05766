/**
 * Reads at origins that this host does on its own. The supernode gets each when it is over, or as soon as there is a supernode. Until then
 * a record on the disk stands for it, so a host that is killed in such a read doesn't lose it.
 */

import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Clock } from '../src/core/clock.ts'
import { asDarnerError } from '../src/core/errors.ts'
import type { Log } from '../src/core/log.ts'
import type { ReadReason } from '../src/core/read-reason.ts'
import { isTaskId, type TaskId } from '../src/core/task/task.ts'

/** A record may lack what was read in so long before a kill. */
const WRITE_MS = 500
/** Reads that are on record at most; the oldest go. */
const MAX_RECORDS = 1024

const Record = Type.Object({
  task: Type.String({ maxLength: 160 }),
  bytes: Type.Integer({ minimum: 1 }),
  reason: Type.String({ maxLength: 512 }),
})
type Record = Static<typeof Record>

/** The part of a level (sub)database that these records need; values are JSON. Keys come in their order. */
export interface StrayRecords {
  put(key: string, value: unknown): Promise<void>
  del(key: string): Promise<void>
  iterator(): AsyncIterable<[string, unknown]>
}

/** One read under way. Dispose it when it is over. */
export interface Stray extends Disposable {
  /** So many more bytes came. */
  read(bytes: number): void
}

export interface StraysParts {
  readonly records: StrayRecords
  readonly clock: Clock
  readonly log: Log
  /** Tells the supernode, or does so when there is one; then calls back. */
  readonly tell: (task: TaskId, bytes: number, reason: string, told: () => void) => void
}

export class Strays implements AsyncDisposable {
  readonly #parts: StraysParts
  #number = 0
  #writing: Promise<void> = Promise.resolve()

  constructor(parts: StraysParts) {
    this.#parts = parts
  }

  /** Tells of what an earlier run left on record. */
  async resume(): Promise<void> {
    const { records, tell } = this.#parts
    const found: [string, unknown][] = []
    for await (const entry of records.iterator()) found.push(entry)
    for (const [key] of found.splice(0, found.length - MAX_RECORDS)) this.#write(() => records.del(key))
    for (const [key, value] of found) {
      const gone = () => this.#write(() => records.del(key))
      if (Value.Check(Record, value) && isTaskId(value.task)) tell(value.task, value.bytes, value.reason, gone)
      else gone()
    }
  }

  /** This host begins to read a task at its origin. */
  begin(task: TaskId, why: ReadReason): Stray {
    const { records, clock, tell } = this.#parts
    const reason = why.slice(0, 512)
    const key = `${clock.now().toString().padStart(16, '0')}-${(this.#number++).toString().padStart(8, '0')}`
    let bytes = 0
    let writtenAtMs = Number.NEGATIVE_INFINITY
    const note = () => {
      writtenAtMs = clock.monotonicMs()
      const record: Record = { task, bytes, reason }
      this.#write(() => records.put(key, record))
    }
    return {
      read: (more) => {
        bytes += more
        if (clock.monotonicMs() - writtenAtMs >= WRITE_MS) note()
      },
      [Symbol.dispose]: () => {
        if (bytes === 0) return
        note()
        tell(task, bytes, reason, () => this.#write(() => records.del(key)))
      },
    }
  }

  /** Resolves when all is on the disk. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing
  }

  #write(work: () => Promise<void>): void {
    this.#writing = this.#writing.then(work).catch((error: unknown) => {
      this.#parts.log.warn({ error: asDarnerError(error, 'record of an origin read').message }, 'not on record')
    })
  }
}
