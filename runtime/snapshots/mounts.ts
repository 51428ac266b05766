/** The mount table and taking mounts away. What is mounted is asked from the kernel each time: it outlives this process. */
import { readFileSync, statSync } from 'node:fs'
import { readdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../../src/core/errors.ts'
import { MNT_DETACH, umount, umountAside } from '../linux/syscalls.ts'

export interface MountEntry {
  readonly id: number
  readonly type: string
  readonly target: string
}

/** The mounts of this process's namespace whose target is `below` or lies under it, in mount order. (proc_pid_mountinfo(5)) */
export async function mountsBelow(below: string): Promise<MountEntry[]> {
  const found: MountEntry[] = []
  const plain = /^[\x21-\x5b\x5d-\x7e]+$/.test(below) // so is it in the table
  // the kernel's own memory, at hand at once
  for (const line of readFileSync('/proc/self/mountinfo', 'latin1').split('\n')) {
    if (plain && !line.includes(below)) continue
    const fields = line.split(' ')
    const target = unescaped(fields[4] ?? '')
    if (target !== below && !target.startsWith(`${below}/`)) continue
    found.push({ id: Number(fields[0]), target, type: fields[fields.indexOf('-') + 1] ?? '' })
  }
  return found
}

/** Whether a file system of its own is mounted at `path`: two short calls, where the table of all mounts takes half a millisecond. */
export function isMountPoint(path: string): boolean {
  const [there, above] = [path, join(path, '..')].map((one) => statSync(one, { throwIfNoEntry: false })?.dev)
  return there !== undefined && there !== above
}

/** Unmounts `target`, all mounts stacked on it included; busy ones are detached and end with their last user. False: none was there. */
export async function unmountAll(target: string): Promise<boolean> {
  let any = false
  for (let count = 0; count < 64; count++) {
    try {
      if (!(await umountAside(target))) umount(target)
    } catch (error) {
      const code = systemCode(error)
      if (code === 'EINVAL' || code === 'ENOENT') return any
      if (code !== 'EBUSY') throw error
      umount(target, MNT_DETACH)
    }
    any = true
  }
  return any
}

/** Takes away a folder of empty folders with whatever is mounted on them. Nothing is deleted but empty folders: a mount that stays keeps its files. */
export async function removeMountPoints(folder: string): Promise<void> {
  for (const { target } of (await mountsBelow(folder)).toReversed()) await unmountAll(target)
  try {
    for (const name of await readdir(folder)) await rmdir(join(folder, name))
    await rmdir(folder)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
}

/** Blanks, tabs, newlines and backslashes are octal in the table. */
function unescaped(text: string): string {
  const bytes = text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
