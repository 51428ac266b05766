/**
 * Puts fresh lxcfs files over dead ones in running containers, from a short-lived process of its own: `node heal.ts FOLDER PROCESS FILE…`.
 * PROCESS is the container's first process in /proc. It takes a detached copy of each file's mount on the host, enters the container's
 * mount namespace and attaches them there. Entering needs a thread that shares its working directory with no other (setns(2), CLONE_NEWNS).
 * Hence unshare(CLONE_FS), which holds for the calling thread; all calls are made on Node's main one.
 */
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import koffi from 'koffi'
import { AT_FDCWD, MNT_DETACH, O, SystemCallError } from '../linux/syscalls.ts'

const CLONE_FS = 0x200
const CLONE_NEWNS = 0x20000
const AT_EMPTY_PATH = 0x1000
const OPEN_TREE_CLONE = 1
const MOVE_MOUNT_F_EMPTY_PATH = 4
const UMOUNT_NOFOLLOW = 8
/** MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC. */
const ATTRIBUTES = 0x1n | 0x2n | 0x4n | 0x8n
const NUMBER = { openTree: 428, moveMount: 429, mountSetattr: 442 } as const

const libc = koffi.load(null)
const native = {
  unshare: libc.func('int unshare(int flags)'),
  setns: libc.func('int setns(int fd, int type)'),
  umount2: libc.func('int umount2(const char *target, int flags)'),
  openTree: libc.func('long syscall(long number, int dir, const char *path, uint flags)'),
  moveMount: libc.func(
    'long syscall(long number, int fromDir, const char *from, int toDir, const char *to, uint flags)',
  ),
  mountSetattr: libc.func(
    'long syscall(long number, int dir, const char *path, uint flags, const void *attr, size_t size)',
  ),
}

function must(result: number | bigint, call: string, what: string): number {
  if (Number(result) >= 0) return Number(result)
  throw new SystemCallError(call, koffi.errno(), what)
}

/** Replaces `files` in the mount namespace of the process whose folder in /proc is `process`. Leaves this thread in that namespace. */
function heal(folder: string, process: string, files: readonly string[]): void {
  const namespace = openSync(`${process}/ns/mnt`, 'r')
  const trees = files.map((file) => {
    const path = join(folder, file)
    const fd = must(native.openTree(NUMBER.openTree, AT_FDCWD, path, OPEN_TREE_CLONE | O.CLOEXEC), 'open_tree', path)
    const attributes = new BigUint64Array([ATTRIBUTES, 0n, 0n, 0n])
    must(
      native.mountSetattr(NUMBER.mountSetattr, fd, '', AT_EMPTY_PATH, attributes, attributes.byteLength),
      'mount_setattr',
      path,
    )
    return { fd, target: `/${file}` }
  })
  must(native.unshare(CLONE_FS), 'unshare', 'CLONE_FS')
  must(native.setns(namespace, CLONE_NEWNS), 'setns', `mount namespace of ${process}`)
  for (const { fd, target } of trees) {
    // EINVAL: nothing was mounted there, as in a container that was started while lxcfs was away
    if (native.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && koffi.errno() !== 22) {
      throw new SystemCallError('umount2', koffi.errno(), target)
    }
    must(native.moveMount(NUMBER.moveMount, fd, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH), 'move_mount', target)
    closeSync(fd)
  }
  closeSync(namespace)
}

const [folder, first, ...files] = process.argv.slice(2)
if (folder === undefined || first === undefined || files.length === 0) {
  process.stderr.write('usage: heal.ts FOLDER PROCESS FILE...\n')
  process.exit(2)
}
heal(folder, first, files)
