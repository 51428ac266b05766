/** Listening on a unix socket that is never open to more than its intended users, and never taken from another listener. */
import { chmod, chown, lstat, mkdir, mkdtemp, rename, rm, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { asDarnerError, DarnerError, systemCode } from './errors.ts'

/** unix(7) */
const LONGEST_PATH = 107

export interface UnixListenOptions {
  /** The name of the listener in a message: `agent`. */
  readonly who: string
  /** What names another path: `--socket`. */
  readonly flag: string
  /** Owns it beside root; default the process's own. */
  readonly group?: number | undefined
  /** Default 0660. */
  readonly mode?: number
}

/**
 * `listen` gets a path in a folder that is this user's alone. Once the socket has its mode and group it moves to `path`, where it replaces
 * a socket that nobody serves. Dispose it before the server is closed: it takes the name away. Throws CONFLICT, HOST_UNABLE.
 */
export async function listenUnix(
  path: string,
  listen: (path: string) => Promise<unknown>,
  { who, flag, group, mode = 0o660 }: UnixListenOptions,
): Promise<AsyncDisposable> {
  if (await isListenedOn(path))
    throw new DarnerError('CONFLICT', `another ${who} listens on ${path}`, {
      way: `stop it, or name another socket with ${flag}`,
    })
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 })
    const folder = await mkdtemp(`${dirname(path)}/.`) // a short name: a socket's path has few bytes
    try {
      const place = join(folder, 's')
      await listen(place)
      await chmod(place, mode)
      if (group !== undefined) await chown(place, 0, group)
      const { ino } = await lstat(place)
      await rename(place, path)
      return { [Symbol.asyncDispose]: () => unlinkOwn(path, ino) }
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  } catch (error) {
    const why = systemCode(error) ?? asDarnerError(error, 'listen').message
    const tooLong = Buffer.byteLength(path) > LONGEST_PATH
    throw new DarnerError('HOST_UNABLE', `cannot listen on ${path}: ${why}`, {
      cause: error,
      ...(tooLong && {
        way: `the path of a unix socket has ${LONGEST_PATH} bytes at most: name a shorter one with ${flag}`,
      }),
      ...(['EACCES', 'EPERM'].includes(why) && {
        way: `run this as root, or name a socket in a folder that this user may write with ${flag}`,
      }),
    })
  }
}

/** Unless somebody else's has its place by now. */
async function unlinkOwn(path: string, ino: number): Promise<void> {
  try {
    if ((await lstat(path)).ino === ino) await unlink(path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
}

/** True when somebody accepts connections on the stream socket at `path`. */
async function isListenedOn(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
