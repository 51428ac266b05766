/**
 * A file that is written once, front to back, through blocks of memory that are used again: one fills while those before it are on their
 * way. It is synced as it grows, so that the last sync, which is waited for, has little left to do.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'

const BLOCK_BYTES = 1024 * 1024
/** Blocks on their way to the file before {@link BlockFile.room} waits, and kept for later. */
const MOST_BLOCKS = 3
const SYNC_BYTES = 32 * 1024 * 1024

/** What was written. */
export interface BlockFileFacts {
  /** Over all but the holes. */
  readonly crc32: number
  /** As [from, to), ascending. */
  readonly holes: readonly (readonly [from: number, to: number])[]
  readonly bytes: number
}

/** Bytes on their way to the file; with the `last` of a block its memory is free. */
interface Part {
  readonly block: Uint8Array
  readonly bytes: Uint8Array
  readonly at: number
  readonly last: boolean
}

export class BlockFile implements AsyncDisposable {
  readonly #file: FileHandle
  readonly #free: Uint8Array[] = []
  readonly #holes: [number, number][] = []
  #block: Uint8Array = Buffer.allocUnsafeSlow(BLOCK_BYTES)
  /** What of the block isn't on its way yet. */
  #from = 0
  #to = 0
  #end = 0
  #crc32 = 0
  #waiting: Part[] = []
  #blocksOut = 0
  #writing: Promise<void> | undefined
  #moved = Promise.withResolvers<void>()
  #syncing: Promise<void> = Promise.resolve()
  #syncedAt = 0

  private constructor(file: FileHandle) {
    this.#file = file
  }

  /** Makes the file. */
  static async create(path: string): Promise<BlockFile> {
    return new BlockFile(await open(path, 'wx', 0o600))
  }

  /** Where the next bytes go. */
  get end(): number {
    return this.#end
  }

  /** Takes a copy. */
  put(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.byteLength; ) {
      const room = BLOCK_BYTES - this.#to
      const part = at === 0 && bytes.byteLength <= room ? bytes : bytes.subarray(at, at + room)
      this.#block.set(part, this.#to)
      this.#to += part.byteLength
      this.#end += part.byteLength
      at += part.byteLength
      if (this.#to === BLOCK_BYTES) this.#hand(true)
    }
  }

  /** Leaves a hole of `bytes`. */
  skip(bytes: number): void {
    this.#hand(false)
    this.#holes.push([this.#end, this.#end + bytes])
    this.#end += bytes
  }

  /** Resolves when few blocks are on their way. Throws what writing threw. */
  async room(): Promise<void> {
    while (this.#blocksOut >= MOST_BLOCKS) await Promise.race([this.#moved.promise, this.#writing])
  }

  /** All is with the kernel, and much of it synced. Throws what writing threw. */
  async finish(): Promise<BlockFileFacts> {
    this.#hand(true)
    await this.#writing
    await this.#syncing
    return { crc32: this.#crc32, holes: this.#holes, bytes: this.#end }
  }

  #hand(last: boolean): void {
    const bytes = this.#block.subarray(this.#from, this.#to)
    if (bytes.byteLength === 0 && !last) return
    this.#crc32 = crc32(bytes, this.#crc32)
    this.#waiting.push({ block: this.#block, bytes, at: this.#end - bytes.byteLength, last })
    this.#from = this.#to
    if (last) {
      this.#blocksOut++
      this.#block = this.#free.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES)
      this.#from = 0
      this.#to = 0
    }
    this.#writing ??= this.#write()
    this.#writing.catch(() => {}) // thrown where it is awaited
  }

  async #write(): Promise<void> {
    for (let part = this.#waiting.shift(); part !== undefined; part = this.#waiting.shift()) {
      const { block, bytes, at, last } = part
      for (let done = 0; done < bytes.byteLength; )
        done += (await this.#file.write(bytes, done, bytes.byteLength - done, at + done)).bytesWritten
      if (last) {
        this.#blocksOut--
        if (this.#free.length < MOST_BLOCKS) this.#free.push(block)
        this.#moved.resolve()
        this.#moved = Promise.withResolvers()
      }
      if (at + bytes.byteLength - this.#syncedAt < SYNC_BYTES) continue
      this.#syncedAt = at + bytes.byteLength
      await this.#syncing
      this.#syncing = this.#file.datasync()
      this.#syncing.catch(() => {}) // likewise
    }
    this.#writing = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#waiting = []
    await Promise.allSettled([this.#writing])
    await Promise.allSettled([this.#syncing])
    await this.#file.close()
  }
}
