/**
 * The pieces of one connection on their way to its child: each waits in its channel's queue for an upload slot and leaves in segments. What is still
 * coming here leaves as far as it is checked, and goes behind what is here whole.
 */
import type { Clock } from '../../core/clock.ts'
import { DarnerError } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import { pieceRange } from '../../core/task/task.ts'
import { type RateLimits, WIRE_FACTOR } from '../limits/limits.ts'
import { Pace } from '../limits/pace.ts'
import { FRAME, MAX_SEGMENT_BYTES, PIECE_LAST, PIECE_WAITS, putHeader } from '../transport/lane-frames.ts'
import type { LaneLink } from '../transport/link.ts'
import { SEGMENT_AT, type SegmentPool, SMALL_FRAMES_BYTES } from '../transport/segments.ts'
import type { ServedChannel, ServedRequest } from './served-channel.ts'
import type { Slot, UploadSlots } from './slots.ts'

export interface PieceSenderParts {
  readonly link: LaneLink
  readonly slots: UploadSlots
  readonly limits: RateLimits
  readonly pool: SegmentPool
  readonly clock: Clock
  /** Whether the channel's child may still read; it is ended where not. */
  readonly mayRead: (channel: ServedChannel) => boolean
  /** A request's piece did not leave whole: by the child's will, or because of a failure here. */
  readonly cancelled: (channel: ServedChannel, request: ServedRequest) => void
  readonly failed: (channel: ServedChannel, request: ServedRequest, error: unknown) => void
}

export class PieceSender {
  readonly #parts: PieceSenderParts
  /** Of what gives way to other traffic. */
  readonly #pace: Pace

  constructor(parts: PieceSenderParts) {
    this.#parts = parts
    this.#pace = new Pace({ clock: parts.clock, roundTrip: () => parts.link.roundTrip() })
  }

  /** The connection is over: nothing of it gets a turn any more. */
  stop(): void {
    this.#parts.slots.drop(this)
  }

  /** A piece shall leave once its turn comes. */
  enqueue(channel: ServedChannel, request: ServedRequest): void {
    channel.open.set(request.id, request)
    channel.wake?.()
    if (request.chosen) {
      channel.owe(request)
      channel.queue.push(request)
    } else {
      // asked for by name: somebody waits for it
      const chosen = channel.queue.findIndex((waiting) => waiting.chosen && waiting.offset === 0)
      channel.queue.splice(chosen < 0 ? channel.queue.length : chosen, 0, request)
    }
    this.#schedule(channel)
  }

  #schedule(channel: ServedChannel): void {
    if (channel.scheduled || channel.queue.length === 0 || channel.signal.aborted) return
    const { link, slots } = this.#parts
    channel.scheduled = true
    slots.enqueue({
      child: this,
      priority: channel.priority,
      start: (slot) => link.run(() => this.#serve(channel, slot)),
      stalled: () => channel.stalled(),
      evict: () =>
        link.fail(new DarnerError('PEER_STALLED', `lane with peer ${link.peer}: reads too slowly while others wait`)),
    })
  }

  async #serve(channel: ServedChannel, slot: Slot): Promise<void> {
    const request = nextOf(channel)
    try {
      if (request !== undefined && !channel.signal.aborted) {
        channel.begin(request)
        await this.#sendPiece(channel, request, slot)
      }
    } catch (error) {
      if (channel.signal.aborted) return
      if (this.#parts.link.failure !== undefined || request === undefined) throw error
      this.#parts.failed(channel, request, error)
    } finally {
      channel.scheduled = false
      // back in the queue before the slot is free, or another class would get its turn
      this.#schedule(channel)
      slot.release()
    }
  }

  /** Sends segments until the piece is out, is cancelled, or steps back into the queue. One is read while one is written. */
  async #sendPiece(channel: ServedChannel, request: ServedRequest, slot: Slot): Promise<void> {
    const { link, limits, pool, mayRead, cancelled } = this.#parts
    const { task } = channel.shelf
    const { from, to } = pieceRange(task, request.piece)
    const flow = { direction: 'out', priority: channel.priority, task: task.id, peer: link.peer } as const
    let written: Promise<void> = Promise.resolve()
    while (request.offset < to - from) {
      if (!mayRead(channel)) return
      if (request.cancelled) {
        cancelled(channel, request)
        return
      }
      if (slot.shouldYield) {
        channel.queue.unshift(request)
        return
      }
      const credit = channel.creditLeft
      if (credit === 0) {
        channel.giving.yields(request.piece)
        await parked(slot, channel.creditChange())
        continue
      }
      const coming = channel.shelf.coming?.checked(request.piece)
      const checked = coming ?? to - from
      if (checked <= request.offset) {
        if (channel.queue.some((other) => readable(channel, other))) {
          channel.queue.unshift(request)
          return
        }
        channel.giving.yields(request.piece)
        await parked(slot, this.#more(channel, request))
        continue
      }
      const { signal } = channel
      const pace = limits.givesWay(channel.priority) ? this.#pace : undefined
      const smooth = Math.min(limits.chunkBytes(flow), pace?.chunkBytes ?? Number.POSITIVE_INFINITY)
      const bytes = Math.min(MAX_SEGMENT_BYTES, checked - request.offset, credit, smooth)
      const leave = limits.take(Math.ceil(bytes * WIRE_FACTOR), { ...flow, signal })
      if (leave !== undefined) await parked(slot, leave)
      const turn = pace?.take(bytes, { signal })
      if (turn !== undefined) await parked(slot, turn)
      const buffer = pool.get()
      await channel.shelf.read(request.piece, request.offset, buffer.subarray(SEGMENT_AT, SEGMENT_AT + bytes), {
        signal,
      })
      await written
      signal.throwIfAborted()
      const last = request.offset + bytes === to - from
      putHeader(
        buffer.subarray(SMALL_FRAMES_BYTES),
        FRAME.PIECE,
        {
          // also of what is checked whole: until it is stored it may have to be withdrawn
          flags: last ? PIECE_LAST : coming === undefined ? 0 : PIECE_WAITS,
          channel: channel.number,
          request: request.id,
          number: request.piece,
        },
        bytes,
      )
      request.offset += bytes
      channel.sentBytes += bytes
      slot.moved(bytes)
      written = link.sendBulk(buffer.subarray(0, SEGMENT_AT + bytes), SMALL_FRAMES_BYTES).then(() => {
        pool.put(buffer)
        if (last) channel.settle(request, to - from)
      })
      // the link itself fails, and reports that to its owner
      written.catch(() => undefined)
    }
    // the slot goes on to the next piece while this one's end is written
    channel.forget(request.id)
  }

  /** Waits until more of a piece that still arrives is here, more of another in the queue, or something else to do. */
  async #more(channel: ServedChannel, request: ServedRequest): Promise<void> {
    const woken = Promise.withResolvers<void>()
    channel.wake = woken.resolve
    const { coming } = channel.shelf
    const more = [request, ...channel.queue].map(({ piece, offset }) => coming?.beyond(piece, offset))
    await abortable(Promise.race([...more, woken.promise]), channel.signal)
    channel.wake = undefined
  }
}

/** Waits without holding the uplink. */
async function parked(slot: Slot, wait: Promise<void>): Promise<void> {
  slot.park(true)
  await wait
  slot.park(false)
}

/** Whether some of it can be sent now. */
function readable({ shelf }: ServedChannel, { piece, offset }: ServedRequest): boolean {
  return (shelf.coming?.checked(piece) ?? Number.POSITIVE_INFINITY) > offset
}

/** Takes the request that is served next off the queue: the first of which some can be sent, else the first. */
function nextOf(channel: ServedChannel): ServedRequest | undefined {
  const ready = channel.queue.findIndex((request) => readable(channel, request))
  return channel.queue.splice(Math.max(0, ready), 1)[0]
}
