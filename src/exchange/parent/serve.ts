/** The parent's half of a lane connection: answers one child from the shelf. */
import type { Clock } from '../../core/clock.ts'
import type { Shelf } from '../../core/contracts/exchange.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { RateLimits } from '../limits/limits.ts'
import {
  ANY_EARLY,
  ANY_SURE,
  creditOf,
  decodeOpen,
  decodeRuns,
  encodeOpened,
  encodeRuns,
  encodeText,
  FRAME,
  type FrameHeader,
  OPEN_BACKGROUND,
  OPEN_METERED,
  OPENED_SILENT,
  REFUSAL,
  type Refusal,
} from '../transport/lane-frames.ts'
import type { LaneLink, LinkHandler } from '../transport/link.ts'
import type { SegmentPool } from '../transport/segments.ts'
import { PieceSender } from './piece-sender.ts'
import { ServedChannel, type ServedRequest } from './served-channel.ts'
import type { UploadSlots } from './slots.ts'

export interface ServeOptions {
  readonly maxChannels: number
  /** Tasks of one connection that the shelf may be asked for at a time. */
  readonly maxOpening: number
  /** Unanswered requests of one channel. */
  readonly maxRequests: number
  /** News of pieces wait for this long for company, or until there are `newsPieces` of them. */
  readonly newsMs: number
  readonly newsPieces: number
  /** The same of a child that leaves the choice to us and lacks more than `fewPieces`: what it will do doesn't depend on them. */
  readonly idleNewsMs: number
  readonly fewPieces: number
  /** The same of a child that asks nothing now and only looks on, and of one that gets everything here, without an offer. */
  readonly unaskedNewsMs: number
  readonly sureNewsMs: number
}

export const SERVE_DEFAULTS: ServeOptions = {
  maxChannels: 256,
  maxOpening: 16,
  maxRequests: 64,
  newsMs: 50,
  newsPieces: 64,
  idleNewsMs: 200,
  fewPieces: 32,
  unaskedNewsMs: 400,
  sureNewsMs: 1000,
}

/** The longest that news wait where pieces come slowly. */
const MOST_NEWS_MS = 1000

export interface ServeParts {
  readonly link: LaneLink
  readonly shelf: Shelf
  readonly slots: UploadSlots
  readonly limits: RateLimits
  readonly pool: SegmentPool
  readonly clock: Clock
  readonly log: Log
  /** A pass of the child was good. */
  readonly onOpened: () => void
  readonly onClosed: (error: DarnerError) => void
}

export class ServeSide implements LinkHandler {
  readonly #options: ServeOptions
  readonly #parts: ServeParts
  readonly #link: LaneLink
  readonly #sender: PieceSender
  readonly #channels = new Map<number, ServedChannel>()
  readonly #opening = new Map<number, AbortController>()
  /** Channels that we ended and the child has not yet closed. */
  readonly #ended = new Set<number>()
  readonly #news = new Set<ServedChannel>()

  constructor(options: ServeOptions, parts: ServeParts) {
    this.#options = options
    this.#parts = parts
    this.#link = parts.link
    this.#sender = new PieceSender({
      ...parts,
      mayRead: (channel) => this.#mayRead(channel),
      cancelled: (channel, request) => this.#unsent(channel, request, 'CANCELLED'),
      failed: (channel, request, error) => this.#failed(channel, request, error),
    })
  }

  busy(): boolean {
    return this.#channels.size > 0 || this.#opening.size > 0
  }

  get channels(): number {
    return this.#channels.size
  }

  onClosed(error: DarnerError): void {
    for (const opening of this.#opening.values()) opening.abort(error)
    for (const channel of this.#channels.values()) channel[Symbol.dispose]()
    this.#channels.clear()
    this.#sender.stop()
    this.#parts.onClosed(error)
  }

  onTick(): void {
    for (const channel of [...this.#channels.values()]) if (this.#mayRead(channel)) channel.tick()
  }

  onFrame(header: FrameHeader, payload: Buffer): Promise<void> | void {
    if (header.type === FRAME.OPEN) {
      this.#open(header, payload)
      // many may come together: those that open at once don't count as being opened when the next is looked at
      return new Promise((resolve) => setImmediate(resolve))
    }
    if (header.type === FRAME.CLOSE) {
      this.#closeChannel(header.channel)
      return
    }
    const channel = this.#channels.get(header.channel)
    if (channel === undefined) {
      if (this.#ended.has(header.channel)) return
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `frame of type ${header.type} on channel ${header.channel}, which is not open`,
      )
    }
    switch (header.type) {
      case FRAME.ASK:
        return this.#ask(channel, header)
      case FRAME.ANY:
        return this.#any(channel, header)
      case FRAME.CANCEL:
        return this.#cancel(channel, header.request)
      case FRAME.TAKE:
      case FRAME.PASS:
        return this.#answered(channel, header)
      case FRAME.TELL:
        return channel.told(decodeRuns(payload, channel.pieces), header.flags)
      case FRAME.CREDIT:
        channel.credit = creditOf(header)
        return
      case FRAME.RENEW:
        this.#mayRead(channel, payload)
        return
      default:
        throw new DarnerError('PROTOCOL_VIOLATION', `a child sent a frame of type ${header.type}`)
    }
  }

  #open(header: FrameHeader, payload: Buffer): void {
    const { channel: number, flags } = header
    const { maxChannels, maxOpening } = this.#options
    if (this.#channels.has(number) || this.#opening.has(number) || this.#ended.has(number)) {
      throw new DarnerError('PROTOCOL_VIOLATION', `channel ${number} opened twice`)
    }
    if (this.#channels.size + this.#opening.size + this.#ended.size >= maxChannels) {
      throw new DarnerError('PROTOCOL_VIOLATION', `more than ${maxChannels} channels`)
    }
    const message = decodeOpen(payload)
    if (this.#opening.size >= maxOpening) {
      this.#refuse(number, 'BUSY', `${maxOpening} tasks are being opened`)
      return
    }
    const opening = new AbortController()
    this.#opening.set(number, opening)
    this.#link.run(async () => {
      let refusal: DarnerError | undefined
      let shelf: Awaited<ReturnType<Shelf['open']>> | undefined
      try {
        shelf = await this.#parts.shelf.open(message.task, this.#link.peer, message.pass)
        this.#parts.onOpened()
      } catch (error) {
        refusal = asDarnerError(error, `opening ${message.task}`)
      }
      this.#opening.delete(number)
      if (opening.signal.aborted || shelf === undefined) {
        shelf?.[Symbol.dispose]()
        if (!opening.signal.aborted && refusal !== undefined) this.#refuse(number, refusalFor(refusal), refusal.message)
        return
      }
      const channel = this.#begin(shelf, { number, flags, childHas: message.have })
      const { bytes, pieceBytes } = shelf.task
      const have = shelf.announces && shelf.have.count > 0 ? shelf.have.toBytes() : new Uint8Array(0)
      this.#link.send(
        FRAME.OPENED,
        { channel: channel.number, flags: shelf.announces ? 0 : OPENED_SILENT },
        encodeOpened({ bytes, pieceBytes, have }),
      )
    })
  }

  #begin(
    shelf: Awaited<ReturnType<Shelf['open']>>,
    from: { number: number; flags: number; childHas: Uint8Array },
  ): ServedChannel {
    try {
      const channel = new ServedChannel(
        {
          number: from.number,
          priority: (from.flags & OPEN_BACKGROUND) !== 0 ? 'background' : 'interactive',
          metered: (from.flags & OPEN_METERED) !== 0,
          childHas: from.childHas,
        },
        { shelf, onNews: (channel) => this.#gather(channel) },
      )
      this.#channels.set(from.number, channel)
      return channel
    } catch (error) {
      shelf[Symbol.dispose]()
      throw error
    }
  }

  #refuse(number: number, refusal: Refusal, text: string): void {
    this.#link.send(FRAME.REFUSED, { channel: number, number: REFUSAL[refusal] }, encodeText(text))
  }

  #closeChannel(number: number): void {
    this.#opening.get(number)?.abort()
    this.#opening.delete(number)
    const channel = this.#channels.get(number)
    this.#channels.delete(number)
    channel?.[Symbol.dispose]()
    if (channel !== undefined) this.#news.delete(channel)
    if (!this.#ended.delete(number)) this.#link.sendOrdered(FRAME.ENDED, { channel: number, number: REFUSAL.CLOSED })
  }

  /** Ends a channel whose child's right, or the newer one that it shows, doesn't hold; whether it goes on. */
  #mayRead(channel: ServedChannel, newer?: Uint8Array): boolean {
    try {
      if (newer !== undefined) channel.shelf.renew(newer)
      channel.shelf.check()
      return true
    } catch (error) {
      const known = asDarnerError(error, 'right to read')
      this.#end(channel, refusalFor(known), known.message)
      return false
    }
  }

  /** Ends a channel from this side; the child's CLOSE then frees its number. */
  #end(channel: ServedChannel, refusal: Refusal, text: string): void {
    if (this.#channels.get(channel.number) !== channel) return
    this.#channels.delete(channel.number)
    this.#news.delete(channel)
    this.#ended.add(channel.number)
    channel[Symbol.dispose]()
    this.#link.sendOrdered(FRAME.ENDED, { channel: channel.number, number: REFUSAL[refusal] }, encodeText(text))
  }

  #gather(channel: ServedChannel): void {
    this.#news.add(channel)
    channel.newsPace.note(this.#parts.clock.monotonicMs())
    this.#link.later(channel.news.pieces >= this.#options.newsPieces ? 0 : this.#newsWaitMs(channel))
  }

  #newsWaitMs(channel: ServedChannel): number {
    const { newsMs, idleNewsMs, fewPieces, unaskedNewsMs, sureNewsMs } = this.#options
    if (channel.names) return newsMs
    if (channel.sure) return sureNewsMs
    if (channel.open.size === 0) return unaskedNewsMs
    // where pieces come slowly, each alone would be a frame to everybody
    const { everyMs } = channel.newsPace
    return channel.childLacks <= fewPieces
      ? Math.max(newsMs, Math.min(MOST_NEWS_MS / 4, everyMs))
      : Math.max(idleNewsMs, Math.min(MOST_NEWS_MS, 3 * everyMs))
  }

  onNews(): void {
    for (const channel of this.#news)
      for (const runs of channel.news.take()) this.#link.send(FRAME.HAVE, { channel: channel.number }, encodeRuns(runs))
    this.#news.clear()
  }

  #admitRequest(channel: ServedChannel, id: number): void {
    if (channel.open.has(id)) throw new DarnerError('PROTOCOL_VIOLATION', `request ${id} made twice`)
    if (channel.open.size >= this.#options.maxRequests) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `channel ${channel.number}: more than ${this.#options.maxRequests} requests`,
      )
    }
  }

  #ask(channel: ServedChannel, { request: id, number: piece }: FrameHeader): void {
    this.#admitRequest(channel, id)
    if (piece >= channel.pieces)
      throw new DarnerError('PROTOCOL_VIOLATION', `asks for piece ${piece} of ${channel.pieces}`)
    channel.names = true
    if (!channel.shelf.have.has(piece)) {
      this.#gone(channel, id, 'PIECE_ABSENT')
      return
    }
    this.#sender.enqueue(channel, { id, piece, chosen: false, offset: 0, cancelled: false })
  }

  #any(channel: ServedChannel, { request: id, flags, number: ahead }: FrameHeader): void {
    this.#admitRequest(channel, id)
    channel.ask(id, { sure: (flags & ANY_SURE) !== 0, early: (flags & ANY_EARLY) !== 0, ahead })
    this.#chooseNext(channel)
  }

  /** Offers the child a piece, once there is one for it and the uplink has room. */
  #chooseNext(channel: ServedChannel): void {
    if (channel.choosing || channel.undecided.length === 0) return
    channel.choosing = true
    this.#link.run(async () => {
      let piece: number | undefined
      try {
        const next = channel.question(channel.undecided[0] ?? -1)
        piece = await channel.giving.choose({ signal: channel.signal, ...next })
      } catch (error) {
        if (channel.signal.aborted) return
        this.#end(channel, refusalFor(asDarnerError(error, 'choosing')), asDarnerError(error, 'choosing').message)
        return
      } finally {
        channel.choosing = false
      }
      if (channel.signal.aborted) return // the shelf was closed, and with it all that was chosen for this child
      const id = channel.undecided.shift()
      if (piece === undefined) {
        for (const none of id === undefined ? [] : [id, ...channel.undecided.splice(0)])
          this.#gone(channel, none, 'NONE_LEFT')
      } else if (id === undefined) channel.giving.unsent(piece)
      else if (channel.question(id)?.sure)
        this.#sender.enqueue(channel, { id, piece, chosen: true, offset: 0, cancelled: false })
      else {
        channel.offer(id, piece)
        this.#link.send(FRAME.OFFER, { channel: channel.number, request: id, number: piece })
      }
      this.#chooseNext(channel)
    })
  }

  #answered(channel: ServedChannel, { type, request: id }: FrameHeader): void {
    const piece = channel.answered(id)
    if (piece === undefined)
      throw new DarnerError('PROTOCOL_VIOLATION', `answers an offer for request ${id}, which was not made`)
    if (type === FRAME.TAKE) {
      channel.giving.taken(piece)
      this.#sender.enqueue(channel, { id, piece, chosen: true, offset: 0, cancelled: false })
    } else {
      channel.giving.unsent(piece)
      channel.undecided.push(id)
    }
    this.#chooseNext(channel)
  }

  #cancel(channel: ServedChannel, id: number): void {
    if (!channel.open.has(id)) return
    const request = channel.open.get(id)
    const undecided = channel.undecided.indexOf(id)
    if (undecided >= 0) channel.undecided.splice(undecided, 1)
    if (request === undefined) {
      const offered = channel.answered(id)
      if (offered !== undefined) channel.giving.unsent(offered)
      this.#gone(channel, id, 'CANCELLED')
      return
    }
    request.cancelled = true
    channel.wake?.()
    const waiting = channel.queue.indexOf(request)
    if (waiting < 0) return // in service, which sees it at the next segment
    channel.queue.splice(waiting, 1)
    this.#unsent(channel, request, 'CANCELLED')
  }

  #gone(channel: ServedChannel, id: number, refusal: Refusal): void {
    channel.forget(id)
    this.#link.sendOrdered(FRAME.GONE, { channel: channel.number, request: id, number: REFUSAL[refusal] })
  }

  /** Ends a request whose piece did not reach the child whole. */
  #unsent(channel: ServedChannel, request: ServedRequest, refusal: Refusal): void {
    channel.settle(request, undefined)
    this.#gone(channel, request.id, refusal)
  }

  /** A piece couldn't be read here. */
  #failed(channel: ServedChannel, request: ServedRequest, error: unknown): void {
    this.#parts.log.debug(
      { peer: this.#link.peer, task: channel.shelf.task.id, piece: request.piece, error },
      'piece not served',
    )
    if (channel.question(request.id)?.early && !channel.shelf.have.has(request.piece)) this.#withdraw(channel, request)
    else this.#unsent(channel, request, refusalFor(asDarnerError(error, 'serving')))
  }

  /** Ends a request whose piece isn't coming here any more. Of one of which nothing went out it may become that for another. */
  #withdraw(channel: ServedChannel, request: ServedRequest): void {
    if (request.offset > 0 || request.cancelled) {
      this.#unsent(channel, request, request.cancelled ? 'CANCELLED' : 'WITHDRAWN')
      return
    }
    channel.settle(request, undefined)
    channel.open.set(request.id, undefined)
    channel.undecided.push(request.id)
    this.#chooseNext(channel)
  }
}

/** The refusal that a child gets for a failure here: no more than it needs. */
function refusalFor(error: DarnerError): Refusal {
  if (isDarnerError(error, 'CAPABILITY_REFUSED', 'PIECE_ABSENT')) return error.code as Refusal
  return 'PEER_REFUSED'
}
