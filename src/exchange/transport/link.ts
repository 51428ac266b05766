/**
 * One lane connection, the half that child and parent share: frames in and out, signs of life, and bounds on the other side's speed and
 * volume.
 */
import type { Clock } from '../../core/clock.ts'
import type { PeerId } from '../../core/contracts/exchange.ts'
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import { onBehalf } from '../../core/on-behalf.ts'
import { Scope } from '../../core/scope.ts'
import type { RoundTrip } from '../limits/pace.ts'
import type { ByteStream } from './byte-stream.ts'
import {
  checkPreface,
  decodeText,
  encodeText,
  FRAME,
  type FrameFields,
  type FrameHeader,
  type FrameType,
  frame,
  HEADER_BYTES,
  PREFACE_BYTES,
  preface,
  REFUSAL,
  type Refusal,
  readHeader,
  refusalOf,
} from './lane-frames.ts'

export interface LinkOptions {
  /** How often {@link LaneLink.tick} is called. */
  readonly tickMs: number
  /** Silence after which a busy link asks for a sign of life. */
  readonly pingMs: number
  /**
   * Silence after which a busy link is dead. A lossy or crowded link may well be silent for seconds. Until then the plan asks others, and
   * the supernode learns of a dead host sooner.
   */
  readonly silenceMs: number
  /** The longest that a begun frame may take (bodies of pieces aside: they are judged by silence). */
  readonly frameMs: number
  /** The longest that one write may wait for the other side to read. */
  readonly stallMs: number
  /** How long an unused link is kept. */
  readonly idleMs: number
  /** Small frames that may wait to be sent. */
  readonly maxQueuedBytes: number
  /** Frames in one tick; more is a flood. */
  readonly maxFramesPerTick: number
}

export const LINK_DEFAULTS: LinkOptions = {
  tickMs: 500,
  pingMs: 3000,
  silenceMs: 10_000,
  frameMs: 10_000,
  stallMs: 30_000,
  idleMs: 60_000,
  maxQueuedBytes: 1024 * 1024,
  maxFramesPerTick: 20_000,
}

/** The half that differs. */
export interface LinkHandler {
  /** Handles one frame. `payload` is its own. What it throws ends the link. */
  onFrame(header: FrameHeader, payload: Buffer): Promise<void> | void
  /** Handles a frame of bulk bytes and reads them by {@link LaneLink.body}, all of them; without it they come by `onFrame`. */
  onBody?(header: FrameHeader): Promise<void>
  /** Frames are about to leave, or the time given to {@link LaneLink.later} is over: waiting news goes with them. */
  onNews?(): void
  /** Whether the other side is expected to be there. */
  busy(): boolean
  onTick?(nowMs: number): void
  /** Called once, with the reason. */
  onClosed(error: DarnerError): void
}

export interface LinkParts {
  readonly clock: Clock
}

const FAREWELL_MS = 1000
const NO_PAYLOAD = Buffer.alloc(0)

interface Bulk {
  /** `room` bytes for small frames, then the frame. */
  readonly bytes: Uint8Array
  readonly room: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class LaneLink {
  readonly peer: PeerId
  readonly #options: LinkOptions
  readonly #stream: ByteStream
  readonly #clock: Clock
  readonly #scope = new Scope()
  readonly #closed = Promise.withResolvers<DarnerError>()
  #handler: LinkHandler | undefined
  #failure: DarnerError | undefined
  #ending = false

  #small: Uint8Array[] = []
  #smallBytes = 0
  /** Set while the handler has news: when they leave at the latest if nothing else does; 0 is now. */
  #newsDueMs: number | undefined
  #newsTimer: NodeJS.Timeout | undefined
  #bulk: Bulk[] = []
  /** The bulk frame that is being written. */
  #writing: Bulk | undefined
  #draining = false
  #writeSinceMs: number | undefined

  #heardBytes = 0
  #heardAtMs: number
  #usedAtMs: number
  #tickAtMs: number
  #boundaryBytes = 0
  #boundaryAtMs: number
  #inBody = false
  #bodyBytes = 0
  #frames = 0

  constructor(stream: ByteStream, options: LinkOptions, parts: LinkParts) {
    this.peer = stream.remote
    this.#stream = stream
    this.#options = options
    this.#clock = parts.clock
    const nowMs = parts.clock.monotonicMs()
    this.#heardAtMs = nowMs
    this.#usedAtMs = nowMs
    this.#tickAtMs = nowMs
    this.#boundaryAtMs = nowMs
  }

  /** Aborted, with the reason, when the link is over. */
  get signal(): AbortSignal {
    return this.#scope.signal
  }

  /** Resolves with the reason when the link is over. */
  get closed(): Promise<DarnerError> {
    return this.#closed.promise
  }

  get failure(): DarnerError | undefined {
    return this.#failure
  }

  /** How long what is sent takes to be confirmed; undefined where nobody can tell. */
  roundTrip(): RoundTrip | undefined {
    return this.#failure === undefined ? this.#stream.roundTrip() : undefined
  }

  /** Sends the preface and starts to read. */
  start(handler: LinkHandler): void {
    this.#handler = handler
    this.#queue(preface())
    onBehalf(
      (error) => this.#ended(error),
      () => this.#scope.run(() => this.#readAll()),
    )
  }

  /** Runs work that ends with the link; a failure of it ends the link. */
  run(work: (signal: AbortSignal) => Promise<void>): void {
    this.#scope.run(async (signal) => {
      try {
        await work(signal)
      } catch (error) {
        if (!signal.aborted) this.#ended(error)
      }
    })
  }

  /**
   * Queues a small frame; they leave in the order in which they were queued, with what else is queued in this turn. A peer that
   * lets more than `maxQueuedBytes` pile up loses the link.
   */
  send(type: FrameType, fields: FrameFields, payload?: Uint8Array): void {
    this.#queue(frame(type, fields, payload))
  }

  /**
   * The handler has news that may wait up to `waitMs` for other frames to leave with. Each write costs both sides far more than its bytes.
   * It is asked for them by `onNews`.
   */
  later(waitMs: number): void {
    if (this.#failure !== undefined || this.#ending) return
    const dueMs = waitMs > 0 ? this.#clock.monotonicMs() + waitMs : 0
    if (this.#newsDueMs !== undefined && this.#newsDueMs <= dueMs) return
    this.#newsDueMs = dueMs
    clearTimeout(this.#newsTimer)
    if (waitMs > 0) this.#newsTimer = setTimeout(this.#newsDue, waitMs)
    else this.#kick()
  }

  readonly #newsDue = (): void => {
    this.#newsDueMs = 0
    this.#kick()
  }

  /** Queues a small frame that must not overtake bulk bytes queued before it. */
  sendOrdered(type: FrameType, fields: FrameFields, payload?: Uint8Array): void {
    if (this.#bulk.length === 0) this.send(type, fields, payload)
    else
      this.#bulk.push({
        bytes: frame(type, fields, payload),
        room: 0,
        resolve: () => undefined,
        reject: () => undefined,
      })
  }

  /**
   * Sends a whole frame of bulk bytes, which begins after the first `room` of `bytes`; resolves when `bytes` may be used again.
   * Small frames go before it, in the same write where they fit into the room.
   */
  sendBulk(bytes: Uint8Array, room = 0): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#bulk.push({ bytes, room, resolve, reject })
      this.#kick()
    })
  }

  /** Reads body bytes, for which time is judged by silence alone. */
  async body(into: Uint8Array): Promise<void> {
    this.#inBody = true
    await this.#stream.readExactly(into)
    this.#inBody = false
    this.#bodyBytes += into.byteLength
  }

  /** Bytes of bodies that have come so far, those of one that is being read included. */
  get bodyBytes(): number {
    return this.#bodyBytes + (this.#inBody ? this.#stream.filling : 0)
  }

  /** Ends the link because the other side broke the protocol. */
  violated(what: string): DarnerError {
    const error = new DarnerError('PROTOCOL_VIOLATION', `lane with peer ${this.peer}: ${what}`, {
      details: { peer: this.peer },
    })
    this.close('PROTOCOL_VIOLATION', what, error)
    return error
  }

  /** Says why, then ends the link. */
  close(refusal: Refusal, text: string, reason?: DarnerError): void {
    if (this.#failure !== undefined || this.#ending) return
    this.#ending = true
    const error = reason ?? new DarnerError('CLOSED', `lane with peer ${this.peer}: closed: ${text}`)
    this.#small.push(frame(FRAME.BYE, { number: REFUSAL[refusal] }, encodeText(text)))
    this.#settle(error)
    // a write under way comes first, but a slow reader doesn't hold the end back for long
    if (this.#writeSinceMs === undefined) void this.#sayLast()
    setTimeout(() => this.#stream.abort(error), FAREWELL_MS).unref()
  }

  /** Never rejects. */
  async #sayLast(): Promise<void> {
    if (this.#small.length === 0) return
    try {
      await this.#stream.write(Buffer.concat(this.#small.splice(0)))
      this.#stream.end()
    } catch (error) {
      this.#stream.abort(this.#known(error))
    }
  }

  /** Ends the link now, without a word. */
  fail(error: DarnerError): void {
    this.#stream.abort(error)
    this.#settle(error)
  }

  #settle(error: DarnerError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    clearTimeout(this.#newsTimer)
    this.#writing?.reject(error)
    for (const { reject } of this.#bulk.splice(0)) reject(error)
    this.#handler?.onClosed(error)
    this.#closed.resolve(error)
    void this.#scope.close(error)
  }

  #queue(bytes: Uint8Array): void {
    if (this.#failure !== undefined || this.#ending) return
    this.#small.push(bytes)
    this.#smallBytes += bytes.byteLength
    if (this.#smallBytes > this.#options.maxQueuedBytes) {
      this.fail(
        new DarnerError(
          'PEER_STALLED',
          `lane with peer ${this.peer}: ${this.#smallBytes} bytes wait and it reads none`,
        ),
      )
      return
    }
    this.#kick()
  }

  #kick(): void {
    if (this.#draining) return
    this.#draining = true
    // what is queued in this turn leaves in one write
    queueMicrotask(this.#drain)
  }

  /** Starts the next write; called again when it is over. */
  readonly #drain = (): void => {
    try {
      if (this.#failure === undefined && !this.#ending) this.#collectNews()
      const next = this.#failure === undefined && !this.#ending ? this.#next() : undefined
      if (next !== undefined) {
        this.#writing = next.bulk
        this.#writeSinceMs = this.#clock.monotonicMs()
        this.#stream.write(next.bytes).then(this.#written, this.#unwritten)
        return
      }
    } catch (error) {
      this.#ended(error)
    }
    this.#draining = false
    if (this.#ending) void this.#sayLast()
  }

  readonly #written = (): void => {
    this.#writing?.resolve()
    this.#over()
  }

  readonly #unwritten = (error: unknown): void => {
    const known = this.#known(error)
    this.#writing?.reject(known)
    this.#lost(known)
    this.#over()
  }

  #over(): void {
    this.#writing = undefined
    this.#writeSinceMs = undefined
    this.#drain()
  }

  #collectNews(): void {
    const alone = this.#small.length === 0 && this.#bulk.length === 0
    if (this.#newsDueMs === undefined || (alone && this.#newsDueMs > 0)) return
    this.#newsDueMs = undefined
    clearTimeout(this.#newsTimer)
    // before what else waits: an answer to an offer says less than what was known when it was given
    const others = this.#small
    this.#small = []
    this.#handler?.onNews?.()
    this.#small.push(...others)
  }

  /** What is written next: small frames, alone or in the room before bulk bytes. */
  #next(): { bytes: Uint8Array; bulk: Bulk | undefined } | undefined {
    const small = this.#small
    const [bulk] = this.#bulk
    if (small.length === 0) {
      if (bulk === undefined) return undefined
      this.#bulk.shift()
      return { bytes: bulk.room === 0 ? bulk.bytes : bulk.bytes.subarray(bulk.room), bulk }
    }
    const bytes = this.#smallBytes
    this.#small = []
    this.#smallBytes = 0
    if (bulk === undefined || bytes > bulk.room)
      return { bytes: small.length === 1 && small[0] ? small[0] : Buffer.concat(small), bulk: undefined }
    this.#bulk.shift()
    let at = bulk.room - bytes
    const whole = bulk.bytes.subarray(at)
    for (const one of small) {
      bulk.bytes.set(one, at)
      at += one.byteLength
    }
    return { bytes: whole, bulk }
  }

  async #readAll(): Promise<void> {
    const header = Buffer.alloc(HEADER_BYTES)
    try {
      const first = header.subarray(0, PREFACE_BYTES)
      await this.#stream.readExactly(first)
      checkPreface(first)
      this.#boundary(PREFACE_BYTES)
      for (;;) {
        // frames that came together are handled together: a promise for each would cost more than the frame
        if (!this.#stream.fill(header)) await this.#stream.readExactly(header)
        if (this.#failure !== undefined) return
        const read = readHeader(header)
        this.#frames++
        if (read.type === FRAME.PIECE && this.#handler?.onBody) await this.#handler.onBody(read)
        else {
          const payload = read.bytes === 0 ? NO_PAYLOAD : Buffer.allocUnsafe(read.bytes)
          if (read.bytes > 0 && !this.#stream.fill(payload)) await this.#stream.readExactly(payload)
          const handled = this.#handle(read, payload)
          if (handled !== undefined) await handled
        }
        this.#boundary(HEADER_BYTES + read.bytes)
      }
    } catch (error) {
      this.#ended(error)
    }
  }

  #handle(read: FrameHeader, payload: Buffer): Promise<void> | void {
    if (read.type === FRAME.PING) this.send(FRAME.PONG, {})
    else if (read.type === FRAME.BYE) this.fail(this.#goodbye(refusalOf(read.number), decodeText(payload)))
    else if (read.type !== FRAME.PONG) return this.#handler?.onFrame(read, payload)
  }

  /** Work of this link failed: a violation is answered, anything else just ends it. */
  #ended(error: unknown): void {
    const known = this.#known(error)
    if (known.code === 'PROTOCOL_VIOLATION') this.violated(known.message)
    else this.#lost(known)
  }

  #boundary(bytes: number): void {
    this.#boundaryBytes += bytes
    this.#boundaryAtMs = this.#clock.monotonicMs()
  }

  #known(error: unknown): DarnerError {
    return this.#failure ?? asDarnerError(error, `lane with peer ${this.peer}`)
  }

  #lost(error: DarnerError): void {
    if (!this.#ending) this.fail(error)
  }

  #goodbye(refusal: Refusal, text: string): DarnerError {
    const code =
      refusal === 'ADMISSION_REFUSED' ? 'ADMISSION_REFUSED' : refusal === 'CLOSED' ? 'CLOSED' : 'PEER_REFUSED'
    return new DarnerError(code, `lane with peer ${this.peer}: it ended the connection (${refusal}): ${text}`, {
      details: { peer: this.peer },
    })
  }

  /** Looks whether the other side is still there, and how it behaves. The owner calls it every `tickMs`. */
  tick(): void {
    if (this.#failure !== undefined) return
    try {
      this.#look(this.#clock.monotonicMs())
    } catch (error) {
      this.#ended(error)
    }
  }

  #look(nowMs: number): void {
    const { tickMs, pingMs, silenceMs, frameMs, stallMs, idleMs, maxFramesPerTick } = this.#options
    const busy = this.#handler?.busy() ?? false
    // a tick that comes late means that this process stood still: what the other side said waits to be read
    const late = nowMs - this.#tickAtMs > tickMs * 3
    this.#tickAtMs = nowMs
    if (!busy || late || this.#stream.bytesRead !== this.#heardBytes) {
      this.#heardBytes = this.#stream.bytesRead
      this.#heardAtMs = nowMs
    }
    if (busy) this.#usedAtMs = nowMs
    if (late) this.#boundaryAtMs = nowMs
    const silentMs = nowMs - this.#heardAtMs
    if (this.#frames > maxFramesPerTick) {
      this.violated(`${this.#frames} frames in ${tickMs} ms`)
    } else if (!this.#inBody && this.#stream.bytesRead > this.#boundaryBytes && nowMs - this.#boundaryAtMs > frameMs) {
      this.violated(`a frame not finished in ${frameMs} ms`)
    } else if (busy && silentMs >= silenceMs) {
      const text = `lane with peer ${this.peer}: silent for ${Math.round(silentMs)} ms`
      this.fail(new DarnerError('PEER_UNREACHABLE', text, { details: { peer: this.peer } }))
    } else if (this.#writeSinceMs !== undefined && nowMs - this.#writeSinceMs > stallMs) {
      this.fail(new DarnerError('PEER_STALLED', `lane with peer ${this.peer}: it read nothing for ${stallMs} ms`))
    } else if (!busy && nowMs - this.#usedAtMs > idleMs) {
      this.close('CLOSED', 'not used')
    } else if (busy && silentMs >= pingMs) {
      this.send(FRAME.PING, {})
    }
    this.#frames = 0
    this.#handler?.onTick?.(nowMs)
  }
}
