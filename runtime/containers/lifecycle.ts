/**
 * The steps of one container's life, each recorded as it is taken: start failed, ended, removed, found again after a restart of the agent.
 * The caller holds the container's lock.
 */

import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExitReply } from '../../src/api/containers-api.ts'
import type { HookResult } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError, DarnerError, isDarnerError, systemCode } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Outcome } from '../../src/core/outcome.ts'
import type { RunEnd } from '../rich/extension.ts'
import { Attached } from '../shim/attach.ts'
import { type Bundle, bundleAt } from '../shim/bundle.ts'
import { conmonAlive } from '../shim/conmon.ts'
import type { ExitFact } from '../shim/exits.ts'
import { Unheard } from '../shim/unheard.ts'
import type { ContainerNetworks } from './dependencies.ts'
import type { Entry } from './entry.ts'
import { attributesOf, type EventSink } from './events.ts'
import { startExitCode } from './launch.ts'
import { tellNetworks } from './network-events.ts'
import { type ContainerRecord, generationsOf } from './record.ts'
import { goesByItself, LOST_EXIT_CODE, Removal, type RemovalParts } from './removal.ts'
import { nextDelayMs, wantsRestart } from './restart.ts'
import { ALIVE, CONTAINER_STATES, type ContainerEvent } from './states.ts'

const LOST = 'conmon is gone and left no exit code'
const MOST_HOOK_RESULTS = 32

/** Fields to set; undefined takes one away. */
export type Change = { [Key in keyof ContainerRecord]?: ContainerRecord[Key] | undefined }

export interface LifecycleParts extends RemovalParts {
  /** Folder of bundles. */
  readonly dir: string
  readonly clock: Clock
  readonly log: Log
  readonly networks?: ContainerNetworks
  readonly events: EventSink
  /** Starts it again when the delay is over. */
  readonly restartAfter: (entry: Entry, delayMs: number) => void
}

export class Lifecycle {
  readonly #parts: LifecycleParts
  readonly #removal: Removal

  constructor(parts: LifecycleParts) {
    this.#parts = parts
    this.#removal = new Removal({
      ...parts,
      move: (entry, event, change, sync) => this.move(entry, event, change, sync),
      tell: (entry, action) => this.tell(entry, action),
      afterRun: (entry, end) => this.#afterRun(entry, end),
    })
  }

  /** The entry of a record, not yet in the index. */
  entryOf(record: ContainerRecord): Entry {
    for (const one of generationsOf(record)) this.#parts.extension?.known(one.rootfsId, one.request)
    return {
      id: record.id,
      record,
      unkept: false,
      get name() {
        return this.record.name
      },
      bundle: bundleAt(join(this.#parts.dir, record.id)),
      ended: new Outcome(),
      waiting: new Set(),
      consoleSize: undefined,
      removed: new Outcome(),
      restartDelayMs: 0,
      restartDue: undefined,
    }
  }

  /** One step of the life cycle. A start is recorded before it counts; the others are what happened, as {@link keep} has it. Throws STATE_INVALID. */
  async move(entry: Entry, event: ContainerEvent, change: Change, sync = false): Promise<void> {
    const status = CONTAINER_STATES.step(entry.record.status, event, entry.record.name)
    const record = { ...entry.record, ...change, status } as ContainerRecord
    if (event === 'start') await this.save(entry, record, { sync, reserved: true })
    else await this.keep(entry, record, { sync })
    this.#parts.log.debug({ container: entry.id, name: entry.record.name, event, status }, 'container state')
    const action = EVENT_ACTIONS[event]
    if (event === 'started') tellNetworks(entry.record, 'connect', this.#parts)
    if (action !== undefined) this.tell(entry, action, event === 'exit' || event === 'lost' ? exitOf(entry) : {})
    if (event === 'exit' || event === 'lost') tellNetworks(entry.record, 'disconnect', this.#parts)
    if (event === 'started') for (const one of this.#parts.observers) one.started(entry)
    if (event === 'exit' || event === 'lost') for (const one of this.#parts.observers) one.ended(entry)
  }

  /** Puts an event into the log of events. */
  tell(entry: Entry, action: string, more: Readonly<Record<string, string>> = {}): void {
    this.#parts.events.emit({ type: 'container', action, id: entry.id, attributes: attributesOf(entry.record, more) })
  }

  /** Records first, then counts. Throws DISK_FULL; `reserved`: not for want of room that others took. */
  async save(
    entry: Entry,
    record: ContainerRecord,
    { sync, reserved = false }: { sync: boolean; reserved?: boolean },
  ): Promise<void> {
    await this.#parts.records.put(record, { sync, reserved })
    entry.record = record
    entry.unkept = false
  }

  /** What happened counts, whether there is room to record it or not: then {@link keepAgain} does, once there is. */
  async keep(entry: Entry, record: ContainerRecord, { sync = false }: { sync?: boolean } = {}): Promise<void> {
    try {
      await this.save(entry, record, { sync, reserved: true })
    } catch (error) {
      if (!isDarnerError(error, 'DISK_FULL')) throw error
      if (!entry.unkept) this.#parts.log.warn({ container: entry.id, error }, 'no room for the record of a container')
      entry.record = record
      entry.unkept = true
    }
  }

  /** Records what had no room before. */
  async keepAgain(entry: Entry): Promise<void> {
    if (entry.unkept && this.#parts.index.get(entry.id) === entry) await this.keep(entry, entry.record)
  }

  /** Sends a signal by number; true when the process was there to take it. */
  async signal(entry: Entry, number: number, signal: AbortSignal): Promise<boolean> {
    return this.#parts.launcher.runtimeOf(entry.record).kill(entry.id, number, { signal })
  }

  /** Attaches clients that waited for the start. */
  async connectWaiting(entry: Entry): Promise<void> {
    const waiting = [...entry.waiting]
    entry.waiting.clear()
    for (const session of waiting) {
      const unheard = await Unheard.after(entry.bundle)
      try {
        session.connect(await Attached.open(entry.bundle), unheard)
      } catch (error) {
        await unheard[Symbol.asyncDispose]()
        throw error
      }
    }
  }

  /** Undoes a start; returns the error to throw, with the exit code that a shell would give. */
  async startFailed(entry: Entry, cause: unknown): Promise<DarnerError> {
    const error = asDarnerError(cause, `starting ${entry.record.name}`)
    const exitCode = startExitCode(error)
    await this.#cleanQuietly(entry, true)
    await this.#afterRun(entry, { exitCode, error: error.message })
    await this.move(entry, 'startFailed', { exitCode, error: error.message, finishedAt: this.#parts.clock.now() })
    const { details, way } = error
    const failure = new DarnerError(error.code, error.message, {
      cause,
      details: { ...details, exitCode },
      ...(way === undefined ? {} : { way }),
    })
    for (const session of entry.waiting) session.fail(failure)
    entry.waiting.clear()
    this.#settle(entry, { exitCode, error: error.message })
    if (goesByItself(entry)) await this.#removal.remove(entry, { volumes: true })
    return failure
  }

  /** Settles waiters for the end of this run and makes ready for the next. */
  #settle(entry: Entry, reply: ExitReply): void {
    entry.ended.resolve(reply)
    entry.ended = new Outcome()
  }

  /**
   * A quick look: no exit code is there, and some process has conmon's pid. Where it is false, {@link endIfOver} gives the certain answer.
   */
  seemsToRun({ id, record: { conmonPid } }: Entry): boolean {
    return conmonPid !== undefined && isProcess(conmonPid) && !this.#parts.exits.has(id)
  }

  /** Ends the run when conmon has written its exit code, or is gone. True when it was over. */
  async endIfOver(entry: Entry): Promise<boolean> {
    const { conmonPid } = entry.record
    const { exits, clock } = this.#parts
    let fact = exits.read(entry.id)
    if (!fact) {
      if (conmonPid !== undefined && (await conmonAlive(conmonPid, entry.id))) return false
      fact = exits.read(entry.id) // after the look at conmon: it writes the file before it ends
    }
    if (fact) await this.#ended(entry, 'exit', fact)
    else await this.#ended(entry, 'lost', { exitCode: LOST_EXIT_CODE, finishedAt: clock.now() }, LOST)
    return true
  }

  async #ended(entry: Entry, event: 'exit' | 'lost', fact: ExitFact, error?: string): Promise<void> {
    const oomKilled = this.#oomKilled(entry) ? true : undefined
    if (oomKilled && entry.record.oomKills === undefined) this.tell(entry, 'oom')
    await this.move(entry, event, { ...fact, error, oomKilled, pid: undefined, conmonPid: undefined })
    this.#parts.fault('exit:recorded')
    const reply = { exitCode: fact.exitCode, ...(error === undefined ? {} : { error }) }
    if (goesByItself(entry)) return this.#removal.goByItself(entry, reply, { force: event === 'lost' })
    this.#settle(entry, reply)
    await this.#cleanQuietly(entry, event === 'lost')
    await this.#afterRun(entry, reply)
    await this.#restartMaybe(entry, fact)
  }

  /** The kernel's own count, since conmon may see the process end before it learns why. conmon's file where the kernel doesn't count. */
  #oomKilled({ id, bundle }: Entry): boolean {
    return this.#parts.launcher.oomKillsOf(id) > 0 || existsSync(join(bundle.path, 'oom'))
  }

  /** Puts how a hook went on the record. */
  async note(entry: Entry, result: HookResult): Promise<void> {
    const hookResults = [...(entry.record.hookResults ?? []), result].slice(-MOST_HOOK_RESULTS)
    await this.keep(entry, { ...entry.record, hookResults })
  }

  /** What belongs after a run, once: the record says until it is done that it is due. */
  async #afterRun(entry: Entry, end: RunEnd): Promise<void> {
    const { extension, launcher, runtimes, signal } = this.#parts
    if (!extension || entry.record.endDue !== true || !runtimes.has(entry.record.runtime)) return
    const note = (result: HookResult) => this.note(entry, result)
    try {
      await extension.ended(launcher.factsOf(entry.record, entry.bundle), end, { note, signal })
    } catch (error) {
      if (signal.aborted) return // the next agent goes on with it
      this.#parts.log.warn({ container: entry.id, error }, 'what belongs after a run failed')
    }
    const { endDue: _done, ...record } = entry.record
    await this.keep(entry, record)
  }

  async #cleanQuietly(entry: Entry, force: boolean): Promise<void> {
    try {
      await this.#parts.launcher.clean(entry.record, { force, signal: this.#parts.signal })
    } catch (error) {
      // the next start, removal or restart of the agent tries again
      this.#parts.log.warn({ container: entry.id, error }, 'cleaning up after a container failed')
    }
  }

  async #restartMaybe(entry: Entry, fact: ExitFact): Promise<void> {
    const { request, stopRequested, restartCount = 0, startedAt = 0 } = entry.record
    const end = { exitCode: fact.exitCode, stopRequested: stopRequested === true, restarts: restartCount }
    if (this.#parts.signal.aborted || entry.record.upgrade || !wantsRestart(request.restart, end)) return
    const delayMs = nextDelayMs(entry.restartDelayMs, fact.finishedAt - startedAt)
    entry.restartDelayMs = delayMs
    await this.move(entry, 'restartLater', {})
    this.#parts.restartAfter(entry, delayMs)
  }

  /** Removes all of a container that does not run; with `volumes`, those made for it only. */
  async remove(entry: Entry, how: { volumes: boolean }): Promise<void> {
    await this.#removal.remove(entry, how)
  }

  /** Resolves when nothing is left of containers that are gone by now. */
  async left(): Promise<void> {
    await this.#removal.left()
  }

  /** What a former agent left of one container; says what was mended. */
  async recover(entry: Entry): Promise<string | undefined> {
    const { status, name } = entry.record
    if (status === 'removing') {
      await this.#removal.remove(entry, { volumes: goesByItself(entry) })
      return `${name}: removal finished`
    }
    if (status === 'starting') return this.#recoverStarting(entry)
    if (ALIVE.includes(status)) {
      if (await this.endIfOver(entry)) return `${name}: had ended meanwhile`
      const freezer = await this.#heedFreezer(entry)
      if (status === 'stopping') return `${name}: stopping goes on`
      return freezer && `${name}: ${freezer}`
    }
    await this.#cleanQuietly(entry, true)
    await this.#afterRun(entry, { exitCode: entry.record.exitCode ?? LOST_EXIT_CODE })
    if (status !== 'exited' || !goesByItself(entry)) return undefined
    await this.#removal.remove(entry, { volumes: true })
    return `${name}: removed as it asked for`
  }

  /** A freeze without a record belonged to work that ended with its agent. What somebody thawed is no longer paused. */
  async #heedFreezer(entry: Entry): Promise<string | undefined> {
    const { launcher, signal } = this.#parts
    const frozen = launcher.frozen(entry.id)
    const paused = entry.record.status === 'paused'
    if (frozen === undefined || frozen === paused) return undefined
    if (frozen) {
      await launcher.runtimeOf(entry.record).resume(entry.id, { signal })
      return 'was frozen, and goes on'
    }
    await this.move(entry, 'resume', {})
    return 'was thawed meanwhile'
  }

  async #recoverStarting(entry: Entry): Promise<string> {
    const runtime = this.#parts.launcher.runtimeOf(entry.record)
    const state = await runtime.state(entry.id, { signal: this.#parts.signal })
    const conmonPid = await conmonPidOf(entry.bundle)
    if (state?.status === 'running' && conmonPid !== undefined && (await conmonAlive(conmonPid, entry.id))) {
      await this.move(entry, 'started', { pid: state.pid, conmonPid, startedAt: this.#parts.clock.now() })
      await this.endIfOver(entry)
      return `${entry.record.name}: was just started`
    }
    const fact = this.#parts.exits.read(entry.id)
    if (fact && state?.status !== 'created') {
      await this.#ended(entry, 'exit', fact)
      return `${entry.record.name}: started and ended meanwhile`
    }
    // a conmon that is still at it would make the container after all
    if (conmonPid !== undefined && (await conmonAlive(conmonPid, entry.id))) process.kill(conmonPid, 'SIGKILL')
    await this.#cleanQuietly(entry, true)
    await this.#parts.exits.forget(entry.id)
    const reply = { exitCode: 125, error: 'the agent ended while it was starting' }
    await this.#afterRun(entry, reply)
    await this.move(entry, 'lost', { ...reply, finishedAt: this.#parts.clock.now() })
    this.#settle(entry, reply)
    return `${entry.record.name}: half-done start undone`
  }
}

/** What docker calls these steps. */
const EVENT_ACTIONS: Partial<Record<ContainerEvent, string>> = {
  started: 'start',
  exit: 'die',
  lost: 'die',
  pause: 'pause',
  resume: 'unpause',
}

function exitOf({ record }: Entry): Record<string, string> {
  const ranMs = (record.finishedAt ?? 0) - (record.startedAt ?? record.finishedAt ?? 0)
  return { exitCode: String(record.exitCode ?? 0), execDuration: String(Math.max(0, Math.round(ranMs / 1000))) }
}

async function conmonPidOf(bundle: Bundle): Promise<number | undefined> {
  try {
    const text = await readFile(bundle.conmonPidFile, 'utf8')
    return /^\d+\s*$/.test(text) ? Number(text) : undefined
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

function isProcess(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return systemCode(error) === 'EPERM'
  }
}
