/** What a stage can't take with it when it ends, since it lies in file systems of the machine's: empty control groups. */
import { globSync } from 'node:fs'
import { rmdir } from 'node:fs/promises'
import { systemCode } from '../../src/core/errors.ts'

/** Where the agents' containers have their groups, in every hierarchy of either layout; and what the stage adds to a hybrid one. */
const GROUPS = ['/sys/fs/cgroup/darner', '/sys/fs/cgroup/*/darner', '/sys/fs/cgroup/hugetlb']
/** Processes that were killed leave their group a little later. */
const TRIES = 20
const PAUSE_MS = 50

/** The groups there are now. */
export function groupsNow(): ReadonlySet<string> {
  return new Set(GROUPS.flatMap((pattern) => [...globSync(pattern), ...globSync(`${pattern}/**/`)]).map(bare))
}

/** Removes the groups that weren't there before, deepest first; the kernel refuses those that are in use. Returns what is left. */
export async function removeNewGroups(before: ReadonlySet<string>): Promise<string[]> {
  let left: string[] = []
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const found = [...groupsNow()].filter((group) => !before.has(group)).sort((a, b) => b.length - a.length)
    left = []
    for (const group of found) if (!(await removed(group))) left.push(group)
    if (left.length === 0) return []
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
  }
  return left
}

async function removed(group: string): Promise<boolean> {
  try {
    await rmdir(group)
    return true
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT') return true
    if (code === 'EBUSY' || code === 'ENOTEMPTY' || code === 'EPERM') return false
    throw error
  }
}

const bare = (path: string) => path.replace(/\/+$/, '')
