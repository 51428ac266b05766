/** Tells, once each time, when a container has used nine tenths of a disk quota: of its writable layer or of a volume. */
import type { Clock } from '../../src/core/clock.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import type { EventSink } from '../containers/events.ts'
import { LOGS, type PlaceUsage } from './uses.ts'

/** Told at this share, and again only after it was below the lower one. */
const WARN_SHARE = 0.9
const CALM_SHARE = 0.85

/** A running container whose quota is watched. */
export interface Watched {
  readonly id: string
  readonly uses: () => Promise<readonly PlaceUsage[]>
  /** What its events say. */
  readonly attributes: Readonly<Record<string, string>>
}

export interface QuotaWatchParts {
  readonly clock: Clock
  readonly log: Log
  readonly events: EventSink
  readonly running: () => readonly Watched[]
}

/** Disposing ends the watching. */
export class QuotaWatch implements AsyncDisposable {
  readonly #everyMs: number
  readonly #parts: QuotaWatchParts
  readonly #scope = new Scope()
  /** `ID bytes PATH` and `ID inodes PATH` that were reported. */
  readonly #told = new Set<string>()

  constructor(options: { readonly everyMs: number }, parts: QuotaWatchParts) {
    this.#everyMs = options.everyMs
    this.#parts = parts
  }

  start(): void {
    this.#scope.run(async (signal) => {
      for (;;) {
        await this.#parts.clock.sleep(this.#everyMs, { signal })
        await this.look()
      }
    })
  }

  /** Looks at all of them now. */
  async look(): Promise<void> {
    const running = this.#parts.running()
    const ids = new Set(running.map(({ id }) => id))
    for (const key of this.#told) if (!ids.has(key.split(' ')[0] ?? '')) this.#told.delete(key)
    for (const one of running) {
      try {
        // a full log stops nobody: it is begun anew
        for (const usage of await one.uses()) if (usage.path !== LOGS) this.#judge(one, usage)
      } catch (error) {
        this.#parts.log.debug({ container: one.id, error }, 'disk usage not read') // it ended meanwhile
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.close()
  }

  #judge({ id, attributes }: Watched, usage: PlaceUsage): void {
    for (const resource of ['bytes', 'inodes'] as const) {
      const { used, limit } = usage[resource] ?? { used: 0, limit: 0 }
      const key = `${id} ${resource} ${usage.path}`
      const share = limit > 0 ? used / limit : 0
      if (share < CALM_SHARE) this.#told.delete(key)
      if (share < WARN_SHARE || this.#told.has(key)) continue
      this.#told.add(key)
      const more = { path: usage.path, resource, used: String(used), limit: String(limit) }
      this.#parts.events.emit({
        type: 'container',
        action: 'quota_warning',
        id,
        attributes: { ...attributes, ...more },
      })
    }
  }
}
