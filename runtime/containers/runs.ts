/** Beginning and ending runs: start, stop, kill, pause. Each step is taken under the container's lock; waiting holds none. */

import type { HookResult } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { RunExtension } from '../rich/extension.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { signalNumber } from '../spec/signals.ts'
import type { Entry } from './entry.ts'
import type { ContainerIndex } from './index-of.ts'
import type { FaultPoint, Launcher } from './launch.ts'
import type { Change, Lifecycle } from './lifecycle.ts'
import type { Locks } from './locks.ts'
import { ALIVE, CONTAINER_STATES } from './states.ts'

const DEFAULT_STOP_SEC = 10
/** How long a process may take to die of KILL before that is an error: it may sit in an uninterruptible call. */
const KILL_MS = 30_000
const SIGKILL = 9
/** How long after a thaw that failed the next is tried. */
const THAW_AGAIN_MS = 1000
/** A thaw is done also for a caller that left; no verb of a runtime takes for ever. */
const TO_THE_END = new AbortController().signal

export interface RunsParts {
  readonly life: Lifecycle
  readonly launcher: Launcher
  readonly index: ContainerIndex<Entry>
  readonly locks: Locks
  readonly clock: Clock
  readonly log: Log
  readonly extension?: RunExtension
  readonly fault: (point: FaultPoint) => void
  /** Looks, in the background, whether a process that was just started has ended already. */
  readonly look: (id: string) => void
  /** Does what nobody waits for; a failure is logged. */
  readonly background: (id: string, work: () => Promise<void>) => void
  /** Aborted when the engine ends. */
  readonly signal: AbortSignal
}

type Waits = { readonly signal: AbortSignal }

export class Runs {
  readonly #parts: RunsParts

  constructor(parts: RunsParts) {
    this.#parts = parts
  }

  /** Resolves when the process runs; nothing happens when it does already. Throws RUNTIME_FAILED and what the spec throws. */
  async start(entry: Entry, { signal, restartCount }: { signal: AbortSignal; restartCount: number }): Promise<void> {
    const { locks, index, life, clock, extension, launcher, fault } = this.#parts
    await locks.hold(entry.id, async () => {
      if (ALIVE.includes(entry.record.status) || index.get(entry.id) !== entry) return
      signal.throwIfAborted()
      const fresh: Change = { pid: undefined, conmonPid: undefined, exitCode: undefined, finishedAt: undefined }
      await life.move(entry, 'start', {
        ...fresh,
        error: undefined,
        readyAt: undefined,
        hookResults: undefined,
        ...(extension ? { endDue: true } : {}),
        oomKilled: undefined,
        oomKills: undefined,
        coreDumps: undefined,
        stopRequested: undefined,
        health: undefined,
        restartCount,
      })
      fault('start:recorded')
      try {
        const note = (result: HookResult) => life.note(entry, result)
        const noting = { note, signal: this.#parts.signal }
        await extension?.preStart(launcher.factsOf(entry.record, entry.bundle), noting)
        const launched = await launcher.launch(entry.record, entry.bundle, {
          consoleSize: entry.consoleSize,
          created: () => life.connectWaiting(entry),
          ...noting,
        })
        const { pid, conmonPid, argv, stopSignal } = launched
        await extension?.started(launcher.factsOf(entry.record, entry.bundle), pid, { ...noting, again: false })
        await life.move(entry, 'started', { pid, conmonPid, argv: [...argv], startedAt: clock.now(), stopSignal })
      } catch (error) {
        throw await life.startFailed(entry, error)
      }
    })
    if (!life.seemsToRun(entry)) this.#parts.look(entry.id)
  }

  /**
   * Stop signal, then KILL after the timeout; 0 kills at once. False, and nothing happens, when it isn't running and no policy is about
   * to start it again. Throws TIMED_OUT.
   */
  async stop(
    entry: Entry,
    options: { timeoutSec?: number; stopSignal?: string; signal: AbortSignal },
  ): Promise<boolean> {
    const { locks, life, launcher, extension, fault } = this.#parts
    const { request, imageConfig, imageReference } = entry.record
    const timeoutSec = options.timeoutSec ?? request.stopTimeoutSec ?? DEFAULT_STOP_SEC
    const image = readImageConfig(imageConfig, imageReference)
    const usual = () => entry.record.stopSignal ?? signalNumber(request.stopSignal ?? (image.stopSignal || 'TERM'))
    const wanted = options.stopSignal === undefined ? usual() : signalNumber(options.stopSignal)
    const first = timeoutSec === 0 ? SIGKILL : wanted
    entry.restartDue?.abort()
    const exited = await locks.hold(entry.id, async () => {
      if (entry.record.status === 'restarting') {
        await life.move(entry, 'stop', { stopRequested: true })
        return 'over'
      }
      if (!ALIVE.includes(entry.record.status)) return undefined
      const { ended } = entry
      const wasPaused = entry.record.status === 'paused'
      const { pid } = entry.record
      await life.move(entry, 'stop', { stopRequested: true })
      fault('stop:recorded')
      const note = (result: HookResult) => life.note(entry, result)
      const facts = launcher.factsOf(entry.record, entry.bundle)
      await extension?.stopping(facts, pid, { note, signal: options.signal })
      await life.signal(entry, first, options.signal)
      fault('stop:signalled')
      life.tell(entry, 'kill', { signal: String(first) })
      if (wasPaused) await launcher.runtimeOf(entry.record).resume(entry.id, options)
      return ended
    })
    if (exited === undefined) return false
    if (exited === 'over') return true
    const stopped = () => {
      life.tell(entry, 'stop')
      return true
    }
    if (timeoutSec > 0 && (await this.#endsWithin(exited, timeoutSec * 1000, options.signal))) return stopped()
    if (timeoutSec > 0) await this.#killRun(entry, exited, options)
    if (await this.#endsWithin(exited, KILL_MS, options.signal)) return stopped()
    throw new DarnerError('TIMED_OUT', `stopping ${entry.record.name}: still there ${KILL_MS} ms after KILL`)
  }

  /** KILL for that run only: by the turn of this one, another stop may have ended it and a start have begun the next. */
  async #killRun(entry: Entry, run: Entry['ended'], { signal }: Waits): Promise<void> {
    const { locks, life } = this.#parts
    await locks.hold(entry.id, async () => {
      if (entry.ended === run && ALIVE.includes(entry.record.status)) await life.signal(entry, SIGKILL, signal)
    })
  }

  /** Throws BAD_ARGUMENT for an unknown signal, STATE_INVALID when it isn't running. */
  async kill(entry: Entry, signalName: string, { signal }: Waits): Promise<void> {
    const { locks, life, launcher } = this.#parts
    const number = signalNumber(signalName)
    await locks.hold(entry.id, async () => {
      mustRun(entry, 'kill')
      const sent = await life.signal(entry, number, signal)
      if (!sent) throw new DarnerError('STATE_INVALID', `container ${entry.record.name} is not running`)
      life.tell(entry, 'kill', { signal: String(number) })
      if (number === SIGKILL && entry.record.status === 'paused') {
        await launcher.runtimeOf(entry.record).resume(entry.id, { signal })
        await life.move(entry, 'resume', {})
      }
    })
  }

  /** Throws STATE_INVALID. */
  async freeze(entry: Entry, verb: 'pause' | 'resume', { signal }: Waits): Promise<void> {
    const { locks, life, launcher } = this.#parts
    await locks.hold(entry.id, async () => {
      CONTAINER_STATES.step(entry.record.status, verb, entry.record.name)
      const runtime = launcher.runtimeOf(entry.record)
      try {
        await runtime[verb](entry.id, { signal })
      } catch (error) {
        // some of its processes may stand still
        if (verb === 'pause' && launcher.frozen(entry.id)) await runtime.resume(entry.id, { signal: TO_THE_END })
        throw error
      }
      await life.move(entry, verb, {})
    })
  }

  /**
   * Does `work` while the container's processes stand still; one that doesn't run, or whose end comes first, needs no freezing. They go on
   * after it, whatever happens. No record mentions this freeze, so an agent that finds one thaws it. The caller holds the container's lock.
   */
  async still<T>(entry: Entry, work: () => Promise<T>, { signal }: Waits): Promise<T> {
    const { life, index, fault } = this.#parts
    if (entry.record.status !== 'running' || (await life.endIfOver(entry))) {
      if (index.get(entry.id) === entry) return await work()
      throw new DarnerError('NOT_FOUND', `no such container: ${entry.name}`) // its end removed it
    }
    entry.record = { ...entry.record, status: 'paused' }
    try {
      if (await this.#freeze(entry, { signal })) life.tell(entry, 'pause')
      fault('still:frozen')
      return await work()
    } finally {
      await this.#thaw(entry).catch((error: unknown) => this.#thawLater(entry, error))
    }
  }

  /** False when its processes ended first. */
  async #freeze({ id, record }: Entry, { signal }: Waits): Promise<boolean> {
    const runtime = this.#parts.launcher.runtimeOf(record)
    try {
      await runtime.pause(id, { signal })
      return true
    } catch (error) {
      const state = await runtime.state(id, { signal })
      if (state !== undefined && state.status !== 'stopped') throw error
      return false
    }
  }

  async #thaw(entry: Entry): Promise<void> {
    const { launcher, life, look } = this.#parts
    if (entry.record.status !== 'paused') return // it was ended, which thaws
    const frozen = launcher.frozen(entry.id) !== false
    if (frozen) await launcher.runtimeOf(entry.record).resume(entry.id, { signal: TO_THE_END })
    entry.record = { ...entry.record, status: 'running' }
    if (frozen) life.tell(entry, 'unpause')
    look(entry.id)
  }

  #thawLater(entry: Entry, error: unknown): void {
    const { log, background, clock, locks, index, signal } = this.#parts
    log.error({ container: entry.id, error }, 'a container stays frozen, which is tried again')
    background(entry.id, async () => {
      while (index.get(entry.id) === entry && entry.record.status === 'paused') {
        await clock.sleep(THAW_AGAIN_MS, { signal })
        await locks.hold(entry.id, () => this.#thaw(entry)).catch(() => {}) // reported above
      }
    })
  }

  async #endsWithin(exited: Entry['ended'], ms: number, signal: AbortSignal): Promise<boolean> {
    const over = new AbortController()
    const waits = { signal: anySignal([signal, over.signal]) }
    const sleep = this.#parts.clock.sleep(ms, waits)
    sleep.catch(() => {}) // the abort below
    try {
      return await Promise.race([exited.wait(waits).then(() => true), sleep.then(() => false)])
    } finally {
      over.abort()
    }
  }
}

/** Throws STATE_INVALID unless a process of it may live; `what` was to be done to it. */
export function mustRun(entry: Entry, what: string): void {
  if (ALIVE.includes(entry.record.status)) return
  throw new DarnerError(
    'STATE_INVALID',
    `${what}: container ${entry.record.name} is ${entry.record.status}, not running`,
  )
}
