/**
 * One upgrade or rollback, step by step: forward to the other generation, and back. Each step is recorded before it is taken. So the reader
 * of the journal, this agent after a failure or the next one, knows the way. `prepare` and `stop` lead back, `new` forward, `undo` and
 * `back` back.
 */
import { readFile } from 'node:fs/promises'
import type { UpgradeHistory } from '../../src/api/upgrade-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, systemCode } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { EngineInner } from '../containers/containers.ts'
import type { RootfsStore } from '../containers/dependencies.ts'
import type { Entry } from '../containers/entry.ts'
import type { FaultPoint } from '../containers/launch.ts'
import type { ContainerRecord } from '../containers/record.ts'
import { ALIVE } from '../containers/states.ts'
import type { RunExtension } from '../rich/extension.ts'
import { type GateParts, passGate } from './gate.ts'
import { type Generation, UPGRADE_STEPS, type UpgradeEvent, type UpgradeJournal } from './journal.ts'
import { UpperCopy } from './upper-copy.ts'
import { relative, type UpperRules, type UpperTrees } from './upper-walk.ts'

export interface ExchangeParts extends GateParts {
  readonly engine: EngineInner
  readonly rootfs: RootfsStore
  readonly clock: Clock
  readonly log: Log
  readonly extension?: RunExtension
  readonly fault: (point: FaultPoint) => void
  /** Aborted when the agent ends: the next one goes on. */
  readonly signal: AbortSignal
}

const MOST_HISTORY = 32
/** How often the old container is tried again when it doesn't come back at once. */
const BACK_TRIES = 5
const BACK_PAUSE_MS = 1000
/** Where runtimes make mount points in any root. */
const MOUNT_POINTS = ['dev', 'proc', 'sys', 'etc/hostname', 'etc/hosts', 'etc/resolv.conf', 'sbin/docker-init']

export class Exchange {
  readonly #parts: ExchangeParts

  constructor(parts: ExchangeParts) {
    this.#parts = parts
  }

  /** From the journal's first step to its end; what fails is undone. Throws why it was undone, under the code of the failure. */
  async forward(entry: Entry): Promise<UpgradeHistory> {
    return this.#orBack(entry, async () => {
      await this.#prepare(entry)
      await this.#stop(entry)
      this.#parts.fault('upgrade:switched')
      return this.#judge(entry, false)
    })
  }

  /** Goes on from where an agent before this one came to. */
  async resume(entry: Entry): Promise<UpgradeHistory> {
    if (journalOf(entry).step === 'new') return this.#orBack(entry, () => this.#judge(entry, true))
    return this.#back(entry, new DarnerError('CLOSED', 'the agent ended before the new container was in place'))
  }

  /** With the three trees of a comparison mounted. */
  async withTrees(
    entry: Entry,
    { from, to }: { from: Generation; to: Pick<Generation, 'layers'> },
    work: (trees: UpperTrees) => Promise<void>,
  ): Promise<void> {
    const { rootfs, signal, engine } = this.#parts
    const viewId = `view-new-${entry.id.slice(0, 32)}`
    await engine.locks.hold(viewId, async () => {
      const old = await rootfs.mount(from.rootfsId, layersOf(from), { readonly: false, signal })
      try {
        const image = await rootfs.mount(viewId, layersOf(to), { readonly: true, signal })
        await work({ upper: old.upper, old: old.path, image: image.path })
      } finally {
        await rootfs.remove(viewId)
        if (!isAlive(entry)) await rootfs.unmount(from.rootfsId)
      }
    })
  }

  /** Which paths win and which are no part of the root. */
  async rulesOf(entry: Entry, from: Generation, how: Pick<UpgradeJournal, 'upper' | 'merge'>): Promise<UpperRules> {
    const mounts = [...(from.request.mounts ?? []).map((one) => one.target), ...(await mountedIn(entry.bundle.config))]
    return {
      wins: how.upper === 'keep' ? [''] : how.merge.map(relative),
      skip: new Set([...MOUNT_POINTS, ...mounts.map(relative)]),
    }
  }

  async #orBack(entry: Entry, work: () => Promise<UpgradeHistory>): Promise<UpgradeHistory> {
    try {
      return await work()
    } catch (error) {
      if (this.#parts.signal.aborted || entry.record.upgrade === undefined) throw error
      return this.#back(entry, error)
    }
  }

  /** While the old one runs: the new root file system, with what can be taken over by now. */
  async #prepare(entry: Entry): Promise<void> {
    const { fault, engine } = this.#parts
    fault('upgrade:recorded')
    const { kind, to } = journalOf(entry)
    await engine.admission.makeVolumes(to.request)
    if (kind === 'upgrade') await this.#takeOver(entry, 'begin')
    fault('upgrade:copied')
    await this.#step(entry, 'prepared')
    fault('upgrade:stopping')
  }

  readonly #copies = new Map<string, UpperCopy>()

  async #takeOver(entry: Entry, pass: 'begin' | 'finish'): Promise<void> {
    const { rootfs, signal, extension, clock } = this.#parts
    const journal = journalOf(entry)
    const { from, to } = journal
    extension?.known(to.rootfsId, to.request)
    const target = await rootfs.mount(to.rootfsId, layersOf(to), { readonly: false, signal })
    if (journal.upper === 'fresh') return
    await this.withTrees(entry, journal, async (trees) => {
      const copy =
        this.#copies.get(entry.id) ?? new UpperCopy(trees, await this.rulesOf(entry, from, journal), target.path, clock)
      this.#copies.set(entry.id, copy)
      if (pass === 'finish') await copy.finish({ signal })
      else if (isAlive(entry)) await copy.begin({ signal })
    })
    if (pass === 'finish') this.#copies.delete(entry.id)
  }

  async #stop(entry: Entry): Promise<void> {
    const { fault, engine, clock, signal } = this.#parts
    const beganMs = clock.monotonicMs()
    await engine.runs.stop(entry, { signal })
    await engine.locks.hold(entry.id, async () => {}) // an end is reported before what the run left is cleaned up
    fault('upgrade:stopped')
    if (journalOf(entry).kind === 'upgrade') await this.#takeOver(entry, 'finish')
    fault('upgrade:synced')
    await this.#step(entry, 'switched', (record) => ({ ...asGeneration(record, journalOf(entry).to) }))
    this.#began.set(entry.id, beganMs)
  }

  readonly #began = new Map<string, number>()

  /** The new one is in place: it is started, judged, and its predecessor put by. */
  async #judge(entry: Entry, again: boolean): Promise<UpgradeHistory> {
    const { fault, engine, clock, rootfs, signal } = this.#parts
    const { wasRunning, healthTimeoutMs } = journalOf(entry)
    if (wasRunning) {
      const found = isAlive(entry) && entry.record.status !== 'stopping'
      if (!found) {
        await engine.runs.stop(entry, { signal }) // one that an agent before this one began to stop
        await engine.runs.start(entry, { signal, restartCount: 0 })
        await this.#noteDown(entry)
      }
      fault('upgrade:started')
      await passGate(entry, this.#parts, { timeoutMs: healthTimeoutMs, again: again && found, signal })
    }
    fault('upgrade:healthy')
    const { from, to, keepMs } = journalOf(entry)
    if (!isAlive(entry)) await rootfs.unmount(to.rootfsId)
    const before = entry.record.previous?.generation
    const done = await this.#finish(entry, 'done', { previous: { generation: from, until: clock.now() + keepMs } })
    fault('upgrade:committed')
    if (before && before.rootfsId !== entry.record.rootfsId) await this.removeGeneration(entry, before)
    fault('upgrade:cleaned')
    return done
  }

  async #noteDown(entry: Entry): Promise<void> {
    const beganMs = this.#began.get(entry.id)
    this.#began.delete(entry.id)
    if (beganMs === undefined) return
    const downMs = this.#parts.clock.monotonicMs() - beganMs
    await this.#save(entry, (record) => ({ ...record, upgrade: { ...journalOf(entry), downMs } }), false)
  }

  async #back(entry: Entry, cause: unknown): Promise<never> {
    const { fault, engine, signal, log } = this.#parts
    const { to, kind } = journalOf(entry)
    const failure = asDarnerError(cause, `${kind} of ${entry.record.name}`)
    log.warn({ container: entry.id, kind, image: to.imageReference, error: cause }, 'an upgrade is undone')
    this.#copies.delete(entry.id)
    this.#began.delete(entry.id)
    if (journalOf(entry).step !== 'undo' && journalOf(entry).step !== 'back') {
      await this.#step(entry, 'failed', (record) => record, failure.message)
    }
    fault('undo:recorded')
    if (journalOf(entry).step === 'undo') {
      await engine.runs.stop(entry, { signal })
      fault('undo:stopped')
      await this.#step(entry, 'switchedBack', (record) => asGeneration(record, journalOf(entry).from))
      fault('undo:switched')
    }
    const lost = await this.#startOld(entry)
    fault('undo:started')
    const { error, from } = journalOf(entry)
    await this.#finish(entry, 'undone', { error: error ?? failure.message })
    fault('undo:finished')
    if (kind === 'upgrade') await this.removeGeneration(entry, to, from)
    fault('undo:cleaned')
    const rest = lost === undefined ? 'the container is as it was' : `the old container does not start: ${lost}`
    throw new DarnerError(
      failure.code,
      `${kind} of ${entry.record.name} to ${to.imageReference}: ${failure.message}; ${rest}`,
      {
        cause,
        details: { ...failure.details },
      },
    )
  }

  /** Undefined when it runs, or needs not; otherwise why it doesn't. */
  async #startOld(entry: Entry): Promise<string | undefined> {
    const { engine, signal, clock } = this.#parts
    if (!journalOf(entry).wasRunning) return undefined
    for (let tries = 1; ; tries++) {
      try {
        if (entry.record.status === 'stopping') await engine.runs.stop(entry, { signal })
        await engine.runs.start(entry, { signal, restartCount: 0 })
        return undefined
      } catch (error) {
        if (signal.aborted) throw error
        if (tries >= BACK_TRIES) return asDarnerError(error, 'start').message
        await clock.sleep(BACK_PAUSE_MS, { signal })
      }
    }
  }

  /** Deletes the root file system of a generation, and the volumes that were made for it only. */
  async removeGeneration({ record }: Entry, gone: Generation, kept: Generation | undefined = undefined): Promise<void> {
    const { rootfs, engine, log } = this.#parts
    try {
      await rootfs.remove(gone.rootfsId)
      if (kept === undefined) return
      const named = new Set((kept.request.mounts ?? []).map((one) => one.source))
      for (const { anonymous, source } of gone.request.mounts ?? []) {
        if (anonymous !== true || source === undefined || named.has(source)) continue
        if (await engine.volumes.find(source)) await engine.volumes.remove(source)
      }
    } catch (error) {
      // nobody's root file systems go at the next start of the agent
      log.warn({ container: record.id, rootfs: gone.rootfsId, error }, 'a former root file system stays')
    }
  }

  /** Drops the journal and puts what came of it into the history, in one write. */
  async #finish(
    entry: Entry,
    outcome: UpgradeHistory['outcome'],
    more: { previous?: NonNullable<ContainerRecord['previous']>; error?: string },
  ): Promise<UpgradeHistory> {
    const { engine, clock } = this.#parts
    const { kind, from, to, startedAt, downMs } = journalOf(entry)
    const past: UpgradeHistory = {
      kind,
      from: named(from),
      to: named(to),
      outcome,
      startedAt,
      endedAt: clock.now(),
      ...(more.error === undefined ? {} : { error: more.error }),
      ...(downMs === undefined || outcome === 'undone' ? {} : { downMs }),
    }
    await this.#save(
      entry,
      ({ upgrade: _over, ...record }) => ({
        ...record,
        history: [...(record.history ?? []), past].slice(-MOST_HISTORY),
        ...(more.previous === undefined ? {} : { previous: more.previous }),
      }),
      true,
    )
    if (!isAlive(entry)) await engine.launcher.detach(entry.id)
    const action = outcome === 'done' ? kind : `${kind}_undone`
    engine.life.tell(entry, action, {
      from: past.from.image,
      to: past.to.image,
      ...(more.error ? { error: more.error } : {}),
    })
    return past
  }

  /** The next step of the journal, with what changes by it, in one write. */
  async #step(
    entry: Entry,
    event: UpgradeEvent,
    change: (record: ContainerRecord) => ContainerRecord = (record) => record,
    error?: string,
  ): Promise<void> {
    await this.#save(
      entry,
      (record) => {
        const journal = journalOf(entry)
        const step = UPGRADE_STEPS.step(journal.step, event, record.name)
        return { ...change(record), upgrade: { ...journal, step, ...(error === undefined ? {} : { error }) } }
      },
      true,
    )
  }

  async #save(entry: Entry, change: (record: ContainerRecord) => ContainerRecord, sync: boolean): Promise<void> {
    const { locks, life } = this.#parts.engine
    await locks.hold(entry.id, () => life.save(entry, change(entry.record), { sync, reserved: true }))
  }
}

function journalOf({ record }: Entry): UpgradeJournal {
  if (record.upgrade) return record.upgrade
  throw new DarnerError('INTERNAL', `container ${record.name}: its upgrade is over`)
}

function isAlive({ record }: Entry): boolean {
  return ALIVE.includes(record.status)
}

export function layersOf({ layers }: Pick<Generation, 'layers'>): readonly Digest[] {
  return layers as Digest[]
}

function asGeneration(record: ContainerRecord, { layers, ...rest }: Generation): ContainerRecord {
  return { ...record, ...rest, layers: layers as Digest[], argv: [] }
}

function named({ imageReference, imageId }: Generation): { image: string; imageId: string } {
  return { image: imageReference, imageId }
}

/** What was mounted in the last run, by the bundle's configuration. */
async function mountedIn(config: string): Promise<string[]> {
  try {
    const { mounts } = JSON.parse(await readFile(config, 'utf8')) as { mounts?: { destination?: unknown }[] }
    return (mounts ?? []).flatMap((one) => (typeof one.destination === 'string' ? [one.destination] : []))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [] // it never ran
    throw error
  }
}
