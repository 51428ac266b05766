/**
 * How much room the store may take: what it was given, and what the file system has left for it, whichever is less. Makes room by
 * collection before bytes come, and says so when there is none to make.
 */
import { statfs } from 'node:fs/promises'
import { asDarnerError, DarnerError } from '../core/errors.ts'
import type { Watermarks } from './blobs/collect.ts'

export interface RoomOptions {
  readonly directory: string
  /** Most bytes that blobs and half-done tasks may take together; infinite where only the disk is the limit. */
  readonly maxBytes: number
  /** Collection starts above, and goes down to, these shares of the room. */
  readonly high: number
  readonly low: number
}

export interface RoomParts {
  /** Bytes on disk. */
  readonly usedBytes: () => number
  /** Bytes that are taken or promised: half-done tasks in hand count whole. */
  readonly reservedBytes: () => number
  /** Frees what may go until no more than so many bytes are used. */
  readonly collect: (targetBytes: number) => Promise<unknown>
  /** Bytes that the file system has left. Default: as statfs says of the directory. */
  readonly freeBytes?: () => Promise<number>
}

export class Room {
  readonly #options: RoomOptions
  readonly #parts: RoomParts
  /** Promised, and not in the inventory yet. */
  #grantedBytes = 0

  constructor(options: RoomOptions, parts: RoomParts) {
    this.#options = options
    this.#parts = parts
  }

  /** The marks as they stand: others write to the same file system. `more` bytes of it are ours, though not in the inventory yet. */
  async marks(more = 0): Promise<Watermarks & { readonly freeBytes: number }> {
    const { maxBytes, high, low } = this.#options
    const freeBytes = await this.#free()
    const mostBytes = Math.min(maxBytes, this.#parts.usedBytes() + freeBytes + more)
    return { freeBytes, highBytes: mostBytes * high, lowBytes: mostBytes * low }
  }

  /**
   * Runs `then`, which takes `bytes` of room, or has `written` them already. Throws DISK_FULL when they don't fit even after
   * collecting.
   */
  async take<T>(bytes: number, { written }: { written: boolean }, then: () => Promise<T>): Promise<T> {
    const ours = written ? bytes : 0
    const wanted = () => this.#parts.reservedBytes() + this.#grantedBytes + bytes
    let { freeBytes, highBytes, lowBytes } = await this.marks(ours)
    if (wanted() > highBytes) {
      // what is promised and not written takes room from the rest, and none of it can be collected
      const unwritten = this.#parts.reservedBytes() - this.#parts.usedBytes()
      await this.#parts.collect(Math.max(0, lowBytes - bytes - this.#grantedBytes - unwritten))
      freeBytes = await this.#free()
    }
    const { directory, maxBytes } = this.#options
    const full = (why: string) => noRoom(bytes, why)
    // nothing is awaited from the look to the promise, or two would be promised the same room
    if (wanted() > maxBytes) throw full(`${wanted() - bytes} of ${maxBytes} are in use or promised`)
    if (bytes > freeBytes + ours) throw full(`the file system of ${directory} has ${freeBytes + ours} left`)
    this.#grantedBytes += bytes
    try {
      return await then()
    } finally {
      this.#grantedBytes -= bytes
    }
  }

  /** Looks for room for `bytes` that are promised and still to be written, collecting if need be. Throws DISK_FULL. */
  async mustHave(bytes: number): Promise<void> {
    let freeBytes = await this.#free()
    if (freeBytes >= bytes) return
    await this.#parts.collect(Math.max(0, this.#parts.usedBytes() + freeBytes - bytes))
    freeBytes = await this.#free()
    if (freeBytes < bytes) throw noRoom(bytes, `the file system of ${this.#options.directory} has ${freeBytes} left`)
  }

  async #free(): Promise<number> {
    if (this.#parts.freeBytes !== undefined) return await this.#parts.freeBytes()
    const { directory } = this.#options
    try {
      const { bavail, bsize } = await statfs(directory)
      return bavail * bsize
    } catch (error) {
      throw asDarnerError(error, `look for room in ${directory}`)
    }
  }
}

function noRoom(bytes: number, why: string): DarnerError {
  return new DarnerError('DISK_FULL', `make room for ${bytes} bytes: ${why}`, {
    way: 'remove images that are not needed, or give the store more room',
  })
}
