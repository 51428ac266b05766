/**
 * The cgroup that all of an engine's are below. The runtimes make it in every hierarchy and never remove it. The last engine of this host
 * to stop removes it, once nothing runs. A shared lock on the folder in one hierarchy says that an engine may make folders in it.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { flock, LOCK, O, systemErrorIs } from '../linux/syscalls.ts'
import { removeCgroupTree } from '../spec/cgroup-tree.ts'
import { type CgroupLayout, cgroupRoots } from '../spec/cgroups.ts'

const CGROUP_FREE_LOOK_MS = 20
/** How long another engine may take to remove it, or a process that was ended to leave it. */
const MOST_LOOKS = 50

export class CgroupHome {
  readonly #folders: readonly string[]
  #lock: number | undefined

  private constructor(folders: readonly string[], lock: number) {
    this.#folders = folders
    this.#lock = lock
  }

  /** `path` is below the root of each hierarchy: `/darner`. Undefined where there is no hierarchy that this process rules. */
  static async open(layout: CgroupLayout, path: string): Promise<CgroupHome | undefined> {
    const folders = cgroupRoots(layout).map((root) => join(root, path))
    const [first] = folders
    if (first === undefined) return undefined
    for (let looks = 0; looks < MOST_LOOKS; looks++) {
      try {
        await mkdir(first, { recursive: true })
        const lock = lockShared(first)
        if (lock !== undefined) return new CgroupHome(folders, lock)
      } catch (error) {
        if (!systemErrorIs(error, 'ENOENT')) return undefined // EACCES, EROFS
      }
      await pause(CGROUP_FREE_LOOK_MS)
    }
    return undefined
  }

  /** When no process of this engine's is left. Removes the folders unless another engine of this host has them too; what is in use stays. */
  async leave(): Promise<void> {
    if (this.#lock === undefined) return
    try {
      flock(this.#lock, LOCK.EX | LOCK.NB)
      for (let looks = 0; looks < MOST_LOOKS && !(await this.#remove()); looks++) await pause(CGROUP_FREE_LOOK_MS)
    } catch (error) {
      if (!systemErrorIs(error, 'EAGAIN', 'EWOULDBLOCK')) throw error
    } finally {
      this.keep()
    }
  }

  /** Instead of {@link leave}, while containers go on. */
  keep(): void {
    if (this.#lock !== undefined) closeSync(this.#lock)
    this.#lock = undefined
  }

  /** False while something is in one of them. */
  async #remove(): Promise<boolean> {
    const removed = await Promise.all(this.#folders.map((folder) => removeCgroupTree(folder)))
    return removed.every((gone) => gone)
  }
}

/** The descriptor that holds the lock; undefined while another engine removes the folder, or once it has. */
function lockShared(folder: string): number | undefined {
  const fd = openSync(folder, O.RDONLY | O.DIRECTORY)
  try {
    flock(fd, LOCK.SH | LOCK.NB)
    if (statSync(folder).ino === fstatSync(fd).ino) return fd
  } catch (error) {
    if (!systemErrorIs(error, 'EAGAIN', 'EWOULDBLOCK', 'ENOENT')) {
      closeSync(fd)
      throw error
    }
  }
  closeSync(fd)
  return undefined
}
