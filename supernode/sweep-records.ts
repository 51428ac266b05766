/** Small durable records about blobs, which are not to outlive what they tell of. */
import type { TaskId } from '../src/core/task/task.ts'
import type { KeyValue } from './seed/access-book.ts'

export interface Records extends KeyValue {
  keys(): AsyncIterable<string>
}

export interface SweepOptions {
  /** The seed has some of the blob. */
  readonly held: (task: TaskId) => boolean
  /** When a record was last written, in epoch milliseconds. */
  readonly atMs: (record: unknown) => number
  /** Written before this instant, records of blobs that are not held go. */
  readonly beforeMs: number
  /** So many of the others stay, the newest. */
  readonly most: number
}

/** How long a record of a blob that the seed no longer has is of use. */
export const UNHELD_MS = 7 * 24 * 3_600_000
/** Records of such blobs. */
export const MOST_UNHELD = 65_536

/** Deletes the records of blobs that are not held, but the newest; returns how many went. */
export async function sweepRecords(records: Records, options: SweepOptions): Promise<number> {
  const { held, atMs, beforeMs, most } = options
  const unheld: { key: string; at: number }[] = []
  for await (const key of records.keys())
    if (!held(key as TaskId)) unheld.push({ key, at: atMs(await records.get(key)) })
  unheld.sort((one, other) => other.at - one.at)
  const going = unheld.filter(({ at }, place) => place >= most || at < beforeMs)
  for (const { key } of going) if (!held(key as TaskId)) await records.del(key)
  return going.length
}
