/**
 * Remembers where all of each blob came from. So rotten pieces can be fetched again, and a partial blob is completed for readers with a
 * right to it. No secrets: an origin that carries some isn't kept.
 */
import { Value } from 'typebox/value'
import { Origin } from '../src/core/task/origin.ts'
import type { TaskId } from '../src/core/task/task.ts'

/** The part of a level (sub)database that the book needs; values are JSON. */
export interface OriginRecords {
  get(key: string): Promise<unknown>
  put(key: string, value: unknown): Promise<void>
  del(key: string): Promise<void>
}

export class OriginBook {
  readonly #records: OriginRecords

  constructor(records: OriginRecords) {
    this.#records = records
  }

  async note(task: TaskId, origin: Origin): Promise<void> {
    // what is on record is where it came from last
    if (isSecret(origin)) await this.forget(task)
    else await this.#records.put(task, origin)
  }

  async forget(task: TaskId): Promise<void> {
    await this.#records.del(task)
  }

  /** Undefined when it isn't known. */
  async of(task: TaskId): Promise<Origin | undefined> {
    const record = await this.#records.get(task)
    return Value.Check(Origin, record) ? record : undefined
  }
}

function isSecret(origin: Origin): boolean {
  if (origin.kind !== 'url') return false
  const { search, username } = new URL(origin.url)
  return search !== '' || username !== '' || Object.keys(origin.headers ?? {}).length > 0 || origin.tag !== undefined
}
