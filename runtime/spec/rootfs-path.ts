/**
 * Opens files below a root directory as a process chrooted there would, and never anything outside of it. Each component is opened by
 * itself from its parent's descriptor; symlinks are read and followed by hand. Renames during the walk can't lead out.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { DarnerError, systemCode } from '../../src/core/errors.ts'

/** Not in node's constants: a descriptor that only names a place (open(2)). */
const O_PATH = 0o10000000
/** As many as the kernel follows (path_resolution(7)). */
const MOST_LINKS = 40
const MOST_COMPONENTS = 4096

/**
 * Reads a regular file below `root`, at most `mostBytes`. Undefined when it, or a directory on the way, isn't there or isn't
 * a regular file. Throws BAD_ARGUMENT on a link loop, LIMIT_EXCEEDED above the bound.
 */
export function readInRoot(root: string, path: string, mostBytes: number): Buffer | undefined {
  const fd = openInRoot(root, path)
  if (fd === undefined) return undefined
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) return undefined
    const into = Buffer.alloc(Math.min(stat.size, mostBytes) + 1)
    let at = 0
    for (;;) {
      const read = readSync(fd, into, at, into.length - at, at)
      at += read
      if (read === 0) return into.subarray(0, at)
      if (at > mostBytes) {
        throw new DarnerError('LIMIT_EXCEEDED', `reading ${path} in the root file system: more than ${mostBytes} bytes`)
      }
      if (at === into.length) return into // it grew while being read: what was there at first is enough
    }
  } finally {
    closeSync(fd)
  }
}

/** A descriptor for reading, which the caller closes, or undefined when there is nothing (or a device, fifo or socket). */
export function openInRoot(root: string, path: string): number | undefined {
  const stack = [openSync(root, O_PATH | constants.O_DIRECTORY)]
  const todo = path.split('/').reverse()
  let links = 0
  let steps = 0
  try {
    while (todo.length > 0) {
      const name = todo.pop()
      if (++steps > MOST_COMPONENTS) throw new DarnerError('BAD_ARGUMENT', `${path}: too many path components`)
      if (name === undefined || name === '' || name === '.') continue
      if (name === '..') {
        const left = stack.length > 1 ? stack.pop() : undefined
        if (left !== undefined) closeSync(left)
        continue
      }
      const here = `/proc/self/fd/${stack.at(-1)}/${name}`
      const fd = openSync(here, O_PATH | constants.O_NOFOLLOW)
      const stat = fstatSync(fd)
      if (stat.isSymbolicLink()) {
        closeSync(fd)
        if (++links > MOST_LINKS) throw new DarnerError('BAD_ARGUMENT', `${path}: too many symbolic links`)
        const target = readlinkSync(here)
        if (target.startsWith('/')) for (const one of stack.splice(1)) closeSync(one)
        todo.push(...target.split('/').reverse())
        continue
      }
      stack.push(fd)
      if (!stat.isDirectory()) {
        if (todo.some((one) => one !== '' && one !== '.') || !stat.isFile()) return undefined
        return openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK)
      }
    }
    return undefined
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EINVAL' || code === 'ENAMETOOLONG') return undefined
    throw error
  } finally {
    for (const fd of stack) closeSync(fd)
  }
}
