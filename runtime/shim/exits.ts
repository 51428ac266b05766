/** Notices the exit files that conmon writes: one inotify watch for all containers, and a look at the file itself where it matters. */
import { existsSync, type FSWatcher, mkdirSync, readFileSync, rmSync, statSync, watch } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemCode } from '../../src/core/errors.ts'
import { removeEmpty, runFolder } from './run-folder.ts'

export interface ExitFact {
  readonly exitCode: number
  /** Epoch milliseconds: when the file was written. */
  readonly finishedAt: number
}

/**
 * The folder of exit files, one named after each container that has ended and wasn't started again; it outlives a reboot. And their
 * copies in memory, which conmon writes first, so that a container which ends by filling the disk leaves its exit code.
 */
export class Exits implements AsyncDisposable {
  readonly dir: string
  readonly #copies: string
  #watcher: FSWatcher | undefined
  readonly #listener: (id: string) => void

  /** `listener` is called with a container's id when something about its exit file changed: it then calls {@link read}. */
  constructor(dir: string, listener: (id: string) => void) {
    this.dir = dir
    this.#copies = runFolder('darner-exits', dir)
    this.#listener = listener
  }

  async start(): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 })
    this.#watcher = watch(this.dir, (_event, name) => {
      if (name !== null && /^[0-9a-f]{64}$/.test(name)) this.#listener(name)
    })
    this.#watcher.on('error', () => {}) // the recheck of running containers goes on without it
  }

  /** The container's own folder for the copy, as conmon asks for one. */
  copyDir(id: string): string {
    return join(this.#copies, id)
  }

  /** Where there is a file or a folder by the name of each container that has an exit code, or is about to. */
  get folders(): readonly string[] {
    return [this.dir, this.#copies]
  }

  /** Whether there is one, at the cost of two system calls at most. */
  has(id: string): boolean {
    return existsSync(join(this.dir, id)) || existsSync(this.#copyOf(id))
  }

  /** Undefined while there is none. A few bytes in the kernel's memory, so read at once. */
  read(id: string): ExitFact | undefined {
    return factOf(join(this.dir, id)) ?? factOf(this.#copyOf(id))
  }

  /** The container is about to run: no exit code is there, and there is room for the next. */
  async expect(id: string): Promise<void> {
    await this.forget(id)
    mkdirSync(this.copyDir(id), { recursive: true, mode: 0o700 })
  }

  /** The copy is in memory, so it goes at once. */
  async forget(id: string): Promise<void> {
    rmSync(this.copyDir(id), { recursive: true, force: true })
    if (existsSync(join(this.dir, id))) await rm(join(this.dir, id), { force: true })
  }

  /** Copies of containers that are still there stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#watcher?.close()
    await removeEmpty(this.#copies, dirname(this.#copies))
  }

  #copyOf(id: string): string {
    return join(this.copyDir(id), 'exit')
  }
}

function factOf(path: string): ExitFact | undefined {
  try {
    const text = readFileSync(path, 'utf8').trim()
    if (!/^-?\d{1,10}$/.test(text)) return undefined
    return { exitCode: Number(text), finishedAt: Math.round(statSync(path).mtimeMs) }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}
