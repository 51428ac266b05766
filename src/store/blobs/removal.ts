/** How things leave the store: out of the index in the same turn, out of their place at once, then their space is freed. */
import { renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { DarnerError } from '../../core/errors.ts'
import type { TaskId } from '../../core/task/task.ts'
import type { Layout } from '../layout.ts'
import type { StoredTask } from '../partial/stored-task.ts'
import type { BlobNames } from './blob-names.ts'
import type { Inventory } from './inventory.ts'

export class Removal {
  readonly #layout: Layout
  readonly #inventory: Inventory
  readonly #names: BlobNames

  constructor(parts: { layout: Layout; inventory: Inventory; names: BlobNames }) {
    this.#layout = parts.layout
    this.#inventory = parts.inventory
    this.#names = parts.names
  }

  /** What an earlier run left of a task. */
  async dormant(id: TaskId): Promise<void> {
    this.#inventory.dormant.delete(id)
    await rm(this.#toTrash(this.#layout.partial(id)), { recursive: true, force: true })
  }

  /** An open task. Of a complete blob all names go, and a reader by one of them fails with `reason`. */
  async stored(stored: StoredTask, reason = stored.failure): Promise<void> {
    const { task } = stored
    const digest = stored.complete ? stored.digest : undefined
    if (digest === undefined) {
      if (this.#inventory.live.get(task.id) === stored) this.#inventory.live.delete(task.id)
      const trashed = this.#toTrash(this.#layout.partial(task.id))
      await stored.close()
      return rm(trashed, { recursive: true, force: true })
    }
    const handles = this.#inventory.forget(digest).add(stored)
    for (const live of handles) live.fail(reason ?? new DarnerError('PIECE_ABSENT', `${digest} was deleted`))
    const trashed = this.#layout.freshTrash()
    await this.#names.take(digest, trashed)
    await Promise.all([...handles].map((live) => live.close()))
    await rm(trashed, { recursive: true, force: true })
  }

  /** Out of its place at once; returns where to delete it. What is gone already is fine. */
  #toTrash(path: string): string {
    const trashed = this.#layout.freshTrash()
    try {
      renameSync(path, trashed)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return trashed
      // no room for a new name: deleted where it is
      return path
    }
    return trashed
  }
}
