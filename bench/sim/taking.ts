/** A child's side of its simulated channels: the real plan, what it makes of offers and pieces, and what it tells. */
import { type Action, LAST_OPEN_TURN } from '../../peer/downloader/plan.ts'
import { REPORT_PIECES } from '../../src/protocol/control.ts'
import {
  ANNOUNCE,
  ANSWERED,
  CANCELLED,
  CLOSED,
  COMING,
  HERE,
  LATE,
  LOST,
  OPENED,
  TICK,
  TOLD,
  UNREACHED,
} from './events.ts'
import { ANY, type Giving, SURE } from './giving.ts'
import { TELLS } from './hearing.ts'
import type { Host } from './host.ts'
import type { Supernode } from './supernode.ts'
import type { Wire } from './wire.ts'
import { SEED, type World } from './world.ts'

/** No host's number. */
const NOBODY = -1
const LATER = Number.POSITIVE_INFINITY
/** A peer reports its progress at the latest after so long. */
const REPORT_MS = 1000
/** It opens a parent whose channel broke again and again for so long before the supernode hears of it. */
const REOPEN_MS = 1780

export class Taking {
  readonly #world: World
  readonly #wire: Wire
  readonly #giving: Giving
  readonly #supernode: Supernode

  constructor(world: World, parts: { wire: Wire; giving: Giving; supernode: Supernode }) {
    this.#world = world
    this.#wire = parts.wire
    this.#giving = parts.giving
    this.#supernode = parts.supernode
  }

  /** News of parents reach a host. */
  mail(host: Host): void {
    const mail = this.#supernode.takeMail(host)
    if (!mail || !host.alive) return
    const world = this.#world
    host.messages++
    for (const parent of mail.drop) this.#letGo(host, world.host(parent))
    for (const [parent, turn] of mail.add) {
      const known = host.turns.get(parent)
      host.turns.set(parent, turn)
      if (host.parents.has(parent)) host.plan?.parentTurn(parent, turn)
      else if (turn <= LAST_OPEN_TURN && (known ?? LATER) > LAST_OPEN_TURN) this.#open(host, parent)
    }
    this.#openKnown(host)
    this.#act(host)
  }

  #open(host: Host, parent: number): void {
    const world = this.#world
    const openMs = world.options.openMs + 2 * world.latency(host, world.host(parent))
    world.queue.push(world.nowMs + openMs, OPENED, host.index, parent)
  }

  /** Opens parents that were only known of, once there is none left to ask. */
  #openKnown(host: Host): void {
    for (const turn of host.turns.values()) if (turn <= LAST_OPEN_TURN) return
    if (host.parents.size > 0) return
    for (const parent of host.turns.keys()) this.#open(host, parent)
  }

  opened(child: Host, parent: Host): void {
    const world = this.#world
    const turn = child.turns.get(parent.index)
    if (!child.plan || child.doneMs > 0 || turn === undefined || child.parents.has(parent.index)) return
    if (!world.connected(child, parent)) {
      world.queue.push(world.nowMs, CLOSED, child.index, parent.index)
      return
    }
    parent.children.add(child.index)
    child.parents.add(parent.index)
    world.maxParents = Math.max(world.maxParents, child.parents.size)
    if (parent.index !== SEED) world.maxChildren = Math.max(world.maxChildren, parent.children.size)
    const seat = this.#world.hearing.handoutOf(parent).join(child.index, child.have)
    this.#world.hearing.join(child, parent, seat)
    for (const piece of child.plan.underWay) this.#world.hearing.handoutOf(parent).coming(seat, piece)
    child.plan.parentJoined(parent.index, parent.index === SEED ? undefined : parent.have, turn)
    this.#act(child)
  }

  /** A channel broke, or could not be opened. That it is opened again and again is left out: it never is then. */
  broken(host: Host, parent: number): void {
    const { queue, nowMs } = this.#world
    host.parents.delete(parent)
    host.plan?.parentLeft(parent)
    queue.push(nowMs + REOPEN_MS, UNREACHED, host.index, parent)
    this.#act(host)
  }

  /** A parent could not be opened again. */
  unreached(host: Host, parent: number): void {
    if (!host.alive || host.doneMs > 0 || host.parents.has(parent) || !host.turns.delete(parent)) return
    this.#supernode.parentFailed(host, parent, 'unreachable')
    host.messages++
    this.#openKnown(host)
    this.#act(host)
  }

  /** The child closes its channel to a parent. */
  close(child: Host, parent: Host): void {
    this.#letGo(child, parent)
    if (child.doneMs === 0) this.#openKnown(child)
  }

  #letGo(child: Host, parent: Host): void {
    child.parents.delete(parent.index)
    child.turns.delete(parent.index)
    child.plan?.parentLeft(parent.index)
    parent.children.delete(child.index)
    this.#giving.released(parent, child.index)
  }

  /** An offer reaches the child, which answers at once. */
  offered(child: Host, parent: Host, piece: number): void {
    const world = this.#world
    if (!child.plan || !child.alive || child.doneMs > 0 || !world.connected(child, parent)) return
    const taken = child.plan.pieceOffered(parent.index, piece, world.nowMs)
    if (!taken) world.declined++
    this.#act(child)
    const atMs = world.nowMs + world.latency(child, parent)
    world.queue.push(atMs, ANSWERED, parent.index, child.index, piece * 2 + (taken ? 1 : 0))
  }

  /** The first bytes of a piece are here; `sure`: it comes without an offer. */
  started(child: Host, parent: number, code: number): void {
    if (!child.plan) return
    if (!child.alive || child.doneMs > 0) return
    const piece = code >> 1
    if ((code & 1) === 1) child.plan.pieceOffered(parent, piece, this.#world.nowMs)
    child.plan.pieceStarted(parent, piece, this.#world.nowMs)
    this.#act(child)
  }

  /** A piece is verified. */
  gained(host: Host, id: number): void {
    const world = this.#world
    const arrival = this.#wire.arrived(host, id)
    if (!arrival) return
    const { parent, piece } = arrival
    if (arrival.dropped) world.abortedBytes += arrival.bytes
    if (arrival.dropped || !host.alive || !host.plan || host.doneMs > 0) return
    host.plan.pieceArrived(parent, piece, world.nowMs)
    if (host.have.add(piece)) {
      this.#world.hearing.handoutOf(host).known(piece, 1)
      this.#tell(host, HERE, piece)
      host.fresh.push(piece)
      if (!host.announcing) {
        host.announcing = true
        world.queue.push(world.nowMs + world.options.announceMs + world.latency(host, host), ANNOUNCE, host.index)
      }
      this.#giving.pump(host)
      if (host.have.full) this.#finish(host)
      else if (host.have.count - host.reported >= REPORT_PIECES) this.#supernode.report(host)
    }
    this.#act(host)
  }

  /** What a child told reaches its parents in its own zone, or those in others. */
  told(child: Host, code: number, far: boolean): void {
    const what = code & 3
    const piece = code >> 2
    const { hearing } = this.#world
    if (what === LATE && !child.have.has(piece) && !child.plan?.isUnderWay(piece)) return
    const { tells } = child
    for (let at = 0; at < tells.length; at += TELLS) {
      const parent = tells[at] ?? 0
      if ((tells[at + 2] === 1) !== far) continue
      if (what === COMING && child.plan?.comingMs(parent, piece) !== 0) continue
      hearing.tell(parent, tells[at + 1] ?? 0, code)
      if (what === LOST || (what === HERE && hearing.isReady(parent))) this.#giving.pump(this.#world.host(parent))
    }
  }

  /** What came to a host lately becomes known to its children. */
  announce(host: Host): void {
    const world = this.#world
    host.announcing = false
    if (!host.alive) return
    for (const index of host.children) {
      const child = world.host(index)
      if (!child.plan || child.doneMs > 0 || !world.connected(host, child)) continue
      if (child.plan.parentHasThese(host.index, host.fresh)) this.#act(child)
    }
    host.fresh.length = 0
  }

  tick(host: Host): void {
    const world = this.#world
    if (!host.alive || !host.plan || host.doneMs > 0) return
    host.plan.tick(world.nowMs)
    if (host.have.count > host.reported && world.nowMs - host.reportedMs >= REPORT_MS) this.#supernode.report(host)
    this.#act(host)
    world.queue.push(world.nowMs + world.options.tickMs, TICK, host.index)
  }

  #act(host: Host): void {
    if (!host.plan) return
    for (const action of host.plan.decide(this.#world.nowMs)) this.#perform(host, action)
  }

  #perform(host: Host, action: Action<number>): void {
    const world = this.#world
    if (action.kind === 'coming' || action.kind === 'lost') {
      this.#tell(host, action.kind === 'coming' ? COMING : LOST, action.piece)
      return
    }
    const parent = world.host(action.parent)
    switch (action.kind) {
      case 'ask':
        this.#giving.ask(host, parent, action.piece)
        return
      case 'askAny':
        this.#giving.ask(host, parent, action.sure ? SURE : ANY)
        return
      case 'cancel':
        this.#wire.drop(host, parent.index, action.piece)
        world.queue.push(world.nowMs + world.latency(host, parent), CANCELLED, parent.index, host.index, action.piece)
        return
      case 'replace':
        this.close(host, parent)
        world.replaced++
        host.messages++
        this.#supernode.parentFailed(host, parent.index, action.reason === 'cancelled' ? 'slow' : action.reason)
        return
    }
  }

  /** Tells the parents that a piece is coming, isn't after all, or is here. */
  #tell(child: Host, what: number, piece: number): void {
    const { queue, nowMs, options } = this.#world
    const { zones, zoneLatencyMs } = options
    const waitMs = what === HERE ? (child.plan?.hereMs(NOBODY) ?? 0) : 0
    const code = piece * 4 + what
    const wayMs = this.#world.latency(child, child)
    for (let far = 0; far < Math.min(2, zones); far++)
      queue.push(nowMs + waitMs + wayMs + far * zoneLatencyMs, TOLD, child.index, code, far)
    // parents that can't give it yet hear a little later that it is coming
    const laterMs = what === COMING ? child.plan?.comingMs(NOBODY, piece) : undefined
    if (laterMs === undefined || laterMs === 0) return
    for (let far = 0; far < Math.min(2, zones); far++)
      queue.push(nowMs + laterMs + wayMs + far * zoneLatencyMs, TOLD, child.index, piece * 4 + LATE, far)
  }

  #finish(host: Host): void {
    const world = this.#world
    host.doneMs = world.nowMs
    world.left--
    this.#supernode.report(host)
    for (const parent of [...host.parents]) this.close(host, world.host(parent))
  }
}
