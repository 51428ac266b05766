/** What goes on beside running containers: ends are noticed, logs rotated, restarts of the policy waited for. */

import type { HookResult } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import type { Log } from '../../src/core/log.ts'
import type { Scope } from '../../src/core/scope.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { RunExtension } from '../rich/extension.ts'
import type { Entry, RunObserver } from './entry.ts'
import type { ContainerIndex } from './index-of.ts'
import type { Launcher } from './launch.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Locks } from './locks.ts'
import { LogKeeper } from './log-keeper.ts'
import { readHostOomKills } from './oom.ts'
import { wantsStartWithAgent } from './restart.ts'
import { ALIVE } from './states.ts'

/** One round of so many looks carefully whether containers still run. */
const CAREFUL_ROUND = 30

export interface UpkeepParts {
  readonly life: Lifecycle
  readonly launcher: Launcher
  readonly index: ContainerIndex<Entry>
  readonly locks: Locks
  readonly clock: Clock
  readonly log: Log
  readonly extension?: RunExtension
  readonly observers: ReadonlySet<RunObserver>
  readonly scope: Scope
  readonly start: (entry: Entry, options: { signal: AbortSignal; restartCount: number }) => Promise<void>
}

export class Upkeep implements RunObserver {
  readonly #recheckMs: number
  readonly #parts: UpkeepParts
  readonly #logs: LogKeeper
  /** Whether processes may have been killed for memory that nobody counted yet. */
  #killsDue = true

  /** `recheckMs`: how often running containers are looked at, beside the watch for exit files. */
  constructor(options: { readonly recheckMs: number }, parts: UpkeepParts) {
    this.#recheckMs = options.recheckMs
    this.#parts = parts
    this.#logs = new LogKeeper({ clock: parts.clock, background: (id, work) => this.background(id, work) })
  }

  started(entry: Entry): void {
    this.#logs.begin(entry)
    this.#killsDue = true
  }

  ended(entry: Entry): void {
    this.#logs.end(entry.id)
  }

  /** Looks again and again until the scope ends. */
  watch(): void {
    this.#parts.scope.run((signal) => this.#recheck(signal))
    this.#parts.scope.run((signal) => this.#logs.run(signal))
  }

  /** Work that nobody waits for; a failure is logged. */
  background(id: string, work: () => Promise<void>): void {
    this.#parts.scope.run(async () => {
      try {
        await work()
      } catch (error) {
        this.#parts.log.error({ container: id, error }, 'container upkeep failed')
      }
    })
  }

  /** Ends the run on record when it is over. */
  checkExit(id: string): void {
    const { locks, index, life } = this.#parts
    this.background(id, () =>
      locks.hold(id, async () => {
        const entry = index.get(id)
        if (entry && ALIVE.includes(entry.record.status)) await life.endIfOver(entry)
      }),
    )
  }

  restartAfter(entry: Entry, delayMs: number): void {
    const { scope, clock, start } = this.#parts
    const due = new AbortController()
    entry.restartDue = due
    const restarts = (entry.record.restartCount ?? 0) + 1
    this.background(entry.id, async () => {
      const signal = anySignal([due.signal, scope.signal])
      try {
        await clock.sleep(delayMs, { signal })
      } catch {
        return // somebody stopped, started or removed it, or the agent ends
      }
      if (entry.record.status !== 'restarting') return
      await start(entry, { signal: scope.signal, restartCount: restarts })
    })
  }

  /** After a restart of the agent: what goes on beside a container that was found running. */
  async besideAgain(entry: Entry): Promise<void> {
    const { extension, log, life, launcher, scope } = this.#parts
    const { pid } = entry.record
    if (!extension || pid === undefined || !ALIVE.includes(entry.record.status)) return
    const note = (result: HookResult) => life.note(entry, result)
    try {
      const facts = launcher.factsOf(entry.record, entry.bundle)
      await extension.started(facts, pid, { note, again: true, signal: scope.signal })
    } catch (error) {
      log.error({ container: entry.id, error }, 'what goes on beside a container was not taken up again')
    }
  }

  /** After a restart of the agent: what runs is watched again, what its policy wants running is started. */
  takeUp(entry: Entry): void {
    const { status, request, exitCode = 0, stopRequested, restartCount = 0 } = entry.record
    if (status === 'running') for (const one of this.#parts.observers) one.started(entry)
    else if (ALIVE.includes(status)) this.started(entry)
    const end = { exitCode, stopRequested: stopRequested === true, restarts: restartCount }
    if (entry.record.upgrade) return // its upgrade is gone on with, and starts it
    if (status === 'restarting') this.restartAfter(entry, 0)
    else if (status === 'exited' && wantsStartWithAgent(request.restart, end)) {
      const { start, scope } = this.#parts
      this.background(entry.id, () => start(entry, { signal: scope.signal, restartCount }))
    }
  }

  /** A process inside may have been killed while the container goes on. False when all are on the record. */
  #countOomKills(entry: Entry): boolean {
    const { launcher, life, locks } = this.#parts
    const kills = launcher.oomKillsOf(entry.id)
    if (kills <= (entry.record.oomKills ?? 0)) return false
    this.background(entry.id, () =>
      locks.hold(entry.id, async () => {
        if (entry.record.status !== 'running' || kills <= (entry.record.oomKills ?? 0)) return
        await life.keep(entry, { ...entry.record, oomKills: kills })
        life.tell(entry, 'oom', { kills: String(kills) })
      }),
    )
    return true
  }

  /**
   * Most rounds look only quickly, so that many containers cost next to nothing; a pid that somebody else has is seen in the others.
   * The containers' own counts are read only after the host's has risen.
   */
  async #recheck(signal: AbortSignal): Promise<void> {
    const { clock, index, life } = this.#parts
    let before: number | undefined
    for (let round = 1; ; round++) {
      await clock.sleep(this.#recheckMs, { signal })
      const kills = readHostOomKills()
      const risen = kills === undefined || kills !== before
      const counting = risen || this.#killsDue
      this.#killsDue = risen // the kernel counts for the host first, and for the container a moment later
      before = kills
      for (const entry of index.all()) {
        if (entry.unkept) this.background(entry.id, () => this.#parts.locks.hold(entry.id, () => life.keepAgain(entry)))
        if (!ALIVE.includes(entry.record.status)) continue
        if (round % CAREFUL_ROUND === 0 || !life.seemsToRun(entry)) this.checkExit(entry.id)
        if (counting && this.#countOomKills(entry)) this.#killsDue = true
      }
    }
  }
}
