/**
 * A swarm in one process: the real scheduler, plan and handout over a fluid network model, driven by one event queue.
 *
 * The model. Each host has an uplink and a downlink of a fixed rate. An uplink sends whole pieces one after another, as a
 * parent with one busy upload slot does; the first bytes reach the child a latency later and queue at its downlink, so that
 * both ends are capped and neither is idle while something waits for it. Latency has exponential jitter. A piece counts once
 * it is verified. What the model leaves out is in docs/scheduling.md.
 */
import { type Action, PLAN_DEFAULTS, Plan } from '../../peer/engine/plan.ts'
import { type Random, randomBelow, seededRandom } from '../../src/base/clock.ts'
import type { PeerId } from '../../src/contracts/exchange.ts'
import { HANDOUT_DEFAULTS, Handout, type Seat } from '../../src/task/handout.ts'
import type { TaskId } from '../../src/task/task.ts'
import { decide } from '../../supernode/scheduler/decide.ts'
import type { SchedulerEvent } from '../../supernode/scheduler/events.ts'
import { newScheduler, type SchedulerState } from '../../supernode/scheduler/state.ts'
import { type Host, newHost, type Waiting } from './host.ts'
import type { SimOptions } from './options.ts'
import { EventQueue } from './queue.ts'

const START = 0
const ASK = 1
const SENT = 2
const ANNOUNCE = 4
const TICK = 5
const MESH = 6
const OPENED = 7
const ORIGIN = 8
const CLOSED = 9
const CHURN = 10
const SUPER_TICK = 11
const GAINED = 12
const ZONE = 13
const DEAD = 14
const TRACE = 15
const STARTED = 3
const CANCELLED = 16
const TOLD = 17
const OFFERED = 18
const ANSWERED = 19

/** What a child tells of a piece. */
const HERE = 0
const COMING = 1
const LOST = 2
/** That it is coming, told to those who can't give it yet. */
const LATE = 3
/** No host's number. */
const NOBODY = -1

/** The supernode and its seed. */
const SEED = 0
const TASK = 'sha256:0000000000000000000000000000000000000000000000000000000000000000' as TaskId
/** A peer reports its progress each so many pieces, and its parents' pushes of changed parents wait this long for more. */
const REPORT_PIECES = 16
const COALESCE_MS = 10

export interface SimResult {
  /** Milliseconds from its own start to its last verified piece, ascending, of hosts at full rate and of slow ones. */
  readonly fast: number[]
  readonly slow: number[]
  /** Hosts that stayed and didn't finish. */
  readonly stuck: number
  readonly seedBytes: number
  readonly wastedBytes: number
  readonly controlMessages: number
  readonly crossZoneBytes: number
  readonly maxParents: number
  readonly maxChildren: number
  readonly events: number
  readonly decisions: number
  readonly endMs: number
}

export class Swarm {
  readonly #options: SimOptions
  readonly #random: Random
  readonly #queue = new EventQueue()
  readonly #hosts: Host[] = []
  readonly #scheduler: SchedulerState
  readonly #pieces: number
  /** Parent changes on their way to a host, coalesced. */
  readonly #mail = new Map<number, { add: Map<number, boolean>; drop: Set<number> }>()
  #nowMs = 0
  #left = 0
  #events = 0
  #decisions = 0
  #maxParents = 0
  #maxChildren = 0
  #cut = false
  #tracedBytes = 0
  #replaced = 0
  #churnOwed = 0
  /** Bytes of pieces that were dropped, as far as they went. */
  #abortedBytes = 0
  #declined = 0
  #arrivals = 0

  constructor(options: SimOptions) {
    this.#options = options
    this.#random = seededRandom(options.seed)
    this.#pieces = Math.ceil(options.bytes / options.pieceBytes)
    this.#scheduler = newScheduler(seededRandom(options.seed + 1), options.scheduler)
    const seed = this.#addHost(0, false)
    seed.alive = true
    Object.assign(seed, { upRate: options.seedRate })
    this.#supernode({ kind: 'peerJoined', peer: idOf(SEED), seed: true })
    for (let n = 0; n < options.hosts; n++) this.#newcomer(this.#random() * options.startMs)
    const pieceMs = options.pieceBytes / options.originRate
    for (let piece = 0; piece < this.#pieces; piece++) this.#queue.push((piece + 1) * pieceMs, ORIGIN, piece)
    if (options.churn > 0) this.#queue.push(1000, CHURN)
    this.#queue.push(200, SUPER_TICK)
    if (options.traceMs > 0) this.#queue.push(this.#options.traceMs, TRACE)
    if (options.cutToMs > options.cutFromMs) {
      this.#queue.push(options.cutFromMs, ZONE, 1)
      this.#queue.push(options.cutToMs, ZONE, 0)
    }
  }

  /** Runs until every living host is done, or until `limitMs` of simulated time. */
  run(limitMs: number): SimResult {
    const { event } = this.#queue
    while (this.#left > 0 && this.#queue.pop()) {
      this.#nowMs = event.atMs
      if (this.#nowMs > limitMs) break
      this.#events++
      this.#on(event.kind, event.a, event.b, event.c)
    }
    return this.#result()
  }

  #on(kind: number, a: number, b: number, c: number): void {
    switch (kind) {
      case START:
        this.#start(this.#host(a))
        break
      case ASK:
        this.#asked(this.#host(a), b, c)
        break
      case SENT:
        this.#sent(this.#host(a), b)
        break
      case GAINED:
        this.#gained(this.#host(a), b)
        break
      case ANNOUNCE:
        this.#announce(this.#host(a))
        break
      case TICK:
        this.#tick(this.#host(a))
        break
      case MESH:
        this.#onMail(this.#host(a))
        break
      case OPENED:
        this.#opened(this.#host(a), this.#host(b))
        break
      case ORIGIN:
        this.#host(SEED).have.add(a)
        this.#host(SEED).handout.known(a, 1)
        if (a % REPORT_PIECES === 0 || a === this.#pieces - 1) this.#report(this.#host(SEED))
        this.#pump(this.#host(SEED))
        break
      case CLOSED: {
        const host = this.#host(a)
        host.parents.delete(b)
        host.plan?.parentLeft(b)
        this.#supernode({ kind: 'parentFailed', task: TASK, peer: idOf(a), parent: idOf(b), reason: 'unreachable' })
        host.messages++
        this.#act(host)
        break
      }
      case DEAD:
        this.#supernode({ kind: 'peerLeft', peer: idOf(a) })
        break
      case CHURN:
        this.#churn()
        break
      case SUPER_TICK:
        for (const host of this.#hosts) {
          if (host.alive && this.#reaches(host))
            decide(this.#scheduler, { kind: 'alive', peer: idOf(host.index) }, this.#nowMs)
        }
        this.#supernode({ kind: 'tick' })
        this.#queue.push(this.#nowMs + 500, SUPER_TICK)
        break
      case ZONE:
        this.#cutZone(a === 1)
        break
      case STARTED:
        this.#started(this.#host(a), b, c)
        break
      case OFFERED:
        this.#offered(this.#host(a), this.#host(b), c)
        break
      case ANSWERED:
        this.#answered(this.#host(a), b, c)
        break
      case CANCELLED:
        this.#cancelled(this.#host(a), this.#host(b), c)
        break
      case TOLD:
        this.#told(this.#host(a), b, c === 1)
        break
      case TRACE:
        this.#trace()
        break
    }
  }

  #host(index: number): Host {
    const host = this.#hosts[index]
    if (!host) throw new RangeError(`host ${index} of ${this.#hosts.length}`)
    return host
  }

  #addHost(zone: number, slow: boolean): Host {
    const rate = this.#options.rate * (slow ? 0.1 : 1)
    const index = this.#hosts.length
    const random = index === SEED ? {} : { random: this.#random }
    const handout = new Handout<number>(this.#pieces, { ...HANDOUT_DEFAULTS, slots: this.#options.slots, ...random })
    const host = newHost(index, zone, slow, rate, this.#pieces, handout)
    this.#hosts.push(host)
    return host
  }

  #newcomer(atMs: number): void {
    const host = this.#addHost(randomBelow(this.#random, this.#options.zones), this.#random() < this.#options.slow)
    this.#left++
    this.#queue.push(atMs, START, host.index)
  }

  #start(host: Host): void {
    host.alive = true
    host.joinedMs = this.#nowMs
    const { pieceBytes } = this.#options
    host.plan = new Plan(
      { ...PLAN_DEFAULTS, ...this.#options.plan, pieces: this.#pieces, pieceBytes },
      seededRandom(this.#options.seed * 7919 + host.index),
    )
    host.plan.pieceKnown(0, this.#pieces)
    const rack = this.#options.racks > 0 ? { rack: String(randomBelow(this.#random, this.#options.racks)) } : {}
    this.#supernode({ kind: 'peerJoined', peer: idOf(host.index), zone: String(host.zone), ...rack })
    this.#supernode({
      kind: 'registered',
      task: TASK,
      peer: idOf(host.index),
      pieces: this.#pieces,
      have: 0,
      priority: 'interactive',
    })
    host.messages++
    this.#queue.push(this.#nowMs + this.#options.tickMs * this.#random(), TICK, host.index)
  }

  #latency(from: Host, to: Host): number {
    const { latencyMs, jitterMs, zoneLatencyMs } = this.#options
    return latencyMs - Math.log(1 - this.#random()) * jitterMs + (from.zone === to.zone ? 0 : zoneLatencyMs)
  }

  /** Whether the supernode and a host can talk. */
  #reaches(host: Host): boolean {
    return !this.#cut || host.zone !== this.#options.zones - 1
  }

  #connected(a: Host, b: Host): boolean {
    return a.alive && b.alive && (a.zone === b.zone || (this.#reaches(a) && this.#reaches(b)))
  }

  #supernode(event: SchedulerEvent): void {
    if ('peer' in event && !this.#reaches(this.#host(indexOf(event.peer))) && event.kind !== 'peerLeft') return
    this.#decisions++
    for (const effect of decide(this.#scheduler, event, this.#nowMs)) {
      if (effect.kind !== 'parents') continue
      const to = indexOf(effect.peer)
      let mail = this.#mail.get(to)
      if (!mail) {
        mail = { add: new Map(), drop: new Set() }
        this.#mail.set(to, mail)
        // The answer to a registration goes out at once; news to others waits for more.
        const wait = 'peer' in event && event.peer === effect.peer ? 0 : COALESCE_MS
        this.#queue.push(this.#nowMs + wait + this.#options.latencyMs * 2, MESH, to)
      }
      for (const peer of effect.drop) {
        if (!mail.add.delete(indexOf(peer))) mail.drop.add(indexOf(peer))
      }
      for (const { peer, seed } of effect.add) mail.add.set(indexOf(peer), seed)
    }
  }

  #onMail(host: Host): void {
    const mail = this.#mail.get(host.index)
    this.#mail.delete(host.index)
    if (!mail || !host.alive) return
    host.messages++
    for (const parent of mail.drop) this.#close(host, this.#host(parent))
    for (const [parent, seed] of mail.add) {
      const openMs = this.#options.openMs + 2 * this.#latency(host, this.#host(parent))
      this.#queue.push(this.#nowMs + openMs, OPENED, host.index, parent, seed ? 1 : 0)
    }
    this.#act(host)
  }

  #opened(child: Host, parent: Host): void {
    if (!child.plan || child.doneMs > 0) return
    if (!this.#connected(child, parent)) {
      this.#queue.push(this.#nowMs, CLOSED, child.index, parent.index)
      return
    }
    parent.children.add(child.index)
    child.parents.add(parent.index)
    this.#maxParents = Math.max(this.#maxParents, child.parents.size)
    if (parent.index !== SEED) this.#maxChildren = Math.max(this.#maxChildren, parent.children.size)
    const seat = parent.handout.join(child.index, child.have)
    child.seats.push({ parent, seat })
    for (const piece of child.plan.underWay) parent.handout.coming(seat, piece)
    child.plan.parentJoined(parent.index, parent.index === SEED ? undefined : parent.have)
    this.#act(child)
  }

  /** The child closes its channel to a parent. */
  #close(child: Host, parent: Host): void {
    child.parents.delete(parent.index)
    child.plan?.parentLeft(parent.index)
    parent.children.delete(child.index)
    this.#released(parent, child.index)
  }

  /** A parent forgets a child. */
  #released(parent: Host, child: number): void {
    const { seats } = this.#host(child)
    const seatAt = seats.findIndex((one) => one.parent === parent)
    const [place] = seatAt < 0 ? [] : seats.splice(seatAt, 1)
    if (place) parent.handout.release(place.seat)
    removeWaiting(parent.waiting, ({ seat }) => seat.child === child)
    for (let at = parent.asking.length - 1; at >= 0; at--)
      if (parent.asking[at]?.child === child) parent.asking.splice(at, 1)
    this.#pump(parent)
  }

  #act(host: Host): void {
    if (!host.plan) return
    for (const action of host.plan.decide(this.#nowMs)) this.#perform(host, action)
  }

  #perform(host: Host, action: Action<number>): void {
    if (action.kind === 'coming' || action.kind === 'lost') {
      this.#tell(host, action.kind === 'coming' ? COMING : LOST, action.piece)
      return
    }
    const parent = this.#host(action.parent)
    switch (action.kind) {
      case 'ask':
        this.#queue.push(this.#nowMs + this.#latency(host, parent), ASK, parent.index, host.index, action.piece)
        return
      case 'askAny':
        this.#queue.push(this.#nowMs + this.#latency(host, parent), ASK, parent.index, host.index, -1)
        return
      case 'cancel':
        this.#drop(host, parent.index, action.piece)
        this.#queue.push(this.#nowMs + this.#latency(host, parent), CANCELLED, parent.index, host.index, action.piece)
        return
      case 'replace':
        this.#close(host, parent)
        this.#replaced++
        host.messages++
        this.#supernode({
          kind: 'parentFailed',
          task: TASK,
          peer: idOf(host.index),
          parent: idOf(parent.index),
          reason: action.reason === 'cancelled' ? 'slow' : action.reason,
        })
        return
    }
  }

  #asked(parent: Host, child: number, piece: number): void {
    if (!parent.alive || !parent.children.has(child)) return
    const seat = this.#host(child).seats.find((one) => one.parent === parent)?.seat
    if (!seat) return
    if (piece < 0) parent.asking.push(seat)
    else parent.waiting.push({ seat, piece })
    this.#pump(parent)
  }

  /** Starts the next piece on an idle uplink, of those that children took or asked for, and offers more. */
  #pump(parent: Host): void {
    while (this.#offer(parent));
    while (!parent.sending) {
      const next = parent.waiting.shift()
      if (!next) return
      const child = this.#host(next.seat.child)
      if (!this.#connected(parent, child)) continue
      parent.handout.named(next.seat, next.piece, this.#nowMs)
      this.#send(parent, next.seat, next.piece)
    }
  }

  /** Offers one of the waiting children a piece of the parent's choice. */
  #offer(parent: Host): boolean {
    const { asking, handout } = parent
    if (asking.length === 0) return false
    const given = handout.give(asking, this.#nowMs)
    const [seat] = given ? asking.splice(given.at, 1) : []
    if (!given || !seat) return false
    const child = this.#host(seat.child)
    this.#queue.push(this.#nowMs + this.#latency(parent, child), OFFERED, child.index, parent.index, given.piece)
    return true
  }

  /** An offer reaches the child, which answers at once. */
  #offered(child: Host, parent: Host, piece: number): void {
    if (!child.plan || !child.alive || child.doneMs > 0 || !this.#connected(child, parent)) return
    const taken = child.plan.pieceOffered(parent.index, piece, this.#nowMs)
    if (!taken) this.#declined++
    this.#act(child)
    const atMs = this.#nowMs + this.#latency(child, parent)
    this.#queue.push(atMs, ANSWERED, parent.index, child.index, piece * 2 + (taken ? 1 : 0))
  }

  #answered(parent: Host, child: number, code: number): void {
    const seat = this.#host(child).seats.find((one) => one.parent === parent)?.seat
    if (!seat || !parent.alive) return
    const piece = code >> 1
    if ((code & 1) === 1) {
      parent.handout.taken(seat, piece, this.#nowMs)
      parent.waiting.push({ seat, piece })
    } else {
      parent.handout.failed(seat, piece)
      parent.asking.push(seat)
    }
    this.#pump(parent)
  }

  #send(parent: Host, seat: Seat<number>, piece: number): void {
    const child = this.#host(seat.child)
    const bytes = this.#bytesOf(piece)
    const upEnd = this.#nowMs + bytes / parent.upRate
    const latency = this.#latency(parent, child)
    const fromMs = this.#nowMs + latency
    const startMs = Math.max(fromMs, child.downFreeMs)
    const downEndMs = startMs + bytes / child.downRate
    child.downFreeMs = downEndMs
    const hashMs = bytes / this.#options.hashRate
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
    this.#queue.push(arriveMs, GAINED, child.index, id)
    parent.sending = true
    parent.upBytes += bytes
    child.downBytes += bytes
    if (parent.zone !== child.zone) child.crossZoneBytes += bytes
    parent.sendSeat = seat
    parent.sendPiece = piece
    parent.sendEndMs = upEnd
    this.#queue.push(upEnd, SENT, parent.index, ++parent.sendSerial)
    this.#queue.push(this.#nowMs + latency, STARTED, child.index, parent.index, piece)
  }

  #started(child: Host, parent: number, piece: number): void {
    if (!child.plan) return
    if (!child.alive || child.doneMs > 0) return
    child.plan.pieceStarted(parent, piece, this.#nowMs)
    this.#act(child)
  }

  /** Tells the parents that a piece is coming, isn't after all, or is here. */
  #tell(child: Host, what: number, piece: number): void {
    const { zones, zoneLatencyMs } = this.#options
    const waitMs = what === HERE ? (child.plan?.hereMs ?? 0) : 0
    const code = piece * 4 + what
    const wayMs = this.#latency(child, child)
    for (let far = 0; far < Math.min(2, zones); far++)
      this.#queue.push(this.#nowMs + waitMs + wayMs + far * zoneLatencyMs, TOLD, child.index, code, far)
    // parents that can't give it yet hear a little later that it is coming
    const laterMs = what === COMING ? child.plan?.comingMs(NOBODY, piece) : undefined
    if (laterMs === undefined || laterMs === 0) return
    for (let far = 0; far < Math.min(2, zones); far++)
      this.#queue.push(this.#nowMs + laterMs + wayMs + far * zoneLatencyMs, TOLD, child.index, piece * 4 + LATE, far)
  }

  /** What a child told reaches its parents in its own zone, or those in others. */
  #told(child: Host, code: number, far: boolean): void {
    const what = code & 3
    const piece = code >> 2
    for (const { parent, seat } of child.seats) {
      if ((parent.zone !== child.zone) !== far) continue
      if (what === COMING) {
        if (child.plan?.comingMs(parent.index, piece) === 0) parent.handout.coming(seat, piece)
      } else if (what === LATE) {
        if (child.have.has(piece) || child.plan?.isUnderWay(piece)) parent.handout.coming(seat, piece)
      } else {
        if (what === LOST) parent.handout.lost(seat, piece)
        else parent.handout.holds(seat, piece)
        this.#pump(parent)
      }
    }
  }

  #bytesOf(piece: number): number {
    const { bytes, pieceBytes } = this.#options
    return Math.min(pieceBytes, bytes - piece * pieceBytes)
  }

  #sent(parent: Host, serial: number): void {
    if (parent.sendSerial !== serial) return
    parent.sending = false
    if (parent.sendSeat) parent.handout.sent(parent.sendSeat, parent.sendPiece, this.#nowMs)
    this.#pump(parent)
  }

  /** A cancel reaches the parent: out of its queue, or off its uplink in the middle of the piece. */
  #cancelled(parent: Host, child: Host, piece: number): void {
    const at = this.#drop(child, parent.index, piece)
    const { sendSeat } = parent
    const seat = child.seats.find((one) => one.parent === parent)?.seat
    if (seat && removeWaiting(parent.waiting, (one) => one.seat === seat && one.piece === piece)) {
      parent.handout.failed(seat, piece)
      this.#pump(parent)
    }
    if (!parent.sending || sendSeat?.child !== child.index || parent.sendPiece !== piece) return
    parent.handout.failed(sendSeat, piece)
    const unsent = (parent.sendEndMs - this.#nowMs) * parent.upRate
    parent.upBytes -= unsent
    child.downBytes -= unsent
    this.#shorten(child, at, unsent)
    parent.sendSerial++
    parent.sending = false
    this.#pump(parent)
  }

  /** What is on its way from this parent won't be looked at. Its place in the child's list, or -1. */
  #drop(child: Host, parent: number, piece: number): number {
    const at = child.arrivals.findIndex((one) => one.parent === parent && one.piece === piece && !one.dropped)
    const arrival = child.arrivals[at]
    if (arrival) {
      arrival.dropped = true
      return at
    }
    return child.arrivals.findIndex((one) => one.parent === parent && one.piece === piece)
  }

  /** The rest of a cancelled piece never comes: what queues behind it at the child's downlink moves up. */
  #shorten(child: Host, at: number, unsent: number): void {
    const { arrivals, downRate } = child
    const cut = arrivals[at]
    if (!cut) return
    cut.bytes -= unsent
    cut.downEndMs = Math.max(cut.startMs, cut.downEndMs - unsent / downRate)
    let freeMs = cut.downEndMs
    for (let n = at + 1; n < arrivals.length; n++) {
      const one = arrivals[n]
      if (!one) continue
      if (one.startMs > this.#nowMs) {
        one.startMs = Math.max(this.#nowMs, one.fromMs, freeMs)
        one.downEndMs = one.startMs + one.bytes / downRate
        const arriveMs = Math.max(one.upEndMs, one.downEndMs) + one.bytes / this.#options.hashRate
        if (arriveMs < one.arriveMs) {
          one.arriveMs = arriveMs
          this.#queue.push(arriveMs, GAINED, child.index, one.id)
        }
      }
      freeMs = one.downEndMs
    }
    child.downFreeMs = freeMs
  }

  /** A piece is verified. */
  #gained(host: Host, id: number): void {
    const at = host.arrivals.findIndex((one) => one.id === id)
    const arrival = host.arrivals[at]
    if (!arrival || arrival.arriveMs > this.#nowMs + 1e-6) return
    host.arrivals.splice(at, 1)
    const { parent, piece } = arrival
    if (arrival.dropped) this.#abortedBytes += arrival.bytes
    if (arrival.dropped || !host.alive || !host.plan || host.doneMs > 0) return
    host.plan.pieceArrived(parent, piece, this.#nowMs)
    if (host.have.add(piece)) {
      host.handout.known(piece, 1)
      this.#tell(host, HERE, piece)
      host.fresh.push(piece)
      if (!host.announcing) {
        host.announcing = true
        this.#queue.push(this.#nowMs + this.#options.announceMs + this.#latency(host, host), ANNOUNCE, host.index)
      }
      this.#pump(host)
      if (host.have.full) this.#finish(host)
      else if (host.have.count - host.reported >= REPORT_PIECES) this.#report(host)
    }
    this.#act(host)
  }

  #report(host: Host): void {
    host.reported = host.have.count
    host.messages++
    this.#supernode({ kind: 'progress', task: TASK, peer: idOf(host.index), have: host.have.count })
  }

  #finish(host: Host): void {
    host.doneMs = this.#nowMs
    this.#left--
    this.#report(host)
    for (const parent of [...host.parents]) this.#close(host, this.#host(parent))
  }

  #announce(host: Host): void {
    host.announcing = false
    if (!host.alive) return
    for (const index of host.children) {
      const child = this.#host(index)
      if (!child.plan || child.doneMs > 0 || !this.#connected(host, child)) continue
      if (child.plan.parentHasThese(host.index, host.fresh)) this.#act(child)
    }
    host.fresh.length = 0
  }

  #tick(host: Host): void {
    if (!host.alive || !host.plan || host.doneMs > 0) return
    host.plan.tick(this.#nowMs)
    this.#act(host)
    this.#queue.push(this.#nowMs + this.#options.tickMs, TICK, host.index)
  }

  /** Some hosts die, others start. Their channels break at once, as a killed process's do; half of the dead hosts are silent. */
  #churn(): void {
    // It ends when the roll-out should have ended, else the newcomers' own ten seconds would go on for ever.
    if (this.#nowMs > 1.2 * (this.#options.bytes / this.#options.rate)) return
    this.#churnOwed += this.#options.hosts * this.#options.churn * 0.1
    const gone = Math.floor(this.#churnOwed)
    this.#churnOwed -= gone
    for (let n = 0; n < gone; n++) {
      const host = this.#host(1 + randomBelow(this.#random, this.#hosts.length - 1))
      if (!host.alive) continue
      this.#kill(host)
      this.#newcomer(this.#nowMs + this.#random() * 100)
    }
    this.#queue.push(this.#nowMs + 100, CHURN)
  }

  #kill(host: Host): void {
    host.alive = false
    if (host.doneMs === 0) this.#left--
    const noticeMs = this.#random() < 0.5 ? 1 : 3000
    for (const child of host.children)
      if (this.#host(child).alive) this.#queue.push(this.#nowMs + noticeMs, CLOSED, child, host.index)
    this.#queue.push(this.#nowMs + noticeMs, DEAD, host.index)
    if (host.sending && host.sendSeat) this.#drop(this.#host(host.sendSeat.child), host.index, host.sendPiece)
    host.sendSerial++
    host.sending = true
    for (const index of host.parents) {
      const parent = this.#host(index)
      parent.children.delete(host.index)
      this.#released(parent, host.index)
    }
  }

  /** The last zone loses its way to the others, supernode included, or gets it back and registers again. */
  #cutZone(cut: boolean): void {
    this.#cut = cut
    const last = this.#options.zones - 1
    for (const host of this.#hosts) {
      if (!host.alive || host.index === SEED) continue
      if (cut) {
        for (const parent of [...host.parents]) {
          if ((this.#host(parent).zone === last) !== (host.zone === last)) {
            this.#close(host, this.#host(parent))
            this.#queue.push(this.#nowMs + 1, CLOSED, host.index, parent)
          }
        }
        if (host.zone === last) this.#queue.push(this.#nowMs + 1000, DEAD, host.index)
      } else if (host.zone === last) {
        this.#supernode({ kind: 'peerJoined', peer: idOf(host.index), zone: String(host.zone) })
        this.#supernode({
          kind: 'registered',
          task: TASK,
          peer: idOf(host.index),
          pieces: this.#pieces,
          have: host.have.count,
          priority: 'interactive',
        })
        host.messages++
      }
    }
    if (!cut) for (const host of this.#hosts) if (host.alive) this.#pump(host)
  }

  /** One line on stderr each half second: how far the hosts are, how busy their links, how deep their questions. */
  #trace(): void {
    const hosts = this.#hosts.filter((host) => host.alive && host.plan)
    const mean = (of: (host: Host) => number) =>
      (hosts.reduce((sum, host) => sum + of(host), 0) / Math.max(1, hosts.length)).toFixed(2)
    const haves = hosts.map((host) => host.have.count).sort((a, b) => a - b)
    const sent = hosts.reduce((sum, host) => sum + host.upBytes, 0)
    const busy = (sent - this.#tracedBytes) / (this.#options.traceMs * this.#options.rate * Math.max(1, hosts.length))
    this.#tracedBytes = sent
    console.error(
      `${(this.#nowMs / 1000).toFixed(2)} s: have ${haves[0]}..${haves[haves.length >> 1]}..${haves.at(-1)} of ${this.#host(SEED).have.count}, ` +
        `uplinks ${(busy * 100).toFixed(1)} %, waiting ${mean((host) => host.asking.length)}, in flight ${mean((host) => host.plan?.inFlight ?? 0)}, ` +
        `parents ${mean((host) => host.parents.size)}, replaced ${this.#replaced}, declined ${this.#declined}, seed copies ${(this.#host(SEED).upBytes / this.#options.bytes).toFixed(3)}`,
    )
    this.#queue.push(this.#nowMs + this.#options.traceMs, TRACE)
  }

  #result(): SimResult {
    const hosts = this.#hosts.slice(1).filter((host) => host.alive)
    const times = (slow: boolean) =>
      Float64Array.from(
        hosts.filter((host) => host.slow === slow && host.doneMs > 0).map((host) => host.doneMs - host.joinedMs),
      ).sort()
    const sum = (of: (host: Host) => number) => hosts.reduce((total, host) => total + of(host), 0)
    return {
      fast: [...times(false)],
      slow: [...times(true)],
      stuck: hosts.filter((host) => host.doneMs === 0).length,
      seedBytes: this.#host(SEED).upBytes,
      wastedBytes: sum((host) => host.plan?.wasted ?? 0) * this.#options.pieceBytes + this.#abortedBytes,
      controlMessages: sum((host) => host.messages) / hosts.length,
      crossZoneBytes: sum((host) => host.crossZoneBytes),
      maxParents: this.#maxParents,
      maxChildren: this.#maxChildren,
      events: this.#events,
      decisions: this.#decisions,
      endMs: this.#nowMs,
    }
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

function idOf(index: number): PeerId {
  return `p${index}` as PeerId
}

function indexOf(peer: PeerId): number {
  return Number(peer.slice(1))
}
