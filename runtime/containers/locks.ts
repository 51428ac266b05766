/** One thing at a time per key. */
export class Locks {
  readonly #tails = new Map<string, Promise<void>>()

  /** Runs `work` after all that was asked for under `key` before it. */
  async hold<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key)
    const mine = (before ?? Promise.resolve()).then(work)
    const tail = mine.then(
      () => {},
      () => {}, // the failure belongs to the caller, which has `mine`
    )
    this.#tails.set(key, tail)
    try {
      return await mine
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key)
    }
  }
}
