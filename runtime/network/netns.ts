/**
 * Network namespaces of the engine. Each is a file in its folder with the namespace bound onto it, so it lives without a process and
 * outlives the agent (namespaces(7), "Namespace lifetime"). Made in this thread within half a millisecond: unshare, bind, back. No other
 * JavaScript runs in between, and other threads keep their namespace.
 */
import { closeSync, openSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import koffi from 'koffi'
import { MNT_DETACH, MS, mount, SystemCallError, systemErrorIs, umount } from '../linux/syscalls.ts'

const libc = koffi.load(null)
const native = {
  unshare: libc.func('int unshare(int flags)'),
  setns: libc.func('int setns(int fd, int type)'),
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  ioctl: libc.func('int ioctl(int fd, ulong request, void *argument)'),
}
const CLONE_NEWNET = 0x40000000
const OWN = '/proc/thread-self/ns/net'
const NSFS_MAGIC = 0x6e736673
const [AF_INET, SOCK_DGRAM_CLOEXEC] = [2, 0o2000002]
const SIOCSIFFLAGS = 0x8914
const [IFF_UP, FLAGS_OFFSET, IFREQ_BYTES] = [1, 16, 40]

/** A folder of named namespaces. Names are file names; nothing else may be kept in it. */
export class NetnsFolder {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  async prepare(): Promise<void> {
    await mkdir(this.path, { recursive: true, mode: 0o711 })
  }

  pathOf(name: string): string {
    return join(this.path, name)
  }

  /** A new namespace with its loopback up; returns its path. Throws a SystemCallError. */
  make(name: string): string {
    const path = this.pathOf(name)
    closeSync(openSync(path, 'wx', 0o444))
    try {
      inNewNetns(() => {
        mount(OWN, path, '', MS.BIND, '')
        raiseLoopback()
      })
    } catch (error) {
      this.remove(name)
      throw error
    }
    return path
  }

  /** True when the name stands for a namespace and not only for a file that a half-done `make` left. */
  has(name: string): boolean {
    try {
      return statfsSync(this.pathOf(name)).type === NSFS_MAGIC
    } catch (error) {
      if (systemErrorIs(error, 'ENOENT')) return false
      throw error
    }
  }

  /** Takes the name away; the namespace goes with its last process, and its interfaces with it. Fine for one that isn't there. */
  remove(name: string): void {
    const path = this.pathOf(name)
    try {
      umount(path, MNT_DETACH)
    } catch (error) {
      if (!systemErrorIs(error, 'EINVAL', 'ENOENT')) throw error // no mount point, no file
    }
    try {
      unlinkSync(path)
    } catch (error) {
      if (!systemErrorIs(error, 'ENOENT')) throw error
    }
  }

  list(): Promise<string[]> {
    return readdir(this.path)
  }
}

/**
 * Does `work` in a network namespace that is there; the thread is back when this returns. `setSysctl` sets `net.…` of it. Throws a
 * SystemCallError, and what a file says that can't be written.
 */
export function inNetns(path: string, work: (setSysctl: (name: string, value: string) => void) => void): void {
  const there = openSync(path, 'r')
  try {
    elsewhere(
      () => {
        if (native.setns(there, CLONE_NEWNET) < 0) throw new SystemCallError('setns', koffi.errno(), path)
      },
      () => work((name, value) => writeFileSync(`/proc/sys/${name.replaceAll('.', '/')}`, value)),
    )
  } finally {
    closeSync(there)
  }
}

function inNewNetns(work: () => void): void {
  elsewhere(() => {
    if (native.unshare(CLONE_NEWNET) < 0) throw new SystemCallError('unshare', koffi.errno(), 'network namespace')
  }, work)
}

function elsewhere(go: () => void, work: () => void): void {
  const before = openSync(OWN, 'r')
  try {
    go()
    try {
      work()
    } finally {
      // an agent that stays in a container's namespace would be cut off from everything
      if (native.setns(before, CLONE_NEWNET) < 0) process.abort()
    }
  } finally {
    closeSync(before)
  }
}

function raiseLoopback(): void {
  const socket = native.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0)
  if (socket < 0) throw new SystemCallError('socket', koffi.errno(), 'for lo')
  try {
    const request = Buffer.alloc(IFREQ_BYTES) // struct ifreq of netdevice(7)
    request.write('lo')
    request.writeInt16LE(IFF_UP, FLAGS_OFFSET)
    if (native.ioctl(socket, SIOCSIFFLAGS, request) < 0) throw new SystemCallError('ioctl', koffi.errno(), 'lo up')
  } finally {
    closeSync(socket)
  }
}
