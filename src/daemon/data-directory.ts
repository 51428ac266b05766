/** A daemon's data directory: made, and kept to the user that the daemon runs as. */
import { access, chmod, constants, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { DarnerError, systemCode } from '../core/errors.ts'
import type { Log } from '../core/log.ts'

/** What makes a directory a daemon's own: one that was named by mistake is never closed to others. */
const OURS: ReadonlySet<string> = new Set(['store', 'engine', 'identity.key'])
const OTHERS = 0o077

/**
 * Makes the directory, and those above it, for this user only. One that is there and open to others, as a service manager makes it, is
 * closed when it is empty or a daemon's own. Throws HOST_UNABLE when it can't be made, belongs to somebody else, or can't be closed.
 */
export async function openDataDirectory(given: string, log: Log): Promise<void> {
  const path = resolve(given)
  const way = 'run this as root, or name one that this user may write with --data'
  try {
    await makeDirectories(path)
  } catch (error) {
    const text = `cannot make the data directory ${given}: ${systemCode(error) ?? error}`
    throw new DarnerError('HOST_UNABLE', text, { cause: error, way })
  }
  try {
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    const text = `this user may not use the data directory ${given}: ${systemCode(error) ?? error}`
    throw new DarnerError('HOST_UNABLE', text, { cause: error, way })
  }
  const { mode, uid } = await stat(path)
  const self = process.geteuid?.()
  if (self !== undefined && uid !== self)
    throw new DarnerError(
      'HOST_UNABLE',
      `the data directory ${given} belongs to user ${uid}, this daemon runs as ${self}`,
      {
        way: `chown -R ${self} it, or name another with --data`,
      },
    )
  if ((mode & OTHERS) === 0) return
  const names = await readdir(path)
  if (names.length > 0 && !names.some((name) => OURS.has(name)))
    throw new DarnerError(
      'HOST_UNABLE',
      `the data directory ${given} is open to other users and holds something else`,
      {
        way: 'name a directory of its own with --data, or chmod 700 this one',
      },
    )
  await chmod(path, 0o700)
  log.warn(
    { path, mode: (mode & 0o777).toString(8) },
    'the data directory was open to other users, and is not any more',
  )
}

/** One by one: below /proc, which says ENOENT to whatever one makes there, Node's own recursion never ends. */
async function makeDirectories(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    const code = systemCode(error)
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return
    const above = dirname(path)
    if (code !== 'ENOENT' || above === path || (await isDirectory(above))) throw error
    await makeDirectories(above)
    await mkdir(path, { mode: 0o700 })
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}
