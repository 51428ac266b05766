/** Room on a disk that is held for writes that must succeed when there is no other: a file of nothing, which is given up first. */
import { statfsSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import koffi from 'koffi'

/** fallocate(2) */
const fallocate = koffi.load(null).func('int fallocate(int fd, int mode, long offset, long bytes)')
const FALLOC_FL_KEEP_SIZE = 1
/** A reserve takes at most this share of a disk. */
const SHARE = 1 / 64

/** Bytes of room that this process may still fill on the file system of `path`: root has those too that are kept from others. */
export function roomIn(path: string): number {
  const { bavail, bfree, bsize } = statfsSync(path)
  return (process.geteuid?.() === 0 ? bfree : bavail) * bsize
}

/** At most `bytes`, and less on a small disk. */
export function fitting(bytes: number, path: string): number {
  const { blocks, bsize } = statfsSync(path)
  return Math.min(bytes, Math.floor((blocks * bsize * SHARE) / bsize) * bsize)
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

  /** Whether it has its room. */
  get held(): boolean {
    return this.#held
  }

  /** Takes its room, if twice as much is left; with `back`, what is left of the room that it just gave up. */
  async take(folder: string, { back = false }: { back?: boolean } = {}): Promise<void> {
    if (this.#held) return
    const most = fitting(this.#bytes, folder)
    const bytes = back ? Math.min(most, roomIn(folder)) : most
    if (bytes === 0 || (!back && roomIn(folder) < 2 * bytes)) return
    this.#held = await setAsideIn(this.#path, bytes).catch(() => false)
    if (!this.#held) await this.giveUp()
  }

  /** Gives its room to whoever writes next. */
  async giveUp(): Promise<void> {
    this.#held = false
    await rm(this.#path, { force: true })
  }
}
