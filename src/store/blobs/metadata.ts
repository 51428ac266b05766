/**
 * What the store remembers beside the files, in `level`: a record for each complete blob, its use time, its piece table (read when needed),
 * and pins. The files are the truth: a record without its file is dropped at start, a file without a record is taken in.
 */

import type { Digest } from '../../core/digest.ts'
import { DarnerError } from '../../core/errors.ts'
import type { TaskId } from '../../core/task/task.ts'
import { Database } from '../database.ts'

export interface BlobRecord {
  readonly bytes: number
  readonly pieceBytes: number
  /** The tasks that this blob is the content of; more than one when an address and a digest lead to the same bytes. */
  readonly ids: readonly TaskId[]
  /** As its origin or its giver stated it. */
  readonly mediaType?: string
}

export interface Remembered {
  readonly blobs: Map<Digest, BlobRecord>
  /** Epoch milliseconds. */
  readonly used: Map<Digest, number>
  readonly pins: [id: TaskId, owner: string][]
}

const BATCH = 1000

export class Metadata implements AsyncDisposable {
  readonly #db: Database
  readonly #spaces: ReturnType<typeof sublevels>
  readonly #used = new Map<Digest, number>()

  private constructor(db: Database) {
    this.#db = db
    this.#spaces = sublevels(db)
  }

  /** Opens or makes it; `locked` turns the refusal for a second process into its error. Throws STORE_CORRUPT. */
  static async open(path: string, locked: (cause: unknown) => Promise<DarnerError>): Promise<Metadata> {
    const db = new Database(path)
    try {
      await db.open()
    } catch (error) {
      const cause = (error as Error).cause as (Error & { code?: string }) | undefined
      if (cause?.code === 'LEVEL_LOCKED') throw await locked(error)
      throw new DarnerError('STORE_CORRUPT', `open store metadata ${path}: ${cause?.message ?? String(error)}`, {
        cause: error,
        way: `move ${path} away: blobs are found again, pins are not`,
      })
    }
    const metadata = new Metadata(db)
    // a sublevel opens in a later turn, and synchronous reads need it open
    await Promise.all(Object.values(metadata.#spaces).map((space) => space.open()))
    return metadata
  }

  async load(): Promise<Remembered> {
    const blobs = new Map<Digest, BlobRecord>()
    const used = new Map<Digest, number>()
    for await (const [digest, record] of this.#spaces.blobs.iterator()) blobs.set(digest as Digest, record)
    for await (const [digest, ms] of this.#spaces.uses.iterator()) used.set(digest as Digest, ms)
    const pins: [TaskId, string][] = []
    for await (const key of this.#spaces.pins.keys()) {
      const space = key.indexOf(' ')
      pins.push([key.slice(0, space) as TaskId, key.slice(space + 1)])
    }
    return { blobs, used, pins }
  }

  async putBlob(digest: Digest, record: BlobRecord, table: Uint8Array | undefined): Promise<void> {
    const batch = this.#db.batch().put(digest, record, { sublevel: this.#spaces.blobs })
    if (table) batch.put(digest, table, { sublevel: this.#spaces.tables })
    await batch.write()
  }

  async dropBlobs(digests: readonly Digest[]): Promise<void> {
    for (let from = 0; from < digests.length; from += BATCH) {
      const batch = this.#db.batch()
      for (const digest of digests.slice(from, from + BATCH)) {
        for (const sublevel of [this.#spaces.blobs, this.#spaces.uses, this.#spaces.tables])
          batch.del(digest, { sublevel })
        this.#used.delete(digest)
      }
      await batch.write()
    }
  }

  /** The recorded piece table, as `PieceTable.whole` gave it. A short synchronous read: a table is a few KiB. */
  tableOf(digest: Digest): Uint8Array | undefined {
    return this.#spaces.tables.getSync(digest)
  }

  /** Remembered until the next {@link flushUses}. */
  setUsed(digest: Digest, ms: number): void {
    this.#used.set(digest, ms)
  }

  async flushUses(): Promise<void> {
    const uses = [...this.#used]
    this.#used.clear()
    for (let from = 0; from < uses.length; from += BATCH) {
      const batch = this.#spaces.uses.batch()
      for (const [digest, ms] of uses.slice(from, from + BATCH)) batch.put(digest, ms)
      await batch.write()
    }
  }

  /** Durable when it resolves: a pin is what keeps an image through a power cut. */
  async pin(id: TaskId, owner: string): Promise<void> {
    await this.#db.batch([{ type: 'put', sublevel: this.#spaces.pins, key: `${id} ${owner}`, value: '' }], {
      sync: true,
    })
  }

  async unpin(id: TaskId, owner: string): Promise<void> {
    await this.#spaces.pins.del(`${id} ${owner}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flushUses()
    await this.#db.close()
  }
}

function sublevels(db: Database) {
  return {
    blobs: db.sublevel<string, BlobRecord>('blobs', { valueEncoding: 'json' }),
    uses: db.sublevel<string, number>('used', { valueEncoding: 'json' }),
    tables: db.sublevel<string, Uint8Array>('tables', { valueEncoding: 'view' }),
    pins: db.sublevel<string, string>('pins', { valueEncoding: 'utf8' }),
  }
}
