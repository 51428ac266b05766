/** The files that lxcfs answers truthfully, and the spec that binds them: nothing of its mount but these, read-only. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { OciMount, OciSpec } from '../spec/oci-spec.ts'

/** Below lxcfs's mount and, with a slash before, in the container. */
export const LXCFS_FILES = [
  'proc/cpuinfo',
  'proc/meminfo',
  'proc/stat',
  'proc/uptime',
  'proc/swaps',
  'proc/diskstats',
  'proc/loadavg',
  'sys/devices/system/cpu/online',
] as const

/** Those that this lxcfs has: older ones lack some. */
export function filesOf(folder: string): string[] {
  return LXCFS_FILES.filter((name) => existsSync(join(folder, name)))
}

/** The spec with the files bound over /proc and /sys. */
export function withLxcfs(spec: OciSpec, folder: string, files: readonly string[]): OciSpec {
  const binds = files.map(
    (name): OciMount => ({
      destination: `/${name}`,
      type: 'bind',
      source: join(folder, name),
      options: ['bind', 'rprivate', 'ro', 'nosuid', 'nodev', 'noexec'],
    }),
  )
  return { ...spec, mounts: [...spec.mounts, ...binds] }
}
