/**
 * Owns background work and things to close. `close` awaits every promise started with {@link Scope.run}. The first failure goes to the
 * owner through `failed` and ends the scope's signal.
 */
export class Scope implements AsyncDisposable {
  readonly #controller = new AbortController()
  readonly #work = new Set<Promise<void>>()
  readonly #closers: (() => Promise<void> | void)[] = []
  readonly #failed = Promise.withResolvers<unknown>()
  #closing: Promise<void> | undefined

  constructor(parent?: AbortSignal) {
    if (parent?.aborted) this.#controller.abort(parent.reason)
    else {
      const onAbort = () => this.#controller.abort(parent?.reason)
      parent?.addEventListener('abort', onAbort, { once: true })
      this.#closers.push(() => parent?.removeEventListener('abort', onAbort))
    }
  }

  /** Aborted when the scope closes, its parent aborts, or a piece of its work fails. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Resolves with the first failure; stays pending while all is well. */
  get failed(): Promise<unknown> {
    return this.#failed.promise
  }

  /** Starts background work. Rejections that are this scope's own abort are quiet; any other fails the scope. */
  run(work: (signal: AbortSignal) => Promise<void>): void {
    const running = (async () => {
      try {
        await work(this.signal)
      } catch (error) {
        if (this.signal.aborted) return
        this.#failed.resolve(error)
        this.#controller.abort(error)
      }
    })()
    this.#work.add(running)
    void running.finally(() => this.#work.delete(running))
  }

  /** Registers something to close; closed in reverse order. Returns it. */
  own<T extends AsyncDisposable | Disposable>(thing: T): T {
    this.#closers.push(async () => {
      if (Symbol.asyncDispose in thing) await thing[Symbol.asyncDispose]()
      else thing[Symbol.dispose]()
    })
    return thing
  }

  /** Registers a function to call at close, in reverse order. */
  defer(close: () => Promise<void> | void): void {
    this.#closers.push(close)
  }

  /** Aborts the work, waits for it, closes what is owned. Safe to call twice; throws the first closing failure. */
  close(reason: unknown = new DOMException('scope closed', 'AbortError')): Promise<void> {
    this.#closing ??= this.#close(reason)
    return this.#closing
  }

  async #close(reason: unknown): Promise<void> {
    if (!this.signal.aborted) this.#controller.abort(reason)
    await Promise.all(this.#work)
    let first: unknown
    for (const close of this.#closers.reverse()) {
      try {
        await close()
      } catch (error) {
        first ??= error
      }
    }
    if (first !== undefined) throw first
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
