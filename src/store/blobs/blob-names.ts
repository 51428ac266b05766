/** The names of complete blobs: what the metadata records of each, its file's place, and the index, changed one after the other. */
import { rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../core/clock.ts'
import type { Digest } from '../../core/digest.ts'
import { asDarnerError } from '../../core/errors.ts'
import { syncFolder } from '../../core/files.ts'
import type { Task } from '../../core/task/task.ts'
import type { Layout } from '../layout.ts'
import type { StoredTask } from '../partial/stored-task.ts'
import type { Inventory } from './inventory.ts'
import type { Metadata } from './metadata.ts'

export class BlobNames {
  readonly #layout: Layout
  readonly #metadata: Metadata
  readonly #inventory: Inventory
  readonly #clock: Clock
  /** Blobs that are being given their names. */
  readonly #giving = new Map<Digest, number>()
  #serial: Promise<unknown> = Promise.resolve()

  constructor(parts: { layout: Layout; metadata: Metadata; inventory: Inventory; clock: Clock }) {
    this.#layout = parts.layout
    this.#metadata = parts.metadata
    this.#inventory = parts.inventory
    this.#clock = parts.clock
  }

  /**
   * Makes the file `from` the blob and returns its path. Record first, then the name: a crash between them leaves a record
   * without a file, which the next start drops. With `stored`, only if that has not failed meanwhile.
   */
  async give(
    from: string,
    digest: Digest,
    task: Task,
    more: { table?: Uint8Array; mediaType?: string; stored?: StoredTask },
  ): Promise<string> {
    this.#giving.set(digest, (this.#giving.get(digest) ?? 0) + 1)
    try {
      return await this.#give(from, digest, task, more)
    } finally {
      const left = (this.#giving.get(digest) ?? 1) - 1
      if (left > 0) this.#giving.set(digest, left)
      else this.#giving.delete(digest)
    }
  }

  #give(
    from: string,
    digest: Digest,
    task: Task,
    more: { table?: Uint8Array; mediaType?: string; stored?: StoredTask },
  ): Promise<string> {
    return this.#inOrder(async () => {
      const path = this.#layout.blob(digest)
      const old = this.#inventory.complete.get(digest)?.record
      const mediaType = more.mediaType ?? old?.mediaType
      const { bytes, pieceBytes } = task
      const ids = [...new Set([...(old?.ids ?? []), task.id])]
      const record = { bytes, pieceBytes, ids, ...(mediaType === undefined ? {} : { mediaType }) }
      await this.#metadata.putBlob(digest, record, more.table)
      try {
        if (more.stored?.failure) throw more.stored.failure
        await rename(from, path)
      } catch (error) {
        if (old && this.#inventory.complete.has(digest)) await this.#metadata.putBlob(digest, old, undefined)
        else await this.#metadata.dropBlobs([digest])
        throw asDarnerError(error, `name blob ${digest}`)
      }
      this.#inventory.index(digest, record, this.#clock.now())
      this.#metadata.setUsed(digest, this.#clock.now())
      await syncFolder(dirname(path))
      return path
    })
  }

  /** A task whose digest is complete under another id is that blob, from now on under this name too. False when it isn't here. */
  async alias(task: Task): Promise<boolean> {
    const { digest } = task
    if (digest === undefined) return false
    // other blobs' turns, each of which waits for the disk, are nothing to it
    if (!this.#inventory.complete.has(digest) && !this.#giving.has(digest)) return false
    return this.#inOrder(async () => {
      const entry = this.#inventory.complete.get(digest)
      if (!entry) return false
      const record = { ...entry.record, ids: [...new Set([...entry.record.ids, task.id])] }
      this.#inventory.index(digest, record, entry.lastUsedMs)
      await this.#metadata.putBlob(digest, record, undefined)
      return true
    })
  }

  /** Takes record and name of a blob away that has left the index; its file is at `trashed` then, or gone. */
  take(digest: Digest, trashed: string): Promise<void> {
    return this.#inOrder(async () => {
      // a download of the same bytes may have come in before our turn: then that one stays
      if (this.#inventory.complete.has(digest)) return
      const path = this.#layout.blob(digest)
      try {
        await rename(path, trashed)
      } catch {
        // ENOENT: gone already; ENOSPC, no room for a new name: deleted where it is
        await rm(path, { force: true })
      }
      await this.#metadata.dropBlobs([digest])
    })
  }

  /** Takes a blob's record away whose file has another name already. */
  takeRecord(digest: Digest): Promise<void> {
    return this.#inOrder(() => this.#metadata.dropBlobs([digest]))
  }

  /** Resolves when no change is under way. */
  async settled(): Promise<void> {
    await this.#serial
  }

  async #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#serial.then(work, work)
    this.#serial = turn.catch(() => {})
    return turn
  }
}
