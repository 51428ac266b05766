/**
 * The project that a file is counted for, of xfs and ext4 alike (ioctl_xfs_fsgetxattr(2)). Programs do the same by paths; here nothing
 * is followed out of the folder, whatever a container that runs puts in the way.
 */
import { closeSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { systemCode } from '../../src/core/errors.ts'
import { AT_FDCWD, ioctl, O, openAt, openBelow, RESOLVE } from '../linux/syscalls.ts'

/** `struct fsxattr`: flags, two extent hints, the project, eight bytes more. */
const FSXATTR_BYTES = 28
const PROJECT_AT = 12
const GET = 0x801c581f
const SET = 0x401c5820
/** What is made in the directory gets its project. */
const PROJINHERIT = 0x200
/** A turn of the event loop after so many files. */
const BATCH = 256

/** The project that new files in a folder get; undefined when they get none. */
export function projectOf(folder: string): number | undefined {
  const fd = openAt(AT_FDCWD, folder, O.RDONLY | O.DIRECTORY)
  try {
    const facts = factsOf(fd)
    return facts.getUint32(0, LITTLE) & PROJINHERIT ? facts.getUint32(PROJECT_AT, LITTLE) : undefined
  } finally {
    closeSync(fd)
  }
}

/**
 * Gives the folder and all directories and regular files below it to a project; others, as links and pipes, have no room for one.
 * What a container makes meanwhile inherits it. Aborts with the signal's reason.
 */
export async function markTree(folder: string, project: number, { signal }: { signal: AbortSignal }): Promise<void> {
  const root = openAt(AT_FDCWD, folder, O.RDONLY | O.DIRECTORY)
  try {
    let done = 0
    const queue: Buffer[] = [Buffer.from('.')]
    for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
      const fd = openIn(root, path, O.DIRECTORY)
      if (fd === undefined) continue
      try {
        mark(fd, project, PROJINHERIT)
        for (const entry of await readdir(`/proc/self/fd/${fd}`, { withFileTypes: true, encoding: 'buffer' })) {
          const below = Buffer.concat([path, Buffer.from('/'), entry.name])
          if (entry.isDirectory()) queue.push(below)
          else if (entry.isFile()) markFile(root, below, project)
          if (++done % BATCH === 0) await new Promise((resolve) => setImmediate(resolve))
          signal.throwIfAborted()
        }
      } finally {
        closeSync(fd)
      }
    }
  } finally {
    closeSync(root)
  }
}

function markFile(root: number, path: Buffer, project: number): void {
  const fd = openIn(root, path, 0)
  if (fd === undefined) return
  try {
    mark(fd, project, 0)
  } catch (error) {
    if (systemCode(error) !== 'ENOTTY' && systemCode(error) !== 'EOPNOTSUPP') throw error // another kind of file by now
  } finally {
    closeSync(fd)
  }
}

/** Undefined for what is gone, or became something else, meanwhile. */
function openIn(root: number, path: Buffer, more: number): number | undefined {
  try {
    const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK | more
    return openBelow(root, path, flags, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'EXDEV'].includes(systemCode(error) ?? '')) return undefined
    throw error
  }
}

const LITTLE = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1

function factsOf(fd: number): DataView {
  const bytes = new Uint8Array(FSXATTR_BYTES)
  ioctl(fd, GET, bytes, 'FS_IOC_FSGETXATTR')
  return new DataView(bytes.buffer)
}

function mark(fd: number, project: number, flag: number): void {
  const facts = factsOf(fd)
  const flags = facts.getUint32(0, LITTLE) | flag
  if (facts.getUint32(PROJECT_AT, LITTLE) === project && facts.getUint32(0, LITTLE) === flags) return
  facts.setUint32(0, flags, LITTLE)
  facts.setUint32(PROJECT_AT, project, LITTLE)
  ioctl(fd, SET, new Uint8Array(facts.buffer), 'FS_IOC_FSSETXATTR')
}
