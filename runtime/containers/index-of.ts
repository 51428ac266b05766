/** Finds containers by id, name or the start of an id, and keeps names unique. */
import { DarnerError } from '../../src/core/errors.ts'

export class ContainerIndex<Entry extends { readonly id: string; readonly name: string }> {
  readonly #byId = new Map<string, Entry>()
  readonly #names = new Map<string, string>()

  /** Takes a name for an id. Throws CONFLICT when another one has it. */
  claim(name: string, id: string): void {
    const owner = this.#names.get(name)
    if (owner !== undefined && owner !== id) {
      throw new DarnerError(
        'CONFLICT',
        `the container name ${name} is already in use by container ${owner.slice(0, 12)}`,
        {
          details: { name, owner },
          way: 'remove or rename that one, or choose another name',
        },
      )
    }
    this.#names.set(name, id)
  }

  release(name: string, id: string): void {
    if (this.#names.get(name) === id) this.#names.delete(name)
  }

  add(entry: Entry): void {
    this.claim(entry.name, entry.id)
    this.#byId.set(entry.id, entry)
  }

  remove(entry: Entry): void {
    this.release(entry.name, entry.id)
    this.#byId.delete(entry.id)
  }

  get(id: string): Entry | undefined {
    return this.#byId.get(id)
  }

  all(): Entry[] {
    return [...this.#byId.values()]
  }

  /** Throws NOT_FOUND, or BAD_ARGUMENT when the start of an id fits several. */
  find(reference: string): Entry {
    const exact = this.#byId.get(reference) ?? this.#byId.get(this.#names.get(reference) ?? '')
    if (exact) return exact
    const fitting = /^[0-9a-f]{1,63}$/.test(reference) ? this.all().filter((one) => one.id.startsWith(reference)) : []
    if (fitting.length > 1) {
      throw new DarnerError('BAD_ARGUMENT', `${reference} is the start of ${fitting.length} container ids`)
    }
    if (fitting[0]) return fitting[0]
    throw new DarnerError('NOT_FOUND', `no such container: ${reference.slice(0, 200)}`)
  }
}
