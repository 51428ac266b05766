/** Ports of this host that containers publish: which container has which, and whether the host itself listens there. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { PortBinding, PortRequest } from '../../src/api/networks-api.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { parseAddress } from './subnets.ts'

/** Where ports come from that nobody named: the dynamic range of RFC 6335. */
const FIRST_DYNAMIC = 49_153
const LAST_PORT = 65_535

const ANY = new Set(['', '0.0.0.0', '::'])

/** Two bindings that can't both be: the same port, and the same address or all of them. */
function clash(a: PortBinding, b: PortBinding): boolean {
  if (a.hostPort !== b.hostPort || a.protocol !== b.protocol) return false
  return ANY.has(a.hostIp) || ANY.has(b.hostIp) || a.hostIp === b.hostIp
}

/** The table of taken ports. Claims are made in one go, before anything waits: two starts can't get the same. */
export class HostPorts {
  readonly #taken = new Map<string, readonly PortBinding[]>()
  #next = FIRST_DYNAMIC

  /** Throws CONFLICT, in docker's words, for a port that a container has or something on the host listens at; BAD_ARGUMENT. */
  async claim(owner: string, requests: readonly PortRequest[]): Promise<readonly PortBinding[]> {
    const bindings: PortBinding[] = []
    this.#taken.set(owner, bindings)
    try {
      for (const request of requests) {
        const hostIp = request.hostIp === undefined ? '' : request.hostIp
        if (hostIp !== '') parseAddress(hostIp, `publishing port ${request.containerPort}`)
        const { containerPort, protocol } = request
        if (request.hostPort !== undefined) {
          const wanted = { containerPort, hostPort: request.hostPort, hostIp, protocol }
          if (this.#isTaken(wanted)) throw taken(wanted, 'port is already allocated')
          bindings.push(wanted)
          const why = await listener(wanted)
          if (why !== undefined) throw taken(wanted, why)
        } else await this.#takeFree({ containerPort, hostIp, protocol }, bindings)
      }
      return bindings
    } catch (error) {
      this.#taken.delete(owner)
      throw error
    }
  }

  /** Takes up what a former agent gave. */
  restore(owner: string, bindings: readonly PortBinding[]): void {
    if (bindings.length > 0) this.#taken.set(owner, bindings)
  }

  release(owner: string): void {
    this.#taken.delete(owner)
  }

  #isTaken(wanted: PortBinding): boolean {
    for (const bindings of this.#taken.values()) if (bindings.some((one) => clash(one, wanted))) return true
    return false
  }

  /** Adds a port that is free to `mine`, which is in the table while the host is asked. */
  async #takeFree(wanted: Omit<PortBinding, 'hostPort'>, mine: PortBinding[]): Promise<void> {
    for (let tries = FIRST_DYNAMIC; tries <= LAST_PORT; tries++) {
      const binding = { ...wanted, hostPort: this.#next }
      this.#next = this.#next === LAST_PORT ? FIRST_DYNAMIC : this.#next + 1
      if (this.#isTaken(binding)) continue
      mine.push(binding)
      if ((await listener(binding)) === undefined) return
      mine.pop()
    }
    const { containerPort, protocol } = wanted
    throw new DarnerError('CONFLICT', `publishing port ${containerPort}/${protocol}: no port of this host is free`)
  }
}

function taken({ hostIp, hostPort, protocol }: PortBinding, why: string): DarnerError {
  const where = `${hostIp === '' ? '0.0.0.0' : hostIp}:${hostPort}`
  return new DarnerError('CONFLICT', `Bind for ${where} failed: ${why}`, { details: { hostPort, protocol } })
}

/** Why a program could not listen there; undefined when it could. */
async function listener({ hostIp, hostPort, protocol }: PortBinding): Promise<string | undefined> {
  const host = hostIp === '' ? '0.0.0.0' : hostIp
  try {
    if (protocol === 'tcp') {
      const server = createServer()
      server.listen({ host, port: hostPort, exclusive: true })
      await once(server, 'listening')
      server.close()
      await once(server, 'close')
    } else {
      const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4' })
      try {
        socket.bind({ port: hostPort, address: host, exclusive: true })
        await once(socket, 'listening')
      } finally {
        socket.close()
      }
    }
    return undefined
  } catch (error) {
    const code = systemCode(error)
    if (code === 'EADDRINUSE') return 'address already in use'
    if (code === 'EADDRNOTAVAIL') return 'cannot assign requested address'
    if (code === 'EACCES') return 'permission denied'
    throw error
  }
}
