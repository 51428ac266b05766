/**
 * What agents on one host mean to use of its network before it is there: names of bridges, and subnets. Each claim is an abstract socket
 * (unix(7)). The kernel gives a name once in a network namespace, and takes it back when its agent ends, however it ends.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { systemCode } from '../../src/core/errors.ts'

export class Claims implements AsyncDisposable {
  readonly #held = new Map<string, Server>()

  /** False when another agent has it. */
  async take(what: string): Promise<boolean> {
    if (this.#held.has(what)) return true
    const server = createServer((socket) => socket.destroy())
    try {
      server.listen(`\0darner-network ${what}`)
      await once(server, 'listening')
    } catch (error) {
      if (systemCode(error) === 'EADDRINUSE') return false
      throw error
    }
    server.unref()
    this.#held.set(what, server)
    return true
  }

  release(what: string): void {
    this.#held.get(what)?.close()
    this.#held.delete(what)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const what of [...this.#held.keys()]) this.release(what)
  }
}
