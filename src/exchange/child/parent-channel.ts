/** One task opened at one parent, as its child keeps it. */

import type { Priority } from '../../core/contracts/content.ts'
import type { FetchAnyOptions, FetchOptions, ParentChannel, PeerId } from '../../core/contracts/exchange.ts'
import { DarnerError } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import { Bitmap, type ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { pieceCount, pieceRange, type Task } from '../../core/task/task.ts'
import { staleAllowed } from '../parent/served-channel.ts'
import type { Run } from '../transport/lane-frames.ts'
import { PendingTells } from './tells.ts'

/** One piece under way to us. `piece` is unknown until a choosing parent names it. */
export interface Wanted {
  readonly id: number
  readonly channel: LaneChannel
  piece: number | undefined
  /** Body bytes at most. */
  readonly bytes: number
  body: Uint8Array | undefined
  filled: number
  /** The parent hadn't the rest when it sent the last of that. */
  waits: boolean
  /** Nobody waits any more; what still arrives is thrown away. */
  dropped: boolean
  /** Of a piece of the parent's choice: it may come without an offer, and before the parent has it whole. */
  readonly sure: boolean
  readonly early: boolean
  /** So many pieces are wanted on their way here. */
  readonly ahead: number
  readonly onStart: ((piece: number) => void) | undefined
  /** Called as bytes come. */
  readonly onPart: FetchAnyOptions['onPart']
  /** Of a piece of the parent's choice: whether to take what it offers. */
  readonly onOffer: ((piece: number) => boolean) | undefined
  readonly resolve: (got: { piece: number; body: Uint8Array } | undefined) => void
  readonly reject: (error: Error) => void
}

/** What a channel asks of its connection. */
export interface ChannelHost {
  nextRequest(): number
  ask(wanted: Wanted): void
  cancel(wanted: Wanted): void
  renew(channel: LaneChannel, pass: Uint8Array): void
  /** The channel has something to tell, within `waitMs`. */
  later(channel: LaneChannel, waitMs: number): void
  /** Bytes of pieces that the connection has brought so far, of all its channels. */
  readonly movedBytes: number
  release(body: Uint8Array): void
  close(channel: LaneChannel): void
  /** Looks again at how many bytes the parent may send on this channel. */
  meter(channel: LaneChannel): void
}

export class LaneChannel implements ParentChannel {
  readonly number: number
  readonly parent: PeerId
  readonly task: Task
  readonly priority: Priority
  readonly pieces: number
  readonly wanted = new Map<number, Wanted>()
  readonly tells = new PendingTells()
  readonly #host: ChannelHost
  readonly #maxRequests: number
  readonly #haves: Bitmap
  readonly #listeners = new Set<(from: number, count: number) => void>()
  readonly #closed = Promise.withResolvers<Error>()
  readonly #controller = new AbortController()
  readonly #queue: (() => void)[] = []
  #staleTold = 0
  #opened = false
  #announces = true
  /** What metering needs: body bytes that came, and that the parent may have sent. Infinite while it isn't metered. */
  receivedBytes = 0
  grantedBytes: number
  metering = false

  constructor(
    options: { number: number; parent: PeerId; task: Task; priority: Priority; metered: boolean; maxRequests: number },
    parts: { host: ChannelHost },
  ) {
    this.number = options.number
    this.parent = options.parent
    this.task = options.task
    this.priority = options.priority
    this.pieces = pieceCount(options.task)
    this.grantedBytes = options.metered ? 0 : Number.POSITIVE_INFINITY
    this.#maxRequests = options.maxRequests
    this.#host = parts.host
    this.#haves = new Bitmap(this.pieces)
  }

  get haves(): ReadonlyBitmap {
    return this.#haves
  }

  get announces(): boolean {
    return this.#announces
  }

  get movedBytes(): number {
    return this.#host.movedBytes
  }

  get opened(): boolean {
    return this.#opened
  }

  get closed(): Promise<Error> {
    return this.#closed.promise
  }

  /** Aborted, with the reason, when the channel is over. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Body bytes that are asked for and have not come. */
  get outstandingBytes(): number {
    let bytes = 0
    for (const wanted of this.wanted.values()) bytes += wanted.bytes - wanted.filled
    return bytes
  }

  onHaves(listener: (from: number, count: number) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async fetch(piece: number, options: FetchOptions): Promise<Uint8Array> {
    if (!Number.isInteger(piece) || piece < 0 || piece >= this.pieces) {
      throw new DarnerError('BAD_ARGUMENT', `piece ${piece} of ${this.task.id}, which has ${this.pieces}`)
    }
    const got = await this.#want(piece, options)
    if (got === undefined)
      throw new DarnerError('PIECE_ABSENT', `piece ${piece} of ${this.task.id}: peer ${this.parent} has none left`)
    return got.body
  }

  async fetchAny(options: FetchAnyOptions): Promise<{ piece: number; body: Uint8Array } | undefined> {
    return this.#want(undefined, options)
  }

  async #want(
    piece: number | undefined,
    { signal, onStart, onOffer, onPart, sure = false, early = false, ahead = 0 }: FetchAnyOptions,
  ): Promise<{ piece: number; body: Uint8Array } | undefined> {
    while (this.wanted.size >= this.#maxRequests) {
      signal.throwIfAborted()
      this.signal.throwIfAborted()
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#queue.push(resolve)
      try {
        await abortable(promise, signal)
      } catch (error) {
        // the turn may have come in the same moment: pass it on
        const at = this.#queue.indexOf(resolve)
        if (at >= 0) this.#queue.splice(at, 1)
        else this.#queue.shift()?.()
        throw error
      }
    }
    signal.throwIfAborted()
    this.signal.throwIfAborted()
    const { promise, resolve, reject } = Promise.withResolvers<{ piece: number; body: Uint8Array } | undefined>()
    const range = piece === undefined ? undefined : pieceRange(this.task, piece)
    const bytes = range === undefined ? Math.min(this.task.pieceBytes, this.task.bytes) : range.to - range.from
    const wanted: Wanted = {
      id: this.#host.nextRequest(),
      channel: this,
      piece,
      bytes,
      body: undefined,
      filled: 0,
      waits: false,
      dropped: false,
      sure,
      early: sure && early,
      ahead,
      onStart,
      onPart,
      onOffer,
      resolve,
      reject,
    }
    this.wanted.set(wanted.id, wanted)
    this.#host.ask(wanted)
    const onAbort = () => {
      if (!this.wanted.has(wanted.id)) return
      wanted.dropped = true
      wanted.body = undefined
      reject(asError(signal.reason))
      this.#host.cancel(wanted)
    }
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Takes a request off the list: its piece came, or won't. */
  settled(wanted: Wanted): void {
    this.wanted.delete(wanted.id)
    this.#queue.shift()?.()
  }

  release(body: Uint8Array): void {
    this.#host.release(body)
  }

  renew(pass: Uint8Array): void {
    if (!this.signal.aborted) this.#host.renew(this, pass)
  }

  tell(from: number, count: number, { waitMs }: { waitMs: number } = { waitMs: 0 }): void {
    if (this.signal.aborted) return
    this.tells.here(from, count)
    this.#host.later(this, waitMs)
  }

  coming(piece: number, { waitMs }: { waitMs: number } = { waitMs: 0 }): void {
    if (this.signal.aborted) return
    this.tells.coming(piece)
    this.#host.later(this, waitMs)
  }

  lost(piece: number): void {
    if (this.signal.aborted) return
    this.tells.lost(piece)
    this.#host.later(this, 0)
  }

  /** The parent opened the task. Throws PROTOCOL_VIOLATION when its geometry or its bitmap isn't that of our task. */
  begin(opened: { bytes: number; pieceBytes: number; have: Uint8Array }, announces: boolean): void {
    if (this.#opened) throw new DarnerError('PROTOCOL_VIOLATION', `channel ${this.number} opened twice`)
    if (opened.bytes !== this.task.bytes || opened.pieceBytes !== this.task.pieceBytes) {
      const seen = `${opened.bytes} bytes in pieces of ${opened.pieceBytes}`
      throw new DarnerError(
        'PROTOCOL_VIOLATION',
        `${this.task.id} has ${this.task.bytes} bytes in pieces of ${this.task.pieceBytes}, not ${seen}`,
      )
    }
    if (opened.have.byteLength > 0) {
      for (const [from, count] of Bitmap.fromBytes(this.pieces, opened.have).ranges()) this.#haves.addRange(from, count)
    }
    this.#announces = announces
    this.#opened = true
  }

  /** The parent has more. Throws PROTOCOL_VIOLATION when it says the same things over and over. */
  heard(runs: readonly Run[]): void {
    for (const [from, count] of runs) {
      const before = this.#haves.count
      this.#haves.addRange(from, count)
      const added = this.#haves.count - before
      this.#staleTold += count - added
      if (added > 0) for (const listener of this.#listeners) listener(from, count)
    }
    if (this.#staleTold > staleAllowed(this.pieces)) {
      throw new DarnerError('PROTOCOL_VIOLATION', `channel ${this.number}: ${this.#staleTold} pieces announced again`)
    }
  }

  /** The channel is over: every waiting caller gets `error`. */
  end(error: Error): void {
    if (this.signal.aborted) return
    this.#controller.abort(error)
    for (const wanted of this.wanted.values()) {
      wanted.dropped = true
      wanted.body = undefined
      wanted.reject(error)
    }
    for (const wake of this.#queue.splice(0)) wake()
    this.#closed.resolve(error)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.signal.aborted) return
    this.end(new DarnerError('CLOSED', `lane channel of ${this.task.id} at peer ${this.parent} closed`))
    this.#host.close(this)
  }
}

const asError = (reason: unknown) => (reason instanceof Error ? reason : new Error(String(reason)))
