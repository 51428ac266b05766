/** Rates of preheats under way on this host: the lowest of them caps what comes in for the background class meanwhile. */
import type { RateLimits } from '../src/exchange/limits/limits.ts'

const SCOPE = { on: 'class', direction: 'in', priority: 'background' } as const

export class PreheatRates {
  readonly #limits: Pick<RateLimits, 'set' | 'list'>
  readonly #rates = new Map<symbol, number>()
  /** What was set there before, and is again afterwards. */
  #before: ReturnType<RateLimits['list']>[number]['limit'] | undefined

  constructor(limits: Pick<RateLimits, 'set' | 'list'>) {
    this.#limits = limits
  }

  /** Holds the class to `bytesPerSec` until disposed. */
  hold(bytesPerSec: number): Disposable {
    const key = Symbol('preheat')
    if (this.#rates.size === 0)
      this.#before = this.#limits
        .list()
        .find(({ scope }) => scope.on === 'class' && scope.direction === 'in' && scope.priority === 'background')?.limit
    this.#rates.set(key, bytesPerSec)
    this.#apply()
    return {
      [Symbol.dispose]: () => {
        if (this.#rates.delete(key)) this.#apply()
      },
    }
  }

  #apply(): void {
    const before = this.#before
    const lowest = Math.min(...this.#rates.values())
    const slower =
      Number.isFinite(lowest) && (before === undefined || before.borrow === true || lowest < before.bytesPerSec)
    this.#limits.set(SCOPE, slower ? { bytesPerSec: lowest } : before)
  }
}
