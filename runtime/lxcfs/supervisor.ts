/** Runs lxcfs for the agent: it outlives the agent while containers read from it, and is replaced when it stops answering. */
import { spawn } from 'node:child_process'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { MNT_DETACH, systemErrorIs, umount } from '../linux/syscalls.ts'
import { missing, PROGRAM_ENV } from '../shim/program.ts'
import { lxcfsDevice } from './mount-table.ts'

export interface SupervisorOptions {
  readonly program: string
  /** Its mount. */
  readonly folder: string
  /** Folder of its pid file. */
  readonly runDir: string
}

export interface SupervisorParts {
  readonly clock: Clock
  readonly log: Log
  /** Moves it out of the agent's cgroup. */
  readonly place: (pid: number) => Promise<void>
}

const MOUNT_MS = 5000
const MOUNT_LOOK_MS = 20
const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 30_000
/** One that lived as long starts the next pause from the beginning. */
const STEADY_MS = 60_000

export class LxcfsSupervisor {
  readonly #options: SupervisorOptions
  readonly #parts: SupervisorParts
  #pauseMs = FIRST_PAUSE_MS
  #startedAt = -Infinity

  constructor(options: SupervisorOptions, parts: SupervisorParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Ends what is left of the old one and starts another, unless the last start is too short ago. Throws RUNTIME_MISSING. */
  async revive(why: string, { signal }: { signal: AbortSignal }): Promise<void> {
    const { clock, log } = this.#parts
    const now = clock.monotonicMs()
    if (now - this.#startedAt < this.#pauseMs) return
    this.#pauseMs = now - this.#startedAt > STEADY_MS ? FIRST_PAUSE_MS : Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS)
    this.#startedAt = now
    await this.end()
    const pid = await this.#start(signal)
    log.info({ pid, why }, 'lxcfs started')
  }

  /** Ends what runs, and takes its mount away. */
  async end(): Promise<void> {
    const pid = await this.pid()
    try {
      if (pid !== undefined) process.kill(pid, 'SIGKILL')
    } catch (error) {
      if (systemCode(error) !== 'ESRCH') throw error // it just ended
    }
    // a dead FUSE mount stays until somebody takes it away
    while ((await lxcfsDevice(this.#options.folder)) !== undefined) umount(this.#options.folder, MNT_DETACH)
  }

  /** The process that the pid file names, if it is an lxcfs for this folder. */
  async pid(): Promise<number | undefined> {
    try {
      const text = (await readFile(join(this.#options.runDir, 'lxcfs.pid'), 'utf8')).trim()
      if (!/^\d{1,10}$/.test(text)) return undefined
      const argv = (await readFile(`/proc/${text}/cmdline`, 'utf8')).split('\0')
      return argv.includes(this.#options.folder) ? Number(text) : undefined
    } catch (error) {
      if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH') return undefined
      throw error
    }
  }

  async #start(signal: AbortSignal): Promise<number> {
    const { program, folder, runDir } = this.#options
    for (const path of [folder, runDir]) {
      await mkdir(path, { recursive: true, mode: 0o755 }).catch((error: unknown) => {
        if (!systemErrorIs(error, 'EEXIST')) throw error
      })
    }
    const args = ['-f', '-l', '--enable-cfs', '-p', join(runDir, 'lxcfs.pid'), `--runtime-dir=${runDir}`, folder]
    const child = spawn(program, args, { detached: true, stdio: 'ignore', env: PROGRAM_ENV })
    const failed = new Promise<never>((_resolve, reject) => {
      child.once('error', (error) => reject(missing(program, error)))
      child.once('exit', (code, name) => reject(new DarnerError('RUNTIME_FAILED', `lxcfs ended with ${code ?? name}`)))
    })
    failed.catch(() => {}) // later ends are seen by the next look
    child.unref()
    const { pid } = child
    if (pid === undefined) return failed
    await this.#parts.place(pid)
    await Promise.race([this.#mounted(signal), failed])
    return pid
  }

  async #mounted(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts
    const until = clock.monotonicMs() + MOUNT_MS
    while ((await lxcfsDevice(this.#options.folder)) === undefined) {
      if (clock.monotonicMs() > until) {
        throw new DarnerError('RUNTIME_FAILED', `lxcfs: ${this.#options.folder} is not mounted after ${MOUNT_MS} ms`)
      }
      await clock.sleep(MOUNT_LOOK_MS, { signal })
    }
  }
}
