/** The file that an agent's answer names: opened with this process's own rights, and copied from as its ranges land. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { DarnerError, isUnreadable } from '../../core/errors.ts'
import type { Target } from './target.ts'

/** What is read is written while it is in the processor's cache. */
const COPY_BYTES = 256 * 1024
/** Less is copied as soon, and without a wait for what the agent has just written to be on the disk. */
const CLONE_BYTES = 16 * 1024 * 1024

/**
 * Opens the file that the agent means, by its path in URI encoding and its `DEV:INO`; undefined when there is none here, or another. It must be
 * the agent's own: root would open for a stranger's agent what that one can't read itself.
 */
export function openSame(path: string, id: string, owner: number | undefined): number | undefined {
  try {
    const fd = openSync(decodeURIComponent(path), constants.O_RDONLY | constants.O_NONBLOCK)
    const seen = fstatSync(fd)
    if (seen.isFile() && seen.uid === owner && `${seen.dev}:${seen.ino}` === id) return fd
    closeSync(fd)
  } catch {
    // ENOENT, EACCES: it can't be opened from here
  }
  return undefined
}

/**
 * What takes ranges of the file, which has `bytes`, as they land. It copies them through one buffer: this process does nothing else, so it may
 * wait for the disk. Of much that is all there at once the blocks are shared where they can be. It throws STORE_CORRUPT for what isn't there.
 */
export function taker(
  from: number,
  bytes: number,
  target: Pick<Target, 'clone' | 'write'>,
): (offset: number, length: number) => void {
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES)
  return (offset, length) => {
    if (length === bytes && bytes >= CLONE_BYTES && fstatSync(from).size === bytes && target.clone(from)) return
    for (let at = offset; at < offset + length; ) {
      const got = readAt(from, buffer.subarray(0, offset + length - at), at)
      if (got === 0) throw new DarnerError('STORE_CORRUPT', `the agent's file ends at ${at}`)
      void target.write(buffer.subarray(0, got), at)
      at += got
    }
  }
}

function readAt(from: number, into: Uint8Array, at: number): number {
  try {
    return readSync(from, into, 0, into.byteLength, at)
  } catch (error) {
    if (!isUnreadable(error)) throw error
    throw new DarnerError('STORE_CORRUPT', `the agent's file at ${at}: ${(error as Error).message}`, { cause: error })
  }
}
