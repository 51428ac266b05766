/**
 * The door of a node: which connections come in, and how much a stranger may spend of it. A stranger is a connection whose other end has
 * not been vouched for. One over a bound is cut before anything is read of it.
 */
import type { Socket } from 'node:net'
import type { Clock } from '../core/clock.ts'
import type { Log } from '../core/log.ts'
import { addressBlock, plainAddress } from './address.ts'
import { Turns } from './turns.ts'

export interface DoorOptions {
  /** Inbound connections, strangers or not. */
  readonly maxConnections: number
  /** Strangers of one address, and in all. When there are so many in all, those of the address with the most make way. */
  readonly maxStrangersPerAddress: number
  readonly maxStrangers: number
  /** What a stranger may send: the handshakes of noise and yamux, and a greeting. */
  readonly maxStrangerBytes: number
  /** How long one may stay a stranger. */
  readonly strangerMs: number
}

export const DOOR_DEFAULTS: Omit<DoorOptions, 'strangerMs'> = {
  maxConnections: 4096,
  maxStrangersPerAddress: 128,
  maxStrangers: 512,
  maxStrangerBytes: 32 * 1024,
}

/** How often refused connections are logged. */
const TELL_MS = 10_000

interface Stranger {
  readonly socket: Socket
  readonly address: string
  readonly gone: AbortController
  /** Ends the watch over it. */
  readonly admit: () => void
}

export class Door {
  readonly #options: DoorOptions
  readonly #clock: Clock
  readonly #log: Log
  readonly #turns: Turns
  /** By address and port, and by address; the oldest first. */
  readonly #strangers = new Map<string, Stranger>()
  readonly #byAddress = new Map<string, Set<Stranger>>()
  #open = 0
  #turnedAway = 0
  #toldMs = Number.NEGATIVE_INFINITY

  constructor(options: DoorOptions, parts: { clock: Clock; log: Log }) {
    this.#options = options
    this.#clock = parts.clock
    this.#log = parts.log
    this.#turns = new Turns(parts)
  }

  /** A connection came in: true when it is a stranger's from now on, false when it was cut. */
  take(socket: Socket): boolean {
    const { remoteAddress, remotePort } = socket
    const address = addressBlock(remoteAddress ?? '')
    if (remoteAddress === undefined || remotePort === undefined || !this.#hasRoom(address)) {
      this.#turnAway(socket, address, 'too many connections')
      return false
    }
    const key = keyOf(remoteAddress, remotePort)
    const gone = new AbortController()
    let bytes = 0
    const onData = (chunk: Uint8Array) => {
      bytes += chunk.byteLength
      if (bytes > this.#options.maxStrangerBytes) this.#turnAway(socket, address, 'too many bytes before a greeting')
    }
    const late = setTimeout(() => this.#turnAway(socket, address, 'no greeting in time'), this.#options.strangerMs)
    late.unref()
    const stranger: Stranger = {
      socket,
      address,
      gone,
      admit: () => {
        clearTimeout(late)
        socket.off('data', onData)
        this.#forget(key, stranger)
      },
    }
    // of a socket that is not read yet, whose data libp2p begins to take in this very turn
    socket.on('data', onData)
    this.#open++
    this.#strangers.set(key, stranger)
    const others = this.#byAddress.get(address)
    if (others === undefined) this.#byAddress.set(address, new Set([stranger]))
    else others.add(stranger)
    socket.once('close', () => {
      this.#open--
      stranger.admit()
      gone.abort()
    })
    return true
  }

  /** Whether the connection of this address and port may begin its handshake, once it is its turn. */
  async turn(host: string, port: number): Promise<boolean> {
    const stranger = this.#strangers.get(keyOf(host, port))
    return stranger !== undefined && (await this.#turns.take(stranger.address, stranger.gone.signal))
  }

  /** The peer of this address and port is no stranger any more. */
  admit(host: string, port: number): void {
    this.#strangers.get(keyOf(host, port))?.admit()
  }

  #hasRoom(address: string): boolean {
    const { maxConnections, maxStrangers, maxStrangersPerAddress } = this.#options
    const own = this.#byAddress.get(address)?.size ?? 0
    if (this.#open >= maxConnections || own >= maxStrangersPerAddress) return false
    if (this.#strangers.size < maxStrangers) return true
    let most: Set<Stranger> | undefined
    for (const one of this.#byAddress.values()) if (one.size > (most?.size ?? 0)) most = one
    const [oldest] = most ?? []
    if (oldest === undefined || (most?.size ?? 0) <= own + 1) return false
    oldest.admit()
    this.#turnAway(oldest.socket, oldest.address, 'too many strangers')
    return true
  }

  #forget(key: string, stranger: Stranger): void {
    if (this.#strangers.get(key) === stranger) this.#strangers.delete(key)
    const others = this.#byAddress.get(stranger.address)
    others?.delete(stranger)
    if (others?.size === 0) this.#byAddress.delete(stranger.address)
  }

  #turnAway(socket: Socket, address: string, why: string): void {
    socket.destroy()
    this.#turnedAway++
    const now = this.#clock.monotonicMs()
    if (now - this.#toldMs < TELL_MS) return
    this.#toldMs = now
    this.#log.warn({ address, why, turnedAway: this.#turnedAway }, 'strangers turned away')
  }
}

function keyOf(host: string, port: number): string {
  return `${plainAddress(host)} ${port}`
}
