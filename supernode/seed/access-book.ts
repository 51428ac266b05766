/** Remembers, across restarts, which places have served each blob. One record per task in the supernode's level database. */
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { Clock } from '../../src/core/clock.ts'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { Origin } from '../../src/core/task/origin.ts'
import type { Place } from '../../src/core/task/place.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { PUT_PLACE } from '../../src/rights/place.ts'

/**
 * What is known of one blob. A place's answer counts for what others hold only once that place has served the blob whole, with its digest.
 * A right never follows from knowing a digest, nor from a place of one's own that merely says yes.
 */
export interface Access {
  /** Places that served the whole blob. */
  readonly served: Map<Place, Served>
  /** How long the whole blob is; undefined until a place has served it, and in records of before darner 0.1.0. */
  bytes?: number | undefined
  /** The place that is being read through and has proven nothing yet. */
  reading?: Reading | undefined
}

export interface Served {
  /** Where, and when in epoch milliseconds, it answered without a credential last. */
  readonly open?: { readonly origin: Origin; readonly atMs: number }
}

export interface Reading {
  readonly place: Place
  /** Where it is read without a credential. */
  readonly open?: Origin
  /** The place could not be asked at all: hosts read it for the supernode. */
  readonly unasked?: boolean
}

/** Places that are known to serve one blob. */
const MOST_PLACES = 1024

const PlaceText = Type.String({ maxLength: 1024 })
const closed = { additionalProperties: false }
const Record = Type.Object(
  {
    served: Type.Array(
      Type.Tuple([
        PlaceText,
        Type.Object({ open: Type.Optional(Type.Object({ origin: Origin, atMs: Type.Number() }, closed)) }, closed),
      ]),
      { maxItems: MOST_PLACES },
    ),
    bytes: Type.Optional(Type.Integer({ minimum: 0 })),
    reading: Type.Optional(Type.Object({ place: PlaceText, open: Type.Optional(Origin) }, closed)),
    /** When it was written; records of before darner 0.1.0 have none. */
    atMs: Type.Optional(Type.Number()),
  },
  closed,
)
type Record = Static<typeof Record>

/** The part of a level (sub)database that the book needs; values are JSON. */
export interface KeyValue {
  get(key: string): Promise<unknown>
  put(key: string, value: unknown): Promise<void>
  del(key: string): Promise<void>
}

export class AccessBook {
  readonly #records: KeyValue
  readonly #clock: Pick<Clock, 'now'>

  constructor(records: KeyValue, parts: { clock: Pick<Clock, 'now'> }) {
    this.#records = records
    this.#clock = parts.clock
  }

  /** Empty where nothing is known. A record that can't be read counts as nothing known: rights are then asked anew. */
  async load(task: TaskId): Promise<Access> {
    const record = await this.#records.get(task)
    if (record === undefined || !Value.Check(Record, record)) return { served: new Map() }
    const { served, bytes, reading } = record as Record
    return {
      served: new Map(served as [Place, Served][]),
      ...(bytes === undefined ? {} : { bytes }),
      ...(reading === undefined ? {} : { reading: reading as Reading }),
    }
  }

  async save(task: TaskId, { served, bytes, reading }: Access): Promise<void> {
    await this.#records.put(task, {
      served: [...served],
      ...(bytes === undefined ? {} : { bytes }),
      atMs: this.#clock.now(),
      ...(reading === undefined
        ? {}
        : { reading: { place: reading.place, ...(reading.open === undefined ? {} : { open: reading.open }) } }),
    })
  }

  async forget(task: TaskId): Promise<void> {
    await this.#records.del(task)
  }
}

/** When an access record was written, in epoch milliseconds. */
export function accessAtMs(record: unknown): number {
  return Value.Check(Record, record) ? (record.atMs ?? 0) : 0
}

/** A place has served the whole blob, which has so many bytes. The one that was noted first goes when there are too many. */
export function noteServed(access: Access, place: Place, how: Served, bytes: number): void {
  const { served } = access
  access.bytes = bytes
  served.set(place, how)
  if (served.size <= MOST_PLACES) return
  for (const oldest of served.keys()) {
    if (oldest === PUT_PLACE) continue
    served.delete(oldest)
    return
  }
}

/**
 * The place that was read through has served the whole blob, which has so many bytes. A delegated read says nothing of the blob's readers.
 */
export function settle(access: Access, bytes: number, nowMs: number): void {
  const { reading } = access
  access.bytes = bytes
  if (reading === undefined) return
  const open = reading.open === undefined || reading.unasked === true ? undefined : reading.open
  noteServed(access, reading.place, open === undefined ? {} : { open: { origin: open, atMs: nowMs } }, bytes)
  access.reading = undefined
}

/** How long a blob is, as far as that is known. Throws SIZE_MISMATCH where an asker says otherwise. */
export function checkedLength(
  { digest, bytes }: { digest?: Digest | undefined; bytes?: number | undefined },
  access: Access,
): number | undefined {
  if (bytes === undefined || access.bytes === undefined || bytes === access.bytes) return access.bytes ?? bytes
  throw new DarnerError('SIZE_MISMATCH', `${digest}: the manifest states ${bytes} bytes, the blob has ${access.bytes}`)
}
