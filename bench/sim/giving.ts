/** A parent's side of a simulated channel: the real handout, what waits for the uplink, and offers of its own choice. */
import { ASK, OFFERED } from './events.ts'
import type { Hearing } from './hearing.ts'
import type { Host, Waiting } from './host.ts'
import type { Wire } from './wire.ts'
import type { World } from './world.ts'

/** In place of a piece: any, by an offer or without one. */
export const ANY = -1
export const SURE = -2

export class Giving {
  readonly #world: World
  readonly #wire: Wire
  readonly #hearing: Hearing

  constructor(world: World, wire: Wire) {
    this.#world = world
    this.#wire = wire
    this.#hearing = world.hearing
  }

  /** A child's question is under way, for a piece, {@link ANY} or {@link SURE}. */
  ask(child: Host, parent: Host, piece: number): void {
    const { queue, nowMs } = this.#world
    queue.push(nowMs + this.#world.latency(child, parent), ASK, parent.index, child.index, piece)
  }

  asked(parent: Host, child: number, piece: number): void {
    if (!parent.alive || !parent.children.has(child)) return
    const seat = this.#world.host(child).places.get(parent.index)?.seat
    if (!seat) return
    if (piece < 0) {
      this.#hearing.handoutOf(parent).asks(seat, { sure: piece === SURE, early: false })
      parent.asking.push(seat)
    } else parent.waiting.push({ seat, piece })
    this.pump(parent)
  }

  /** Starts the next piece on an idle uplink, of those that children took or asked for, and offers more. */
  pump(parent: Host): void {
    while (this.#offer(parent));
    this.#hearing.setReady(parent.index, parent.asking.length > 0 && this.#hearing.handoutOf(parent).gives)
    while (!parent.sending) {
      const next = parent.waiting.shift()
      if (!next) return
      const child = this.#world.host(next.seat.child)
      if (!this.#world.connected(parent, child)) continue
      this.#hearing.handoutOf(parent).named(next.seat, next.piece, this.#world.nowMs)
      this.#wire.send(parent, next.seat, next.piece)
    }
  }

  /** The child's answer to an offer: twice the piece, and one where it is taken. */
  answered(parent: Host, child: number, code: number): void {
    const seat = this.#world.host(child).places.get(parent.index)?.seat
    if (!seat || !parent.alive) return
    const piece = code >> 1
    if ((code & 1) === 1) {
      this.#hearing.handoutOf(parent).taken(seat, piece, this.#world.nowMs)
      parent.waiting.push({ seat, piece })
    } else {
      this.#hearing.handoutOf(parent).failed(seat, piece)
      parent.asking.push(seat)
    }
    this.pump(parent)
  }

  sent(parent: Host, serial: number): void {
    if (parent.sendSerial !== serial) return
    parent.sending = false
    if (parent.sendSeat) this.#hearing.handoutOf(parent).sent(parent.sendSeat, parent.sendPiece, this.#world.nowMs)
    this.pump(parent)
  }

  /** A cancel reaches the parent: out of its queue, or off its uplink in the middle of the piece. */
  cancelled(parent: Host, child: Host, piece: number): void {
    const at = this.#wire.drop(child, parent.index, piece)
    const { sendSeat } = parent
    const seat = child.places.get(parent.index)?.seat
    if (seat && removeWaiting(parent.waiting, (one) => one.seat === seat && one.piece === piece)) {
      this.#hearing.handoutOf(parent).failed(seat, piece)
      this.pump(parent)
    }
    if (!parent.sending || sendSeat?.child !== child.index || parent.sendPiece !== piece) return
    this.#hearing.handoutOf(parent).failed(sendSeat, piece)
    this.#wire.breakOff(parent, child, at)
    this.pump(parent)
  }

  /** A parent forgets a child: what is on its way to it ends there, or is thrown away. */
  released(parent: Host, child: number): void {
    const leaver = this.#world.host(child)
    if (parent.alive && parent.sending && parent.sendSeat?.child === child) {
      const at = this.#wire.drop(leaver, parent.index, parent.sendPiece)
      if (at >= 0) this.#wire.breakOff(parent, leaver, at)
    }
    this.#wire.dropAll(leaver, parent.index)
    const place = leaver.places.get(parent.index)
    if (place) {
      this.#hearing.handoutOf(parent).release(place.seat)
      this.#hearing.leave(leaver, place)
    }
    removeWaiting(parent.waiting, ({ seat }) => seat.child === child)
    for (let at = parent.asking.length - 1; at >= 0; at--)
      if (parent.asking[at]?.child === child) parent.asking.splice(at, 1)
    this.pump(parent)
  }

  /** Offers one of the waiting children a piece of the parent's choice. */
  #offer(parent: Host): boolean {
    const { asking } = parent
    const world = this.#world
    if (asking.length === 0) return false
    const given = this.#hearing.handoutOf(parent).give(asking, world.nowMs)
    const [seat] = given ? asking.splice(given.at, 1) : []
    if (!given || !seat) return false
    if (seat.sure) {
      parent.waiting.push({ seat, piece: given.piece })
      return true
    }
    const child = world.host(seat.child)
    world.queue.push(world.nowMs + world.latency(parent, child), OFFERED, child.index, parent.index, given.piece)
    return true
  }
}

function removeWaiting(list: Waiting[], matches: (one: Waiting) => boolean): boolean {
  const before = list.length
  for (let at = list.length - 1; at >= 0; at--) {
    const one = list[at]
    if (one && matches(one)) list.splice(at, 1)
  }
  return list.length < before
}
