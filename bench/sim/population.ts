/** Who is in a simulated swarm: hosts come, start and die, and the last zone is cut off and back. */
import { PLAN_DEFAULTS, Plan } from '../../peer/downloader/plan.ts'
import { randomBelow, seededRandom } from '../../src/core/clock.ts'
import { HANDOUT_DEFAULTS, Handout } from '../../src/exchange/handout/handout.ts'
import { CHURN, CLOSED, DEAD, START, TICK } from './events.ts'
import type { Giving } from './giving.ts'
import { type Host, newHost } from './host.ts'
import type { Supernode } from './supernode.ts'
import type { Taking } from './taking.ts'
import type { Wire } from './wire.ts'
import { SEED, type World } from './world.ts'

export interface PopulationParts {
  readonly wire: Wire
  readonly giving: Giving
  readonly taking: Taking
  readonly supernode: Supernode
}

export class Population {
  readonly #world: World
  readonly #parts: PopulationParts
  #churnOwed = 0

  constructor(world: World, parts: PopulationParts) {
    this.#world = world
    this.#parts = parts
  }

  addSeed(): void {
    const seed = this.#addHost(0, false)
    seed.alive = true
    Object.assign(seed, { upRate: this.#world.options.seedRate })
    this.#parts.supernode.seedJoined()
  }

  /** A host that starts at this instant. */
  newcomer(atMs: number): void {
    const { options, random, queue } = this.#world
    const host = this.#addHost(randomBelow(random, options.zones), random() < options.slow)
    this.#world.left++
    queue.push(atMs, START, host.index)
  }

  start(host: Host): void {
    const { options, random, queue, nowMs, pieces } = this.#world
    host.alive = true
    host.joinedMs = nowMs
    const { pieceBytes } = options
    host.plan = new Plan(
      { ...PLAN_DEFAULTS, ...options.plan, pieces, pieceBytes },
      seededRandom(options.seed * 7919 + host.index),
    )
    host.plan.pieceKnown(0, pieces)
    const rack = options.racks > 0 ? { rack: String(randomBelow(random, options.racks)) } : {}
    this.#parts.supernode.joined(host, rack)
    queue.push(nowMs + options.tickMs * random(), TICK, host.index)
  }

  /** Some hosts die, others start. Their channels break at once, as a killed process's do; half of the dead hosts are silent. */
  churn(): void {
    const world = this.#world
    const { options, random } = world
    // It ends when the roll-out should have ended, else the newcomers' own ten seconds would go on for ever.
    if (world.nowMs > 1.2 * (options.bytes / options.rate)) return
    this.#churnOwed += options.hosts * options.churn * 0.1
    const gone = Math.floor(this.#churnOwed)
    this.#churnOwed -= gone
    for (let n = 0; n < gone; n++) {
      const host = world.host(1 + randomBelow(random, world.hosts.length - 1))
      if (!host.alive) continue
      this.#kill(host)
      this.newcomer(world.nowMs + random() * 100)
    }
    world.queue.push(world.nowMs + 100, CHURN)
  }

  /** The last zone loses its way to the others, supernode included, or gets it back and registers again. */
  cutZone(cut: boolean): void {
    const world = this.#world
    const { taking, giving, supernode } = this.#parts
    world.cut = cut
    const last = world.options.zones - 1
    for (const host of world.hosts) {
      if (!host.alive || host.index === SEED) continue
      if (cut) {
        for (const parent of [...host.parents]) {
          if ((world.host(parent).zone === last) !== (host.zone === last)) {
            taking.close(host, world.host(parent))
            world.queue.push(world.nowMs + 1, CLOSED, host.index, parent)
          }
        }
        if (host.zone === last) world.queue.push(world.nowMs + 1000, DEAD, host.index)
      } else if (host.zone === last) supernode.joined(host)
    }
    if (!cut) for (const host of world.hosts) if (host.alive) giving.pump(host)
  }

  #addHost(zone: number, slow: boolean): Host {
    const { options, hosts, pieces, hearing } = this.#world
    hearing.add(hosts.length)
    const rate = options.rate * (slow ? 0.1 : 1)
    const index = hosts.length
    const random = index === SEED ? {} : { random: this.#world.random }
    const handout = new Handout<number>(pieces, { ...HANDOUT_DEFAULTS, slots: options.slots, ...random })
    const host = newHost(index, zone, slow, rate, pieces, handout)
    hosts.push(host)
    return host
  }

  #kill(host: Host): void {
    const world = this.#world
    const { wire, giving } = this.#parts
    host.alive = false
    if (host.doneMs === 0) world.left--
    const noticeMs = world.random() < 0.5 ? 1 : 3000
    for (const child of host.children)
      if (world.host(child).alive) world.queue.push(world.nowMs + noticeMs, CLOSED, child, host.index)
    world.queue.push(world.nowMs + noticeMs, DEAD, host.index)
    if (host.sending && host.sendSeat) wire.drop(world.host(host.sendSeat.child), host.index, host.sendPiece)
    host.sendSerial++
    host.sending = true
    for (const index of host.parents) {
      const parent = world.host(index)
      parent.children.delete(host.index)
      giving.released(parent, host.index)
    }
  }
}
