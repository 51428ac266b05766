/** Rich containers: the image's own init, or a small one with side services, as PID 1. The engine calls this at each step of a run. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { DiskQuota } from '../../src/api/rich-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import { checkHooks, Hooks } from '../hooks/hooks.ts'
import type { Lxcfs } from '../lxcfs/lxcfs.ts'
import { allLogBytesOf } from '../quota/log-bound.ts'
import type { Quotas } from '../quota/quota.ts'
import { writeWhole } from '../shim/bundle.ts'
import { removeCgroupTree } from '../spec/cgroup-tree.ts'
import type { CgroupLayout } from '../spec/cgroups.ts'
import type { ImageRunConfig } from '../spec/image-config.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import { signalNumber } from '../spec/signals.ts'
import { cgroupViewFor } from './cgroup-view.ts'
import type { MountedRun, Noting, RunEnd, RunExtension, RunFacts, Shaped } from './extension.ts'
import { initKindIn, STOP_SIGNALS, systemdVersionIn } from './init-kind.ts'
import { NotifySocket } from './notify.ts'
import type { Services } from './services.ts'
import { type RichPolicy, type SettledRich, settleRich } from './settle.ts'
import { findStaticInit } from './static-init.ts'
import { isSystemd, JOURNALD_CONF, type SystemdFiles, systemdSpec, uuidOf, WANTS_CONF } from './systemd.ts'
import { commandUnit, UNIT_NAME } from './unit.ts'

export interface RichParts {
  readonly clock: Clock
  readonly log: Log
  readonly cgroups: CgroupLayout
  readonly services: Services
  readonly policy: RichPolicy
  readonly quotas: Quotas
  /** Absent where lxcfs is off. */
  readonly lxcfs?: Lxcfs
  /** Told when an init inside said that it is up. */
  readonly ready: (id: string, at: number) => Promise<void>
}

const INIT_PATH = '/dev/darner-init'

/** Holds the notify sockets of running containers; disposing closes them, containers go on. */
export class Rich implements RunExtension, AsyncDisposable {
  readonly #parts: RichParts
  readonly #scope = new Scope()
  readonly #hooks: Hooks
  readonly #sockets = new Map<string, NotifySocket>()

  constructor(parts: RichParts) {
    this.#parts = parts
    this.#hooks = new Hooks(parts)
  }

  settle(request: CreateRequest, image: ImageRunConfig): SettledRich {
    checkHooks(request)
    return settleRich(request, image, this.#parts.policy)
  }

  async check(request: CreateRequest): Promise<void> {
    if (request.diskQuota || request.volumeQuotas) this.#parts.quotas.check()
    if (request.lxcfs === true) await this.#lxcfs().check()
  }

  known(id: string, request: CreateRequest): void {
    this.#parts.quotas.want(id, request.diskQuota)
  }

  async requota(rootfsId: string, quota: DiskQuota, options: { signal: AbortSignal }): Promise<void> {
    await this.#parts.quotas.change(rootfsId, quota, options)
  }

  async preStart(run: RunFacts, noting: Noting): Promise<void> {
    const bytes = allLogBytesOf(run.request)
    if (bytes !== undefined) await this.#parts.quotas.boundLogs(run.id, run.bundle.path, bytes, noting)
    await this.#hooks.begin(run)
    await this.#hooks.run('pre-start', 'host', run, {}, noting)
  }

  async shape(spec: OciSpec, run: MountedRun): Promise<Shaped> {
    return this.#shapeInit(await this.#truthful(spec, run), run)
  }

  /** With lxcfs's files where they are asked for, or the container is rich and lxcfs answers. */
  async #truthful(spec: OciSpec, run: MountedRun): Promise<OciSpec> {
    const { log } = this.#parts
    const { lxcfs: asked, rich } = run.request
    if (asked === false || (asked === undefined && rich === undefined)) return spec
    try {
      return await this.#lxcfs().bind(spec)
    } catch (error) {
      if (asked === true || !isDarnerError(error, 'HOST_UNABLE')) throw error
      log.warn({ container: run.id, error }, 'a rich container sees the memory and CPUs of the host')
      return spec
    }
  }

  #lxcfs(): Lxcfs {
    const { lxcfs } = this.#parts
    if (lxcfs) return lxcfs
    throw new DarnerError('HOST_UNABLE', 'a truthful /proc by lxcfs: this agent has lxcfs switched off')
  }

  async #shapeInit(spec: OciSpec, run: MountedRun): Promise<Shaped> {
    const tty = run.request.tty === true
    switch (run.request.rich) {
      case 'systemd':
        return { spec: await this.#systemd(spec, run), tty: true }
      case 'init':
        return this.#init(spec, run)
      case 'dumb-init':
        return { spec: await withStaticInit(spec), tty }
      default:
        return { spec, tty }
    }
  }

  /** A systemd sees the cgroup that PID 1 was created in as the root of its tree; crun leaves it where conmon stands. */
  conmonCgroup(run: RunFacts): string | undefined {
    return run.request.rich === 'systemd' ? run.cgroupPath : undefined
  }

  async created(run: RunFacts, pid: number, noting: Noting): Promise<void> {
    await this.#hooks.run('pre-start', 'inside', run, { pid }, noting)
  }

  async started(run: RunFacts, pid: number, noting: Noting & { readonly again: boolean }): Promise<void> {
    this.#beside(run, pid)
    await this.#parts.services.start(run, { again: noting.again })
    if (noting.again) return
    for (const where of ['inside', 'host'] as const) await this.#hooks.run('post-start', where, run, { pid }, noting)
  }

  /** What goes on beside a running container. */
  #beside(run: RunFacts, pid: number): void {
    const { lxcfs, rich } = run.request
    // also one that began without it: it gets the files when lxcfs comes
    if (lxcfs === true || (lxcfs === undefined && rich !== undefined)) this.#parts.lxcfs?.watch(run.id, pid)
    const socket = this.#sockets.get(run.id)
    if (socket) this.#scope.run((signal) => this.#awaitReady(run.id, socket, signal))
  }

  async stopping(run: RunFacts, pid: number | undefined, noting: Noting): Promise<void> {
    for (const where of ['inside', 'host'] as const) {
      try {
        await this.#hooks.run('pre-stop', where, run, { pid }, noting)
      } catch (error) {
        noting.signal.throwIfAborted()
        this.#parts.log.warn({ container: run.id, error }, 'pre-stop hooks failed') // nothing keeps a container from stopping
      }
    }
    await this.#parts.services.stop(run.id)
  }

  async ended(run: RunFacts, end: RunEnd, noting: Noting): Promise<void> {
    this.#parts.lxcfs?.forget(run.id)
    this.#closeSocket(run.id)
    await this.#parts.services.ended(run.id)
    const { v2 } = this.#parts.cgroups
    if (run.request.rich !== undefined && v2) await removeCgroupTree(join(v2.path, run.cgroupPath))
    const named = this.#parts.cgroups.v1.get('name=systemd')
    if (run.request.rich !== undefined && named !== undefined) await removeCgroupTree(join(named, run.cgroupPath))
    await this.#hooks.run('post-stop', 'host', run, { end }, noting)
  }

  async removed(id: string): Promise<void> {
    await this.#parts.quotas.freeLogs(id)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.services[Symbol.asyncDispose]()
    await this.#parts.lxcfs?.[Symbol.asyncDispose]()
    await this.#scope.close()
    for (const id of [...this.#sockets.keys()]) this.#closeSocket(id)
  }

  async #systemd(spec: OciSpec, run: MountedRun): Promise<OciSpec> {
    const { args, env, cwd, user } = spec.process
    const own = isSystemd(run.rootfs, args[0] ?? '')
    const view = cgroupViewFor(systemdVersionIn(run.rootfs), this.#parts.cgroups)
    const files = await this.#writeFiles(
      run,
      own
        ? undefined
        : commandUnit({
            argv: args,
            env,
            workdir: cwd,
            uid: user.uid,
            gid: user.gid,
            additionalGids: user.additionalGids ?? [],
            exitWithCommand: run.request.exitWithCommand === true,
          }),
    )
    this.#closeSocket(run.id)
    this.#sockets.set(run.id, await NotifySocket.listen(join(files.notify, 'socket')))
    return systemdSpec(spec, own ? args : ['/sbin/init'], { id: run.id, view, files })
  }

  async #writeFiles(run: MountedRun, unit: string | undefined): Promise<SystemdFiles> {
    const folder = join(run.bundle.path, 'rich')
    const host = join(folder, 'host')
    const notify = join(folder, 'notify')
    await mkdir(join(host, 'notify'), { recursive: true, mode: 0o755 }) // where the socket's folder is bound
    await mkdir(notify, { recursive: true, mode: 0o755 })
    const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '')
    const files = {
      host,
      notify,
      journald: join(folder, 'journald.conf'),
      ...(unit === undefined ? {} : { unit: join(folder, UNIT_NAME), wants: join(folder, 'wants.conf') }),
    }
    await Promise.all([
      writeWhole(join(host, 'container-manager'), 'oci\n', 0o644),
      writeWhole(join(host, 'container-uuid'), `${uuidOf(run.id)}\n`, 0o644),
      writeWhole(join(host, 'os-release'), osRelease, 0o644),
      writeWhole(files.journald, JOURNALD_CONF, 0o644),
      ...(files.unit === undefined || unit === undefined ? [] : [writeWhole(files.unit, unit, 0o644)]),
      ...(files.wants === undefined ? [] : [writeWhole(files.wants, WANTS_CONF(UNIT_NAME), 0o644)]),
    ])
    return files
  }

  #init(spec: OciSpec, run: MountedRun): Shaped {
    const kind = initKindIn(run.rootfs)
    if (kind === undefined) {
      throw new DarnerError('BAD_ARGUMENT', 'a rich container with init: the image has no /sbin/init')
    }
    if (kind === 'systemd') {
      throw new DarnerError('BAD_ARGUMENT', "a rich container with init: the image's /sbin/init is systemd", {
        way: 'use --rich=systemd',
      })
    }
    const process = {
      ...spec.process,
      terminal: true,
      user: { uid: 0, gid: 0 },
      cwd: '/',
      env: [...spec.process.env.filter((one) => !/^(container|TERM)=/.test(one)), 'container=oci', 'TERM=dumb'],
    }
    return {
      spec: { ...spec, process },
      tty: true,
      ...(run.request.stopSignal === undefined ? { stopSignal: signalNumber(STOP_SIGNALS[kind].signal) } : {}),
    }
  }

  async #awaitReady(id: string, socket: NotifySocket, signal: AbortSignal): Promise<void> {
    try {
      await socket.ready(this.#parts.clock, { signal })
      if (this.#sockets.get(id) === socket) this.#closeSocket(id) // unread datagrams would hold PID 1 up
      await this.#parts.ready(id, this.#parts.clock.now())
    } catch (error) {
      if (!signal.aborted && this.#sockets.get(id) === socket)
        this.#parts.log.warn({ container: id, error }, 'readiness of a container is not known')
    }
  }

  #closeSocket(id: string): void {
    this.#sockets.get(id)?.[Symbol.dispose]()
    this.#sockets.delete(id)
  }
}

async function withStaticInit(spec: OciSpec): Promise<OciSpec> {
  const init = await findStaticInit()
  const bind = ['bind', 'rprivate', 'ro', 'nosuid', 'nodev']
  return {
    ...spec,
    process: { ...spec.process, args: [INIT_PATH, ...init.args, ...spec.process.args] },
    mounts: [...spec.mounts, { destination: INIT_PATH, type: 'bind', source: init.path, options: bind }],
  }
}
