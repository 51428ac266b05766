/**
 * One libp2p node: TCP, noise and yamux, and nothing else. No discovery, relay or DHT: the supernode names the peers to dial. Noise proves
 * every PeerId that appears here.
 */
import { Server, type Socket } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import type { ComponentLogger, Connection, Libp2p, Logger, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import type { Multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { systemClock } from '../core/clock.ts'
import type { PeerId } from '../core/contracts/exchange.ts'
import { asDarnerError, DarnerError, systemCode } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { eventsOnBehalf, onBehalf } from '../core/on-behalf.ts'
import { withDeadline } from '../core/signals.ts'
import { addressName, isLocalOnly, isWildcard, parseAddress } from './address.ts'
import {
  GREETING_MS,
  STREAM_CHUNK_BYTES,
  STREAM_READ_LIMIT_BYTES,
  YAMUX_INITIAL_WINDOW_BYTES,
  YAMUX_MAX_WINDOW_BYTES,
} from './constants.ts'
import { DOOR_DEFAULTS, Door, type DoorOptions } from './door.ts'
import { type Identity, isPeerId } from './identity.ts'
import { PeerStream } from './stream.ts'

export interface NodeOptions {
  /** `IP:PORT` or multiaddr text; port 0 takes a free one. Empty for a node that only dials. */
  readonly listen: readonly string[]
  readonly identity: Identity
  /** What the door lets in. */
  readonly door?: Partial<DoorOptions>
  /** Whether an inbound connection ends unless its peer is vouched for in time; else a handshake is enough. */
  readonly vouched?: boolean
  /** How long a dial may take, all addresses together. */
  readonly dialMs?: number
}

const DIAL_MS = 5000
/** Streams of one connection that are open towards us: of all our protocols together, and before the connection is set up, too. */
const MAX_INBOUND_STREAMS = 16
/** The door decides, so that the library's own bounds, which cost a walk over all connections, decide nothing. */
const ANY_ADDRESS = ['/ip4/0.0.0.0/ipcidr/0', '/ip6/::/ipcidr/0']
/** A connection that is closed in order gets this long, then it is cut. */
const CLOSE_MS = 500

/** A peer that is connected already, or addresses of one: multiaddr text or `IP:PORT`. */
export type DialTarget = PeerId | string | readonly string[]

export type StreamHandler = (stream: PeerStream, peer: PeerId) => Promise<void> | void

/** A stream and the peer that noise proved to be at its other end. */
export interface OpenedStream {
  readonly stream: PeerStream
  readonly peer: PeerId
}

export interface HandleOptions {
  /** Streams of this protocol that one connection may have open towards us; further ones are reset. */
  readonly maxInboundStreams?: number
}

export interface Node extends AsyncDisposable {
  readonly peerId: PeerId
  /** Where others reach this node: multiaddrs that end in `/p2p/ID`, wildcards spelled out as the host's real addresses. */
  readonly multiaddrs: readonly string[]
  /** Peers with an open connection. */
  readonly peers: readonly PeerId[]
  /** Connects, or finds the connection there is. Throws PEER_UNREACHABLE (names address and cause), BAD_ARGUMENT, or the signal's reason. */
  dial(target: DialTarget, options: { signal: AbortSignal }): Promise<PeerId>
  /** Serves a protocol; a handler that rejects has its stream reset. Returns the way to stop serving. */
  handle(protocol: string, handler: StreamHandler, options?: HandleOptions): Promise<() => Promise<void>>
  /** Dials when needed, then opens a stream. Throws as {@link dial}, and PEER_REFUSED when the peer doesn't speak the protocol. */
  openStream(target: DialTarget, protocol: string, options: { signal: AbortSignal }): Promise<OpenedStream>
  /** This peer has proven more than its id: its connections are no strangers' any more. */
  vouch(peer: PeerId): void
  /** Closes all connections to a peer; with `error` it cuts them at once, for peers that are dead or hostile. */
  disconnect(peer: PeerId, error?: Error): Promise<void>
  /** Calls back when the last connection to a peer is gone. Returns the unsubscriber. */
  onDisconnect(listener: (peer: PeerId) => void): () => void
  close(): Promise<void>
}

/** Starts a node and listens. Throws BAD_ARGUMENT for an unreadable address, HOST_UNABLE when it can't be listened on. */
export async function openNode(options: NodeOptions, parts: { log: Log }): Promise<Node> {
  const dialMs = options.dialMs ?? DIAL_MS
  const log = parts.log
  const door = new Door({ ...DOOR_DEFAULTS, strangerMs: GREETING_MS, ...options.door }, { clock: systemClock, log })
  const listen = options.listen.map(parseAddress)
  const libp2p = await createLibp2p({
    privateKey: options.identity.privateKey,
    addresses: { listen: listen.map(String) },
    transports: [behind(door, tcp({ dialOpts: { noDelay: true }, listenOpts: { noDelay: true }, backlog: 1024 }))],
    connectionEncrypters: [noise()],
    streamMuxers: [
      yamux({
        maxInboundStreams: MAX_INBOUND_STREAMS,
        // a dialler may open its streams before the listener's side of the handshake has settled
        maxEarlyStreams: MAX_INBOUND_STREAMS,
        streamOptions: {
          initialStreamWindowSize: YAMUX_INITIAL_WINDOW_BYTES,
          maxStreamWindowSize: YAMUX_MAX_WINDOW_BYTES,
          maxReadBufferLength: STREAM_READ_LIMIT_BYTES,
          maxWriteBufferLength: STREAM_READ_LIMIT_BYTES + STREAM_CHUNK_BYTES,
        },
      }),
    ],
    connectionGater: {
      denyInboundConnection: async ({ remoteAddr }) => !(await door.turn(...placeOf(remoteAddr))),
    },
    connectionManager: {
      allow: ANY_ADDRESS,
      inboundUpgradeTimeout: GREETING_MS,
      maxParallelDials: 64,
      dialTimeout: dialMs,
      addressDialTimeout: dialMs,
      connectionCloseTimeout: CLOSE_MS,
      reconnectRetries: 0,
    },
    // sessions have a heartbeat of their own, and yamux pings what has no session
    connectionMonitor: { enabled: false },
    logger: QUIET,
    start: false,
  })
  try {
    await libp2p.start()
  } catch (error) {
    const where = options.listen.join(', ')
    const reason = reasonOf(error)
    throw new DarnerError('HOST_UNABLE', `cannot listen on ${where}: ${reason}`, {
      cause: error,
      details: { where },
      ...(reason === 'EADDRINUSE' ? { way: 'stop what listens there, or name another address with --p2p-listen' } : {}),
    })
  }
  return new Libp2pNode({ ...options, dialMs }, listen, libp2p, { door, log })
}

/** Has each connection that a transport's listeners accept pass the door before the library sees it. */
function behind(door: Door, open: ReturnType<typeof tcp>): ReturnType<typeof tcp> {
  return (components) => {
    const transport = open(components)
    const createListener = transport.createListener.bind(transport)
    transport.createListener = (options) => {
      const listener = createListener(options)
      const server = 'server' in listener ? listener.server : undefined
      if (!(server instanceof Server)) throw new DarnerError('INTERNAL', 'the TCP transport has no server to guard')
      const accept = server.listeners('connection') as ((socket: Socket) => void)[]
      server.removeAllListeners('connection')
      server.on('connection', (socket) => {
        if (!door.take(socket)) return
        const cut = () => void socket.destroy()
        eventsOnBehalf(socket, cut)
        onBehalf(cut, () => {
          for (const one of accept) one(socket)
        })
      })
      return listener
    }
    return transport
  }
}

function placeOf(address: Multiaddr): [host: string, port: number] {
  const [host, tcp] = address.getComponents()
  return [host?.value ?? '', Number(tcp?.value)]
}

class Libp2pNode implements Node {
  readonly peerId: PeerId
  readonly #options: { readonly dialMs: number }
  readonly #listen: readonly Multiaddr[]
  readonly #libp2p: Libp2p
  readonly #door: Door
  readonly #log: Log
  #closing: Promise<void> | undefined

  constructor(
    options: NodeOptions & { readonly dialMs: number },
    listen: readonly Multiaddr[],
    libp2p: Libp2p,
    { door, log }: { door: Door; log: Log },
  ) {
    this.#options = options
    this.#listen = listen
    this.#libp2p = libp2p
    this.#door = door
    this.#log = log
    if (options.vouched !== true)
      libp2p.addEventListener('connection:open', ({ detail }) => door.admit(...placeOf(detail.remoteAddr)))
    this.peerId = options.identity.peerId
    libp2p.addEventListener('peer:disconnect', ({ detail }) => {
      // what the library remembers of peers would otherwise grow with every peer ever met
      libp2p.peerStore
        .delete(detail)
        .catch((error: unknown) => log.debug({ error, peer: detail.toString() }, 'peer record kept'))
    })
  }

  get multiaddrs(): readonly string[] {
    const all = this.#libp2p.getMultiaddrs()
    if (!this.#listen.some(isWildcard)) return all.map(String)
    const open = all.filter((one) => !isLocalOnly(one))
    return (open.length > 0 ? open : all).map(String)
  }

  get peers(): readonly PeerId[] {
    return this.#libp2p.getPeers().map((one) => one.toString() as PeerId)
  }

  async dial(target: DialTarget, options: { signal: AbortSignal }): Promise<PeerId> {
    return (await this.#connect(target, options.signal)).remotePeer.toString() as PeerId
  }

  async handle(protocol: string, handler: StreamHandler, options: HandleOptions = {}): Promise<() => Promise<void>> {
    const serve = (raw: Stream, connection: Connection) => {
      const peer = connection.remotePeer.toString() as PeerId
      const stream = new PeerStream(raw, streamName(protocol, peer))
      const run = async () => {
        try {
          await handler(stream, peer)
        } catch (error) {
          this.#log.debug({ error, peer, protocol }, 'stream handler failed')
          stream.abort(asDarnerError(error, streamName(protocol, peer)))
        }
      }
      void run()
    }
    await this.#libp2p.handle(protocol, serve, {
      maxInboundStreams: options.maxInboundStreams ?? 64,
      maxOutboundStreams: 1024,
    })
    return () => this.#libp2p.unhandle(protocol)
  }

  async openStream(target: DialTarget, protocol: string, { signal }: { signal: AbortSignal }): Promise<OpenedStream> {
    const connection = await this.#connect(target, signal)
    const peer = connection.remotePeer.toString() as PeerId
    const name = streamName(protocol, peer)
    try {
      const stream = await connection.newStream(protocol, {
        signal: withDeadline(signal, this.#options.dialMs),
        maxOutboundStreams: 1024,
      })
      return { stream: new PeerStream(stream, name), peer }
    } catch (error) {
      signal.throwIfAborted()
      const where = addressName(connection.remoteAddr)
      if (error instanceof Error && error.name === 'UnsupportedProtocolError') {
        throw new DarnerError('PEER_REFUSED', `${name} (${where}): the peer does not speak this protocol`, {
          cause: error,
        })
      }
      throw new DarnerError('PEER_UNREACHABLE', `${name} (${where}): ${reasonOf(error)}`, {
        cause: error,
        details: { peer },
      })
    }
  }

  vouch(peer: PeerId): void {
    for (const { remoteAddr } of this.#connectionsOf(peer)) this.#door.admit(...placeOf(remoteAddr))
  }

  async disconnect(peer: PeerId, error?: Error): Promise<void> {
    for (const connection of this.#connectionsOf(peer)) {
      if (error !== undefined) connection.abort(error)
      else await closeConnection(connection)
    }
  }

  onDisconnect(listener: (peer: PeerId) => void): () => void {
    const onEvent = ({ detail }: { detail: { toString(): string } }) => listener(detail.toString() as PeerId)
    this.#libp2p.addEventListener('peer:disconnect', onEvent)
    return () => this.#libp2p.removeEventListener('peer:disconnect', onEvent)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    await Promise.all(this.#libp2p.getConnections().map(closeConnection))
    await this.#libp2p.stop()
  }

  #connectionsOf(peer: PeerId): readonly Connection[] {
    return isPeerId(peer) ? this.#libp2p.getConnections(peerIdFromString(peer)) : []
  }

  async #connect(target: DialTarget, signal: AbortSignal): Promise<Connection> {
    signal.throwIfAborted()
    if (this.#closing !== undefined) throw new DarnerError('CLOSED', 'dial: this node is closed')
    const { peer, addresses, text } = readTarget(target)
    if (peer === this.peerId) throw new DarnerError('BAD_ARGUMENT', `dial ${text}: that is this node itself`)
    if (peer !== undefined) {
      const open = this.#connectionsOf(peer).find((one) => one.status === 'open')
      if (open !== undefined) return open
    }
    const deadline = withDeadline(signal, this.#options.dialMs)
    try {
      return await this.#libp2p.dial(
        addresses.length === 0 && peer !== undefined ? peerIdFromString(peer) : [...addresses],
        { signal: deadline },
      )
    } catch (error) {
      signal.throwIfAborted()
      const why = deadline.aborted ? `no answer within ${this.#options.dialMs} ms (ETIMEDOUT)` : reasonOf(error)
      throw new DarnerError('PEER_UNREACHABLE', `dial ${text}: ${why}`, {
        cause: error,
        details: { peer, system: systemCodes(error)[0] },
      })
    }
  }
}

function readTarget(target: DialTarget): { peer: PeerId | undefined; addresses: readonly Multiaddr[]; text: string } {
  if (typeof target === 'string' && isPeerId(target)) return { peer: target, addresses: [], text: target }
  const texts = typeof target === 'string' ? [target] : target
  const addresses = texts.map(parseAddress)
  const ids = new Set(addresses.map((one) => one.getComponents().find((part) => part.name === 'p2p')?.value))
  const [peer] = ids
  if (ids.size !== 1 || (peer !== undefined && !isPeerId(peer))) {
    throw new DarnerError('BAD_ARGUMENT', `dial ${texts.join(', ').slice(0, 400)}: expected addresses of one peer`)
  }
  const names = addresses.map(addressName).join(', ')
  return { peer, addresses, text: peer === undefined ? names : `${peer} at ${names}` }
}

async function closeConnection(connection: Connection): Promise<void> {
  try {
    await connection.close({ signal: AbortSignal.timeout(CLOSE_MS) })
  } catch (error) {
    connection.abort(asDarnerError(error, 'closing a connection'))
  }
}

function streamName(protocol: string, peer: PeerId): string {
  return `${protocol} with ${peer}`
}

/** Whether the library has tripped over an HTTP answer, whose first letter, H, it reads as a length of 72. */
function isOfHttp(error: unknown): boolean {
  return error instanceof Error && /^Missing newline$|while reading \d+\/72 bytes$/.test(error.message)
}

/** What failed, with the system's code in front: `ECONNREFUSED`, or the library's words where the system has none. */
function reasonOf(error: unknown): string {
  const codes = systemCodes(error)
  if (codes.length > 0) return codes.join(', ')
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(', ')
  if (isOfHttp(error))
    return "what listens there doesn't speak libp2p: is it the port for agents (p2pListen, 7071), not the HTTP one?"
  const message = error instanceof Error ? error.message : String(error)
  // the library reports failed listeners in text only, stacks included
  return /\berror: listen (E[A-Z]{3,})\b/i.exec(message)?.[1] ?? message
}

function systemCodes(error: unknown): string[] {
  const all = error instanceof AggregateError ? error.errors : [error]
  return [...new Set(all.map(systemCode).filter((code) => code !== undefined))]
}

/** The library logs per frame; what matters comes to us as errors and events. */
const quiet: Logger = Object.assign(() => undefined, {
  enabled: false,
  error: () => undefined,
  trace: () => undefined,
  newScope: () => quiet,
})
const QUIET: ComponentLogger = { forComponent: () => quiet }
