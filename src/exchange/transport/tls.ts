/**
 * The TLS lane: mutual TLS 1.3 whose certificates are bound to PeerIds. Listens, dials, and holds the caps that keep
 * strangers who never finish a handshake from taking anything of worth.
 */
import { constants } from 'node:crypto'
import { createServer, isIP, type OnReadOpts, type Server, type Socket } from 'node:net'
import { type ConnectionOptions, connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import type { PeerAddress, PeerId } from '../../core/contracts/exchange.ts'
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import { onBehalf } from '../../core/on-behalf.ts'
import { AcceptedSocket } from './accepted-socket.ts'
import type { ByteStream, FrameTransport } from './byte-stream.ts'
import { LANE_ALPN } from './lane-frames.ts'
import { type LaneCertificate, verifyLaneCertificate } from './lane-identity.ts'
import { descriptorOf } from './tcp-round-trip.ts'
import { TlsStream } from './tls-stream.ts'

/** AES-128 first: the same strength for this purpose as AES-256 and a third cheaper; ChaCha for hosts without AES. */
export const LANE_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384'
/** As much as a TLS record brings, which Node hands over one by one: a full one needs no view of its own. */
const READ_BUFFER_BYTES = 16 * 1024
const MAX_LANES = 4

export interface TlsTransportOptions {
  /** Where to listen; nothing is listened on without it. Port 0 takes a free one. */
  readonly listen?: { readonly host: string; readonly port: number }
  /** Most inbound connections. */
  readonly maxConnections: number
  /** Most connections of one address whose handshake is not done. */
  readonly maxHandshakesPerAddress: number
  /** Most connections from one address. */
  readonly maxConnectionsPerAddress: number
  /** How long a handshake may take on either side. Longer than a dial: its steps need both programs to run, on hosts that may be overloaded. */
  readonly handshakeMs: number
  /** How long one lane address may take to be connected, which its kernel does, before the next is tried. */
  readonly dialMs: number
}

export const TLS_DEFAULTS = {
  maxConnections: 1024,
  maxHandshakesPerAddress: 16,
  maxConnectionsPerAddress: 256,
  handshakeMs: 10_000,
  dialMs: 3000,
} as const

/** Splits `host:port` or `[v6]:port`; undefined when it is neither. */
export function parseLane(lane: string, leastPort = 1): { host: string; port: number } | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/]{1,253})):(\d{1,5})$/.exec(lane)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || port < leastPort || port > 65535 || (match?.[1] !== undefined && isIP(host) !== 6))
    return undefined
  return { host, port }
}

export function formatLane(host: string, port: number): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}

export class TlsTransport implements FrameTransport {
  readonly #options: TlsTransportOptions
  /** For both sides of every connection; making one takes 0.4 ms. */
  readonly #context: SecureContext
  readonly #log: Log
  readonly #sockets = new Set<Socket>()
  readonly #perAddress = new Map<string, { open: number; shaking: number }>()
  #server: Server | undefined
  #handler: ((stream: ByteStream) => void) | undefined

  constructor(options: TlsTransportOptions, parts: { certificate: LaneCertificate; log: Log }) {
    this.#options = options
    this.#context = createSecureContext({
      cert: parts.certificate.certPem,
      key: parts.certificate.keyPem,
      ciphers: LANE_CIPHERS,
      minVersion: 'TLSv1.3',
      // a resumed session would carry no certificate
      secureOptions: constants.SSL_OP_NO_TICKET,
    })
    this.#log = parts.log
  }

  onInbound(handler: (stream: ByteStream) => void): void {
    this.#handler = handler
  }

  /** Starts to listen and returns the lanes; none when the options name no place. Throws the system's error, coded. */
  async listen(): Promise<string[]> {
    const { listen } = this.#options
    if (listen === undefined) return []
    const server = createServer({ noDelay: true }, (socket) =>
      onBehalf(
        () => void socket.destroy(),
        () => this.#accept(socket),
      ),
    )
    server.maxConnections = this.#options.maxConnections
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        reject(
          new DarnerError(
            'CONFLICT',
            `lane: cannot listen on ${formatLane(listen.host, listen.port)}: ${error.message}`,
            { cause: error },
          ),
        )
      })
      server.listen({ host: listen.host, port: listen.port, backlog: 511 }, resolve)
    })
    const address = server.address()
    if (address === null || typeof address === 'string')
      throw new DarnerError('INTERNAL', 'lane: no address after listen')
    return [formatLane(listen.host, address.port)]
  }

  #accept(socket: Socket): void {
    const address = socket.remoteAddress ?? ''
    const counts = this.#perAddress.get(address) ?? { open: 0, shaking: 0 }
    if (
      counts.open >= this.#options.maxConnectionsPerAddress ||
      counts.shaking >= this.#options.maxHandshakesPerAddress
    ) {
      this.#log.debug({ address, ...counts }, 'lane connection over the cap')
      socket.destroy()
      return
    }
    this.#perAddress.set(address, counts)
    this.#sockets.add(socket)
    counts.open++
    counts.shaking++
    let shaking = true
    const shaken = () => {
      if (shaking) counts.shaking--
      shaking = false
    }
    socket.once('close', () => {
      shaken()
      counts.open--
      this.#sockets.delete(socket)
      if (counts.open === 0) this.#perAddress.delete(address)
    })
    socket.on('error', () => socket.destroy())
    const { handshakeMs } = this.#options
    const timer = setTimeout(() => {
      this.#log.debug({ address, handshakeMs }, 'lane handshake took too long')
      socket.destroy()
    }, handshakeMs)
    socket.once('close', () => clearTimeout(timer))
    const descriptor = descriptorOf(socket)
    const secure = new AcceptedSocket(socket, {
      isServer: true,
      secureContext: this.#context,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: [LANE_ALPN],
    })
    const stream = new TlsStream(secure, descriptor)
    secure.onBytes((chunk) => stream.feed(chunk, false))
    secure.once('secure', () => {
      void this.#welcome(secure, stream).then(() => {
        clearTimeout(timer)
        shaken()
      })
    })
  }

  /** Never rejects: what is wrong with the newcomer ends its connection. */
  async #welcome(socket: TLSSocket, stream: TlsStream): Promise<void> {
    try {
      stream.remote = await peerOf(socket)
      if (this.#handler === undefined) throw new DarnerError('CLOSED', 'lane: nobody takes connections')
      this.#handler(stream)
    } catch (error) {
      const known = asDarnerError(error, 'lane handshake')
      this.#log.debug({ address: socket.remoteAddress, error: known }, 'lane connection refused')
      stream.abort(known)
    }
  }

  async dial(address: PeerAddress, { signal }: { signal: AbortSignal }): Promise<ByteStream> {
    const seen: string[] = []
    let cause: unknown
    for (const lane of address.lanes.slice(0, MAX_LANES)) {
      const place = parseLane(lane)
      if (place === undefined) {
        seen.push(`${JSON.stringify(lane.slice(0, 80))} is not an address`)
        continue
      }
      try {
        return await this.#connect(place, address.peer, signal)
      } catch (error) {
        signal.throwIfAborted()
        cause = error
        seen.push(`${lane}: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    const what = seen.length === 0 ? 'it announces none' : seen.join('; ')
    throw new DarnerError('PEER_UNREACHABLE', `lane of peer ${address.peer}: ${what}`, {
      cause,
      details: { peer: address.peer },
    })
  }

  async #connect(place: { host: string; port: number }, expected: PeerId, signal: AbortSignal): Promise<ByteStream> {
    const { dialMs, handshakeMs } = this.#options
    signal.throwIfAborted()
    let stream: TlsStream | undefined
    // the types of tls.connect leave out that it passes these two on to the socket
    const options: ConnectionOptions & { noDelay: boolean; onread: OnReadOpts } = {
      ...place,
      secureContext: this.#context,
      rejectUnauthorized: false,
      ALPNProtocols: [LANE_ALPN],
      noDelay: true,
      // reads go into one buffer that is used again and again: no allocation for each TLS record
      onread: {
        buffer: Buffer.allocUnsafeSlow(READ_BUFFER_BYTES),
        callback: (count, buffer) =>
          stream?.feed(count === buffer.byteLength ? buffer : buffer.subarray(0, count), true) ?? false,
      },
    }
    const socket = connect(options)
    stream = new TlsStream(socket)
    const onAbort = () => socket.destroy(asError(signal.reason))
    signal.addEventListener('abort', onAbort, { once: true })
    const late = (ms: number, what: string) =>
      setTimeout(() => socket.destroy(new DarnerError('PEER_UNREACHABLE', `no ${what} in ${ms} ms`)), ms)
    let timer = late(dialMs, 'connection')
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', () => {
          clearTimeout(timer)
          timer = late(handshakeMs, 'end of the handshake')
        })
        socket.once('secureConnect', resolve)
        socket.once('error', reject)
        socket.once('close', () => reject(new DarnerError('PEER_UNREACHABLE', 'the connection ended in the handshake')))
      })
      const peer = await peerOf(socket)
      if (peer !== expected) throw new DarnerError('PROTOCOL_VIOLATION', `${peer} answered in place of ${expected}`)
      stream.remote = peer
      signal.throwIfAborted()
      return stream
    } catch (error) {
      stream.abort(asError(error))
      throw error
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const server = this.#server
    this.#server = undefined
    for (const socket of this.#sockets) socket.destroy()
    if (server !== undefined) await new Promise<void>((resolve) => server.close(() => resolve()))
  }
}

const asError = (reason: unknown) => (reason instanceof Error ? reason : new Error(String(reason)))

/** The PeerId behind a socket whose handshake is done. Throws PROTOCOL_VIOLATION. */
async function peerOf(socket: TLSSocket): Promise<PeerId> {
  if (socket.alpnProtocol !== LANE_ALPN)
    throw new DarnerError('PROTOCOL_VIOLATION', `lane: speaks ${socket.alpnProtocol || 'no known protocol'}`)
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) throw new DarnerError('PROTOCOL_VIOLATION', 'lane: no certificate shown')
  return verifyLaneCertificate(certificate.raw, Date.now())
}
