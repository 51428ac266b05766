/** A file that is written once, front to back. It is synced as it grows, so that the last sync, which is waited for, has little left to do. */
import { type FileHandle, open } from 'node:fs/promises'

const SYNC_BYTES = 32 * 1024 * 1024

export class GrowingFile implements AsyncDisposable {
  readonly #file: FileHandle
  /** Where a hole at its end begins. */
  #written = 0
  #end = 0
  #syncedTo = 0
  #syncing: Promise<void> = Promise.resolve()

  private constructor(file: FileHandle) {
    this.#file = file
  }

  /** Makes the file. */
  static async create(path: string): Promise<GrowingFile> {
    return new GrowingFile(await open(path, 'wx', 0o600))
  }

  get bytes(): number {
    return this.#end
  }

  /** Call it when the one before is settled; leave `bytes` alone until then. Throws what writing or an earlier sync threw. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.byteLength - done, this.#end)
      done += bytesWritten
      this.#end += bytesWritten
    }
    if (bytes.byteLength > 0) this.#written = this.#end
    if (this.#end - this.#syncedTo < SYNC_BYTES) return
    this.#syncedTo = this.#end
    await this.#syncing
    this.#syncing = this.#file.datasync()
    this.#syncing.catch(() => {}) // thrown where it is awaited
  }

  /** Leaves a hole. */
  skip(bytes: number): void {
    this.#end += bytes
  }

  /** All is with the kernel, and much of it synced; it has its length, also where it ends with a hole. */
  async finish(): Promise<void> {
    await this.#syncing
    if (this.#written < this.#end) await this.#file.truncate(this.#end)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#syncing])
    await this.#file.close()
  }
}
