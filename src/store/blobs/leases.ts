/** What keeps a blob alive: leases live as long as this process, pins until they are taken back. */
import { DarnerError } from '../../core/errors.ts'
import type { TaskId } from '../../core/task/task.ts'

const MAX_OWNER = 256

/** Counts holders by task; the same owner may hold a task more than once. */
export class Leases {
  readonly #held = new Map<TaskId, Set<{ readonly owner: string }>>()

  take(id: TaskId, owner: string): Disposable {
    const lease = { owner }
    const set = this.#held.get(id) ?? new Set()
    this.#held.set(id, set.add(lease))
    return {
      [Symbol.dispose]: () => {
        set.delete(lease)
        if (set.size === 0 && this.#held.get(id) === set) this.#held.delete(id)
      },
    }
  }

  has(id: TaskId): boolean {
    return this.#held.has(id)
  }

  owners(id: TaskId): string[] {
    return [...(this.#held.get(id) ?? [])].map((lease) => lease.owner)
  }
}

/** The pins in memory; the metadata holds them on disk. */
export class Pins {
  readonly #owners = new Map<TaskId, Set<string>>()

  add(id: TaskId, owner: string): void {
    this.#owners.set(id, (this.#owners.get(id) ?? new Set()).add(owner))
  }

  remove(id: TaskId, owner: string): void {
    const owners = this.#owners.get(id)
    owners?.delete(owner)
    if (owners?.size === 0) this.#owners.delete(id)
  }

  has(id: TaskId): boolean {
    return this.#owners.has(id)
  }

  owners(id: TaskId): string[] {
    return [...(this.#owners.get(id) ?? [])]
  }
}

/** Throws BAD_ARGUMENT: an owner is 1 to 256 printable characters. */
export function checkOwner(owner: string): void {
  if (owner.length === 0 || owner.length > MAX_OWNER || /\p{Cc}/u.test(owner)) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `owner ${JSON.stringify(owner.slice(0, 64))}: expected 1 to ${MAX_OWNER} printable characters`,
    )
  }
}
