/** The child's half of a lane connection: opens tasks at one parent and receives their pieces. */
import type { Clock } from '../../core/clock.ts'
import type { OpenOptions } from '../../core/contracts/exchange.ts'
import { type Code, DarnerError } from '../../core/errors.ts'
import { abortable, anySignal, withDeadline } from '../../core/signals.ts'
import { pieceRange, stepBytesOf, type Task } from '../../core/task/task.ts'
import type { PiecePool } from '../../store/partial/piece-pool.ts'
import type { Flow } from '../limits/buckets.ts'
import { type RateLimits, WIRE_FACTOR } from '../limits/limits.ts'
import {
  ANY_EARLY,
  ANY_SURE,
  creditFields,
  decodeOpened,
  decodeRuns,
  decodeText,
  encodeOpen,
  encodeRuns,
  FRAME,
  type FrameHeader,
  MAX_CHANNEL,
  OPEN_BACKGROUND,
  OPEN_METERED,
  OPENED_SILENT,
  PIECE_LAST,
  PIECE_WAITS,
  type Refusal,
  type Run,
  refusalOf,
  TELL_COMING,
  TELL_LOST,
  UNMETERED,
} from '../transport/lane-frames.ts'
import type { LaneLink, LinkHandler } from '../transport/link.ts'
import { type ChannelHost, LaneChannel, type Wanted } from './parent-channel.ts'

export interface FetchOptions {
  /** Unanswered requests of one channel; more wait here. Not above what a parent allows. */
  readonly maxRequests: number
  readonly maxChannels: number
  /** How long a parent may take to open a task. */
  readonly openMs: number
  /** Credit that a metered parent may hold unused. */
  readonly windowBytes: number
}

export const FETCH_DEFAULTS: FetchOptions = {
  maxRequests: 60,
  maxChannels: 250,
  openMs: 10_000,
  windowBytes: 256 * 1024,
}

export interface FetchParts {
  readonly link: LaneLink
  readonly limits: RateLimits
  readonly pieces: PiecePool
  readonly clock: Clock
  readonly onClosed: (error: DarnerError) => void
}

const DISCARD_BYTES = 64 * 1024

export class FetchSide implements LinkHandler, ChannelHost {
  readonly #options: FetchOptions
  readonly #parts: FetchParts
  readonly #link: LaneLink
  readonly #channels = new Map<number, LaneChannel>()
  /** Channels that we closed and the parent has not yet confirmed. */
  readonly #closing = new Map<number, LaneChannel>()
  readonly #opening = new Map<number, PromiseWithResolvers<void>>()
  /** Channels with something to tell that waits for company. */
  readonly #telling = new Set<LaneChannel>()
  readonly #unsubscribe: () => void
  #lastNumber = 0
  #lastRequest = 0
  #discard: Uint8Array | undefined

  constructor(options: FetchOptions, parts: FetchParts) {
    this.#options = options
    this.#parts = parts
    this.#link = parts.link
    this.#unsubscribe = parts.limits.onChange(() => {
      for (const channel of this.#channels.values()) this.meter(channel)
    })
  }

  /** Only what is asked for is expected at once; a quiet channel needs no sign of life more often than the parent wants one. */
  busy(): boolean {
    return this.#channels.size > 0 || this.#opening.size > 0
  }

  get channels(): number {
    return this.#channels.size
  }

  get movedBytes(): number {
    return this.#link.bodyBytes
  }

  onClosed(error: DarnerError): void {
    this.#unsubscribe()
    for (const waiting of this.#opening.values()) waiting.reject(error)
    for (const channel of [...this.#channels.values(), ...this.#closing.values()]) channel.end(error)
    this.#channels.clear()
    this.#closing.clear()
    this.#parts.onClosed(error)
  }

  async open(task: Task, options: OpenOptions): Promise<LaneChannel> {
    options.signal.throwIfAborted()
    if (this.#link.failure !== undefined) throw this.#link.failure
    if (this.#channels.size + this.#closing.size >= this.#options.maxChannels) {
      throw new DarnerError(
        'LIMIT_EXCEEDED',
        `lane with peer ${this.#link.peer}: ${this.#options.maxChannels} tasks are open`,
      )
    }
    const channel = this.#newChannel(task, options)
    const waiting = Promise.withResolvers<void>()
    this.#channels.set(channel.number, channel)
    this.#opening.set(channel.number, waiting)
    const metered = channel.grantedBytes === 0
    const flags = (options.priority === 'background' ? OPEN_BACKGROUND : 0) | (metered ? OPEN_METERED : 0)
    const have = options.have.count === 0 ? new Uint8Array(0) : options.have.toBytes()
    this.#link.send(
      FRAME.OPEN,
      { channel: channel.number, flags },
      encodeOpen({ task: task.id, pass: options.pass, have }),
    )
    const deadline = withDeadline(options.signal, this.#options.openMs)
    try {
      await abortable(waiting.promise, deadline)
      return channel
    } catch (error) {
      if (this.#channels.get(channel.number) === channel) await channel[Symbol.asyncDispose]()
      options.signal.throwIfAborted()
      if (!deadline.aborted) throw error
      throw new DarnerError(
        'PEER_UNREACHABLE',
        `peer ${this.#link.peer}: didn't open ${task.id} within ${this.#options.openMs} ms`,
        { cause: error },
      )
    } finally {
      this.#opening.delete(channel.number)
    }
  }

  #newChannel(task: Task, options: OpenOptions): LaneChannel {
    do this.#lastNumber = this.#lastNumber === MAX_CHANNEL ? 1 : this.#lastNumber + 1
    while (this.#channels.has(this.#lastNumber) || this.#closing.has(this.#lastNumber))
    const { peer } = this.#link
    const metered = this.#parts.limits.limited({ direction: 'in', priority: options.priority, task: task.id, peer })
    return new LaneChannel(
      {
        number: this.#lastNumber,
        parent: peer,
        task,
        priority: options.priority,
        metered,
        maxRequests: this.#options.maxRequests,
      },
      { host: this },
    )
  }

  nextRequest(): number {
    this.#lastRequest = (this.#lastRequest + 1) >>> 0
    return this.#lastRequest
  }

  ask(wanted: Wanted): void {
    const { channel, id, piece } = wanted
    if (piece === undefined) {
      const flags = (wanted.sure ? ANY_SURE : 0) | (wanted.early ? ANY_EARLY : 0)
      this.#link.send(FRAME.ANY, { channel: channel.number, request: id, flags, number: wanted.ahead })
    } else this.#link.send(FRAME.ASK, { channel: channel.number, request: id, number: piece })
    this.meter(channel)
  }

  cancel(wanted: Wanted): void {
    this.#link.send(FRAME.CANCEL, { channel: wanted.channel.number, request: wanted.id })
    this.meter(wanted.channel)
  }

  release(body: Uint8Array): void {
    this.#parts.pieces.put(body)
  }

  close(channel: LaneChannel): void {
    if (this.#channels.get(channel.number) !== channel) return
    this.#channels.delete(channel.number)
    this.#closing.set(channel.number, channel)
    this.#link.send(FRAME.CLOSE, { channel: channel.number })
  }

  renew(channel: LaneChannel, pass: Uint8Array): void {
    this.#link.send(FRAME.RENEW, { channel: channel.number }, pass)
  }

  later(channel: LaneChannel, waitMs: number): void {
    this.#telling.add(channel)
    this.#link.later(waitMs)
  }

  onNews(): void {
    for (const channel of this.#telling) {
      const { lost, coming, here } = channel.tells.take()
      if (channel.signal.aborted) continue
      this.#tell(channel, TELL_LOST, lost)
      this.#tell(channel, TELL_COMING, coming)
      this.#tell(channel, 0, here)
    }
    this.#telling.clear()
  }

  #tell(channel: LaneChannel, flags: number, batches: readonly Run[][]): void {
    for (const runs of batches) this.#link.send(FRAME.TELL, { channel: channel.number, flags }, encodeRuns(runs))
  }

  onFrame(header: FrameHeader, payload: Buffer): void {
    const channel = this.#channels.get(header.channel) ?? this.#closing.get(header.channel)
    if (channel === undefined)
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `frame of type ${header.type} on channel ${header.channel}, which is not open`,
      )
    const closing = this.#closing.has(header.channel)
    switch (header.type) {
      case FRAME.OPENED: {
        if (closing) return
        channel.begin(decodeOpened(payload), (header.flags & OPENED_SILENT) === 0)
        this.#opening.get(channel.number)?.resolve()
        return
      }
      case FRAME.REFUSED: {
        if (closing) return
        if (channel.opened)
          throw new DarnerError('PROTOCOL_VIOLATION', `channel ${channel.number} refused after it was opened`)
        const error = this.#refusal(refusalOf(header.number), channel, decodeText(payload))
        this.#channels.delete(channel.number)
        channel.end(error)
        this.#opening.get(channel.number)?.reject(error)
        return
      }
      case FRAME.HAVE:
        if (!closing) channel.heard(decodeRuns(payload, channel.pieces))
        return
      case FRAME.GONE:
        this.#gone(channel, header)
        return
      case FRAME.OFFER:
        this.#offered(channel, header)
        return
      case FRAME.ENDED:
        this.#ended(channel, refusalOf(header.number), decodeText(payload))
        return
      default:
        throw new DarnerError('PROTOCOL_VIOLATION', `a parent sent a frame of type ${header.type}`)
    }
  }

  #ended(channel: LaneChannel, refusal: Refusal, text: string): void {
    if (this.#closing.delete(channel.number)) return
    this.#channels.delete(channel.number)
    const error = this.#refusal(refusal, channel, text)
    channel.end(error)
    this.#opening.get(channel.number)?.reject(error)
    this.#link.send(FRAME.CLOSE, { channel: channel.number })
  }

  #offered(channel: LaneChannel, { request, number: piece }: FrameHeader): void {
    const wanted = channel.wanted.get(request)
    if (wanted?.piece !== undefined || wanted === undefined || piece >= channel.pieces) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece ${piece} of ${channel.task.id} offered for request ${request}, which is not open to it`,
      )
    }
    // a question that was taken back is answered with GONE
    if (wanted.dropped) return
    const taken = wanted.onOffer?.(piece) ?? true
    if (taken) wanted.piece = piece
    this.#link.send(taken ? FRAME.TAKE : FRAME.PASS, { channel: channel.number, request })
    this.meter(channel)
  }

  #gone(channel: LaneChannel, header: FrameHeader): void {
    const wanted = channel.wanted.get(header.request)
    if (wanted === undefined)
      throw new DarnerError('PROTOCOL_VIOLATION', `answer to request ${header.request}, which was not made`)
    const refusal = refusalOf(header.number)
    channel.settled(wanted)
    if (refusal === 'NONE_LEFT' && wanted.piece === undefined) wanted.resolve(undefined)
    else if (wanted.filled > 0)
      wanted.reject(
        this.#cut(wanted, refusal === 'WITHDRAWN' && wanted.waits ? 'PIECE_WITHDRAWN' : 'PIECE_SHORT', refusal),
      )
    else wanted.reject(this.#refusal(refusal, channel, `piece ${wanted.piece ?? 'of its choice'}`))
    wanted.body = undefined
    this.meter(channel)
  }

  async onBody(header: FrameHeader): Promise<void> {
    const channel = this.#channels.get(header.channel) ?? this.#closing.get(header.channel)
    const wanted = channel?.wanted.get(header.request)
    if (channel === undefined || wanted === undefined) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece ${header.number} as request ${header.request} of channel ${header.channel}, which was not asked for`,
      )
    }
    if (wanted.sure && wanted.piece === undefined && header.number < channel.pieces) {
      wanted.piece = header.number
      if (!wanted.dropped) wanted.onOffer?.(header.number)
    }
    const length = this.#lengthOf(wanted, header.number)
    const end = wanted.filled + header.bytes
    if (header.bytes === 0 || end > length) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece ${header.number} of ${channel.task.id}: expected ${length} bytes, peer sends ${end}`,
      )
    }
    if (wanted.dropped) await this.#throwAway(header.bytes)
    else {
      if (wanted.filled === 0) wanted.onStart?.(header.number)
      // exactly the piece, once its first bytes are here
      wanted.body ??= this.#parts.pieces.get(length)
      await this.#fill(wanted, wanted.body, header)
    }
    wanted.filled = end
    wanted.waits = waitsFor(wanted, header)
    channel.receivedBytes += header.bytes
    const last = (header.flags & PIECE_LAST) !== 0
    if (last && end < length) {
      channel.settled(wanted)
      wanted.reject(this.#cut(wanted, 'PIECE_SHORT', 'PEER_REFUSED'))
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece ${header.number} of ${channel.task.id}: expected ${length} bytes, peer sent ${end}`,
      )
    }
    if (!last && end === length)
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece ${header.number} of ${channel.task.id}: does not end at its length`,
      )
    if (last) {
      channel.settled(wanted)
      if (wanted.body !== undefined && wanted.piece !== undefined)
        wanted.resolve({ piece: wanted.piece, body: wanted.body })
    }
    this.meter(channel)
  }

  /** Reads a segment, and says how far it is where somebody wants to hear of it. */
  async #fill(wanted: Wanted, body: Uint8Array, header: FrameHeader): Promise<void> {
    const { number: piece } = header
    const end = wanted.filled + header.bytes
    const waits = waitsFor(wanted, header)
    const stepBytes = stepBytesOf(wanted.channel.task) ?? body.byteLength
    for (let at = wanted.filled; at < end; ) {
      const to = wanted.onPart === undefined ? end : Math.min(end, at - (at % stepBytes) + stepBytes)
      await this.#link.body(body.subarray(at, to))
      at = to
      if (!wanted.dropped) wanted.onPart?.({ piece, body, bytes: at, waits })
    }
  }

  #lengthOf(wanted: Wanted, piece: number): number {
    const { task } = wanted.channel
    if (wanted.piece !== piece) {
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `piece ${piece} of ${task.id} in place of ${wanted.piece ?? 'one that was offered'}`,
      )
    }
    const { from, to } = pieceRange(task, piece)
    return to - from
  }

  async #throwAway(bytes: number): Promise<void> {
    this.#discard ??= Buffer.allocUnsafeSlow(DISCARD_BYTES)
    for (let left = bytes; left > 0; left -= DISCARD_BYTES)
      await this.#link.body(this.#discard.subarray(0, Math.min(left, DISCARD_BYTES)))
  }

  /** Grants credit at the pace that our limits allow, as long as there is something to come. */
  meter(channel: LaneChannel): void {
    if (channel.metering || channel.signal.aborted) return
    const flow: Flow = { direction: 'in', priority: channel.priority, task: channel.task.id, peer: channel.parent }
    const limited = this.#parts.limits.limited(flow)
    if (!limited && channel.grantedBytes === Number.POSITIVE_INFINITY) return
    if (limited && channel.grantedBytes === Number.POSITIVE_INFINITY) {
      channel.grantedBytes = channel.receivedBytes
      this.#link.send(FRAME.CREDIT, creditFields(channel.number, channel.grantedBytes))
    }
    channel.metering = true
    this.#link.run(() => this.#grant(channel, flow))
  }

  async #grant(channel: LaneChannel, flow: Flow): Promise<void> {
    const { limits } = this.#parts
    try {
      while (!channel.signal.aborted) {
        if (!limits.limited(flow)) {
          channel.grantedBytes = Number.POSITIVE_INFINITY
          this.#link.send(FRAME.CREDIT, creditFields(channel.number, UNMETERED))
          return
        }
        // what was on its way when metering began counts as granted
        channel.grantedBytes = Math.max(channel.grantedBytes, channel.receivedBytes)
        const unused = channel.grantedBytes - channel.receivedBytes
        const chunk = limits.chunkBytes(flow)
        const bytes = Math.min(
          chunk,
          channel.outstandingBytes - unused,
          Math.max(chunk, this.#options.windowBytes) - unused,
        )
        if (bytes <= 0) return // called again when a piece is asked for or bytes arrive
        await limits.take(Math.ceil(bytes * WIRE_FACTOR), {
          ...flow,
          signal: anySignal([channel.signal, this.#link.signal]),
        })
        channel.grantedBytes += bytes
        this.#link.send(FRAME.CREDIT, creditFields(channel.number, channel.grantedBytes))
      }
    } catch (error) {
      if (!channel.signal.aborted) throw error
    } finally {
      channel.metering = false
    }
  }

  /** A piece of which only a part came. */
  #cut(wanted: Wanted, code: Code, refusal: Refusal): DarnerError {
    const text = `piece ${wanted.piece} of ${wanted.channel.task.id}: expected ${wanted.bytes} bytes, peer ${this.#link.peer} sent ${wanted.filled} (${refusal})`
    return new DarnerError(code, text, { details: { peer: this.#link.peer, piece: wanted.piece } })
  }

  #refusal(refusal: Refusal, channel: LaneChannel, text: string): DarnerError {
    const details = { peer: this.#link.peer, task: channel.task.id }
    return new DarnerError(
      codeFor(refusal, channel),
      `${channel.task.id} at peer ${this.#link.peer}: ${refusal}${text ? `: ${text}` : ''}`,
      { details },
    )
  }
}

/** The parent may withdraw the piece: it said so, and was asked for such. */
function waitsFor({ early }: Wanted, { flags }: FrameHeader): boolean {
  return early && (flags & PIECE_WAITS) !== 0
}

/** A task that isn't there refuses the channel; a piece that isn't refuses the piece. */
function codeFor(refusal: Refusal, channel: LaneChannel): Code {
  switch (refusal) {
    case 'CAPABILITY_REFUSED':
    case 'ADMISSION_REFUSED':
      return refusal
    case 'PIECE_ABSENT':
    case 'NONE_LEFT':
    case 'WITHDRAWN':
      return channel.opened ? 'PIECE_ABSENT' : 'PEER_REFUSED'
    case 'CLOSED':
      return 'CLOSED'
    default:
      return 'PEER_REFUSED'
  }
}
