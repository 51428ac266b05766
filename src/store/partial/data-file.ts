/** Open files of blobs: opened when first used, kept while the pool has room, closed once nobody is inside. */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { DarnerError, systemCode } from '../../core/errors.ts'

/** What a file system answers that has no way past the kernel's cache. */
const NO_SUCH_WAY = ['EINVAL', 'EOPNOTSUPP']

/** Bounds how many idle files stay open, least recently used first out. */
export class FilePool implements AsyncDisposable {
  readonly #most: number
  readonly #open = new Set<DataFile>()
  readonly #closing = new Set<Promise<void>>()

  constructor(options: { most: number }) {
    this.#most = options.most
  }

  /** Called by a file as it is used: it moves to the young end, and the oldest idle ones go. */
  used(file: DataFile): void {
    this.#open.delete(file)
    this.#open.add(file)
    if (this.#open.size <= this.#most) return
    for (const old of this.#open) {
      if (this.#open.size <= this.#most) break
      const closing = old === file ? undefined : old.rest()
      if (!closing) continue
      this.#open.delete(old)
      this.#closing.add(closing)
      void closing.finally(() => this.#closing.delete(closing))
    }
  }

  forget(file: DataFile): void {
    this.#open.delete(file)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#open].map((file) => file.close()))
    await Promise.all(this.#closing)
  }
}

export class DataFile {
  readonly #pool: FilePool
  #path: string
  #handle: Promise<FileHandle> | undefined
  #past: Promise<FileHandle> | undefined
  #passable = true
  #inside = 0
  #closed = false
  #empty: PromiseWithResolvers<void> | undefined

  /** `handle`, where it is open already, is this one's to close. */
  constructor(path: string, pool: FilePool, handle?: FileHandle) {
    this.#path = path
    this.#pool = pool
    if (handle === undefined) return
    this.#handle = Promise.resolve(handle)
    pool.used(this)
  }

  get path(): string {
    return this.#path
  }

  get busy(): boolean {
    return this.#inside > 0
  }

  /** The file has another name from now on; the open descriptor stays good. */
  moved(path: string): void {
    this.#path = path
  }

  /** Runs `work` on the open file. Throws CLOSED once this is closed. */
  async use<T>(work: (handle: FileHandle) => Promise<T>): Promise<T> {
    if (this.#closed) throw new DarnerError('CLOSED', `use ${this.#path}: it was closed`)
    this.#inside++
    this.#pool.used(this)
    try {
      this.#handle ??= open(this.#path, 'r+').catch((error: unknown) => {
        this.#handle = undefined
        throw error
      })
      return await work(await this.#handle)
    } finally {
      this.#inside--
      if (this.#inside === 0) {
        this.#empty?.resolve()
        this.#empty = undefined
      }
    }
  }

  /** As {@link use}, past the kernel's cache; false where the file system has no such way: then nothing counts as written. */
  async usePast(work: (handle: FileHandle) => Promise<void>): Promise<boolean> {
    if (!this.#passable) return false
    try {
      await this.use(async () => {
        this.#past ??= open(this.#path, constants.O_RDWR | constants.O_DIRECT).catch((error: unknown) => {
          this.#past = undefined
          throw error
        })
        await work(await this.#past)
      })
      return true
    } catch (error) {
      if (!NO_SUCH_WAY.includes(systemCode(error) ?? '')) throw error
      this.#passable = false
      return false
    }
  }

  /** Lets go of the descriptors when nobody is inside; undefined when somebody is. */
  rest(): Promise<void> | undefined {
    if (this.#inside > 0) return undefined
    const handles = [this.#handle, this.#past]
    this.#handle = undefined
    this.#past = undefined
    return (async () => {
      for (const handle of handles) await (await handle)?.close()
    })()
  }

  /** Waits for work under way, then closes for good. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#whenEmpty()
    this.#pool.forget(this)
    await this.rest()
  }

  async #whenEmpty(): Promise<void> {
    if (this.#inside === 0) return
    this.#empty ??= Promise.withResolvers()
    await this.#empty.promise
  }
}
