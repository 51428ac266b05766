/** Cgroups that no runtime removes: those that an init made below its container's own, and those that containers' own are below. */
import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { systemErrorIs } from '../linux/syscalls.ts'

/** Deeper trees are left to their makers. */
const MOST_DEPTH = 32

/** Removes a cgroup and all below it; those that still have processes, or are not ours to remove, stay. Fine when it isn't there. False when something stays. */
export async function removeCgroupTree(path: string, depth = 0): Promise<boolean> {
  if (depth > MOST_DEPTH) return false
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    if (systemErrorIs(error, 'ENOENT', 'ENODEV')) return []
    throw error
  })
  for (const entry of entries) if (entry.isDirectory()) await removeCgroupTree(join(path, entry.name), depth + 1)
  try {
    await rmdir(path)
    return true
  } catch (error) {
    if (systemErrorIs(error, 'ENOENT', 'ENODEV')) return true
    if (systemErrorIs(error, 'EBUSY', 'ENOTEMPTY', 'EACCES', 'EPERM', 'EROFS')) return false
    throw error
  }
}
