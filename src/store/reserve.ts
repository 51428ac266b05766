/** Space on a disk for writes that must succeed when there is no other: a file without content, which is given up first. */
import { statfsSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import koffi from 'koffi'

const libc = koffi.load(null)
/** fallocate(2) */
const fallocate = libc.func('int fallocate(int fd, int mode, long offset, long bytes)')
const FALLOC_FL_KEEP_SIZE = 1
/** A reserve takes at most this share of a disk. */
const SHARE = 1 / 64
/** Less is no reserve. */
const LEAST_BYTES = 64 * 1024

/** Bytes of room that `path`'s file system has for everybody; root may have more. */
export function roomIn(path: string): number {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}

/** Whether this process can write so much below `folder`. It tries, since no number tells what a file system reserves for itself. */
export async function hasRoom(folder: string, bytes: number): Promise<boolean> {
  if (roomIn(folder) >= bytes) return true
  const path = join(folder, 'probe')
  try {
    return await setAsideIn(path, bytes)
  } catch {
    return false // no room for one more file
  } finally {
    await rm(path, { force: true })
  }
}

/** At most `bytes`, and less on a small disk. */
export function fitting(bytes: number, path: string): number {
  const { blocks, bsize } = statfsSync(path)
  return Math.min(bytes, Math.floor(blocks * SHARE) * bsize)
}

/** Gives the first `bytes` of the file at `path` their place; its length stays. False where there is no room, or no such thing. */
export async function setAsideIn(path: string, bytes: number): Promise<boolean> {
  await using file = await open(path, 'a', 0o600)
  return fallocate(file.fd, FALLOC_FL_KEEP_SIZE, 0, bytes) === 0
}

export class Reserve {
  readonly #path: string
  readonly #bytes: number
  #held = false

  constructor(path: string, bytes: number) {
    this.#path = path
    this.#bytes = bytes
  }

  /** Whether it has room, if not all. */
  get held(): boolean {
    return this.#held
  }

  /** Takes its room, if twice as much is left; with `back`, what is left of the room that it just gave up. */
  async take(folder: string, { back = false }: { back?: boolean } = {}): Promise<void> {
    if (this.#held) return
    const most = fitting(this.#bytes, folder)
    if (!back && roomIn(folder) < 2 * most) return
    const tries = back ? [Math.min(most, roomIn(folder)), most, most / 2, most / 4, most / 8] : [most]
    for (const bytes of tries)
      if (!this.#held && bytes >= LEAST_BYTES)
        this.#held = await setAsideIn(this.#path, Math.floor(bytes)).catch(() => false)
    if (!this.#held) await this.giveUp()
  }

  /** Gives its space to the next writer. */
  async giveUp(): Promise<void> {
    this.#held = false
    await rm(this.#path, { force: true })
  }
}
