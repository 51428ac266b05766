/**
 * One process in /proc. An open folder of /proc stays that process's: once it is over nothing can be looked up there, whoever is given
 * its pid next. So what is read, or entered, below {@link ProcessFolder.path} is all of one process.
 */
import { closeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { systemCode } from '../../src/core/errors.ts'
import { AT_FDCWD, O, openAt } from './syscalls.ts'

export class ProcessFolder implements Disposable {
  readonly pid: number
  readonly #fd: number

  private constructor(pid: number, fd: number) {
    this.pid = pid
    this.#fd = fd
  }

  /** Undefined where no process has that pid. */
  static open(pid: number): ProcessFolder | undefined {
    try {
      return new ProcessFolder(pid, openAt(AT_FDCWD, `/proc/${pid}`, O.PATH | O.DIRECTORY))
    } catch (error) {
      if (isOver(error)) return undefined
      throw error
    }
  }

  /** As good as `/proc/PID`, for other programs too, until it is disposed. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd}`
  }

  /** Pid of its parent; undefined once it is over. */
  async parent(): Promise<number | undefined> {
    try {
      const stat = await readFile(`${this.path}/stat`, 'utf8')
      // proc(5): the name in brackets may hold anything
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
    } catch (error) {
      if (isOver(error)) return undefined
      throw error
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd)
  }
}

/** Whether a call failed since the process of a folder in /proc is over. */
function isOver(error: unknown): boolean {
  return ['ENOENT', 'ESRCH'].includes(systemCode(error) ?? '')
}
