/** Unpacks a tar into a container's folder. Each name is resolved below the container's root; nothing reaches the host's files. */
import { chmodSync, closeSync, fchmodSync, fstatSync, ftruncateSync } from 'node:fs'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { isGone } from '../linux/foreign-tree.ts'
import {
  AT_REMOVEDIR,
  chownAt,
  linkAt,
  mkdirAt,
  mknodAt,
  O,
  openAt,
  openBelow,
  RESOLVE,
  S_IF,
  setXattr,
  symlinkAt,
  systemErrorIs,
  unlinkAt,
  utimesAt,
} from '../linux/syscalls.ts'
import { type TarEntry, TarReader } from '../snapshots/tar.ts'
import { writeAroundHoles } from './holes.ts'

const KEPT_XATTRS = /^(user\.|system\.posix_acl_|security\.capability$)/
const KINDS = { char: S_IF.CHR, block: S_IF.BLK, fifo: S_IF.FIFO } as const

/**
 * `root` and `folder` are descriptors of the container's root and of the folder in it. Zeros become holes. With `keepKind`, a file never
 * replaces a folder, nor a folder a file. Owners are those of the archive unless `owner` is given, and are shifted by `idBase` on the host.
 * Throws LAYER_INVALID for a broken archive or a name that leads out, BAD_ARGUMENT.
 */
export async function extractInto(
  root: number,
  folder: number,
  tar: AsyncIterable<Uint8Array>,
  {
    keepKind,
    owner,
    idBase,
    room,
    signal,
  }: {
    keepKind: boolean
    owner?: { uid: number; gid: number }
    idBase: number
    /** Told of each so many bytes that took room; throws when there is to be no more. */
    room?: (bytes: number) => void
    signal: AbortSignal
  },
): Promise<void> {
  let open: OpenEntry | undefined
  const close = () => {
    if (open?.file !== undefined) closeSync(open.file)
    if (open) closeSync(open.parent)
    open = undefined
  }
  const folders: { path: Buffer; mtime: TarEntry['mtime'] }[] = []
  const reader = new TarReader({
    entry(entry) {
      const path = inside(entry.path)
      if (path.length === 0) return
      const name = path.at(-1) ?? Buffer.alloc(0)
      const parent = parentOf(root, folder, path.slice(0, -1))
      const opened: OpenEntry = { parent }
      open = opened
      const file = make(root, folder, parent, name, entry, keepKind)
      opened.file = file
      if (entry.kind === 'link') return
      const { uid, gid } = owner ?? entry
      chownAt(parent, name, idBase + uid, idBase + gid)
      for (const [key, value] of entry.xattrs) {
        if (KEPT_XATTRS.test(key)) setHere(`/proc/self/fd/${parent}/${name.toString('latin1')}`, key, value)
      }
      if (entry.kind === 'dir') {
        chmodHere(parent, name, entry.mode & 0o7777)
        folders.push({ path: joined(path), mtime: entry.mtime })
        return
      }
      opened.settle = () => {
        // a hole at its end, or nothing but one
        if (file !== undefined && fstatSync(file).size < entry.bytes) ftruncateSync(file, entry.bytes)
        if (file !== undefined) fchmodSync(file, entry.mode & 0o7777)
        else if (entry.kind !== 'symlink') chmodHere(parent, name, entry.mode & 0o7777)
        utimesAt(parent, name, entry.mtime.seconds, entry.mtime.nanoseconds)
      }
    },
    data(at, chunk) {
      if (open?.file === undefined) return
      const written = writeAroundHoles(open.file, chunk, at)
      room?.(written)
    },
    endEntry() {
      open?.settle?.()
      close()
    },
  })
  try {
    for await (const chunk of tar) {
      signal.throwIfAborted()
      reader.push(chunk)
    }
    reader.finish()
  } finally {
    close()
  }
  // the last, since what is put into a folder changes its time; one that a process of the container moved meanwhile keeps its own
  for (const { path, mtime } of folders.reverse()) setTime(folder, path, mtime)
}

/** What of an entry is open until its end. */
interface OpenEntry {
  readonly parent: number
  /** Of a file, what its data goes to. */
  file?: number | undefined
  settle?: () => void
}

const joined = (parts: readonly Buffer[]) =>
  Buffer.concat(parts.flatMap((part, at) => (at === 0 ? [part] : [Buffer.from('/'), part])))

/** By its path once more: a descriptor for each folder of an archive would be more than a process may have. */
function setTime(folder: number, path: Buffer, { seconds, nanoseconds }: TarEntry['mtime']): void {
  try {
    const here = openBelow(folder, path, O.PATH | O.DIRECTORY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
    try {
      utimesAt(here, '.', seconds, nanoseconds)
    } finally {
      closeSync(here)
    }
  } catch (error) {
    if (!isGone(error)) throw error
  }
}

/** The parts of a name; none for the folder itself. Throws LAYER_INVALID for one that climbs. */
function inside(path: Buffer): Buffer[] {
  const parts: Buffer[] = []
  for (let from = 0; from <= path.byteLength; ) {
    const at = path.indexOf(0x2f, from)
    const end = at < 0 ? path.byteLength : at
    const part = path.subarray(from, end)
    const text = part.toString('latin1')
    if (text === '..')
      throw new DarnerError('LAYER_INVALID', `archive: ${path.toString().slice(0, 200)} leads out of its folder`)
    if (text !== '' && text !== '.') parts.push(Buffer.from(part))
    from = end + 1
  }
  return parts
}

/** Opens the folder that an entry goes into, making what is missing. */
function parentOf(root: number, folder: number, parts: readonly Buffer[]): number {
  let at = openAt(folder, '.', O.RDONLY | O.DIRECTORY)
  for (const part of parts) {
    const here = at
    try {
      at = step(root, here, part)
    } finally {
      closeSync(here)
    }
  }
  return at
}

/** Symlinks to folders inside the container are not followed: an archive can't know where they lead by then. */
function step(_root: number, here: number, part: Buffer): number {
  try {
    return openBelow(here, part, O.RDONLY | O.DIRECTORY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `archive: ${part.toString().slice(0, 200)} is not a folder in the container`,
        {
          cause: error,
        },
      )
    }
    mkdirAt(here, part, 0o755)
    return openBelow(here, part, O.RDONLY | O.DIRECTORY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
  }
}

/** What stands at that very name: processes of the container may have put a link out of it in the place of what was made. */
function chmodHere(parent: number, name: Buffer, mode: number): void {
  const here = openAt(parent, name, O.PATH | O.NOFOLLOW)
  try {
    chmodSync(`/proc/self/fd/${here}`, mode)
  } finally {
    closeSync(here)
  }
}

/** Left out where the file system has no place for it, as `cp -a` does. */
function setHere(path: string, key: string, value: Uint8Array): void {
  try {
    setXattr(path, key, value)
  } catch (error) {
    if (!systemErrorIs(error, 'EOPNOTSUPP', 'ENOTSUP')) throw error
  }
}

/** Makes the entry; the descriptor of a file to write. */
function make(
  root: number,
  folder: number,
  parent: number,
  name: Buffer,
  entry: TarEntry,
  keepKind: boolean,
): number | undefined {
  const before = kindAt(parent, name)
  if (before !== undefined) {
    const isDir = before === 'dir'
    if (isDir && entry.kind === 'dir') return undefined
    if (keepKind && isDir !== (entry.kind === 'dir')) {
      const what = isDir ? 'directory with non-directory' : 'non-directory with directory'
      throw new DarnerError('BAD_ARGUMENT', `cannot overwrite ${what} "${name.toString()}"`)
    }
    try {
      unlinkAt(parent, name, isDir ? AT_REMOVEDIR : 0)
    } catch (error) {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `archive: cannot replace ${name.toString()}: ${systemCode(error) ?? 'unknown'}`,
        { cause: error },
      )
    }
  }
  switch (entry.kind) {
    case 'file':
      return openAt(parent, name, O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW, 0o600)
    case 'dir':
      mkdirAt(parent, name, 0o700)
      return undefined
    case 'symlink':
      symlinkAt(entry.link, parent, name)
      return undefined
    case 'link': {
      const parts = inside(entry.link)
      const from = parentOf(root, folder, parts.slice(0, -1))
      try {
        linkAt(from, parts.at(-1) ?? Buffer.alloc(0), parent, name)
      } finally {
        closeSync(from)
      }
      return undefined
    }
    default:
      mknodAt(parent, name, KINDS[entry.kind] | 0o600, entry.major, entry.minor)
      return undefined
  }
}

function kindAt(parent: number, name: Buffer): 'dir' | 'other' | undefined {
  let fd: number
  try {
    fd = openAt(parent, name, O.PATH | O.NOFOLLOW)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    return fstatSync(fd).isDirectory() ? 'dir' : 'other'
  } finally {
    closeSync(fd)
  }
}
