/**
 * lxcfs on this host: looked at every second, supervised when it is the agent's to run. Containers whose files come from an
 * lxcfs that died get those of its successor put over, in their own mount namespaces, without a restart.
 */
import { readFile } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import { withDeadline } from '../../src/core/signals.ts'
import { ProcessFolder } from '../linux/process-folder.ts'
import { runProgram } from '../shim/program.ts'
import type { OciSpec } from '../spec/oci-spec.ts'
import { filesOf, withLxcfs } from './files.ts'
import { lxcfsDevice, staleFiles } from './mount-table.ts'
import type { LxcfsSupervisor } from './supervisor.ts'

export interface LxcfsOptions {
  /** Where lxcfs is mounted. */
  readonly folder: string
  /** Between two looks; default 1000. */
  readonly probeMs?: number
}

export interface LxcfsParts {
  readonly clock: Clock
  readonly log: Log
  /** When lxcfs is the agent's to run. */
  readonly supervisor?: LxcfsSupervisor
  /** Told of what happened: `lxcfs_down` and `lxcfs_up` of none, `lxcfs_heal` of one container. */
  readonly event: (action: 'lxcfs_down' | 'lxcfs_up' | 'lxcfs_heal', container: string | undefined) => void
}

/** Its answer comes out of memory: one that takes longer is stuck. */
const ANSWER_MS = 2000
const HEAL_MS = 10_000
const HEAL_SCRIPT = fileURLToPath(new URL(`heal${extname(import.meta.url)}`, import.meta.url))

export class Lxcfs implements AsyncDisposable {
  readonly #options: LxcfsOptions
  readonly #parts: LxcfsParts
  readonly #scope = new Scope()
  /** PID 1 by container that was given the files: its folder, since its pid may be another's by the time that it is entered. */
  readonly #containers = new Map<string, ProcessFolder>()
  #up: boolean | undefined
  #stuck: Promise<unknown> | undefined

  constructor(options: LxcfsOptions, parts: LxcfsParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Begins to look; starts lxcfs first when it is the agent's to run and doesn't answer. */
  async start(): Promise<void> {
    await this.#look(this.#scope.signal)
    this.#scope.run(async (signal) => {
      for (;;) {
        await this.#parts.clock.sleep(this.#options.probeMs ?? 1000, { signal })
        try {
          await this.#look(signal)
        } catch (error) {
          signal.throwIfAborted()
          this.#parts.log.warn({ error }, 'looking after lxcfs failed')
        }
      }
    })
  }

  /** Why lxcfs can't be used now, or undefined when it answers. */
  async trouble(): Promise<string | undefined> {
    const { folder } = this.#options
    if ((await lxcfsDevice(folder)) === undefined) return `no lxcfs is mounted at ${folder}`
    if (this.#stuck) return `lxcfs at ${folder} does not answer`
    const reading = readFile(join(folder, 'proc/uptime'), 'utf8')
    const timer = new AbortController()
    try {
      const late = this.#parts.clock.sleep(ANSWER_MS, { signal: timer.signal }).then(
        () => false,
        () => false,
      )
      if (await Promise.race([reading.then(() => true), late])) return undefined
      // a read that hangs holds a thread: no second one until it is over
      this.#stuck = reading
        .catch(() => {})
        .finally(() => {
          this.#stuck = undefined
        })
      return `lxcfs at ${folder} does not answer`
    } catch (error) {
      return `reading from lxcfs at ${folder}: ${error instanceof Error ? error.message : error}`
    } finally {
      timer.abort()
    }
  }

  /** Throws HOST_UNABLE saying what is wrong with lxcfs. */
  async check(): Promise<void> {
    const trouble = await this.trouble()
    if (trouble !== undefined) throw new DarnerError('HOST_UNABLE', `a truthful /proc by lxcfs: ${trouble}`)
  }

  /** The spec with lxcfs's files; call {@link watch} once it runs. Throws as {@link check} does. */
  async bind(spec: OciSpec): Promise<OciSpec> {
    await this.check()
    return withLxcfs(spec, this.#options.folder, filesOf(this.#options.folder))
  }

  /** Keeps the files of a running container alive. */
  watch(id: string, pid: number): void {
    this.forget(id)
    const process = ProcessFolder.open(pid)
    if (process !== undefined) this.#containers.set(id, process)
  }

  forget(id: string): void {
    this.#containers.get(id)?.[Symbol.dispose]()
    this.#containers.delete(id)
  }

  /** Stops looking. An lxcfs of the agent's goes on while containers read from it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.close()
    const last = this.#containers.size === 0
    for (const id of [...this.#containers.keys()]) this.forget(id)
    if (last) await this.#parts.supervisor?.end()
  }

  async #look(signal: AbortSignal): Promise<void> {
    const idle = this.#containers.size === 0 && this.#parts.supervisor === undefined
    if (idle && this.#up !== undefined) return // nobody reads from it
    let trouble = await this.trouble()
    if (trouble !== undefined) {
      this.#turn(false, trouble)
      await this.#parts.supervisor?.revive(trouble, { signal })
      trouble = this.#parts.supervisor ? await this.trouble() : trouble
    }
    if (trouble !== undefined) return
    this.#turn(true, undefined)
    const device = await lxcfsDevice(this.#options.folder)
    if (device === undefined) return
    for (const [id, process] of [...this.#containers]) {
      if (this.#containers.get(id) !== process) continue
      const stale = await staleFiles(process.path, device)
      const files = filesOf(this.#options.folder)
      if (stale?.some((name) => files.includes(name))) await this.#heal(id, process, files, signal)
    }
  }

  async #heal(id: string, first: ProcessFolder, files: readonly string[], signal: AbortSignal): Promise<void> {
    const { folder } = this.#options
    const { log, event } = this.#parts
    const args = ['--disable-warning=ExperimentalWarning', HEAL_SCRIPT, folder, first.path, ...files]
    const { code, stderr } = await runProgram(process.execPath, args, { signal: withDeadline(signal, HEAL_MS) })
    if (code !== 0) {
      log.warn({ container: id, stderr: stderr.slice(-500) }, 'lxcfs files of a container were not mended')
      return
    }
    log.info({ container: id }, 'lxcfs files of a container mended')
    event('lxcfs_heal', id)
  }

  #turn(up: boolean, why: string | undefined): void {
    if (this.#up === up) return
    const first = this.#up === undefined
    this.#up = up
    if (!up) this.#parts.log[first ? 'info' : 'warn']({ why }, 'lxcfs is down')
    else if (!first) this.#parts.log.info({}, 'lxcfs is up again')
    if (!first) this.#parts.event(up ? 'lxcfs_up' : 'lxcfs_down', undefined)
  }
}
