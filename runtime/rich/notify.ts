/**
 * The socket that an init reports its state to (sd_notify(3)). It is a datagram socket, which node:net has no type for: bound through libc
 * and read a few times a second until READY=1 came.
 */
import { closeSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { SOCK, type SocketCalls, socketCalls, unixAddress, unixSocket } from '../linux/unix-sockets.ts'

const MOST_DATAGRAM_BYTES = 8192
const READY_LOOK_MS = 50

export class NotifySocket implements Disposable {
  readonly #fd: number
  readonly #calls: SocketCalls
  #closed = false

  private constructor(fd: number, c: SocketCalls) {
    this.#fd = fd
    this.#calls = c
  }

  /** Makes the socket at `path`, replacing what is there. Throws INTERNAL. */
  static async listen(path: string): Promise<NotifySocket> {
    const c = await socketCalls()
    await rm(path, { force: true })
    const fd = unixSocket(c, SOCK.DGRAM | SOCK.CLOEXEC | SOCK.NONBLOCK)
    if (fd < 0) throw new DarnerError('INTERNAL', `notify socket: errno ${c.errno()}`)
    try {
      using address = unixAddress(path)
      if (c.bind(fd, address.bytes, address.bytes.byteLength) < 0)
        throw new DarnerError('INTERNAL', `notify socket ${path}: bind failed with errno ${c.errno()}`)
    } catch (error) {
      closeSync(fd)
      throw error
    }
    return new NotifySocket(fd, c)
  }

  /** Resolves when READY=1 came; rejects with the signal's reason. */
  async ready(clock: Clock, { signal }: { signal: AbortSignal }): Promise<void> {
    const into = Buffer.alloc(MOST_DATAGRAM_BYTES)
    while (!this.#closed) {
      for (;;) {
        const length = Number(this.#calls.recv(this.#fd, into, into.length, 0))
        if (length < 0) break // EAGAIN: nothing waits
        if (into.toString('utf8', 0, length).split('\n').includes('READY=1')) return
      }
      await clock.sleep(READY_LOOK_MS, { signal })
    }
    throw new DarnerError('CLOSED', 'the notify socket was closed before its container was ready')
  }

  [Symbol.dispose](): void {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.#fd)
  }
}
