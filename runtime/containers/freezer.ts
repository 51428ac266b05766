/** Whether a container's processes stand still, as the kernel says. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CgroupLayout } from '../spec/cgroups.ts'

/**
 * Whether its own cgroup is frozen, not one above it; undefined where there is no such cgroup, or no freezer. `cgroupPath` is below the
 * root. A short read of the kernel's own memory, so it isn't worth a thread.
 */
export function isFrozen({ v1, v2 }: CgroupLayout, cgroupPath: string): boolean | undefined {
  const freezer = v1.get('freezer')
  const file =
    freezer === undefined
      ? v2 && join(v2.path, cgroupPath, 'cgroup.freeze')
      : join(freezer, cgroupPath, 'freezer.self_freezing')
  if (file === undefined) return undefined
  try {
    return readFileSync(file, 'utf8').trim() === '1'
  } catch {
    return undefined // ENOENT, ENODEV: it ended
  }
}
