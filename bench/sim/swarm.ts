/**
 * A swarm in one process: the real scheduler, plan and handout over a fluid network model (wire.ts), driven by one event queue.
 * What the model leaves out is in docs/scheduling.md.
 */
import { REPORT_PIECES } from '../../src/protocol/control.ts'
import { TICK_MS } from '../../supernode/scheduler/loop.ts'
import * as on from './events.ts'
import { Giving } from './giving.ts'
import type { Host } from './host.ts'
import type { SimOptions } from './options.ts'
import { Population } from './population.ts'
import { Supernode } from './supernode.ts'
import { Taking } from './taking.ts'
import { Trace } from './trace.ts'
import { Wire } from './wire.ts'
import { SEED, World } from './world.ts'

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
  readonly #world: World
  readonly #supernode: Supernode
  readonly #giving: Giving
  readonly #taking: Taking
  readonly #population: Population
  readonly #trace: Trace
  #events = 0

  constructor(options: SimOptions) {
    const world = new World(options)
    const { queue } = world
    this.#world = world
    const wire = new Wire(world)
    this.#supernode = new Supernode(world)
    this.#giving = new Giving(world, wire)
    this.#taking = new Taking(world, { wire, giving: this.#giving, supernode: this.#supernode })
    this.#population = new Population(world, {
      wire,
      giving: this.#giving,
      taking: this.#taking,
      supernode: this.#supernode,
    })
    this.#trace = new Trace(world)
    this.#population.addSeed()
    for (let n = 0; n < options.hosts; n++) this.#population.newcomer(world.random() * options.startMs)
    const pieceMs = options.pieceBytes / options.originRate
    for (let piece = 0; piece < world.pieces; piece++) queue.push((piece + 1) * pieceMs, on.ORIGIN, piece)
    if (options.churn > 0) queue.push(1000, on.CHURN)
    queue.push(world.random() * TICK_MS, on.SUPER_TICK)
    if (options.traceMs > 0) queue.push(options.traceMs, on.TRACE)
    if (options.cutToMs > options.cutFromMs) {
      queue.push(options.cutFromMs, on.ZONE, 1)
      queue.push(options.cutToMs, on.ZONE, 0)
    }
  }

  /** Runs until every living host is done, or until `limitMs` of simulated time. */
  run(limitMs: number): SimResult {
    const world = this.#world
    const { queue } = world
    const { event } = queue
    while (world.left > 0 && queue.pop()) {
      world.nowMs = event.atMs
      if (world.nowMs > limitMs) break
      this.#events++
      this.#on(event.kind, event.a, event.b, event.c)
    }
    return this.#result()
  }

  #on(kind: number, a: number, b: number, c: number): void {
    const world = this.#world
    switch (kind) {
      case on.START:
        this.#population.start(world.host(a))
        break
      case on.TICK:
        this.#taking.tick(world.host(a))
        break
      case on.ANNOUNCE:
        this.#taking.announce(world.host(a))
        break
      case on.SENT:
        this.#giving.sent(world.host(a), b)
        break
      case on.GAINED:
        this.#taking.gained(world.host(a), b)
        break
      case on.MESH:
        this.#taking.mail(world.host(a))
        break
      case on.DEAD:
        this.#supernode.left(a)
        break
      case on.ASK:
        this.#giving.asked(world.host(a), b, c)
        break
      case on.ANSWERED:
        this.#giving.answered(world.host(a), b, c)
        break
      case on.CANCELLED:
        this.#giving.cancelled(world.host(a), world.host(b), c)
        break
      case on.OPENED:
        this.#taking.opened(world.host(a), world.host(b))
        break
      case on.CLOSED:
        this.#taking.broken(world.host(a), b)
        break
      case on.UNREACHED:
        this.#taking.unreached(world.host(a), b)
        break
      case on.OFFERED:
        this.#taking.offered(world.host(a), world.host(b), c)
        break
      case on.STARTED:
        this.#taking.started(world.host(a), b, c)
        break
      case on.TOLD:
        this.#taking.told(world.host(a), b, c === 1)
        break
      case on.ORIGIN:
        this.#originGave(a)
        break
      case on.CHURN:
        this.#population.churn()
        break
      case on.ZONE:
        this.#population.cutZone(a === 1)
        break
      case on.SUPER_TICK:
        this.#supernode.tick()
        break
      case on.TRACE:
        this.#trace.line()
        break
    }
  }

  /** The seed has read a piece. */
  #originGave(piece: number): void {
    const seed = this.#world.host(SEED)
    seed.have.add(piece)
    this.#world.hearing.handoutOf(seed).known(piece, 1)
    if ((piece + 1) % REPORT_PIECES === 0 || piece === this.#world.pieces - 1) this.#supernode.report(seed)
    this.#giving.pump(seed)
  }

  #result(): SimResult {
    const world = this.#world
    const hosts = world.hosts.slice(1).filter((host) => host.alive)
    const times = (slow: boolean) =>
      Float64Array.from(
        hosts.filter((host) => host.slow === slow && host.doneMs > 0).map((host) => host.doneMs - host.joinedMs),
      ).sort()
    const sum = (of: (host: Host) => number) => hosts.reduce((total, host) => total + of(host), 0)
    return {
      fast: [...times(false)],
      slow: [...times(true)],
      stuck: hosts.filter((host) => host.doneMs === 0).length,
      seedBytes: world.host(SEED).upBytes,
      wastedBytes: sum((host) => host.plan?.wasted ?? 0) * world.options.pieceBytes + world.abortedBytes,
      controlMessages: sum((host) => host.messages) / hosts.length,
      crossZoneBytes: sum((host) => host.crossZoneBytes),
      maxParents: world.maxParents,
      maxChildren: world.maxChildren,
      events: this.#events,
      decisions: this.#supernode.decisions,
      endMs: world.nowMs,
    }
  }
}
