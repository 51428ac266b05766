/**
 * The socket that an init tells its state to (sd_notify(3)): a datagram socket, which node:net has no type for, bound through
 * libc and looked at a few times a second until READY=1 came.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { Clock } from '../../src/base/clock.ts'
import { DarnerError } from '../../src/base/errors.ts'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const SOCK_NONBLOCK = 0o4000
const SUN_PATH_BYTES = 108
const MOST_DATAGRAM_BYTES = 8192
const LOOK_MS = 50

interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array, bytes: number): number
  recv(fd: number, into: Uint8Array, bytes: number, flags: number): number | bigint
  errno(): number
}

let loading: Promise<Libc> | undefined

function libc(): Promise<Libc> {
  loading ??= import('koffi').then(({ default: koffi }) => {
    const lib = koffi.load(null)
    return {
      socket: lib.func('int socket(int, int, int)'),
      bind: lib.func('int bind(int, void *, uint32_t)'),
      recv: lib.func('int64_t recv(int, void *, uint64_t, int)'),
      errno: () => koffi.errno(),
    }
  })
  return loading
}

export class NotifySocket implements Disposable {
  readonly #fd: number
  readonly #libc: Libc
  #closed = false

  private constructor(fd: number, c: Libc) {
    this.#fd = fd
    this.#libc = c
  }

  /** Makes the socket at `path`, replacing what is there. Throws INTERNAL. */
  static async listen(path: string): Promise<NotifySocket> {
    const c = await libc()
    await rm(path, { force: true })
    const fd = c.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    if (fd < 0) throw new DarnerError('INTERNAL', `notify socket: errno ${c.errno()}`)
    // the path may be longer than an address holds: the folder's descriptor stands for it
    const folder = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      const name = Buffer.from(`/proc/self/fd/${folder}/${basename(path)}\0`)
      const address = Buffer.alloc(2 + SUN_PATH_BYTES)
      address.writeUInt16LE(AF_UNIX)
      name.copy(address, 2)
      if (c.bind(fd, address, 2 + name.length) < 0) {
        throw new DarnerError('INTERNAL', `notify socket ${path}: bind failed with errno ${c.errno()}`)
      }
    } catch (error) {
      closeSync(fd)
      throw error
    } finally {
      closeSync(folder)
    }
    return new NotifySocket(fd, c)
  }

  /** Resolves when READY=1 came; rejects with the signal's reason. */
  async ready(clock: Clock, { signal }: { signal: AbortSignal }): Promise<void> {
    const into = Buffer.alloc(MOST_DATAGRAM_BYTES)
    while (!this.#closed) {
      for (;;) {
        const length = Number(this.#libc.recv(this.#fd, into, into.length, 0))
        if (length < 0) break // EAGAIN: nothing waits
        if (into.toString('utf8', 0, length).split('\n').includes('READY=1')) return
      }
      await clock.sleep(LOOK_MS, { signal })
    }
    throw new DarnerError('CLOSED', 'the notify socket was closed before its container was ready')
  }

  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#fd)
  }
}
