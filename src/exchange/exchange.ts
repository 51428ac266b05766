/** PieceExchange over the lane: one connection for each parent, shared by all tasks; TLS first, libp2p where that fails. */
import type { Clock } from '../core/clock.ts'
import type {
  OpenOptions,
  ParentChannel,
  PeerAddress,
  PeerId,
  PieceExchange,
  Shelf,
} from '../core/contracts/exchange.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { Scope } from '../core/scope.ts'
import { abortable } from '../core/signals.ts'
import type { Task } from '../core/task/task.ts'
import type { Identity } from '../protocol/identity.ts'
import type { Node } from '../protocol/node.ts'
import { PiecePool } from '../store/partial/piece-pool.ts'
import { FETCH_DEFAULTS, type FetchOptions, FetchSide } from './child/fetch.ts'
import { RateLimits } from './limits/limits.ts'
import { SERVE_DEFAULTS, type ServeOptions, ServeSide } from './parent/serve.ts'
import { SLOT_DEFAULTS, type SlotOptions, UploadSlots } from './parent/slots.ts'
import type { ByteStream, FrameTransport } from './transport/byte-stream.ts'
import { makeLaneCertificate } from './transport/lane-identity.ts'
import { Libp2pTransport } from './transport/libp2p-transport.ts'
import { LaneLink, LINK_DEFAULTS, type LinkOptions } from './transport/link.ts'
import { SegmentPool } from './transport/segments.ts'
import { parseLane, TLS_DEFAULTS, TlsTransport, type TlsTransportOptions } from './transport/tls.ts'

export interface ExchangeOptions {
  /** `IP:PORT` where the TLS lane listens; a pure child leaves it out. Port 0 takes a free one. */
  readonly listen?: string
  /** Lanes to announce in place of the one listened on: behind address translation, or when `listen.host` is a wildcard. */
  readonly announce?: readonly string[]
  readonly tls?: Partial<Omit<TlsTransportOptions, 'listen'>>
  readonly link?: Partial<LinkOptions>
  readonly serve?: Partial<ServeOptions>
  readonly fetch?: Partial<FetchOptions>
  readonly slots?: Partial<SlotOptions>
  /** Connections that one peer may hold to us; a newer one ends the oldest. */
  readonly maxLinksPerPeer?: number
  /** After a lane address failed, its fallback is dialled at once for this long; then a connection by it is replaced when it can be. */
  readonly laneRetryMs?: number
}

export interface ExchangeParts {
  readonly identity: Pick<Identity, 'privateKey'>
  readonly shelf: Shelf
  /** Whether a peer may read here at all; asked at each handshake. */
  readonly admit: (peer: PeerId) => boolean
  readonly clock: Clock
  readonly log: Log
  /** Shared with other movers of bulk bytes; unlimited when left out. Stays its owner's. */
  readonly limits?: RateLimits
  /** Gives the libp2p fallback. Stays its owner's. */
  readonly node?: Node
  /** Told of each peer that broke the protocol. */
  readonly onViolation?: (peer: PeerId, error: DarnerError) => void
}

export interface LaneStats {
  /** Connections to parents and from children, and the channels on them. */
  readonly parents: number
  readonly children: number
  readonly openAtParents: number
  readonly openForChildren: number
  readonly uploadSlots: number
  readonly uploading: number
}

const SLOT_TICK_MS = 250
const MAX_LINKS_PER_PEER = 4
const LANE_RETRY_MS = 30_000

interface Upstream {
  readonly link: LaneLink
  readonly side: FetchSide
  /** By the fallback, though the parent announces lanes. */
  readonly roundabout: boolean
}

interface Downstream {
  readonly link: LaneLink
  readonly side: ServeSide
}

/** Starts to listen (where the options say so) and returns the exchange. Throws BAD_ARGUMENT, or CONFLICT when the address is taken. */
export async function openExchange(options: ExchangeOptions, parts: ExchangeParts): Promise<LaneExchange> {
  const { identity, shelf, admit, clock, log, limits, node, onViolation } = parts
  const listen = options.listen === undefined ? undefined : parsePlace(options.listen)
  const certificate = await makeLaneCertificate(identity.privateKey)
  const tls = new TlsTransport({ ...TLS_DEFAULTS, ...options.tls, ...(listen ? { listen } : {}) }, { certificate, log })
  const exchange = new LaneExchange(options, {
    shelf,
    admit,
    clock,
    log,
    limits: limits ?? new RateLimits({ clock }),
    tls,
    vouch: (peer) => node?.vouch(peer),
    ...(node ? { fallback: new Libp2pTransport({ node }) } : {}),
    ...(onViolation ? { onViolation } : {}),
  })
  try {
    await exchange.start()
    return exchange
  } catch (error) {
    await exchange[Symbol.asyncDispose]()
    throw error
  }
}

function parsePlace(text: string): { host: string; port: number } {
  const place = parseLane(text, 0)
  if (place === undefined) throw new DarnerError('BAD_ARGUMENT', `lane: ${JSON.stringify(text)} is not IP:PORT`)
  return place
}

interface LaneParts {
  readonly shelf: Shelf
  /** A peer showed a good pass: it is no stranger to our node. */
  readonly vouch: (peer: PeerId) => void
  readonly admit: (peer: PeerId) => boolean
  readonly clock: Clock
  readonly log: Log
  readonly limits: RateLimits
  readonly onViolation?: (peer: PeerId, error: DarnerError) => void
  /** Owned. */
  readonly tls: TlsTransport
  /** Owned. */
  readonly fallback?: FrameTransport
}

/** Made by {@link openExchange}. */
export class LaneExchange implements PieceExchange {
  readonly #options: ExchangeOptions
  readonly #parts: LaneParts
  readonly #linkOptions: LinkOptions
  readonly #slots: UploadSlots
  readonly #pool = new SegmentPool()
  readonly #pieces = new PiecePool()
  readonly #scope = new Scope()
  readonly #upstreams = new Map<PeerId, Promise<Upstream>>()
  readonly #live = new Map<PeerId, Upstream>()
  /** Connections by the fallback whose peer was reached by its lane since: they end once their tasks are over. */
  readonly #replaced = new Set<Upstream>()
  readonly #downstreams = new Map<PeerId, Downstream[]>()
  readonly #laneFailedAtMs = new Map<PeerId, number>()
  /** Lanes that are dialled beside a connection by the fallback. */
  readonly #retrying = new Set<PeerId>()
  #lanes: readonly string[] = []

  constructor(options: ExchangeOptions, parts: LaneParts) {
    this.#options = options
    this.#parts = parts
    this.#linkOptions = { ...LINK_DEFAULTS, ...options.link }
    this.#slots = new UploadSlots({ ...SLOT_DEFAULTS, ...options.slots }, { nowMs: () => parts.clock.monotonicMs() })
    parts.tls.onInbound((stream) => this.#inbound(stream))
    parts.fallback?.onInbound((stream) => this.#inbound(stream))
  }

  async start(): Promise<void> {
    const listened = await this.#parts.tls.listen()
    this.#lanes = this.#options.announce ?? listened
    this.#scope.run(async (signal) => {
      for (;;) {
        await this.#parts.clock.sleep(SLOT_TICK_MS, { signal })
        this.#slots.tick()
      }
    })
    // one timer for all: with many peers one for each was more work than what it looks after
    this.#scope.run(async (signal) => {
      for (;;) {
        await this.#parts.clock.sleep(this.#linkOptions.tickMs, { signal })
        for (const { link } of this.#links) link.tick()
      }
    })
  }

  get lanes(): readonly string[] {
    return this.#lanes
  }

  stats(): LaneStats {
    const children = [...this.#downstreams.values()].flat()
    const parents = [...this.#live.values(), ...this.#replaced]
    return {
      parents: parents.length,
      children: children.length,
      openAtParents: parents.reduce((sum, { side }) => sum + side.channels, 0),
      openForChildren: children.reduce((sum, { side }) => sum + side.channels, 0),
      uploadSlots: this.#slots.limit,
      uploading: this.#slots.inService,
    }
  }

  /** The connections to parents and from children. */
  get #links(): (Upstream | Downstream)[] {
    return [...this.#live.values(), ...this.#replaced, ...[...this.#downstreams.values()].flat()]
  }

  /** Ends every connection with a peer: it was banned or revoked. */
  drop(peer: PeerId, why: string): void {
    for (const { link } of this.#links) if (link.peer === peer) link.close('ADMISSION_REFUSED', why)
  }

  async open(parent: PeerAddress, task: Task, options: OpenOptions): Promise<ParentChannel> {
    options.signal.throwIfAborted()
    this.#scope.signal.throwIfAborted()
    let upstream = await abortable(this.#upstream(parent), options.signal)
    // a connection may end for want of use just as it is wanted again
    if (upstream.link.failure !== undefined) upstream = await abortable(this.#upstream(parent), options.signal)
    if (upstream.roundabout) this.#retryLane(parent, upstream)
    return upstream.side.open(task, options)
  }

  /** The connection to a parent, dialled once however many ask at the same time. */
  #upstream(parent: PeerAddress): Promise<Upstream> {
    const known = this.#upstreams.get(parent.peer)
    if (known !== undefined) return known
    const dialled = this.#dial(parent)
    this.#upstreams.set(parent.peer, dialled)
    const forget = () => {
      if (this.#upstreams.get(parent.peer) === dialled) this.#upstreams.delete(parent.peer)
    }
    this.#scope.run(async () => {
      try {
        await (await dialled).link.closed
      } catch {
        // every caller that waits for the dial gets the result
      } finally {
        forget()
      }
    })
    return dialled
  }

  async #dial(parent: PeerAddress): Promise<Upstream> {
    const { stream, roundabout } = await this.#dialStream(parent, this.#scope.signal)
    return this.#begin(stream, roundabout)
  }

  #begin(stream: ByteStream, roundabout: boolean): Upstream {
    const link = new LaneLink(stream, this.#linkOptions, { clock: this.#parts.clock })
    const side: FetchSide = new FetchSide(
      { ...FETCH_DEFAULTS, ...this.#options.fetch },
      {
        link,
        limits: this.#parts.limits,
        pieces: this.#pieces,
        clock: this.#parts.clock,
        onClosed: (error) => this.#lost(upstream, error),
      },
    )
    const upstream: Upstream = { link, side, roundabout }
    this.#live.set(link.peer, upstream)
    link.start(side)
    return upstream
  }

  /** A host that is overloaded answers its lane too late, and the fallback loads it far more: it is left when there is a way. */
  #retryLane(parent: PeerAddress, by: Upstream): void {
    const { peer } = parent
    if (this.#retrying.has(peer) || this.#lanesRest(peer)) return
    this.#retrying.add(peer)
    this.#scope.run(async (signal) => {
      try {
        const stream = await this.#parts.tls.dial(parent, { signal })
        this.#laneFailedAtMs.delete(peer)
        // lost meanwhile: the next user of the peer dials anew
        if (this.#live.get(peer) !== by) return stream.end()
        this.#replaced.add(by)
        this.#upstreams.set(peer, Promise.resolve(this.#begin(stream, false)))
      } catch {
        this.#laneFailedAtMs.set(peer, this.#parts.clock.monotonicMs())
      } finally {
        this.#retrying.delete(peer)
      }
    })
  }

  #lanesRest(peer: PeerId): boolean {
    const failedAtMs = this.#laneFailedAtMs.get(peer)
    const { laneRetryMs = LANE_RETRY_MS } = this.#options
    return failedAtMs !== undefined && this.#parts.clock.monotonicMs() - failedAtMs < laneRetryMs
  }

  async #dialStream(parent: PeerAddress, signal: AbortSignal): Promise<{ stream: ByteStream; roundabout: boolean }> {
    const { tls, fallback, clock, log } = this.#parts
    const useFallback = fallback !== undefined && parent.multiaddrs.length > 0
    const laneless = parent.lanes.length === 0
    if (laneless || (useFallback && this.#lanesRest(parent.peer))) {
      if (useFallback) return { stream: await fallback.dial(parent, { signal }), roundabout: !laneless }
      throw new DarnerError('PEER_UNREACHABLE', `peer ${parent.peer}: it announces no address that can be dialled`, {
        details: { peer: parent.peer },
      })
    }
    try {
      const stream = await tls.dial(parent, { signal })
      this.#laneFailedAtMs.delete(parent.peer)
      return { stream, roundabout: false }
    } catch (error) {
      if (!useFallback || signal.aborted) throw error
      log.debug({ peer: parent.peer, error }, 'lane not reached, using libp2p')
      this.#laneFailedAtMs.set(parent.peer, clock.monotonicMs())
      return { stream: await fallback.dial(parent, { signal }), roundabout: true }
    }
  }

  #lost(upstream: Upstream, error: DarnerError): void {
    const { peer } = upstream.link
    if (!this.#replaced.delete(upstream) && this.#live.get(peer) === upstream) {
      this.#live.delete(peer)
      this.#upstreams.delete(peer)
    }
    this.#report(peer, error)
  }

  #inbound(stream: ByteStream): void {
    const { shelf, limits, clock, log, admit } = this.#parts
    const peer = stream.remote
    const link = new LaneLink(stream, this.#linkOptions, { clock })
    const side: ServeSide = new ServeSide(
      { ...SERVE_DEFAULTS, ...this.#options.serve },
      {
        link,
        shelf,
        slots: this.#slots,
        limits,
        pool: this.#pool,
        clock,
        log,
        onOpened: () => this.#parts.vouch(peer),
        onClosed: (error) => this.#left(downstream, error),
      },
    )
    const downstream: Downstream = { link, side }
    link.start(side)
    if (this.#scope.signal.aborted || !admit(peer)) {
      log.info({ peer }, 'stranger refused on the lane')
      link.close('ADMISSION_REFUSED', 'this peer is not admitted')
      return
    }
    const links = this.#downstreams.get(peer) ?? []
    links.push(downstream)
    this.#downstreams.set(peer, links)
    // a peer needs one; an older one is most likely the remains of a lost connection
    while (links.length > (this.#options.maxLinksPerPeer ?? MAX_LINKS_PER_PEER))
      links[0]?.link.close('BUSY', 'too many connections of this peer')
  }

  #left(downstream: Downstream, error: DarnerError): void {
    const { peer } = downstream.link
    const links = this.#downstreams.get(peer) ?? []
    const at = links.indexOf(downstream)
    if (at >= 0) links.splice(at, 1)
    if (links.length === 0) this.#downstreams.delete(peer)
    this.#report(peer, error)
  }

  #report(peer: PeerId, error: DarnerError): void {
    this.#parts.log.debug({ peer, code: error.code, error: error.message }, 'lane connection ended')
    if (isDarnerError(error, 'PROTOCOL_VIOLATION')) this.#parts.onViolation?.(peer, asDarnerError(error, 'lane'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { link } of this.#links) link.close('CLOSED', 'shutting down')
    await this.#scope.close(new DarnerError('CLOSED', 'exchange closed'))
    await this.#parts.fallback?.[Symbol.asyncDispose]()
    await this.#parts.tls[Symbol.asyncDispose]()
  }
}
