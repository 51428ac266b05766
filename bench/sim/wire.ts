/**
 * The fluid model of the links. Each host has an uplink and a downlink of a fixed rate. An uplink sends whole pieces one after
 * another, as a parent with one busy upload slot does; the first bytes reach the child a latency later and queue at its downlink,
 * so that both ends are capped and neither is idle while something waits for it. Latency has exponential jitter. A piece counts
 * once it is verified.
 */
import type { Seat } from '../../src/exchange/handout/handout.ts'
import { GAINED, SENT, STARTED } from './events.ts'
import type { Arrival, Host } from './host.ts'
import type { World } from './world.ts'

export class Wire {
  readonly #world: World
  #arrivals = 0

  constructor(world: World) {
    this.#world = world
  }

  /** Puts a piece on a parent's idle uplink. */
  send(parent: Host, seat: Seat<number>, piece: number): void {
    const world = this.#world
    const { nowMs, queue } = world
    const child = world.host(seat.child)
    const bytes = world.bytesOf(piece)
    const upEnd = nowMs + bytes / parent.upRate
    const latency = world.latency(parent, child)
    const fromMs = nowMs + latency
    const startMs = Math.max(fromMs, child.downFreeMs)
    const downEndMs = startMs + bytes / child.downRate
    child.downFreeMs = downEndMs
    const hashMs = bytes / world.options.hashRate
    const arriveMs = Math.max(upEnd + latency, downEndMs) + hashMs
    const id = this.#arrivals++ & 0x3fffffff
    const upEndMs = upEnd + latency
    const dropped = false
    child.arrivals.push({
      id,
      parent: parent.index,
      piece,
      bytes,
      fromMs,
      upEndMs,
      startMs,
      downEndMs,
      arriveMs,
      dropped,
    })
    queue.push(arriveMs, GAINED, child.index, id)
    parent.sending = true
    parent.upBytes += bytes
    child.downBytes += bytes
    if (parent.zone !== child.zone) child.crossZoneBytes += bytes
    parent.sendSeat = seat
    parent.sendPiece = piece
    parent.sendEndMs = upEnd
    queue.push(upEnd, SENT, parent.index, ++parent.sendSerial)
    // pieces of one connection come one after the other; those of several side by side
    queue.push(
      seat.sure ? startMs : nowMs + latency,
      STARTED,
      child.index,
      parent.index,
      piece * 2 + (seat.sure ? 1 : 0),
    )
  }

  /** Takes the piece that a parent sends off its uplink in the middle. `at`: its place among the child's arrivals, from {@link drop}. */
  breakOff(parent: Host, child: Host, at: number): void {
    const unsent = (parent.sendEndMs - this.#world.nowMs) * parent.upRate
    parent.upBytes -= unsent
    child.downBytes -= unsent
    this.#shorten(child, at, unsent)
    parent.sendSerial++
    parent.sending = false
  }

  /** What is on its way from this parent won't be looked at. Its place in the child's list, or -1. */
  drop(child: Host, parent: number, piece: number): number {
    const at = child.arrivals.findIndex((one) => one.parent === parent && one.piece === piece && !one.dropped)
    const arrival = child.arrivals[at]
    if (arrival) {
      arrival.dropped = true
      return at
    }
    return child.arrivals.findIndex((one) => one.parent === parent && one.piece === piece)
  }

  /** Nothing that is on its way from this parent will be looked at. */
  dropAll(child: Host, parent: number): void {
    for (const arrival of child.arrivals) if (arrival.parent === parent) arrival.dropped = true
  }

  /** Takes an arrival that is due out of the child's list; undefined when it has gone, or moved to later. */
  arrived(child: Host, id: number): Arrival | undefined {
    const at = child.arrivals.findIndex((one) => one.id === id)
    const arrival = child.arrivals[at]
    if (!arrival || arrival.arriveMs > this.#world.nowMs + 1e-6) return undefined
    child.arrivals.splice(at, 1)
    return arrival
  }

  /** The rest of a cancelled piece never comes: what queues behind it at the child's downlink moves up. */
  #shorten(child: Host, at: number, unsent: number): void {
    const { nowMs, queue, options } = this.#world
    const { arrivals, downRate } = child
    const cut = arrivals[at]
    if (!cut) return
    cut.bytes -= unsent
    cut.downEndMs = Math.max(cut.startMs, cut.downEndMs - unsent / downRate)
    let freeMs = cut.downEndMs
    for (let n = at + 1; n < arrivals.length; n++) {
      const one = arrivals[n]
      if (!one) continue
      if (one.startMs > nowMs) {
        one.startMs = Math.max(nowMs, one.fromMs, freeMs)
        one.downEndMs = one.startMs + one.bytes / downRate
        const arriveMs = Math.max(one.upEndMs, one.downEndMs) + one.bytes / options.hashRate
        if (arriveMs < one.arriveMs) {
          one.arriveMs = arriveMs
          queue.push(arriveMs, GAINED, child.index, one.id)
        }
      }
      freeMs = one.downEndMs
    }
    child.downFreeMs = freeMs
  }
}
