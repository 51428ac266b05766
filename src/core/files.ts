/** Small files that are there whole or not at all, also after the machine lost its power. */
import { randomUUID } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { asDarnerError } from './errors.ts'

/**
 * Puts `data` in the place of what is at `path`: under a name of its own beside it first, synced, renamed, the folder synced.
 * `mode` is the file's own, whatever the umask; default 0600. Leaves nothing else behind. Throws DISK_FULL, INTERNAL
 * with what the system said as its cause.
 */
export async function replaceFile(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const fresh = `${path}.${randomUUID()}`
  try {
    {
      await using file = await open(fresh, 'wx', mode)
      await file.writeFile(data)
      await file.chmod(mode)
      await file.sync()
    }
    await rename(fresh, path)
    await syncFolder(dirname(path))
  } catch (error) {
    await rm(fresh, { force: true })
    throw asDarnerError(error, `write ${path}`)
  }
}

/** Makes names that were created in or renamed into a folder survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r')
  await folder.sync()
}
