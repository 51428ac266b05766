/** Which init an image has, seen from its files: nothing of the image is run. */
import { closeSync, fstatSync, readdirSync } from 'node:fs'
import { systemCode } from '../../src/core/errors.ts'
import { openWithin } from '../linux/foreign-tree.ts'
import { O, RESOLVE } from '../linux/syscalls.ts'
import { readInRoot } from '../spec/rootfs-path.ts'

export type InitKind = 'systemd' | 'sysvinit' | 'busybox' | 'openrc' | 'runit' | 's6' | 'unknown'

/** By kind: the signal that makes it shut down in order, and where that is written. */
export const STOP_SIGNALS: Readonly<Record<InitKind, { readonly signal: string; readonly from: string }>> = {
  systemd: { signal: 'SIGRTMIN+3', from: 'systemd(1), "Signals": starts halt.target' },
  sysvinit: { signal: 'SIGINT', from: 'init(8): runs the ctrlaltdel line of inittab, which is a shutdown' },
  busybox: {
    signal: 'SIGUSR2',
    from: "busybox init.c: poweroff, after inittab's shutdown lines; openrc on Alpine too",
  },
  openrc: { signal: 'SIGTERM', from: 'openrc-init(8): shutdown' },
  runit: { signal: 'SIGCONT', from: 'runit-init(8): shuts down when /etc/runit/stopit may be executed' },
  s6: { signal: 'SIGTERM', from: 's6-svscan(1), as s6-linux-init has it in containers' },
  unknown: { signal: 'SIGTERM', from: 'nothing is known of it' },
}

const SYSTEMD = ['/usr/lib/systemd/systemd', '/lib/systemd/systemd']
const LIBRARY_FOLDERS = ['/usr/lib/systemd', '/lib/systemd', '/usr/lib64/systemd']
const MOST_INIT_BYTES = 32 << 20
/** In this order: the most telling text first. */
const TELLTALES: readonly (readonly [string, InitKind])[] = [
  ['openrc-init', 'openrc'],
  ['runit: ', 'runit'],
  ['s6-linux-init', 's6'],
  ['s6-svscan', 's6'],
  ['busybox', 'busybox'],
  ['BusyBox', 'busybox'],
  ['INIT_VERSION', 'sysvinit'],
  ['/run/initctl', 'sysvinit'],
  ['/dev/initctl', 'sysvinit'],
]

/** What a path in the root file system leads to, as a place only; undefined where there is nothing. The caller closes. */
function placeIn(root: string, path: string): number | undefined {
  return openWithin(root, path, O.PATH, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS)
}

/** True when the path leads to an ordinary file that may be executed. */
export function isProgramIn(root: string, path: string): boolean {
  const fd = placeIn(root, path)
  if (fd === undefined) return false
  try {
    const stat = fstatSync(fd)
    return stat.isFile() && (stat.mode & 0o111) !== 0
  } finally {
    closeSync(fd)
  }
}

/** True when both paths lead to the same file. */
export function sameFileIn(root: string, one: string, other: string): boolean {
  const fds = [placeIn(root, one), placeIn(root, other)]
  try {
    const [a, b] = fds.map((fd) => (fd === undefined ? undefined : fstatSync(fd)))
    return a !== undefined && b !== undefined && a.ino === b.ino && a.dev === b.dev
  } finally {
    for (const fd of fds) if (fd !== undefined) closeSync(fd)
  }
}

/** The image's systemd, by its path inside, or undefined. */
export function systemdIn(root: string): string | undefined {
  return SYSTEMD.find((path) => isProgramIn(root, path))
}

/** What `/sbin/init` is; undefined when there is none. */
export function initKindIn(root: string): InitKind | undefined {
  if (!isProgramIn(root, '/sbin/init')) return undefined
  if (SYSTEMD.some((path) => sameFileIn(root, '/sbin/init', path))) return 'systemd'
  const program = readInRoot(root, '/sbin/init', MOST_INIT_BYTES)
  return TELLTALES.find(([text]) => program?.includes(text))?.[1] ?? 'unknown'
}

/** The major version of the image's systemd, from the name of its library, or from its binary. Undefined when neither has it. */
export function systemdVersionIn(root: string): number | undefined {
  for (const folder of [...LIBRARY_FOLDERS, ...multiarch(root)]) {
    for (const name of namesIn(root, folder)) {
      const found = /^libsystemd-shared-(\d{3})\b.*\.so/.exec(name)
      if (found) return Number(found[1])
    }
  }
  const path = systemdIn(root)
  const program = path === undefined ? undefined : readInRoot(root, path, MOST_INIT_BYTES)
  const found = program === undefined ? null : /systemd (\d{3})\b/.exec(program.toString('latin1'))
  return found ? Number(found[1]) : undefined
}

function multiarch(root: string): string[] {
  return namesIn(root, '/usr/lib')
    .filter((name) => /^[a-z0-9_]+-linux-gnu/.test(name))
    .map((name) => `/usr/lib/${name}/systemd`)
}

function namesIn(root: string, path: string): string[] {
  const fd = placeIn(root, path)
  if (fd === undefined) return []
  try {
    return readdirSync(`/proc/self/fd/${fd}/`)
  } catch (error) {
    if (systemCode(error) === 'ENOTDIR') return []
    throw error
  } finally {
    closeSync(fd)
  }
}
