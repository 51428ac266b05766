/** Beginning and ending runs: start, stop, kill, pause. Each step is taken under the container's lock; waiting holds none. */

import type { HookResult } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { RunExtension } from '../rich/extension.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { signalNumber } from '../spec/signals.ts'
import type { ContainerIndex } from './index-of.ts'
import type { FaultPoint, Launcher } from './launch.ts'
import type { Change, Entry, Lifecycle } from './lifecycle.ts'
import type { Locks } from './locks.ts'
import { ALIVE, CONTAINER_STATES } from './states.ts'

const DEFAULT_STOP_SEC = 10
/** How long a process may take to die of KILL before that is an error: it may sit in an uninterruptible call. */
const KILL_MS = 30_000
const SIGKILL = 9

export interface RunsParts {
  readonly life: Lifecycle
  readonly launcher: Launcher
  readonly index: ContainerIndex<Entry>
  readonly locks: Locks
  readonly clock: Clock
  readonly extension?: RunExtension
  readonly fault: (point: FaultPoint) => void
  /** Looks, in the background, whether a process that was just started has ended already. */
  readonly look: (id: string) => void
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
    if (timeoutSec > 0) await life.signal(entry, SIGKILL, options.signal)
    if (await this.#endsWithin(exited, KILL_MS, options.signal)) return stopped()
    throw new DarnerError('TIMED_OUT', `stopping ${entry.record.name}: still there ${KILL_MS} ms after KILL`)
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
      await launcher.runtimeOf(entry.record)[verb](entry.id, { signal })
      await life.move(entry, verb, {})
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
