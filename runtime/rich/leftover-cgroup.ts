/** The cgroups that an init made below its container's own, which no runtime removes on every layout. */
import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../../src/base/errors.ts'

/** Deeper trees are left to who made them. */
const MOST_DEPTH = 32

/** Removes a cgroup and all below it; those that still have processes stay. Fine when it isn't there. */
export async function removeCgroupTree(path: string, depth = 0): Promise<void> {
  if (depth > MOST_DEPTH) return
  const entries = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENODEV') return []
    throw error
  })
  for (const entry of entries) if (entry.isDirectory()) await removeCgroupTree(join(path, entry.name), depth + 1)
  await rmdir(path).catch((error: unknown) => {
    const code = systemCode(error)
    if (code !== 'ENOENT' && code !== 'EBUSY' && code !== 'ENODEV' && code !== 'ENOTEMPTY') throw error
  })
}
