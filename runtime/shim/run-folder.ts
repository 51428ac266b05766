/** Folders below /run: gone with a reboot, and not on the disk that data fills. */
import { rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf, hexOf } from '../../src/core/digest.ts'
import { systemCode } from '../../src/core/errors.ts'

/** The folder below `/run/NAME` that belongs to the agent with its files in `dir`. Nothing is made. */
export function runFolder(name: string, dir: string): string {
  return join('/run', name, hexOf(digestOf(dir)).slice(0, 16))
}

/** Removes those that are empty, in this order. Those that aren't, or aren't there, are left, and so is a mount point. */
export async function removeEmpty(...folders: readonly string[]): Promise<void> {
  for (const folder of folders) {
    try {
      await rmdir(folder)
    } catch (error) {
      if (!['ENOTEMPTY', 'ENOENT', 'EBUSY'].includes(systemCode(error) ?? '')) throw error
    }
  }
}
