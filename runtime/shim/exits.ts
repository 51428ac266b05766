/** Notices the exit files that conmon writes: one inotify watch for all containers, and a look at the file itself where it matters. */
import { existsSync, type FSWatcher, readFileSync, statSync, watch } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../../src/base/errors.ts'

export interface ExitFact {
  readonly exitCode: number
  /** Epoch milliseconds: when the file was written. */
  readonly finishedAt: number
}

/** The folder of exit files, one named after each container that has ended and wasn't started again. */
export class Exits implements AsyncDisposable {
  readonly dir: string
  #watcher: FSWatcher | undefined
  readonly #listener: (id: string) => void

  /** `listener` is called with a container's id when something about its exit file changed: it then calls {@link read}. */
  constructor(dir: string, listener: (id: string) => void) {
    this.dir = dir
    this.#listener = listener
  }

  async start(): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 })
    this.#watcher = watch(this.dir, (_event, name) => {
      if (name !== null && /^[0-9a-f]{64}$/.test(name)) this.#listener(name)
    })
    this.#watcher.on('error', () => {}) // the recheck of running containers goes on without it
  }

  /** Whether there is one, at the cost of one system call. */
  has(id: string): boolean {
    return existsSync(join(this.dir, id))
  }

  /** Undefined while there is none. A few bytes in the kernel's memory, so read at once. */
  read(id: string): ExitFact | undefined {
    const path = join(this.dir, id)
    try {
      const text = readFileSync(path, 'utf8').trim()
      if (!/^-?\d{1,10}$/.test(text)) return undefined
      return { exitCode: Number(text), finishedAt: Math.round(statSync(path).mtimeMs) }
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw error
    }
  }

  async forget(id: string): Promise<void> {
    if (this.has(id)) await rm(join(this.dir, id), { force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watcher?.close()
  }
}
