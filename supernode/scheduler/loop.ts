/** Feeds events to the scheduler one by one and hands on what it decided. */
import type { Clock, Random } from '../../src/core/clock.ts'
import type { Scope } from '../../src/core/scope.ts'
import { decide } from './decide.ts'
import type { SchedulerEffect, SchedulerEvent } from './events.ts'
import { newScheduler, type SchedulerOptions, type SchedulerState } from './state.ts'

/** How often the scheduler looks at what only time brings about. */
export const TICK_MS = 1000

export class SchedulerLoop {
  readonly #state: SchedulerState
  readonly #clock: Clock
  readonly #perform: (effect: SchedulerEffect) => void

  constructor(
    options: Partial<SchedulerOptions>,
    parts: { clock: Clock; random: Random; perform: (effect: SchedulerEffect) => void },
  ) {
    this.#state = newScheduler(parts.random, options)
    this.#clock = parts.clock
    this.#perform = parts.perform
  }

  /** The scheduler's memory, to look at. */
  get state(): SchedulerState {
    return this.#state
  }

  /** Decides one event. What `mine` takes is returned instead of performed: the caller answers with it. */
  dispatch(event: SchedulerEvent, mine: (effect: SchedulerEffect) => boolean = () => false): SchedulerEffect[] {
    const taken: SchedulerEffect[] = []
    for (const effect of decide(this.#state, event, this.#clock.monotonicMs())) {
      if (mine(effect)) taken.push(effect)
      else this.#perform(effect)
    }
    return taken
  }

  /** Ticks until the scope ends; `before` runs ahead of each tick, to report living hosts. */
  start(scope: Scope, before: () => void): void {
    scope.run(async (signal) => {
      for (;;) {
        await this.#clock.sleep(TICK_MS, { signal })
        before()
        this.dispatch({ kind: 'tick' })
      }
    })
  }
}
