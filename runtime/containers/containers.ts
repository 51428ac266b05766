/**
 * The containers of this host: create, start, stop, kill, wait, remove, logs, attach. Each has a record that says what should
 * be; conmon carries the process and outlives this one. Work on one container goes one step at a time; waiting holds no lock.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type {
  ContainerView,
  CoreDump,
  CreateReply,
  CreateRequest,
  ExitReply,
  TerminalSize,
} from '../../src/api/containers-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import type { RunExtension } from '../rich/extension.ts'
import { Attached } from '../shim/attach.ts'
import type { Bundle } from '../shim/bundle.ts'
import { resizeTerminal } from '../shim/conmon.ts'
import { Exits } from '../shim/exits.ts'
import type { LogEntry } from '../shim/log-lines.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import { probeIdmap } from '../snapshots/idmap.ts'
import type { HostFacts } from '../spec/spec.ts'
import { type VolumeRooms, Volumes } from '../volumes/volumes.ts'
import { Admission, type AdmissionOptions } from './admission.ts'
import { Changes, type ContainerChange } from './changes.ts'
import type { ContainerNetworks, ImageStore, RecordSpace, RootfsStore } from './dependencies.ts'
import type { Entry, RunObserver } from './entry.ts'
import { attributesOf, type EventSink, SILENT_EVENTS } from './events.ts'
import { findFirstProcess, firstProcess } from './first-process.ts'
import { type InUse, inUseBy, removeOwnVolumes, rootfsIdsOf, volumesOf } from './in-use.ts'
import { ContainerIndex } from './index-of.ts'
import { containerId, type FaultPoint, Launcher, makeBundlesFolder } from './launch.ts'
import { Lifecycle } from './lifecycle.ts'
import type { Linked } from './links.ts'
import { Locks } from './locks.ts'
import { type LogsAsked, logsOf } from './logs-of.ts'
import { stagingOf } from './mapped-run.ts'
import type { Sharing } from './network-of-run.ts'
import { type ContainerRecord, Records, viewOf } from './record.ts'
import { recoverContainers } from './recover.ts'
import { mustRun, Runs } from './runs.ts'
import { type Session, WaitingSession } from './session.ts'
import { ALIVE } from './states.ts'
import { Upkeep } from './upkeep.ts'
import { pidsOf, readUsage, type Usage } from './usage.ts'

export interface ContainersOptions extends AdmissionOptions {
  /** Folder of bundles, logs and exit files. */
  readonly dir: string
  readonly conmon: string
  readonly cgroupParent: string
  /** How often running containers are looked at, beside the watch for exit files. */
  readonly recheckMs: number
  /** Folder of the volumes; default `volumes` beside the bundles. */
  readonly volumesDir?: string
}

export interface ContainersParts {
  readonly images: ImageStore
  readonly rootfs: RootfsStore
  readonly records: RecordSpace
  readonly runtimes: ReadonlyMap<string, OciRuntime>
  readonly host: HostFacts
  readonly clock: Clock
  readonly log: Log
  /** Absent: containers are on the host's network, or on none. */
  readonly networks?: ContainerNetworks
  readonly extension?: RunExtension
  /** Absent: volumes have no size. */
  readonly rooms?: VolumeRooms
  readonly events?: EventSink
  readonly fault?: (point: FaultPoint) => void
}

/** The parts by which a container's life goes on; a user of them keeps to its locks. */
export interface EngineInner {
  readonly life: Lifecycle
  readonly runs: Runs
  readonly admission: Admission
  readonly launcher: Launcher
  readonly index: ContainerIndex<Entry>
  readonly locks: Locks
  readonly volumes: Volumes
}

/** All methods take an id, a name or the start of an id, and throw NOT_FOUND. */
export class Containers implements AsyncDisposable {
  readonly #options: ContainersOptions
  readonly #parts: ContainersParts
  readonly #records: Records
  readonly #launcher: Launcher
  readonly #life: Lifecycle
  readonly #exits: Exits
  readonly #staging: string
  readonly #runs: Runs
  readonly #upkeep: Upkeep
  readonly #admission: Admission
  readonly #changes: Changes
  readonly #locks = new Locks()
  readonly #index = new ContainerIndex<Entry>()
  readonly #scope = new Scope()
  readonly #fault: (point: FaultPoint) => void
  readonly #events: EventSink
  readonly volumes: Volumes
  /** Told of each process that begins and ends; add to it before {@link start}. */
  readonly observers = new Set<RunObserver>()

  constructor(options: ContainersOptions, parts: ContainersParts) {
    this.#options = options
    this.#parts = parts
    this.#fault = parts.fault ?? (() => {})
    this.#records = new Records(parts.records)
    this.#exits = new Exits(join(options.dir, 'exits'), (id) => this.#upkeep.checkExit(id))
    this.#staging = stagingOf(options.dir)
    this.#events = parts.events ?? SILENT_EVENTS
    this.volumes = new Volumes(options.volumesDir ?? join(options.dir, 'volumes'), parts.rooms, this.#fault)
    this.#launcher = new Launcher(
      { ...options, staging: this.#staging },
      {
        ...parts,
        exits: this.#exits,
        volumes: this.volumes,
        sharing: (reference) => this.#sharing(reference),
        linked: (reference) => this.#linked(reference),
        fault: this.#fault,
      },
    )
    this.#life = new Lifecycle({
      ...parts,
      dir: join(options.dir, 'containers'),
      records: this.#records,
      launcher: this.#launcher,
      exits: this.#exits,
      index: this.#index,
      fault: this.#fault,
      events: this.#events,
      observers: this.observers,
      restartAfter: (entry, delayMs) => this.#upkeep.restartAfter(entry, delayMs),
      removeVolumes: (record) => this.#removeVolumes(record),
      signal: this.#scope.signal,
    })
    const shared = {
      ...parts,
      life: this.#life,
      launcher: this.#launcher,
      index: this.#index,
      locks: this.#locks,
    }
    this.#runs = new Runs({
      ...shared,
      fault: this.#fault,
      look: (id) => this.#upkeep.checkExit(id),
      background: (id, work) => this.#upkeep.background(id, work),
      signal: this.#scope.signal,
    })
    this.#upkeep = new Upkeep(options, {
      ...shared,
      observers: this.observers,
      scope: this.#scope,
      start: (entry, how) => this.#runs.start(entry, how),
    })
    this.observers.add(this.#upkeep)
    this.#changes = new Changes({ ...shared, ...(parts.networks ? { networks: parts.networks } : {}) })
    this.#admission = new Admission(options, {
      ...parts,
      volumes: this.volumes,
      mustExist: (reference) => void this.#index.find(reference),
      idsTaken: () => this.#index.all().flatMap(({ record }) => record.userns ?? []),
      idmapRefusal: once(() => probeIdmap(options.dir)),
    })
  }

  /** Reads the records, mends what a former agent left, and begins to watch. Call once, before anything else. */
  async start(): Promise<void> {
    const bundles = join(this.#options.dir, 'containers')
    await makeBundlesFolder(bundles)
    await this.#exits.start()
    const strays = await this.volumes.recover()
    if (strays.length > 0) this.#parts.log.warn({ folders: strays }, 'volumes without a record stay')
    const records = await this.#records.all((key, error) =>
      this.#parts.log.error({ key, error }, 'container record skipped'),
    )
    for (const record of records) this.#index.add(this.#life.entryOf(record))
    const mended = await recoverContainers({
      bundles,
      staging: this.#staging,
      exits: this.#exits,
      entries: this.#index.all(),
      rootfsIds: () => rootfsIdsOf(this.#index.all()),
      rootfs: this.#parts.rootfs,
      runtimes: this.#parts.runtimes,
      log: this.#parts.log,
      recoverOne: (entry) => this.#locks.hold(entry.id, () => this.#life.recover(entry)),
      signal: this.#scope.signal,
    })
    mended.push(...(await this.#recoverNetworks()))
    for (const { id, record } of this.#index.all()) {
      if (record.status === 'stopping' && !record.upgrade)
        this.#upkeep.background(id, async () => void (await this.stop(id, { signal: this.#scope.signal })))
    }
    for (const entry of this.#index.all()) await this.#upkeep.besideAgain(entry)
    if (mended.length > 0) this.#parts.log.info({ mended }, 'containers recovered')
    for (const entry of this.#index.all()) this.#upkeep.takeUp(entry)
    this.#upkeep.watch()
  }

  /** Stops watching. Containers go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#exits[Symbol.asyncDispose]()
    await this.#scope.close()
  }

  /** Throws BAD_ARGUMENT, CONFLICT for a taken name, NOT_FOUND for the image, MANIFEST_INVALID, HOST_UNABLE. */
  async create(given: CreateRequest, { sync = true }: { sync?: boolean } = {}): Promise<CreateReply> {
    const runtime = this.#admission.runtimeOf(given)
    this.#launcher.expect()
    const id = containerId(randomBytes(32))
    const name = given.name ?? `darner-${id.slice(0, 8)}`
    this.#index.claim(name, id)
    try {
      const { record, warnings } = await this.#admission.admit(given, { id, name, runtime })
      await this.#records.put(record, { sync })
      this.#fault('create:recorded')
      try {
        await this.#admission.makeVolumes(record.request)
      } catch (error) {
        await this.#removeVolumes(record)
        await this.#records.remove(id)
        throw error
      }
      this.#fault('create:volumes')
      this.#index.add(this.#life.entryOf(record))
      this.#events.emit({ type: 'container', action: 'create', id, attributes: attributesOf(record) })
      return { id, name, warnings }
    } catch (error) {
      this.#index.release(name, id)
      throw error
    }
  }

  /** Resolves when the process runs; nothing happens when it does already. Throws RUNTIME_FAILED and what the spec throws. */
  async startContainer(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const entry = this.#free(reference, 'starting')
    entry.restartDue?.abort()
    entry.restartDelayMs = 0
    await this.#runs.start(entry, { signal, restartCount: 0 })
  }

  /** Throws STATE_INVALID while an upgrade of it is under way, beside NOT_FOUND. */
  #free(reference: string, what: string): Entry {
    const entry = this.#index.find(reference)
    const { upgrade, name } = entry.record
    if (!upgrade) return entry
    throw new DarnerError('STATE_INVALID', `${what} container ${name}: its ${upgrade.kind} is under way`, {
      way: 'wait for its end',
    })
  }

  #view(entry: Entry): ContainerView {
    const networking = this.#parts.networks?.view(entry.id)
    return { ...viewOf(entry.record, entry.bundle.log), ...(networking ? { networking } : {}) }
  }

  async #sharing(reference: string): Promise<Sharing> {
    const entry = this.#index.find(reference)
    const { record, bundle } = entry
    const first = ALIVE.includes(record.status) ? await findFirstProcess(entry) : undefined
    if (first !== undefined) return { first, bundle, [Symbol.dispose]: () => first[Symbol.dispose]() }
    throw new DarnerError('STATE_INVALID', `the network of container ${record.name}, which is ${record.status}`, {
      way: 'start that container first',
    })
  }

  #linked(reference: string): Linked {
    const { id, record } = this.#index.find(reference)
    return { record, networking: this.#parts.networks?.view(id) }
  }

  async #recoverNetworks(): Promise<string[]> {
    const all = this.#index.all()
    // an upgrade holds on to the network between the old run and the new one
    const live = all.filter(({ record }) => ALIVE.includes(record.status) || record.upgrade).map((one) => one.id)
    const known = new Set(all.map((one) => one.id))
    return (await this.#parts.networks?.recover(new Set(live), known)) ?? []
  }

  /** Stop signal, then KILL after the timeout; 0 kills at once. False when there was nothing to stop: not running, and no restart due. */
  async stop(
    reference: string,
    options: { timeoutSec?: number; stopSignal?: string; signal: AbortSignal },
  ): Promise<boolean> {
    return await this.#runs.stop(this.#free(reference, 'stopping'), options)
  }

  /** Throws BAD_ARGUMENT for an unknown signal, STATE_INVALID when it isn't running. */
  async kill(reference: string, signalName: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#runs.kill(this.#index.find(reference), signalName, { signal })
  }

  async pause(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#runs.freeze(this.#free(reference, 'pausing'), 'pause', { signal })
  }

  async resume(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#runs.freeze(this.#index.find(reference), 'resume', { signal })
  }

  /** How the present run ends, or how the last one did; with `nextExit`, how the next one will when none is on. */
  async wait(reference: string, options: { nextExit?: boolean; signal: AbortSignal }): Promise<ExitReply> {
    const entry = this.#index.find(reference)
    const { status, exitCode, error } = entry.record
    if (!ALIVE.includes(status) && options.nextExit !== true) {
      return { exitCode: exitCode ?? 0, ...(error === undefined ? {} : { error }) }
    }
    return entry.ended.wait(options)
  }

  /** Throws STATE_INVALID for a running container unless `force`, which kills it first. */
  async remove(reference: string, options: { force: boolean; volumes?: boolean; signal: AbortSignal }): Promise<void> {
    const entry = this.#free(reference, 'removing')
    if (options.force) await this.stop(entry.id, { timeoutSec: 0, signal: options.signal })
    await this.#locks.hold(entry.id, async () => {
      if (this.#index.get(entry.id) !== entry) return // somebody else removed it meanwhile
      if (ALIVE.includes(entry.record.status) || entry.record.status === 'restarting') {
        throw new DarnerError('STATE_INVALID', `container ${entry.record.name} is ${entry.record.status}`, {
          way: 'stop it first, or remove it with force',
        })
      }
      await this.#life.remove(entry, { volumes: options.volumes === true })
    })
  }

  /** The init inside said that it is up. Nothing happens when that run is over. */
  noteReady(id: string, at: number): Promise<void> {
    return this.#changes.noteReady(id, at)
  }

  /** The kernel said that a process of it dumped core. */
  noteCoreDump(id: string, dump: CoreDump): void {
    this.#upkeep.background(id, () => this.#changes.noteCoreDump(id, dump))
  }

  /** Throws CONFLICT for a taken name. */
  async rename(reference: string, name: string): Promise<void> {
    return this.#changes.rename(this.#index.find(reference), name)
  }

  /** Takes a link to another container away, from the next start on. Throws NOT_FOUND. */
  async unlink(reference: string, alias: string): Promise<void> {
    return this.#changes.unlink(this.#index.find(reference), alias)
  }

  /** Stop, if it runs, then start. */
  async restart(reference: string, options: { timeoutSec?: number; signal: AbortSignal }): Promise<void> {
    const { id } = this.#index.find(reference)
    await this.stop(id, options)
    await this.startContainer(id, options)
    const entry = this.#index.get(id)
    if (entry) this.#life.tell(entry, 'restart')
  }

  /** Changes limits and disk quota, of a running container at once, and the restart policy. What isn't named stays. Throws BAD_ARGUMENT, HOST_UNABLE. */
  async update(reference: string, change: ContainerChange, waits: { signal: AbortSignal }): Promise<void> {
    return this.#changes.update(this.#free(reference, 'changing'), change, waits)
  }

  /** Resolves when it is removed. */
  async waitRemoved(reference: string, { signal }: { signal: AbortSignal }): Promise<ExitReply> {
    return this.#index.find(reference).removed.wait({ signal })
  }

  /** What it uses now; undefined when it doesn't run. */
  async usage(reference: string): Promise<Usage | undefined> {
    using first = await findFirstProcess(this.#index.find(reference))
    return first && (await readUsage(this.#parts.host.cgroups, first, this.#parts.clock.now()))
  }

  /** Pids, as this host has them, of all its processes. Throws STATE_INVALID. */
  async processes(reference: string): Promise<number[]> {
    const entry = this.#index.find(reference)
    using first = await firstProcess(entry)
    return await pidsOf(this.#parts.host.cgroups, first)
  }

  /** The record and files of one, for the front doors. */
  entry(reference: string): Entry {
    return this.#index.find(reference)
  }

  entries(): Entry[] {
    return this.#index.all()
  }

  get host(): HostFacts {
    return this.#parts.host
  }

  /** Whether containers that don't say have a user namespace. */
  get mapsUsers(): boolean {
    return this.#options.defaultUserns === 'auto'
  }

  /** By name. */
  get runtimes(): ReadonlyMap<string, OciRuntime> {
    return this.#parts.runtimes
  }

  get rootfs(): RootfsStore {
    return this.#parts.rootfs
  }

  /** Does `work` while nothing else changes the container, and, with `still`, its processes stand still. Throws NOT_FOUND for one that has gone. */
  hold<T>(entry: Entry, work: () => Promise<T>, { still }: { still?: { signal: AbortSignal } } = {}): Promise<T> {
    return this.#locks.hold(entry.id, async () => {
      if (this.#index.get(entry.id) !== entry) throw new DarnerError('NOT_FOUND', `no such container: ${entry.name}`)
      return still ? await this.#runs.still(entry, work, still) : await work()
    })
  }

  /** Keeps what a health check said. */
  setHealth(entry: Entry, health: NonNullable<ContainerRecord['health']>): Promise<void> {
    return this.#changes.setHealth(entry, health)
  }

  /** Puts an event of this container into the log of events. */
  tell(entry: Entry, action: string, more: Readonly<Record<string, string>> = {}): void {
    this.#life.tell(entry, action, more)
  }

  /** Names of volumes that containers have, with the containers' ids. */
  volumesInUse(): Map<string, string[]> {
    return volumesOf(this.#index.all())
  }

  list(options: { all: boolean }): ContainerView[] {
    return this.#index
      .all()
      .filter(({ record }) => options.all || ALIVE.includes(record.status))
      .sort((a, b) => b.record.createdAt - a.record.createdAt)
      .map((entry) => this.#view(entry))
  }

  inspect(reference: string): ContainerView {
    const entry = this.#index.find(reference)
    return this.#view(entry)
  }

  /** Layers and images that containers stand on, or may be rolled back to, for the collector of the rest. */
  inUse(): InUse {
    return inUseBy(this.#index.all())
  }

  /** The layers of {@link inUse}, once the root file systems of containers that are gone stand on none any more. */
  async layersInUse(): Promise<ReadonlySet<string>> {
    await this.#life.left()
    return this.inUse().layers
  }

  /** Follows until the container ends, when asked to and it runs; the log of a side service where one is named. Throws NOT_FOUND. */
  logs(reference: string, query: LogsAsked, waits: { signal: AbortSignal }): AsyncGenerator<LogEntry> {
    return logsOf(this.#index.find(reference), query, waits)
  }

  /** Attaches to a running container, or to the next run of one that isn't on: from its first byte of output. The caller leaves. */
  async attach(reference: string): Promise<WaitingSession> {
    const entry = this.#index.find(reference)
    const gone = new AbortController()
    const session = new WaitingSession({
      result: entry.ended.wait({ signal: gone.signal }),
      resize: (size) => this.resize(entry.id, size),
      onLeave: (left) => {
        entry.waiting.delete(left)
        gone.abort(new DarnerError('CLOSED', `the client left container ${entry.name}`))
      },
    })
    if (!ALIVE.includes(entry.record.status) || entry.record.status === 'starting') entry.waiting.add(session)
    else session.connect(await openOr(() => session.leave(), entry.bundle))
    return session
  }

  /** Attaches and starts, in one. `started` rejects with why it couldn't be started, and so does the session's output when nothing ran. */
  async startAttached(
    reference: string,
    { signal }: { signal: AbortSignal },
  ): Promise<{ session: Session; started: Promise<void> }> {
    const session = await this.attach(reference)
    const started = this.startContainer(reference, { signal })
    started.catch((error: unknown) => session.fail(error))
    return { session, started }
  }

  /** Sets the terminal's size, or the one that the next start begins with. */
  async resize(reference: string, size: TerminalSize): Promise<void> {
    const entry = this.#index.find(reference)
    entry.consoleSize = size
    if (ALIVE.includes(entry.record.status)) await resizeTerminal(entry.bundle, size)
  }

  /** For execs: the entry of a running container. Throws STATE_INVALID otherwise. */
  running(reference: string): Entry {
    const entry = this.#index.find(reference)
    mustRun(entry, 'exec')
    if (entry.record.status === 'paused') {
      throw new DarnerError('STATE_INVALID', `container ${entry.record.name} is paused`, {
        way: `darner unpause ${entry.record.name} lets it go on`,
      })
    }
    return entry
  }

  get launcher(): Launcher {
    return this.#launcher
  }

  /** For what changes a container as a whole, in steps of its own: an upgrade. */
  get inner(): EngineInner {
    const [life, runs, admission, launcher] = [this.#life, this.#runs, this.#admission, this.#launcher]
    return { life, runs, admission, launcher, index: this.#index, locks: this.#locks, volumes: this.volumes }
  }

  async #removeVolumes(record: ContainerRecord): Promise<void> {
    await removeOwnVolumes(record, this.volumesInUse(), this.volumes)
  }
}

async function openOr(undo: () => void, bundle: Bundle): Promise<Attached> {
  try {
    return await Attached.open(bundle)
  } catch (error) {
    undo()
    throw error
  }
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined
  return () => {
    done ??= work()
    return done
  }
}
