/** Trees of files that others change while they are read: processes of a container put links in the place of folders. */
import { closeSync } from 'node:fs'
import { DarnerError } from '../../src/core/errors.ts'
import { AT_FDCWD, O, openAt, openBelow, openUnfollowing, type Path, systemErrorIs } from './syscalls.ts'

/** What is gone, or has become something else, since it was seen: a link, or no folder. */
export function isGone(error: unknown): boolean {
  return systemErrorIs(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')
}

/** The descriptor of what `path` leads to below `tree`, under the rules of `resolve`; the caller closes it. Undefined where there is no such thing. */
export function openWithin(tree: string, path: Path, flags: number, resolve: number): number | undefined {
  const root = openAt(AT_FDCWD, tree, O.PATH | O.DIRECTORY)
  try {
    return openBelow(root, path, flags, resolve)
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  } finally {
    closeSync(root)
  }
}

/** A tree by a path below which no symlink is followed, whoever puts one there: those on the way are refused with ELOOP. */
export interface StillTree extends Disposable {
  readonly path: string
  readonly fd: number
}

/** Needs root. Throws HOST_UNABLE on a kernel before 5.14, what open(2) throws for no folder. */
export function stillTree(path: string): StillTree {
  try {
    const fd = openUnfollowing(path, closeSync)
    return { fd, path: `/proc/self/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) }
  } catch (error) {
    if (!systemErrorIs(error, 'ENOSYS', 'EINVAL')) throw error
    throw new DarnerError('HOST_UNABLE', `reading ${path} without following links: Linux before 5.14 can't`, {
      cause: error,
    })
  }
}
