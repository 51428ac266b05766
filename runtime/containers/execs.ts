/** Further processes in running containers. Sessions live in memory: after a restart of the agent the processes go on, unwatched. */
import { randomBytes } from 'node:crypto'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ExecRequest, ExecView, ExitReply, TerminalSize } from '../../src/api/containers-api.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import type { Carried } from '../cores/carried.ts'
import { Attached } from '../shim/attach.ts'
import { bundleAt, makeBundle, writeWhole } from '../shim/bundle.ts'
import { execInContainer, resizeTerminal } from '../shim/conmon.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import { execProcess } from '../spec/spec.ts'
import { findUser } from '../spec/users.ts'
import type { Containers } from './containers.ts'
import type { Entry } from './entry.ts'
import { firstProcess } from './first-process.ts'
import { containerId, startExitCode } from './launch.ts'
import { type Session, WaitingSession } from './session.ts'

export interface ExecsOptions {
  /** Ended sessions are remembered up to this many, for later questions about their exit code. */
  readonly rememberEnded: number
}

interface Exec {
  readonly id: string
  readonly containerId: string
  readonly request: ExecRequest
  status: ExecView['status']
  exitCode: number | undefined
  /** As this host has it; set when it started. */
  pid: number | undefined
  size: TerminalSize | undefined
}

export class Execs {
  readonly #options: ExecsOptions
  readonly #containers: Containers
  readonly #execs = new Map<string, Exec>()
  readonly #carried: Carried | undefined

  constructor(options: ExecsOptions, containers: Containers, carried?: Carried) {
    this.#options = options
    this.#containers = containers
    this.#carried = carried
  }

  /** Registers a command to run. Throws NOT_FOUND, STATE_INVALID, BAD_ARGUMENT. */
  create(reference: string, request: ExecRequest): string {
    const entry = this.#containers.running(reference)
    if (request.command.length === 0 || request.command[0] === '')
      throw new DarnerError('BAD_ARGUMENT', 'exec: no command was given')
    const id = containerId(randomBytes(32))
    this.#execs.set(id, {
      id,
      containerId: entry.id,
      request,
      status: 'created',
      exitCode: undefined,
      pid: undefined,
      size: request.size,
    })
    this.#forgetOldest()
    this.#containers.tell(entry, `exec_create: ${request.command.join(' ')}`, { execID: id })
    return id
  }

  /** What is asked for, when it can be started now. Throws NOT_FOUND, CONFLICT when it was started before, STATE_INVALID. */
  startable(execId: string): { readonly request: ExecRequest } {
    return this.#startable(execId).exec
  }

  /**
   * Starts it, once; the session carries its streams from the first byte. Throws RUNTIME_FAILED with `details.exitCode` 127, 126
   * or 125 when it can't be started.
   */
  async start(execId: string, { signal }: { signal: AbortSignal }): Promise<Session> {
    const { exec, entry } = this.#startable(execId)
    exec.status = 'running'
    this.#containers.tell(entry, `exec_start: ${exec.request.command.join(' ')}`, { execID: execId })
    const bundle = bundleAt(join(entry.bundle.execs, execId))
    const ended = Promise.withResolvers<ExitReply>()
    const session = new WaitingSession({
      result: ended.promise,
      resize: (size) => resizeTerminal(bundle, size),
      onLeave: () => {},
    })
    try {
      await makeBundle(bundle)
      await writeWhole(bundle.config, JSON.stringify(await this.#process(entry, exec)))
      const { launcher } = this.#containers
      const carried = await execInContainer(
        launcher.conmon,
        {
          id: entry.id,
          execId,
          bundle,
          runtime: launcher.runtimeOf(entry.record),
          tty: exec.request.tty === true,
          stdin: exec.request.stdin === true,
          processFile: bundle.config,
          place: (pid) => launcher.place(pid),
          attach: async () => session.connect(await Attached.open(bundle)),
        },
        { signal },
      )
      exec.pid = carried.pid
      this.#carried?.began(carried.pid, entry.id)
      // crun doesn't look at the console size of an exec
      if (exec.request.tty === true && exec.size) await resizeTerminal(bundle, exec.size)
      void this.#finish(exec, bundle.path, carried.exited).then(ended.resolve)
      return session
    } catch (error) {
      exec.status = 'exited'
      exec.exitCode = startExitCode(error)
      session.leave()
      await rm(bundle.path, { recursive: true, force: true })
      const { code, message, details } = asDarnerError(error, `starting ${exec.request.command[0]}`)
      throw new DarnerError(code, message, { cause: error, details: { ...details, exitCode: exec.exitCode } })
    }
  }

  inspect(execId: string): ExecView {
    const { containerId: container, status, exitCode } = this.#find(execId)
    return { execId, containerId: container, status, ...(exitCode === undefined ? {} : { exitCode }) }
  }

  /** What was asked for, and the pid once it runs. */
  facts(execId: string): { containerId: string; request: ExecRequest; pid: number | undefined } {
    const { containerId: container, request, pid } = this.#find(execId)
    return { containerId: container, request, pid }
  }

  /** Ids of what was asked for in a container and is not forgotten. */
  of(containerId: string): string[] {
    return [...this.#execs.values()]
      .filter((one) => one.containerId === containerId && one.status === 'running')
      .map((one) => one.id)
  }

  /** Sends KILL to a running one; nothing happens otherwise. */
  killProcess(execId: string): void {
    const { pid, status } = this.#find(execId)
    if (pid === undefined || status !== 'running') return
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // ESRCH: it just ended
    }
  }

  async resize(execId: string, size: TerminalSize): Promise<void> {
    const exec = this.#find(execId)
    exec.size = size
    if (exec.status !== 'running') return
    const entry = this.#containers.running(exec.containerId)
    await resizeTerminal(bundleAt(join(entry.bundle.execs, execId)), size)
  }

  async #process(entry: Entry, exec: Exec): Promise<unknown> {
    const spec = JSON.parse(await readFile(entry.bundle.config, 'utf8')) as OciSpec
    const { request, size } = exec
    // in a user namespace, the runtime's own path existed only while the container was created
    using first = entry.record.userns === undefined ? undefined : await firstProcess(entry)
    const root = first === undefined ? spec.root.path : `${first.path}/root`
    return execProcess(spec.process, {
      command: request.command,
      env: request.env ?? [],
      tty: request.tty === true,
      ...(request.workdir === undefined ? {} : { workdir: request.workdir }),
      ...(request.privileged === true ? { capabilities: [...this.#containers.host.limits.capabilities] } : {}),
      ...(request.user === undefined ? {} : { user: findUser(root, request.user) }),
      ...(size === undefined ? {} : { consoleSize: size }),
    })
  }

  async #finish(exec: Exec, path: string, exited: Promise<number>): Promise<ExitReply> {
    exec.exitCode = await exited
    if (exec.pid !== undefined) this.#carried?.over(exec.pid)
    exec.status = 'exited'
    this.#tellEnd(exec)
    await rm(path, { recursive: true, force: true }).catch(() => {}) // goes with its container otherwise
    return { exitCode: exec.exitCode }
  }

  #tellEnd({ id, containerId: container, exitCode = 0 }: Exec): void {
    const entry = this.#containers.entries().find((one) => one.id === container)
    if (entry) this.#containers.tell(entry, 'exec_die', { execID: id, exitCode: String(exitCode) })
  }

  #startable(execId: string): { exec: Exec; entry: Entry } {
    const exec = this.#find(execId)
    if (exec.status !== 'created') throw new DarnerError('CONFLICT', `exec ${execId.slice(0, 12)} was started before`)
    return { exec, entry: this.#containers.running(exec.containerId) }
  }

  #find(execId: string): Exec {
    const exec = this.#execs.get(execId)
    if (!exec) throw new DarnerError('NOT_FOUND', `no such exec: ${execId.slice(0, 100)}`)
    return exec
  }

  #forgetOldest(): void {
    for (const [id, exec] of this.#execs) {
      if (this.#execs.size <= this.#options.rememberEnded) return
      if (exec.status !== 'running') this.#execs.delete(id)
    }
  }
}
