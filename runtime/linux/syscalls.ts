/**
 * The few system calls that Node has no function for, through koffi. They are the mount family, and the `*at` calls that unpack an archive
 * below a directory descriptor. All are synchronous and take microseconds; paths are bytes or text without NUL. A failure throws a {@link
 * SystemCallError} whose `code` is the errno name. Linux only.
 */
import { constants } from 'node:os'
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'
import { inPool } from '../../src/core/own-library.ts'

export type Path = string | Uint8Array

/** A failed system call; `code` is an errno name such as `ENOSPC`, as in Node's own errors. */
export class SystemCallError extends Error {
  readonly code: string
  readonly syscall: string

  constructor(syscall: string, errno: number, what: string) {
    // libuv doesn't know every errno (ENOTBLK); the number stands for those
    const name = getSystemErrorName(-errno)
    const code = name.startsWith('E') ? name : `E${errno}`
    super(`${code}: ${syscall} ${what}`)
    this.name = 'SystemCallError'
    this.code = code
    this.syscall = syscall
  }
}

const libc = koffi.load(null)
const call = (signature: string) => libc.func(signature)

const native = {
  mount: call('int mount(const void *source, const void *target, const char *type, ulong flags, const void *data)'),
  umount2: call('int umount2(const void *target, int flags)'),
  openat: call('int openat(int dir, const void *path, int flags, uint mode)'),
  mkdirat: call('int mkdirat(int dir, const void *path, uint mode)'),
  mknodat: call('int mknodat(int dir, const void *path, uint mode, ulong dev)'),
  symlinkat: call('int symlinkat(const void *target, int dir, const void *path)'),
  linkat: call('int linkat(int fromDir, const void *from, int toDir, const void *to, int flags)'),
  unlinkat: call('int unlinkat(int dir, const void *path, int flags)'),
  fchownat: call('int fchownat(int dir, const void *path, uint uid, uint gid, int flags)'),
  fchmodat: call('int fchmodat(int dir, const void *path, uint mode, int flags)'),
  utimensat: call('int utimensat(int dir, const void *path, const void *times, int flags)'),
  lsetxattr: call('int lsetxattr(const void *path, const char *name, const void *value, size_t size, int flags)'),
  lgetxattr: call('long lgetxattr(const void *path, const char *name, void *value, size_t size)'),
  llistxattr: call('long llistxattr(const void *path, void *names, size_t size)'),
  flock: call('int flock(int fd, int operation)'),
  ioctl: call('int ioctl(int fd, ulong request, _Inout_ uint8_t *data)'),
  openat2: call('long syscall(long number, int dir, const void *path, const void *how, size_t size)'),
  fsopen: call('long syscall(long number, const char *type, uint flags)'),
  fsconfig: call('long syscall(long number, int fd, uint command, const char *key, const void *value, int aux)'),
  fsmount: call('long syscall(long number, int fd, uint flags, uint attributes)'),
  openTree: call('long syscall(long number, int dir, const void *path, uint flags)'),
  mountSetattr: call(
    'long syscall(long number, int dir, const char *path, uint flags, const void *attributes, size_t size)',
  ),
  moveMount: call('long syscall(long number, int fromDir, const char *from, int toDir, const void *to, uint flags)'),
}

/** The same on every architecture: these calls are newer than the unified numbering. */
const NUMBER = {
  openTree: 428,
  moveMount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  openat2: 437,
  mountSetattr: 442,
} as const

export const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_REMOVEDIR = 0x200

export const O = {
  RDONLY: 0,
  WRONLY: 1,
  CREAT: 0o100,
  EXCL: 0o200,
  DIRECTORY: 0o200000,
  NONBLOCK: 0o4000,
  NOFOLLOW: 0o400000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
} as const
export const RESOLVE = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  REMOUNT: 32,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
} as const
export const MNT_DETACH = 2
export const LOCK = { SH: 1, EX: 2, NB: 4 } as const
export const S_IF = {
  FIFO: 0o010000,
  CHR: 0o020000,
  DIR: 0o040000,
  BLK: 0o060000,
  REG: 0o100000,
  LNK: 0o120000,
} as const
const EMPTY_PATH_TO_MOVE = 4
/** How often a path is asked for that renames or mounts elsewhere interrupt: one rename in a loop beside it takes a few. */
const BELOW_TRIES = 1000
const AT_EMPTY_PATH = 0x1000
const OPEN_TREE_CLONE = 1
const MOUNT_ATTR_RDONLY = 1
const MOUNT_ATTR_IDMAP = 0x100000
const MOUNT_ATTR_NOSYMFOLLOW = 0x200000
const FSCONFIG = { SET_FLAG: 0, SET_STRING: 1, CMD_CREATE: 6 } as const

function z(path: Path): Uint8Array {
  const bytes = typeof path === 'string' ? Buffer.from(path) : path
  if (bytes.includes(0)) throw new SystemCallError('path', 22, 'with a NUL byte')
  const out = Buffer.allocUnsafe(bytes.length + 1)
  out.set(bytes)
  out[bytes.length] = 0
  return out
}

function check(result: number | bigint, syscall: string, what: Path | number): number {
  const value = Number(result)
  if (value >= 0) return value
  throw new SystemCallError(
    syscall,
    koffi.errno(),
    typeof what === 'object' ? Buffer.from(what).toString() : String(what),
  )
}

/** mount(2); `data` is the file system's option text, shorter than a page. */
export function mount(source: Path, target: Path, type: string, flags: number, data: string): void {
  check(native.mount(z(source), z(target), type, flags, z(data)), `mount ${type}`, target)
}

export function umount(target: Path, flags = 0): void {
  check(native.umount2(z(target), flags), 'umount', target)
}

/**
 * As {@link umount}, on another thread: with the last user of a file system, its end waits until all is written. False when it could not be
 * done. The error number stays with the other thread; {@link umount} reports it.
 */
export async function umountAside(target: Path): Promise<boolean> {
  return (await inPool(native.umount2, z(target), 0)) === 0
}

export function openAt(dir: number, path: Path, flags: number, mode = 0): number {
  return check(native.openat(dir, z(path), flags | O.CLOEXEC, mode), 'openat', path)
}

/**
 * openat2(2), Linux 5.6: opens below `dir` under the `resolve` rules. For a path with "..", the kernel fails with EAGAIN when anything on
 * the host is renamed or mounted meanwhile. That says nothing of this path, so it is tried again; EAGAIN is thrown only where that never
 * ends.
 */
export function openBelow(dir: number, path: Path, flags: number, resolve: number): number {
  const how = new BigUint64Array([BigInt(flags | O.CLOEXEC), 0n, BigInt(resolve)])
  const name = z(path)
  let opened: number | bigint = -1
  for (let left = BELOW_TRIES; left > 0; left--) {
    opened = native.openat2(NUMBER.openat2, dir, name, how, how.byteLength)
    if (Number(opened) >= 0 || koffi.errno() !== constants.errno.EAGAIN) break
  }
  return check(opened, 'openat2', path)
}

/** flock(2); with `LOCK.NB` it throws EAGAIN where it would wait. The lock goes with the last descriptor of this opening. */
export function flock(fd: number, operation: number): void {
  check(native.flock(fd, operation), 'flock', fd)
}

/** ioctl(2) with a structure that the kernel reads, or writes in place; what it returns. */
export function ioctl(fd: number, request: number, data: Uint8Array, name: string): number {
  return check(native.ioctl(fd, request, data), 'ioctl', name)
}

export function mkdirAt(dir: number, name: Path, mode: number): void {
  check(native.mkdirat(dir, z(name), mode), 'mkdirat', name)
}

/** mknodat(2); device numbers as the kernel packs them for user space. */
export function mknodAt(dir: number, name: Path, mode: number, major: number, minor: number): void {
  const high = (BigInt(major) & 0xfffff000n) << 32n
  const dev = ((BigInt(minor) & 0xffffff00n) << 12n) | high | ((BigInt(major) & 0xfffn) << 8n) | (BigInt(minor) & 0xffn)
  check(native.mknodat(dir, z(name), mode, dev), 'mknodat', name)
}

export function symlinkAt(target: Path, dir: number, name: Path): void {
  check(native.symlinkat(z(target), dir, z(name)), 'symlinkat', name)
}

/** linkat(2); symlinks are linked, never followed. */
export function linkAt(fromDir: number, from: Path, toDir: number, to: Path): void {
  check(native.linkat(fromDir, z(from), toDir, z(to), 0), 'linkat', to)
}

export function unlinkAt(dir: number, name: Path, flags = 0): void {
  check(native.unlinkat(dir, z(name), flags), 'unlinkat', name)
}

/** Changes the owner; symlinks are changed, never followed. */
export function chownAt(dir: number, name: Path, uid: number, gid: number): void {
  check(native.fchownat(dir, z(name), uid, gid, AT_SYMLINK_NOFOLLOW), 'fchownat', name)
}

/** Changes the mode of something that is no symlink (the caller knows). */
export function chmodAt(dir: number, name: Path, mode: number): void {
  check(native.fchmodat(dir, z(name), mode, 0), 'fchmodat', name)
}

/** Sets access and modification time to the same instant, to the nanosecond; symlinks are changed, never followed. */
export function utimesAt(dir: number, name: Path, seconds: number, nanoseconds: number): void {
  const times = new BigInt64Array([BigInt(seconds), BigInt(nanoseconds), BigInt(seconds), BigInt(nanoseconds)])
  check(native.utimensat(dir, z(name), times, AT_SYMLINK_NOFOLLOW), 'utimensat', name)
}

/** Sets an extended attribute of the last component itself. */
export function setXattr(path: Path, name: string, value: Uint8Array): void {
  check(native.lsetxattr(z(path), name, value, value.byteLength, 0), `lsetxattr ${name}`, path)
}

/** Reads an extended attribute of the last component itself; undefined when it has none. */
export function getXattr(path: Path, name: string): Uint8Array | undefined {
  const value = new Uint8Array(65536)
  const length = Number(native.lgetxattr(z(path), name, value, value.byteLength))
  if (length >= 0) return value.subarray(0, length)
  const error = new SystemCallError(`lgetxattr ${name}`, koffi.errno(), String(path))
  if (error.code === 'ENODATA' || error.code === 'ENOTSUP' || error.code === 'EOPNOTSUPP') return undefined
  throw error
}

/** Names of the extended attributes of the last component itself; none where the file system has no such thing. */
export function listXattrs(path: Path): string[] {
  const names = new Uint8Array(65536)
  const length = Number(native.llistxattr(z(path), names, names.byteLength))
  if (length >= 0) return Buffer.from(names.subarray(0, length)).toString('latin1').split('\0').slice(0, -1)
  const error = new SystemCallError('llistxattr', koffi.errno(), String(path))
  if (error.code === 'ENOTSUP' || error.code === 'EOPNOTSUPP') return []
  throw error
}

/** A step of the new mount interface (Linux 5.2): a key alone is a flag. Repeated keys are kept in order. */
export type MountOption = readonly [key: string, value?: Path]

/**
 * Makes a file system by fsopen, fsconfig and fsmount and attaches it at `target`. Options aren't bound to a page as mount(2)'s are. Each
 * descriptor is closed by `close`, the caller's function (Node's `closeSync`).
 */
export function mountNew(
  type: string,
  options: readonly MountOption[],
  target: Path,
  attributes: number,
  close: (fd: number) => void,
): void {
  const context = check(native.fsopen(NUMBER.fsopen, type, 1), 'fsopen', type)
  try {
    for (const [key, value] of options) {
      const command = value === undefined ? FSCONFIG.SET_FLAG : FSCONFIG.SET_STRING
      check(
        native.fsconfig(NUMBER.fsconfig, context, command, key, value === undefined ? null : z(value), 0),
        `fsconfig ${type}`,
        key,
      )
    }
    check(
      native.fsconfig(NUMBER.fsconfig, context, FSCONFIG.CMD_CREATE, null, null, 0),
      `fsconfig ${type} create`,
      target,
    )
    const made = check(native.fsmount(NUMBER.fsmount, context, 1, attributes), 'fsmount', target)
    try {
      check(native.moveMount(NUMBER.moveMount, made, '', AT_FDCWD, z(target), EMPTY_PATH_TO_MOVE), 'move_mount', target)
    } finally {
      close(made)
    }
  } finally {
    close(context)
  }
}

/**
 * Attaches what is at `source` once more at `target`, with owners as the user namespace `userns` (a descriptor) maps them (Linux 5.12,
 * mount_setattr(2), "ID-mapped mounts"). Mounts below `source` are left out. Each descriptor is closed by `close`.
 */
export function mountMapped(source: Path, target: Path, userns: number, close: (fd: number) => void): void {
  const tree = check(
    native.openTree(NUMBER.openTree, AT_FDCWD, z(source), OPEN_TREE_CLONE | O.CLOEXEC),
    'open_tree',
    source,
  )
  try {
    const attributes = new BigUint64Array([BigInt(MOUNT_ATTR_IDMAP), 0n, 0n, BigInt(userns)])
    check(
      native.mountSetattr(NUMBER.mountSetattr, tree, '', AT_EMPTY_PATH, attributes, attributes.byteLength),
      'mount_setattr',
      source,
    )
    check(native.moveMount(NUMBER.moveMount, tree, '', AT_FDCWD, z(target), EMPTY_PATH_TO_MOVE), 'move_mount', target)
  } finally {
    close(tree)
  }
}

/**
 * A descriptor of the folder at `path` in a mount of its own, without a path, in which the kernel follows no symlink (Linux 5.14). Mounts
 * below `path` are left out. The caller closes it; after a failure `close` does.
 */
export function openUnfollowing(path: Path, close: (fd: number) => void): number {
  return openMounted(path, MOUNT_ATTR_NOSYMFOLLOW, close)
}

/** The same in a mount in which nothing can be written (Linux 5.12). */
export function openReadOnly(path: Path, close: (fd: number) => void): number {
  return openMounted(path, MOUNT_ATTR_RDONLY, close)
}

function openMounted(path: Path, attribute: number, close: (fd: number) => void): number {
  const tree = check(
    native.openTree(NUMBER.openTree, AT_FDCWD, z(path), OPEN_TREE_CLONE | O.CLOEXEC),
    'open_tree',
    path,
  )
  try {
    const attributes = new BigUint64Array([BigInt(attribute), 0n, 0n, 0n])
    check(
      native.mountSetattr(NUMBER.mountSetattr, tree, '', AT_EMPTY_PATH, attributes, attributes.byteLength),
      'mount_setattr',
      path,
    )
    return tree
  } catch (error) {
    close(tree)
    throw error
  }
}

/** True for a system error, Node's or this file's, with one of `codes`. */
export function systemErrorIs(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && codes.includes(error.code)
}
