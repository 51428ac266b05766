/**
 * The processes that the engine started itself in containers, by pid, also for a while after their end. The kernel's report of a process
 * that ends at once may come when nothing of it can be read any more.
 */
import type { Clock } from '../../src/core/clock.ts'
import type { Entry, RunObserver } from '../containers/entry.ts'

/** No kernel hands a pid out again so soon. */
const REMEMBER_MS = 10_000

interface Process {
  readonly container: string
  endedMs: number | undefined
}

export class Carried implements RunObserver {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  readonly #all = new Map<number, Process>()
  /** Pids of first processes, by container. */
  readonly #firsts = new Map<string, number>()

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  began(pid: number, container: string): void {
    for (const [old, one] of this.#all) if (this.#isForgotten(one)) this.#all.delete(old)
    this.#all.set(pid, { container, endedMs: undefined })
  }

  over(pid: number): void {
    const one = this.#all.get(pid)
    if (one) one.endedMs ??= this.#clock.monotonicMs()
  }

  started({ id, record: { pid } }: Pick<Entry, 'id' | 'record'>): void {
    if (pid === undefined) return
    this.#firsts.set(id, pid)
    this.began(pid, id)
  }

  ended({ id }: Pick<Entry, 'id'>): void {
    const pid = this.#firsts.get(id)
    this.#firsts.delete(id)
    if (pid !== undefined) this.over(pid)
  }

  /** The id of its container. */
  ownerOf(pid: number): string | undefined {
    const one = this.#all.get(pid)
    return one === undefined || this.#isForgotten(one) ? undefined : one.container
  }

  #isForgotten({ endedMs }: Process): boolean {
    return endedMs !== undefined && this.#clock.monotonicMs() - endedMs > REMEMBER_MS
  }
}
