/** Remembers, across restarts, which scopes have served each blob. One record per task in the supernode's level database. */
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { TaskId } from '../../src/core/task/task.ts'
import type { Access } from './access-scope.ts'

const Record = Type.Object(
  {
    scopes: Type.Array(Type.Tuple([Type.String({ maxLength: 1024 }), Type.Boolean()]), { maxItems: 1024 }),
    reading: Type.Optional(
      Type.Object({ scope: Type.String({ maxLength: 1024 }), open: Type.Boolean() }, { additionalProperties: false }),
    ),
  },
  { additionalProperties: false },
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

  constructor(records: KeyValue) {
    this.#records = records
  }

  /** Empty where nothing is known. A record that can't be read counts as nothing known: rights are then asked anew. */
  async load(task: TaskId): Promise<Access> {
    const record = await this.#records.get(task)
    if (record === undefined || !Value.Check(Record, record)) return { scopes: new Map() }
    const { scopes, reading } = record as Record
    return { scopes: new Map(scopes), ...(reading === undefined ? {} : { reading }) }
  }

  async save(task: TaskId, access: Access): Promise<void> {
    const { reading } = access
    await this.#records.put(task, {
      scopes: [...access.scopes].slice(-1024),
      ...(reading === undefined ? {} : { reading: { ...reading } }),
    } satisfies Record)
  }

  async forget(task: TaskId): Promise<void> {
    await this.#records.del(task)
  }
}
