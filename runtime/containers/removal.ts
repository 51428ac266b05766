/** How a container goes: because somebody removes it, or because its end does. */
import { rm } from 'node:fs/promises'
import type { ExitReply } from '../../src/api/containers-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { RunEnd, RunExtension } from '../rich/extension.ts'
import type { Exits } from '../shim/exits.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import type { RootfsStore } from './dependencies.ts'
import type { Entry, RunObserver } from './entry.ts'
import type { ContainerIndex } from './index-of.ts'
import type { FaultPoint, Launcher } from './launch.ts'
import { type ContainerRecord, generationsOf, type Records } from './record.ts'

/** The exit code of a process that nobody saw ending. */
export const LOST_EXIT_CODE = 255

export interface RemovalParts {
  readonly records: Records
  readonly launcher: Launcher
  readonly exits: Exits
  readonly index: ContainerIndex<Entry>
  readonly rootfs: RootfsStore
  readonly runtimes: ReadonlyMap<string, OciRuntime>
  readonly extension?: RunExtension
  readonly observers: ReadonlySet<RunObserver>
  /** Removes the volumes that were made for this container only. */
  readonly removeVolumes: (record: ContainerRecord) => Promise<void>
  readonly fault: (point: FaultPoint) => void
  /** Aborted when the engine ends. */
  readonly signal: AbortSignal
}

/** The steps of a life that removal takes. */
export interface RemovalSteps {
  /** Records that it is being removed. */
  readonly move: (entry: Entry, event: 'remove', change: { volumesToo?: true }, sync?: boolean) => Promise<void>
  readonly tell: (entry: Entry, action: string) => void
  /** What belongs after a run, once. */
  readonly afterRun: (entry: Entry, end: RunEnd) => Promise<void>
}

/** The caller holds the container's lock. */
export class Removal {
  readonly #parts: RemovalParts & RemovalSteps
  /** What is still taken away of containers that are gone for everybody. */
  readonly #leaving = new Set<Promise<void>>()

  constructor(parts: RemovalParts & RemovalSteps) {
    this.#parts = parts
  }

  /**
   * Its end removes it. The container is gone, and its waiters go on, only when that is recorded and nothing of it is left: processes,
   * network, mounts, volumes. Its files, and what the runtime keeps of it, go after that or, when the agent ends, with the next one's
   * start.
   */
  async goByItself(entry: Entry, reply: ExitReply, { force }: { force: boolean }): Promise<void> {
    const { launcher, runtimes } = this.#parts
    const forget = async (how: { force: boolean }) => {
      if (runtimes.has(entry.record.runtime)) await launcher.forget(entry.record, { ...how, signal: TO_THE_END })
    }
    try {
      const first = force || !endsAsOne(entry)
      const deleted = () => forget({ force }).catch(() => forget({ force: true }))
      if (first) await deleted()
      await launcher.release(entry.record)
      await this.#parts.afterRun(entry, reply)
      await this.#parts.move(entry, 'remove', { volumesToo: true })
      this.#parts.fault('remove:recorded')
      await launcher.forgetNetworks(entry.id)
      await this.#parts.removeVolumes(entry.record)
      this.#parts.fault('remove:volumes')
      const takeAway = async () => {
        if (!first) await deleted()
        await this.#removeFiles(entry)
      }
      // reserved space is available for the next container when the end is reported
      const keptBack = entry.record.request.diskQuota !== undefined
      if (keptBack) await takeAway()
      // to start a program would hold up the answers
      const left = keptBack ? Promise.resolve() : nextTurn().then(takeAway)
      this.#leave(entry, left)
      this.#gone(entry, reply)
      await left
    } finally {
      entry.ended.resolve(reply) // also when it can't be removed
    }
  }

  /** One whose files stay is to be seen again, unless another one has its name by now. */
  #leave(entry: Entry, left: Promise<void>): void {
    const over = left.catch(() => this.#parts.index.add(entry)).catch(() => {})
    this.#leaving.add(over)
    void over.then(() => this.#leaving.delete(over))
  }

  /** Resolves when nothing is left of containers that are gone by now. */
  async left(): Promise<void> {
    await Promise.all(this.#leaving)
  }

  /** Removes all of a container that does not run; with `volumes`, those made for it only. */
  async remove(entry: Entry, { volumes }: { volumes: boolean }): Promise<void> {
    entry.restartDue?.abort()
    await this.#parts.move(entry, 'remove', volumes ? { volumesToo: true } : {}, true)
    this.#parts.fault('remove:recorded')
    if (this.#parts.runtimes.has(entry.record.runtime)) {
      await this.#parts.launcher.clean(entry.record, { force: true, signal: this.#parts.signal })
    }
    await this.#parts.launcher.forgetNetworks(entry.id)
    await this.#parts.afterRun(entry, { exitCode: entry.record.exitCode ?? LOST_EXIT_CODE })
    if (entry.record.volumesToo) await this.#parts.removeVolumes(entry.record)
    this.#parts.fault('remove:volumes')
    await this.#removeFiles(entry)
    this.#gone(entry)
  }

  /** All that is left of it on the disk, its record last. */
  async #removeFiles(entry: Entry): Promise<void> {
    await Promise.all([this.#removeRootfs(entry), rm(entry.bundle.path, { recursive: true, force: true })])
    await this.#parts.extension?.removed(entry.id)
    await this.#parts.exits.forget(entry.id)
    this.#parts.fault('remove:files')
    await this.#parts.records.remove(entry.id)
  }

  /** Nobody finds it any more. `last` is the reply to waiters, when the container's end removes it. */
  #gone(entry: Entry, last?: ExitReply): void {
    this.#parts.index.remove(entry)
    for (const one of this.#parts.observers) one.removed?.(entry)
    const gone = new DarnerError('NOT_FOUND', `container ${entry.record.name} was removed`)
    for (const session of entry.waiting) session.fail(gone)
    entry.removed.resolve({ exitCode: entry.record.exitCode ?? 0 })
    this.#parts.tell(entry, 'destroy')
    if (last) entry.ended.resolve(last)
    else entry.ended.reject(gone)
  }

  async #removeRootfs(entry: Entry): Promise<void> {
    for (const { rootfsId } of generationsOf(entry.record)) await this.#parts.rootfs.remove(rootfsId)
    this.#parts.fault('remove:rootfs')
  }
}

/** Its end removes it, but not the one that an upgrade brings about. */
export function goesByItself({ record }: Entry): boolean {
  return record.request.autoRemove === true && record.upgrade === undefined
}

/**
 * Whether nothing of it lives on when its first process has ended, which was the first of a process namespace of its own. Rich containers
 * leave cgroups that they made.
 */
function endsAsOne({ record: { request } }: Entry): boolean {
  return request.hostPid !== true && request.rich === undefined
}

/** What is begun behind an answer isn't left half done when the agent stops: it takes no longer than a verb of the runtime. */
const TO_THE_END = new AbortController().signal

const nextTurn = () => new Promise<void>((resolve) => void setImmediate(resolve))
