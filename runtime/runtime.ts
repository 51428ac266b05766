/** The engine of this host: reads what the host can do, recovers its containers, and gives them to the front doors. */

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { arch, availableParallelism, hostname, release } from 'node:os'
import { join, resolve } from 'node:path'
import type { Clock } from '../src/core/clock.ts'
import type { Log } from '../src/core/log.ts'
import { CgroupHome } from './containers/cgroup-home.ts'
import { Containers } from './containers/containers.ts'
import type { ImageStore, RecordSpace, RootfsStore } from './containers/dependencies.ts'
import type { Entry } from './containers/entry.ts'
import { attributesOf, EventLog } from './containers/events.ts'
import { Execs } from './containers/execs.ts'
import { HealthMonitor } from './containers/health.ts'
import type { FaultPoint } from './containers/launch.ts'
import { rootfsIdOf } from './containers/record.ts'
import { Carried } from './cores/carried.ts'
import { type CoreWatch, openCoreWatch } from './cores/core-watch.ts'
import { spreadFolders } from './linux/spread-folders.ts'
import { openLxcfs } from './lxcfs/open.ts'
import type { Networks } from './network/networks.ts'
import { Quotas } from './quota/quota.ts'
import { type PlaceUsage, usesOf } from './quota/uses.ts'
import { QuotaWatch } from './quota/watch.ts'
import { Rich } from './rich/rich.ts'
import { Services } from './rich/services.ts'
import { OciRuntime } from './shim/oci-runtime.ts'
import { readOnlyProgram } from './shim/read-only-program.ts'
import { openAppArmor } from './spec/apparmor.ts'
import { appArmorWays } from './spec/apparmor-loader.ts'
import { readCgroupLayout } from './spec/cgroups.ts'
import { readHostLimits } from './spec/host-limits.ts'
import { hostSeccomp } from './spec/seccomp.ts'
import type { GateParts } from './upgrade/gate.ts'
import { Upgrades } from './upgrade/upgrades.ts'

export interface RuntimeOptions {
  /** Persistent folder: bundles, logs, exit files. */
  readonly dir: string
  /** Folder for the state of the OCI runtimes; gone after a reboot, as they expect. */
  readonly runDir: string
  /** Path by name: `{ crun: '/usr/bin/crun' }`. */
  readonly runtimes: Readonly<Record<string, string>>
  readonly defaultRuntime: string
  /** Path of conmon. */
  readonly conmon: string
  /** Default `/darner`. */
  readonly cgroupParent?: string
  /** Path of a seccomp profile, or `builtin`, the default. */
  readonly seccompProfile?: string
  /** Default 2000. */
  readonly recheckMs?: number
  /** `off`, `auto` (the host's, at /var/lib/lxcfs), `managed` (run by the agent), or the path of its mount. */
  readonly lxcfs?: string
  /** Network of containers that name none; default `bridge`. */
  readonly defaultNetwork?: string
  /** User namespace of containers that say nothing of it; default `host`. */
  readonly defaultUserns?: 'host' | 'auto'
  /** Images may ask for a rich mode by their label; default false. */
  readonly richImages?: boolean
  /** No verb of an OCI runtime takes longer; default 60,000. */
  readonly verbMs?: number
}

export interface RuntimeParts {
  readonly images: ImageStore
  readonly rootfs: RootfsStore
  readonly records: RecordSpace
  readonly clock: Clock
  readonly log: Log
  /** Absent: containers are on the host's network, or on none. Closed by its opener, after the runtime. */
  readonly networks?: Networks
  readonly fault?: (point: FaultPoint) => void
}

const REMEMBER_EXECS = 1000
const KEEP_EVENTS = 4096
/** How often disk quotas are looked at. */
const QUOTA_WATCH_MS = 5000
/** Where distributions put an init that needs no libraries. */
const STATIC_INITS = ['/usr/bin/tini-static', '/usr/libexec/podman/catatonit', '/usr/bin/catatonit']

/** Hold it with `await using`: disposing stops the watching, never the containers; without any, what was made for them goes. */
export class Runtime implements AsyncDisposable {
  readonly containers: Containers
  readonly execs: Execs
  readonly events: EventLog
  readonly health: HealthMonitor
  readonly networks: Networks | undefined
  readonly quotas: Quotas
  /** Side services of rich containers. */
  readonly services: Services
  readonly upgrades: Upgrades
  readonly #rich: Rich
  readonly #watch: QuotaWatch
  readonly #cores: CoreWatch
  readonly #home: CgroupHome | undefined
  readonly #programs: DisposableStack

  private constructor(
    parts: {
      containers: Containers
      execs: Execs
      events: EventLog
      health: HealthMonitor
      services: Services
      quotas: Quotas
      watch: QuotaWatch
      upgrades: Upgrades
      cores: CoreWatch
      programs: DisposableStack
      networks?: Networks
      home?: CgroupHome
    },
    rich: Rich,
  ) {
    this.#rich = rich
    this.#watch = parts.watch
    this.#cores = parts.cores
    this.#home = parts.home
    this.#programs = parts.programs
    this.services = parts.services
    this.upgrades = parts.upgrades
    this.quotas = parts.quotas
    this.networks = parts.networks
    this.containers = parts.containers
    this.execs = parts.execs
    this.events = parts.events
    this.health = parts.health
  }

  /** Reads the host, opens the records, recovers. Throws CONFIG_INVALID for a seccomp profile that can't be read. */
  static async open(options: RuntimeOptions, parts: RuntimeParts): Promise<Runtime> {
    const dir = resolve(options.dir) // conmon and the runtimes have working directories of their own
    const runDir = resolve(options.runDir)
    const { log } = parts
    const [limits, cgroups, seccomp, appArmor] = await Promise.all([
      readHostLimits(),
      readCgroupLayout(),
      hostSeccomp(options.seccompProfile),
      openAppArmor(appArmorWays, (text) => log.warn({}, text)),
      mkdir(dir, { recursive: true, mode: 0o700 }),
      mkdir(runDir, { recursive: true, mode: 0o700 }),
      ...Object.keys(options.runtimes).map((name) => makeStateFolder(join(runDir, name))),
    ])
    if (!seccomp) log.warn({}, 'the kernel has no seccomp: containers start with seccomp=unconfined only')
    if (appArmor?.trouble) log.warn({ trouble: appArmor.trouble }, 'the AppArmor profile of containers is not loaded')
    log.debug({ cgroups: cgroups.kind, seccomp: seccomp?.name, capabilities: limits.capabilities.size }, 'host read')
    using programs = new DisposableStack()
    const runtimes = Object.entries(options.runtimes).map(([name, path]): [string, OciRuntime] => {
      const program = programs.use(readOnlyProgram(path)).path
      return [name, new OciRuntime({ name, path, program, root: join(runDir, name), verbMs: options.verbMs ?? 60_000 })]
    })
    const events = await EventLog.open(join(dir, 'events.jsonl'), { keep: KEEP_EVENTS, now: () => parts.clock.now() })
    const init = STATIC_INITS.find((path) => existsSync(path))
    const cgroupParent = options.cgroupParent ?? '/darner'
    const home = await CgroupHome.open(cgroups, cgroupParent)
    const lxcfs = await openLxcfs(
      { setting: options.lxcfs ?? 'auto', runDir, cgroups, cgroupParent },
      { ...parts, events },
    )
    const { signal } = new AbortController()
    const quotas = await Quotas.open({ dir: join(dir, '..', 'quota') }, { ...parts, signal })
    const carried = new Carried(parts.clock)
    const services = new Services(
      { conmon: options.conmon },
      { ...parts, carried, place: (pid) => containers.launcher.place(pid) },
    )
    const rich = new Rich({
      services,
      policy: { imageLabels: options.richImages ?? false },
      quotas,
      ...(lxcfs ? { lxcfs } : {}),
      clock: parts.clock,
      log: parts.log,
      cgroups,
      ready: (id, at) => containers.noteReady(id, at),
    })
    const containers: Containers = new Containers(
      {
        dir,
        conmon: options.conmon,
        cgroupParent,
        defaultRuntime: options.defaultRuntime,
        recheckMs: options.recheckMs ?? 2000,
        ...(options.defaultNetwork === undefined ? {} : { defaultNetwork: options.defaultNetwork }),
        ...(options.defaultUserns === undefined ? {} : { defaultUserns: options.defaultUserns }),
        volumesDir: join(dir, '..', 'volumes'),
      },
      {
        ...parts,
        events,
        runtimes: new Map(runtimes),
        rootfs: quotas,
        rooms: quotas,
        extension: rich,
        host: {
          limits,
          cgroups,
          cgroupNamespaces: existsSync('/proc/self/ns/cgroup'),
          hostname: hostname(),
          arch: arch(),
          kernel: release(),
          seccomp,
          ...(appArmor ? { appArmor } : {}),
          cpus: availableParallelism(),
          ...(init === undefined ? {} : { init }),
        },
      },
    )
    const execs = new Execs({ rememberEnded: REMEMBER_EXECS }, containers, carried)
    const health = new HealthMonitor({ containers, execs, clock: parts.clock, log: parts.log })
    containers.observers.add(health)
    containers.observers.add(carried)
    await containers.start()
    const cores = await openCoreWatch({ ...parts, containers, carried })
    const probe: GateParts['probe'] = (entry, waits) => health.probe(entry, waits)
    const upgrades = new Upgrades({ ...parts, rootfs: quotas, extension: rich, engine: containers.inner, probe })
    upgrades.start()
    const watch = new QuotaWatch(
      { everyMs: QUOTA_WATCH_MS },
      {
        ...parts,
        events,
        running: () =>
          containers
            .entries()
            .filter(({ record }) => record.pid !== undefined)
            .map((entry) => ({
              id: entry.id,
              attributes: attributesOf(entry.record),
              uses: () => usesOfEntry(quotas, entry),
            })),
      },
    )
    watch.start()
    const { networks } = parts
    const all = {
      containers,
      execs,
      events,
      health,
      services,
      quotas,
      watch,
      upgrades,
      cores,
      programs: programs.move(),
      ...(networks ? { networks } : {}),
      ...(home ? { home } : {}),
    }
    return new Runtime(all, rich)
  }

  /** What a container that runs uses of its disk quotas; of one that doesn't, nothing is mounted. Throws NOT_FOUND. */
  async diskUse(reference: string): Promise<PlaceUsage[]> {
    const entry = this.containers.entry(reference)
    return entry.record.pid === undefined ? [] : usesOfEntry(this.quotas, entry)
  }

  /** Why core dumps are not reported by container here; undefined where they are. */
  get coresUntold(): string | undefined {
    return this.#cores.untold
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cores[Symbol.asyncDispose]()
    await this.#watch[Symbol.asyncDispose]()
    await this.upgrades[Symbol.asyncDispose]()
    await this.health[Symbol.asyncDispose]()
    await this.#rich[Symbol.asyncDispose]()
    await this.containers[Symbol.asyncDispose]()
    await this.events[Symbol.asyncDispose]()
    this.#programs.dispose()
    if (this.containers.entries().some(({ record }) => record.pid !== undefined)) this.#home?.keep()
    else await this.#home?.leave()
  }
}

/** Of one OCI runtime, which has a folder per container there. */
async function makeStateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  spreadFolders(path)
}

function usesOfEntry(quotas: Quotas, { record, bundle }: Entry): Promise<PlaceUsage[]> {
  return usesOf(quotas, { rootfsId: rootfsIdOf(record), request: record.request, bundle })
}
