/** Brings one container up (rootfs, bundle, conmon, start) and takes what is left of a run away again. Knows no records. */
import { createHash } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import type { TerminalSize } from '../../src/api/containers-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { spreadFolders } from '../linux/spread-folders.ts'
import { logBoundOf, makeLogRoom } from '../quota/log-bound.ts'
import type { Noting, RunExtension, RunFacts } from '../rich/extension.ts'
import { type Bundle, clearRun, makeBundle, writeWhole } from '../shim/bundle.ts'
import { type ReadyConmon, readyConmon } from '../shim/conmon.ts'
import type { Exits } from '../shim/exits.ts'
import type { OciRuntime } from '../shim/oci-runtime.ts'
import { CgroupGate } from '../spec/cgroup-gate.ts'
import { moveToCgroup } from '../spec/cgroups.ts'
import { hostFiles } from '../spec/host-files.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { buildSpec, type HostFacts, hostnameOf, networkSysctlsOf } from '../spec/spec.ts'
import { findUser, withGroups } from '../spec/users.ts'
import type { UpgradeFaultPoint } from '../upgrade/journal.ts'
import { prepareDevices, prepareMounts } from '../volumes/mounts.ts'
import type { VolumeFaultPoint, Volumes } from '../volumes/volumes.ts'
import type { ContainerNetworks, RootfsStore } from './dependencies.ts'
import { isFrozen } from './freezer.ts'
import { type Linked, toldOfLinks } from './links.ts'
import { giveFiles, mappedRun, unstage } from './mapped-run.ts'
import { networkOfRun, type Sharing, sharedWith } from './network-of-run.ts'
import { readOomKills } from './oom.ts'
import { type ContainerRecord, mountOptionsOf, rootfsIdOf } from './record.ts'
import { Turns } from './turns.ts'

export interface LauncherOptions {
  /** Path of conmon. */
  readonly conmon: string
  /** Cgroup that all containers are below: `/darner`. */
  readonly cgroupParent: string
  /** Folder for mounts that stand while a container in a user namespace is created. */
  readonly staging: string
}

export interface LauncherParts {
  readonly host: HostFacts
  readonly rootfs: RootfsStore
  readonly exits: Exits
  readonly volumes: Volumes
  readonly clock: Clock
  readonly runtimes: ReadonlyMap<string, OciRuntime>
  readonly log: Log
  /** Absent: only the modes host and none. */
  readonly networks?: ContainerNetworks
  /** The running container whose network another shares. Throws NOT_FOUND, STATE_INVALID. */
  readonly sharing: (reference: string) => Promise<Sharing>
  /** Throws NOT_FOUND. */
  readonly linked: (reference: string) => Linked
  /** What rich containers change in a run. */
  readonly extension?: RunExtension
  /** Called at each named step, for tests that end the process there. */
  readonly fault: (point: FaultPoint) => void
}

/** The steps between which a container's state on disk and in the kernel changes, in order. */
export const FAULT_POINTS = [
  'create:recorded',
  'create:volumes',
  'start:recorded',
  'start:mounted',
  'start:bundled',
  'start:created',
  'start:started',
  'exit:recorded',
  'exit:deleted',
  'exit:unmounted',
  'remove:recorded',
  'remove:volumes',
  'remove:rootfs',
  'remove:files',
] as const
/** Those of a stop that somebody asks for. */
export const STOP_FAULT_POINTS = ['stop:recorded', 'stop:signalled'] as const
export type FaultPoint =
  | (typeof FAULT_POINTS)[number]
  | (typeof STOP_FAULT_POINTS)[number]
  | 'still:frozen'
  | VolumeFaultPoint
  | UpgradeFaultPoint

export interface Launched {
  readonly pid: number
  readonly conmonPid: number
  readonly argv: readonly string[]
  /** By number, where the root file system states one. */
  readonly stopSignal?: number
}

/** A start waits for the kernel and the disk more than it computes. With fewer, cores idle; with all fifty of a crowd, answers wait. */
const TURNS_A_CORE = 4
/** A start takes a tenth of it. */
const TURN_MS = 1000

/** Makes and unmakes runs. */
export class Launcher {
  readonly #options: LauncherOptions
  readonly #parts: LauncherParts
  readonly #turns = new Turns({ atOnce: TURNS_A_CORE * availableParallelism(), mostMs: TURN_MS })
  readonly #gate: CgroupGate
  #placeFailed = false

  constructor(options: LauncherOptions, parts: LauncherParts) {
    this.#options = options
    this.#parts = parts
    this.#gate = new CgroupGate(parts.host.cgroups)
  }

  /** A container will be started soon. */
  expect(): void {
    void this.#gate.open()
  }

  runtimeOf(record: ContainerRecord): OciRuntime {
    const runtime = this.#parts.runtimes.get(record.runtime)
    if (runtime) return runtime
    throw new DarnerError(
      'RUNTIME_MISSING',
      `container ${record.name}: runtime ${record.runtime} is not configured here`,
    )
  }

  /**
   * Everything up to a running process. `created` is called between create and start, when conmon listens for attaching clients. On failure
   * the caller calls {@link clean}. Throws what the spec, the snapshotter, conmon and the runtime throw.
   */
  async launch(
    record: ContainerRecord,
    bundle: Bundle,
    options: Noting & { consoleSize: TerminalSize | undefined; created: () => Promise<void> },
  ): Promise<Launched> {
    const { signal } = options
    const { fault, exits, host } = this.#parts
    const runtime = this.runtimeOf(record)
    const { request } = record
    const hostname = hostnameOf(record.id, request, host)
    using _turn = await this.#turns.take()
    signal.throwIfAborted()
    this.expect()
    const made = freshBundle(bundle)
    // A rich container's terminal isn't known yet. In a bundle that was used before, a conmon that outlives this process would find what to
    // do.
    const begun = made.then((fresh) =>
      fresh && request.rich === undefined ? this.#conmonOf(record, bundle, request.tty === true) : undefined,
    )
    begun.catch(() => {}) // failures reach the caller where the conmon is told to go on
    await using _early = { [Symbol.asyncDispose]: () => endOf(begun) }
    // its process stays that one until the runtime has entered its network
    const other = sharedWith(request)
    using sharing = other === undefined ? undefined : await this.#parts.sharing(other)
    // writable also for a read-only one: the runtime makes mount points first, and then takes the right away
    const [rootfs, network, fresh] = await Promise.all([
      this.#parts.rootfs.mount(rootfsIdOf(record), record.layers, { ...mountOptionsOf(record), signal }),
      networkOfRun({ id: record.id, name: record.name, hostname, request }, this.#parts, {
        sharing,
        keep: record.upgrade !== undefined,
        signal,
      }),
      made,
      exits.expect(record.id),
    ])
    fault('start:mounted')
    const image = readImageConfig(record.imageConfig, record.imageReference)
    const user = withGroups(findUser(rootfs.path, request.user ?? image.user), rootfs.path, request.groupAdd ?? [])
    const [mounts, devices] = await Promise.all([
      prepareMounts(request.mounts ?? [], {
        volumes: this.#parts.volumes,
        ...(request.volumeQuotas === undefined ? {} : { quotas: request.volumeQuotas }),
        rootfs: rootfs.path,
        now: this.#parts.clock.now(),
        idBase: record.userns?.base ?? 0,
        signal,
      }),
      prepareDevices(request.devices ?? []),
    ])
    const links = toldOfLinks(record, this.#parts.linked)
    const idmap = record.userns
    await using mapped = idmap
      ? await mappedRun(this.#stagedAt(record.id), {
          idmap,
          rootfs: resolve(rootfs.path),
          asked: request.mounts ?? [],
          mounts,
          netnsPath: network?.netnsPath,
          sysctls: networkSysctlsOf(request),
        })
      : undefined
    const built = buildSpec({
      id: record.id,
      rootfs: mapped?.root ?? resolve(rootfs.path),
      image,
      request: links.env.length > 0 ? { ...request, env: [...links.env, ...(request.env ?? [])] } : request,
      user,
      host,
      cgroupPath: this.cgroupPathOf(record.id),
      files: bundle,
      mounts: mapped?.mounts ?? mounts,
      ...(idmap ? { idmap } : {}),
      ...(mapped?.sysfs === undefined ? {} : { sysfs: mapped.sysfs }),
      devices,
      ...(network ? { netnsPath: network.netnsPath } : {}),
      ...(options.consoleSize ? { consoleSize: options.consoleSize } : {}),
    })
    const { extension } = this.#parts
    const run = this.factsOf(record, bundle)
    const mounted = { ...run, rootfs: resolve(rootfs.path), user, host }
    const shaped = (await extension?.shape(built, mounted, options)) ?? { spec: built, tty: request.tty === true }
    const { spec } = shaped
    const files = await hostFiles({
      hostname,
      network: request.network ?? 'host',
      extraHosts: network ? [] : (request.extraHosts ?? []), // an attached network has its own file
    })
    // where nothing was, nobody reads what is half written
    const write = fresh ? writeFirst : writeWhole
    await Promise.all([
      writeFirst(`${bundle.config}.new`, JSON.stringify(spec)),
      write(bundle.hostname, files.hostname, 0o644),
      write(bundle.hosts, `${network?.hosts ?? files.hosts}${links.hosts}`, 0o644),
      write(bundle.resolvConf, network?.resolvConf ?? files.resolvConf, 0o644),
    ])
    if (idmap) await giveFiles(bundle, idmap)
    fault('start:bundled')
    const logBound = logBoundOf(request)
    if (logBound) await makeLogRoom(bundle, logBound)
    await using conmon = (await begun) ?? (await this.#conmonOf(record, bundle, shaped.tty))
    await rename(`${bundle.config}.new`, bundle.config)
    const carried = await conmon.create({ signal })
    fault('start:created')
    if (extension?.conmonCgroup(run) !== undefined) await this.place(carried.conmonPid)
    await options.created()
    await extension?.created(run, carried.pid, options)
    await runtime.start(record.id, { signal })
    fault('start:started')
    const { stopSignal } = shaped
    const { pid, conmonPid } = carried
    return { pid, conmonPid, argv: spec.process.args, ...(stopSignal === undefined ? {} : { stopSignal }) }
  }

  /** One that waits to create the container. */
  #conmonOf(record: ContainerRecord, bundle: Bundle, tty: boolean): Promise<ReadyConmon> {
    const { request } = record
    const cgroup = this.#parts.extension?.conmonCgroup(this.factsOf(record, bundle))
    const logBound = logBoundOf(request)
    return readyConmon(this.#options.conmon, {
      id: record.id,
      bundle,
      runtime: this.runtimeOf(record),
      exitDir: this.#parts.exits.dir,
      exitCopyDir: this.#parts.exits.copyDir(record.id),
      tty,
      log: request.log?.driver ?? 'json-file',
      ...(logBound ? { logStepBytes: logBound.stepBytes } : {}),
      stdin: request.openStdin === true,
      keepStdin: tty || request.stdinOnce !== true,
      place: (pid) => this.place(pid, cgroup),
    })
  }

  #stagedAt(id: string): string {
    return join(this.#options.staging, id)
  }

  /** Below the root of each hierarchy. */
  cgroupPathOf(id: string): string {
    return `${this.#options.cgroupParent}/${id}`
  }

  /** Processes of the present run that the kernel killed for memory: 0 too where it doesn't count. The cgroup stays until {@link clean} deletes the container. */
  oomKillsOf(id: string): number {
    return readOomKills(this.#parts.host.cgroups, this.cgroupPathOf(id)) ?? 0
  }

  /** As {@link isFrozen}. */
  frozen(id: string): boolean | undefined {
    return isFrozen(this.#parts.host.cgroups, this.cgroupPathOf(id))
  }

  /** What the extension learns about a run. */
  factsOf(record: ContainerRecord, bundle: Bundle): RunFacts {
    return {
      id: record.id,
      name: record.name,
      bundle,
      request: record.request,
      image: readImageConfig(record.imageConfig, record.imageReference),
      runtime: this.runtimeOf(record),
      cgroupPath: this.cgroupPathOf(record.id),
    }
  }

  /**
   * Removes what a run left: the runtime's state (its processes too, with `force`), the mounts and the network. Only an upgrade keeps the
   * network for the next run. Fine to call twice.
   */
  async clean(record: ContainerRecord, options: { force: boolean; signal: AbortSignal }): Promise<void> {
    await this.forget(record, options)
    await this.release(record)
  }

  /** The first half of {@link clean}: the runtime's state. */
  async forget(record: ContainerRecord, options: { force: boolean; signal: AbortSignal }): Promise<void> {
    const runtime = this.runtimeOf(record)
    if (runtime.holds(record.id)) await runtime.delete(record.id, options)
    this.#parts.fault('exit:deleted')
  }

  /** The other half: network and mounts. */
  async release(record: ContainerRecord): Promise<void> {
    if (record.userns) await unstage(this.#stagedAt(record.id))
    if (record.upgrade === undefined) await this.#parts.networks?.detach(record.id)
    await this.#parts.rootfs.unmount(rootfsIdOf(record))
    this.#parts.fault('exit:unmounted')
  }

  /** An upgrade is over and nothing runs: the network that it kept goes. */
  async detach(id: string): Promise<void> {
    await this.#parts.networks?.detach(id)
  }

  /** The container is no more: so are its networks. */
  async forgetNetworks(id: string): Promise<void> {
    await this.#parts.networks?.forget(id)
  }

  /** Moves a conmon out of the agent's cgroup, so that a service manager that ends the agent leaves it alone. */
  async place(pid: number, path = `${this.#options.cgroupParent}/conmon`): Promise<void> {
    try {
      await moveToCgroup(this.#parts.host.cgroups, path, pid)
    } catch (error) {
      if (!this.#placeFailed) this.#parts.log.warn({ error, pid }, 'conmon stays in the cgroup of the agent')
      this.#placeFailed = true
    }
  }

  get conmon(): string {
    return this.#options.conmon
  }
}

/** Makes the bundle's folder, or takes away what a former run left in it. True when there was none. */
async function freshBundle(bundle: Bundle): Promise<boolean> {
  const fresh = await makeBundle(bundle)
  if (!fresh) await clearRun(bundle)
  return fresh
}

/** Fine when nothing was begun, or it failed. */
async function endOf(begun: Promise<AsyncDisposable | undefined>): Promise<void> {
  const conmon = await begun.catch(() => undefined)
  await conmon?.[Symbol.asyncDispose]()
}

const writeFirst = (path: string, text: string, mode = 0o600) => writeFile(path, text, { mode })

/** A 64-digit id from random bytes or, for tests, from a seed text. */
export function containerId(seed: Uint8Array | string): string {
  return createHash('sha256').update(seed).digest('hex')
}

/** What a shell would give for a command that couldn't be started: 127 not found, 126 not executable, 125 anything else. */
export function startExitCode(error: unknown): number {
  const { message } = asDarnerError(error, 'start')
  if (/executable file.*not found|no such file or directory|not found in \$?PATH/i.test(message)) return 127
  if (/permission denied|exec format error|is a directory|not executable|not a regular file/i.test(message)) return 126
  return 125
}

/** Makes the folder that holds all bundles. */
export async function makeBundlesFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  spreadFolders(path)
}
