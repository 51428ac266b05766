/** A bounded queue between one producer of events and one consumer that iterates. */
import { DarnerError } from './errors.ts'

export class Feed<T> implements AsyncIterable<T> {
  readonly #limit: number
  readonly #items: T[] = []
  #wake: (() => void) | undefined
  #ended = false
  #error: unknown

  /** More than `limit` items that nobody has taken end the feed with LIMIT_EXCEEDED: its consumer is stuck. */
  constructor(limit: number) {
    this.#limit = limit
  }

  push(item: T): void {
    if (this.#ended) return
    if (this.#items.length >= this.#limit) {
      this.fail(new DarnerError('LIMIT_EXCEEDED', `a consumer left ${this.#limit} events unread`))
      return
    }
    this.#items.push(item)
    this.#wake?.()
  }

  /** What is queued is still delivered. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  fail(error: unknown): void {
    if (this.#ended) return
    this.#error = error
    this.end()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    for (;;) {
      const item = this.#items.shift()
      if (item !== undefined) {
        yield item
        continue
      }
      if (this.#error !== undefined) throw this.#error
      if (this.#ended) return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }
}
