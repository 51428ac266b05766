/**
 * The containers of this host: create, start, stop, kill, wait, remove, logs, attach. Each has a record that says what should
 * be; conmon carries the process and outlives this one. Work on one container goes one step at a time; waiting holds no lock.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../../src/base/clock.ts'
import { DarnerError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import { Scope } from '../../src/base/scope.ts'
import { abortable } from '../../src/base/signals.ts'
import type { ContainerView, CreateReply, CreateRequest, ExitReply, TerminalSize } from '../../src/wire/local-api.ts'
import { Attached } from '../shim/attach.ts'
import { resizeTerminal } from '../shim/conmon.ts'
import { Exits } from '../shim/exits.ts'
import type { LogEntry } from '../shim/log-lines.ts'
import { readLog } from '../shim/logs.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import { argumentsOf } from '../spec/command.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { signalNumber } from '../spec/signals.ts'
import { capabilitiesOf, type HostFacts } from '../spec/spec.ts'
import { ContainerIndex } from './index-of.ts'
import { containerId, type FaultPoint, Launcher, makeBundlesFolder } from './launch.ts'
import { type Change, type Entry, Lifecycle } from './lifecycle.ts'
import { Locks } from './locks.ts'
import type { ImageStore, RecordSpace, RootfsStore } from './ports.ts'
import { type ContainerRecord, Records, viewOf } from './record.ts'
import { recoverContainers } from './recover.ts'
import { type Session, WaitingSession } from './session.ts'
import { ALIVE, CONTAINER_STATES } from './states.ts'

export interface ContainersOptions {
  /** Folder of bundles, logs and exit files. */
  readonly dir: string
  readonly conmon: string
  readonly cgroupParent: string
  /** Name of the runtime for requests that name none. */
  readonly defaultRuntime: string
  /** How often running containers are looked at, beside the watch for exit files. */
  readonly recheckMs: number
  /** What `inspect` says of the seccomp profile: its path, or `unconfined`. */
  readonly seccompName: string
}

export interface ContainersParts {
  readonly images: ImageStore
  readonly rootfs: RootfsStore
  readonly records: RecordSpace
  readonly runtimes: ReadonlyMap<string, OciRuntime>
  readonly host: HostFacts
  readonly clock: Clock
  readonly log: Log
  readonly fault?: (point: FaultPoint) => void
}

export const DEFAULT_STOP_SEC = 10
/** How long a process may take to die of KILL before that is an error: it may sit in an uninterruptible call. */
const KILL_MS = 30_000
const SIGKILL = 9

/** All methods take an id, a name or the start of an id, and throw NOT_FOUND. */
export class Containers implements AsyncDisposable {
  readonly #options: ContainersOptions
  readonly #parts: ContainersParts
  readonly #records: Records
  readonly #launcher: Launcher
  readonly #life: Lifecycle
  readonly #exits: Exits
  readonly #locks = new Locks()
  readonly #index = new ContainerIndex<Entry>()
  readonly #scope = new Scope()
  readonly #fault: (point: FaultPoint) => void

  constructor(options: ContainersOptions, parts: ContainersParts) {
    this.#options = options
    this.#parts = parts
    this.#fault = parts.fault ?? (() => {})
    this.#records = new Records(parts.records)
    this.#exits = new Exits(join(options.dir, 'exits'), (id) => this.#background(id, () => this.#checkExit(id)))
    this.#launcher = new Launcher(options, { ...parts, exits: this.#exits, fault: this.#fault })
    this.#life = new Lifecycle({
      ...parts,
      dir: join(options.dir, 'containers'),
      records: this.#records,
      launcher: this.#launcher,
      exits: this.#exits,
      index: this.#index,
      fault: this.#fault,
      signal: this.#scope.signal,
    })
  }

  /** Reads the records, mends what a former agent left, and begins to watch. Call once, before anything else. */
  async start(): Promise<void> {
    const bundles = join(this.#options.dir, 'containers')
    await makeBundlesFolder(bundles)
    await this.#exits.start()
    const records = await this.#records.all((key, error) =>
      this.#parts.log.error({ key, error }, 'container record skipped'),
    )
    for (const record of records) this.#index.add(this.#life.entryOf(record))
    const mended = await recoverContainers({
      bundles,
      entries: this.#index.all(),
      rootfs: this.#parts.rootfs,
      runtimes: this.#parts.runtimes,
      log: this.#parts.log,
      recoverOne: (entry) => this.#locks.hold(entry.id, () => this.#life.recover(entry)),
      signal: this.#scope.signal,
    })
    for (const { id, record } of this.#index.all()) {
      if (record.status === 'stopping') this.#background(id, () => this.stop(id, { signal: this.#scope.signal }))
    }
    if (mended.length > 0) this.#parts.log.info({ mended }, 'containers recovered')
    this.#scope.run((signal) => this.#recheck(signal))
  }

  /** Stops watching. Containers go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#exits[Symbol.asyncDispose]()
    await this.#scope.close()
  }

  /** Throws BAD_ARGUMENT, CONFLICT for a taken name, NOT_FOUND for the image, MANIFEST_INVALID, HOST_UNABLE. */
  async create(request: CreateRequest): Promise<CreateReply> {
    const { options, parts } = { options: this.#options, parts: this.#parts }
    const runtime = request.runtime ?? options.defaultRuntime
    if (!parts.runtimes.has(runtime)) {
      const known = [...parts.runtimes.keys()].join(', ')
      throw new DarnerError('BAD_ARGUMENT', `runtime ${runtime} is not one of this agent's: ${known}`)
    }
    const id = containerId(randomBytes(32))
    const name = request.name ?? `darner-${id.slice(0, 8)}`
    this.#index.claim(name, id)
    try {
      const image = await parts.images.resolve(request.image)
      const config = readImageConfig(image.config, image.reference)
      argumentsOf(config, request, image.reference)
      capabilitiesOf(request, parts.host.limits)
      signalNumber(request.stopSignal ?? (config.stopSignal || 'TERM'))
      const record: ContainerRecord = {
        version: 1,
        id,
        name,
        status: CONTAINER_STATES.initial,
        request,
        imageId: image.id,
        imageReference: image.reference,
        imageConfig: image.config,
        layers: image.layers,
        runtime,
        seccomp: request.seccomp === 'unconfined' ? 'unconfined' : options.seccompName,
        argv: [],
        createdAt: parts.clock.now(),
      }
      await this.#records.put(record, { sync: true })
      this.#index.add(this.#life.entryOf(record))
      this.#fault('create:recorded')
      const warnings = options.seccompName === 'unconfined' && request.seccomp !== 'unconfined' ? [NO_PROFILE] : []
      return { id, name, warnings }
    } catch (error) {
      this.#index.release(name, id)
      throw error
    }
  }

  /** Resolves when the process runs; nothing happens when it does already. Throws RUNTIME_FAILED and what the spec throws. */
  async startContainer(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const entry = this.#index.find(reference)
    await this.#locks.hold(entry.id, async () => {
      if (ALIVE.includes(entry.record.status)) return
      signal.throwIfAborted()
      const fresh: Change = { pid: undefined, conmonPid: undefined, exitCode: undefined, finishedAt: undefined }
      await this.#life.move(entry, 'start', {
        ...fresh,
        error: undefined,
        oomKilled: undefined,
        stopRequested: undefined,
      })
      this.#fault('start:recorded')
      try {
        const launched = await this.#launcher.launch(entry.record, entry.bundle, {
          consoleSize: entry.consoleSize,
          created: () => this.#life.connectWaiting(entry),
          signal: this.#scope.signal,
        })
        const { pid, conmonPid, argv } = launched
        await this.#life.move(entry, 'started', { pid, conmonPid, argv: [...argv], startedAt: this.#parts.clock.now() })
      } catch (error) {
        throw await this.#life.startFailed(entry, error)
      }
    })
    this.#background(entry.id, () => this.#checkExit(entry.id))
  }

  /** Stop signal, then KILL after the timeout; 0 kills at once. Nothing happens when it isn't running. */
  async stop(reference: string, options: { timeoutSec?: number; signal: AbortSignal }): Promise<void> {
    const entry = this.#index.find(reference)
    const { request, imageConfig, imageReference } = entry.record
    const timeoutSec = options.timeoutSec ?? request.stopTimeoutSec ?? DEFAULT_STOP_SEC
    const image = readImageConfig(imageConfig, imageReference)
    const first = timeoutSec === 0 ? SIGKILL : signalNumber(request.stopSignal ?? (image.stopSignal || 'TERM'))
    const held = await this.#locks.hold(entry.id, async () => {
      if (!ALIVE.includes(entry.record.status)) return undefined
      const ended = entry.ended.promise
      const wasPaused = entry.record.status === 'paused'
      await this.#life.move(entry, 'stop', { stopRequested: true })
      await this.#life.signal(entry, first, options.signal)
      if (wasPaused) await this.#launcher.runtimeOf(entry.record).resume(entry.id, options)
      return { ended } // wrapped: a bare promise would be awaited under the lock
    })
    if (held === undefined) return
    const exited = held.ended
    if (timeoutSec > 0 && (await this.#endsWithin(exited, timeoutSec * 1000, options.signal))) return
    if (timeoutSec > 0) await this.#life.signal(entry, SIGKILL, options.signal)
    if (await this.#endsWithin(exited, KILL_MS, options.signal)) return
    throw new DarnerError('TIMED_OUT', `stopping ${entry.record.name}: still there ${KILL_MS} ms after KILL`)
  }

  /** Throws BAD_ARGUMENT for an unknown signal, STATE_INVALID when it isn't running. */
  async kill(reference: string, signalName: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const entry = this.#index.find(reference)
    const number = signalNumber(signalName)
    await this.#locks.hold(entry.id, async () => {
      this.#mustRun(entry, 'kill')
      const sent = await this.#life.signal(entry, number, signal)
      if (!sent) throw new DarnerError('STATE_INVALID', `container ${entry.record.name} is not running`)
      if (number === SIGKILL && entry.record.status === 'paused') {
        await this.#launcher.runtimeOf(entry.record).resume(entry.id, { signal })
        await this.#life.move(entry, 'resume', {})
      }
    })
  }

  async pause(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#freeze(reference, 'pause', signal)
  }

  async resume(reference: string, { signal }: { signal: AbortSignal }): Promise<void> {
    await this.#freeze(reference, 'resume', signal)
  }

  /** How the present run ends, or how the last one did; with `nextExit`, how the next one will when none is on. */
  async wait(reference: string, options: { nextExit?: boolean; signal: AbortSignal }): Promise<ExitReply> {
    const entry = this.#index.find(reference)
    const { status, exitCode, error } = entry.record
    if (!ALIVE.includes(status) && options.nextExit !== true) {
      return { exitCode: exitCode ?? 0, ...(error === undefined ? {} : { error }) }
    }
    return abortable(entry.ended.promise, options.signal)
  }

  /** Throws STATE_INVALID for a running container unless `force`, which kills it first. */
  async remove(reference: string, options: { force: boolean; signal: AbortSignal }): Promise<void> {
    const entry = this.#index.find(reference)
    if (options.force) await this.stop(entry.id, { timeoutSec: 0, signal: options.signal })
    await this.#locks.hold(entry.id, async () => {
      if (this.#index.get(entry.id) !== entry) return // somebody else removed it meanwhile
      if (ALIVE.includes(entry.record.status)) {
        throw new DarnerError('STATE_INVALID', `container ${entry.record.name} is ${entry.record.status}`, {
          way: 'stop it first, or remove it with force',
        })
      }
      await this.#life.remove(entry)
    })
  }

  async rename(reference: string, name: string): Promise<void> {
    const entry = this.#index.find(reference)
    await this.#locks.hold(entry.id, async () => {
      const before = entry.record.name
      if (before === name) return
      this.#index.claim(name, entry.id)
      await this.#life.save(entry, { ...entry.record, name }, true)
      this.#index.release(before, entry.id)
    })
  }

  list(options: { all: boolean }): ContainerView[] {
    return this.#index
      .all()
      .filter(({ record }) => options.all || ALIVE.includes(record.status))
      .sort((a, b) => b.record.createdAt - a.record.createdAt)
      .map((entry) => viewOf(entry.record, entry.bundle.log))
  }

  inspect(reference: string): ContainerView {
    const entry = this.#index.find(reference)
    return viewOf(entry.record, entry.bundle.log)
  }

  /** Layers and images that containers stand on, for whoever collects the rest. */
  inUse(): { readonly imageIds: ReadonlySet<string>; readonly layers: ReadonlySet<string> } {
    const records = this.#index.all().map((entry) => entry.record)
    return {
      imageIds: new Set(records.map((one) => one.imageId)),
      layers: new Set(records.flatMap((one) => one.layers)),
    }
  }

  /** Follows until the container ends, when asked to and it runs. */
  logs(
    reference: string,
    query: { follow?: boolean; tail?: number; sinceMs?: number },
    { signal }: { signal: AbortSignal },
  ): AsyncGenerator<LogEntry> {
    const entry = this.#index.find(reference)
    const follow = query.follow === true && ALIVE.includes(entry.record.status)
    return readLog(
      entry.bundle.log,
      {
        ...(query.tail === undefined ? {} : { tail: query.tail }),
        ...(query.sinceMs === undefined ? {} : { sinceMs: query.sinceMs }),
        ...(follow ? { until: entry.ended.promise } : {}),
      },
      { signal },
    )
  }

  /** Attaches to a running container, or to the next run of one that isn't on: from its first byte of output. The caller leaves. */
  async attach(reference: string): Promise<Session> {
    const entry = this.#index.find(reference)
    const session = new WaitingSession({
      result: entry.ended.promise,
      resize: (size) => this.resize(entry.id, size),
      onLeave: (left) => entry.waiting.delete(left),
    })
    if (!ALIVE.includes(entry.record.status) || entry.record.status === 'starting') entry.waiting.add(session)
    else session.connect(await Attached.open(entry.bundle))
    return session
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
    this.#mustRun(entry, 'exec')
    if (entry.record.status === 'paused') {
      throw new DarnerError('STATE_INVALID', `container ${entry.record.name} is paused`, { way: 'resume it first' })
    }
    return entry
  }

  get launcher(): Launcher {
    return this.#launcher
  }

  #mustRun(entry: Entry, what: string): void {
    if (ALIVE.includes(entry.record.status)) return
    throw new DarnerError(
      'STATE_INVALID',
      `${what}: container ${entry.record.name} is ${entry.record.status}, not running`,
    )
  }

  async #freeze(reference: string, verb: 'pause' | 'resume', signal: AbortSignal): Promise<void> {
    const entry = this.#index.find(reference)
    await this.#locks.hold(entry.id, async () => {
      CONTAINER_STATES.step(entry.record.status, verb, entry.record.name)
      await this.#launcher.runtimeOf(entry.record)[verb](entry.id, { signal })
      await this.#life.move(entry, verb, {})
    })
  }

  async #endsWithin(exited: Promise<unknown>, ms: number, signal: AbortSignal): Promise<boolean> {
    const timer = new AbortController()
    const sleep = this.#parts.clock.sleep(ms, { signal: AbortSignal.any([signal, timer.signal]) })
    try {
      return await Promise.race([exited.then(() => true), sleep.then(() => false)])
    } finally {
      sleep.catch(() => {}) // the abort below
      timer.abort()
    }
  }

  #background(id: string, work: () => Promise<void>): void {
    this.#scope.run(async () => {
      try {
        await work()
      } catch (error) {
        this.#parts.log.error({ container: id, error }, 'container upkeep failed')
      }
    })
  }

  async #recheck(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#parts.clock.sleep(this.#options.recheckMs, { signal })
      for (const entry of this.#index.all()) {
        if (ALIVE.includes(entry.record.status)) this.#background(entry.id, () => this.#checkExit(entry.id))
      }
    }
  }

  async #checkExit(id: string): Promise<void> {
    await this.#locks.hold(id, async () => {
      const entry = this.#index.get(id)
      if (entry && ALIVE.includes(entry.record.status)) await this.#life.endIfOver(entry)
    })
  }
}

const NO_PROFILE = 'this host has no seccomp profile: the container runs unconfined by seccomp'
