/** Which containers' processes the kernel killed for memory: also one that isn't the first, whose end nobody would see otherwise. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CgroupLayout } from '../spec/cgroups.ts'

/** A short read of the kernel's own memory, so it isn't worth a thread. Since the cgroup was made; undefined where the kernel doesn't count, or the container is gone. `cgroupPath` is below the root. */
export function readOomKills(layout: CgroupLayout, cgroupPath: string): number | undefined {
  const v1 = layout.v1.get('memory')
  const v2 = layout.v2?.controllers.includes('memory') ? layout.v2.path : undefined
  const file =
    v1 === undefined ? v2 && join(v2, cgroupPath, 'memory.events') : join(v1, cgroupPath, 'memory.oom_control')
  if (file === undefined) return undefined
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return undefined // ENOENT, ENODEV: it ended meanwhile
  }
  const count = /^oom_kill (\d+)$/m.exec(text)?.[1]
  return count === undefined ? undefined : Number(count)
}

/**
 * The same for the whole host since it booted, so that the engine needn't read each container's count while it stands still. Undefined
 * where the kernel doesn't report it (before Linux 4.13).
 */
export function readHostOomKills(): number | undefined {
  const count = /^oom_kill (\d+)$/m.exec(readFileSync('/proc/vmstat', 'utf8'))?.[1]
  return count === undefined ? undefined : Number(count)
}
