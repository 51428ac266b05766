/** Rates that readers of this host ask for: a blob comes no faster than the most patient of its present readers wishes. */
import type { RateLimits } from '../src/exchange/limits/limits.ts'

export class GetRates {
  readonly #limits: RateLimits
  readonly #wishes = new Map<string, Set<{ readonly bytesPerSec: number }>>()

  constructor(limits: RateLimits) {
    this.#limits = limits
  }

  /**
   * One reader's wish for a task, until it is disposed. Undefined is as fast as can be, which lifts the limit for all its readers
   * meanwhile. A limit that was set by command is left alone.
   */
  wish(task: string, bytesPerSec: number | undefined): Disposable {
    const wish = { bytesPerSec: bytesPerSec ?? Number.POSITIVE_INFINITY }
    const all = this.#wishes.get(task) ?? new Set()
    // without a wish for slowness, and without a limit from here, there is nothing to do
    if (all.size === 0 && bytesPerSec === undefined) return { [Symbol.dispose]: () => {} }
    if (all.size === 0 && this.#isSet(task)) return { [Symbol.dispose]: () => {} }
    all.add(wish)
    this.#wishes.set(task, all)
    this.#apply(task, all)
    return {
      [Symbol.dispose]: () => {
        all.delete(wish)
        if (all.size === 0) this.#wishes.delete(task)
        this.#apply(task, all)
      },
    }
  }

  #isSet(task: string): boolean {
    return this.#limits.list().some(({ scope }) => scope.on === 'task' && scope.task === task)
  }

  #apply(task: string, all: ReadonlySet<{ readonly bytesPerSec: number }>): void {
    const most = Math.max(0, ...[...all].map((one) => one.bytesPerSec))
    const limited = all.size > 0 && Number.isFinite(most)
    this.#limits.set({ on: 'task', task, direction: 'in' }, limited ? { bytesPerSec: most } : undefined)
  }
}
