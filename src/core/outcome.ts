/** What comes once, for many who may stop waiting for it: a promise keeps each wait that ever raced against it, until it settles. */
export class Outcome<T> {
  #settled: Promise<T> | undefined
  readonly #waits = new Set<PromiseWithResolvers<T>>()

  /** Waits that go on. */
  get waits(): number {
    return this.#waits.size
  }

  /** Only the first of these two counts. */
  resolve(value: T): void {
    if (this.#settled !== undefined) return
    this.#settled = Promise.resolve(value)
    for (const one of this.#waits) one.resolve(value)
  }

  reject(error: unknown): void {
    if (this.#settled !== undefined) return
    this.#settled = Promise.reject(error)
    this.#settled.catch(() => {}) // every waiting caller gets the failure
    for (const one of this.#waits) one.reject(error)
  }

  /** Rejects with the signal's reason when it aborts first. */
  async wait({ signal }: { readonly signal: AbortSignal }): Promise<T> {
    signal.throwIfAborted()
    if (this.#settled !== undefined) return await this.#settled
    const one = Promise.withResolvers<T>()
    const onAbort = () => one.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#waits.add(one)
    try {
      return await one.promise
    } finally {
      this.#waits.delete(one)
      signal.removeEventListener('abort', onAbort)
    }
  }
}
