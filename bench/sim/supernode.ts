/** The real scheduler in a simulated swarm: what hosts report to it, and its news of parents on their way to them. */
import { seededRandom } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import { decide } from '../../supernode/scheduler/decide.ts'
import type { ParentFault, SchedulerEvent } from '../../supernode/scheduler/events.ts'
import { TICK_MS } from '../../supernode/scheduler/loop.ts'
import { newScheduler, type SchedulerState } from '../../supernode/scheduler/state.ts'
import { MESH, SUPER_TICK } from './events.ts'
import type { Host } from './host.ts'
import { SEED, type World } from './world.ts'

const TASK = 'sha256:0000000000000000000000000000000000000000000000000000000000000000' as TaskId

/** Parent changes for a host: of those to add, their turns. */
export interface Mail {
  readonly add: Map<number, number>
  readonly drop: Set<number>
}

export class Supernode {
  readonly #world: World
  readonly #scheduler: SchedulerState
  readonly #mail = new Map<number, Mail>()
  #decisions = 0

  constructor(world: World) {
    this.#world = world
    this.#scheduler = newScheduler(seededRandom(world.options.seed + 1), world.options.scheduler)
  }

  get decisions(): number {
    return this.#decisions
  }

  seedJoined(): void {
    this.#tell({ kind: 'peerJoined', peer: idOf(SEED), seed: true })
  }

  /** A host joins, or is back, and wants the task. */
  joined(host: Host, place: { rack?: string } = {}): void {
    const peer = idOf(host.index)
    this.#tell({ kind: 'peerJoined', peer, zone: String(host.zone), ...place })
    // as after an earlier blob, in which those at full rate kept up with each other
    const row = this.#world.options.fresh ? undefined : this.#scheduler.peers.get(peer)
    if (row) row[host.slow ? 'slowUntilMs' : 'alikeUntilMs'] = Number.POSITIVE_INFINITY
    for (const one of [this.#world.host(SEED), host]) {
      const { pieces } = this.#world
      const have = one.have.count
      this.#tell({ kind: 'registered', task: TASK, peer: idOf(one.index), pieces, have })
    }
    host.messages++
  }

  parentFailed(host: Host, parent: number, reason: ParentFault): void {
    this.#tell({ kind: 'parentFailed', task: TASK, peer: idOf(host.index), parent: idOf(parent), reason })
  }

  report(host: Host): void {
    host.reported = host.have.count
    host.reportedMs = this.#world.nowMs
    host.messages++
    this.#tell({ kind: 'progress', task: TASK, peer: idOf(host.index), have: host.have.count })
  }

  left(index: number): void {
    this.#tell({ kind: 'peerLeft', peer: idOf(index) })
  }

  tick(): void {
    const world = this.#world
    for (const host of world.hosts) {
      if (host.alive && world.reaches(host))
        decide(this.#scheduler, { kind: 'alive', peer: idOf(host.index) }, world.nowMs)
    }
    this.report(world.host(SEED))
    this.#tell({ kind: 'tick' })
    world.queue.push(world.nowMs + TICK_MS, SUPER_TICK)
  }

  /** What has gathered for a host. */
  takeMail(host: Host): Mail | undefined {
    const mail = this.#mail.get(host.index)
    this.#mail.delete(host.index)
    return mail
  }

  #tell(event: SchedulerEvent): void {
    const world = this.#world
    if ('peer' in event && !world.reaches(world.host(indexOf(event.peer))) && event.kind !== 'peerLeft') return
    this.#decisions++
    for (const effect of decide(this.#scheduler, event, world.nowMs)) {
      if (effect.kind !== 'parents') continue
      const to = indexOf(effect.peer)
      let mail = this.#mail.get(to)
      if (!mail) {
        mail = { add: new Map(), drop: new Set() }
        this.#mail.set(to, mail)
        world.queue.push(world.nowMs + world.options.latencyMs * 2, MESH, to)
      }
      for (const peer of effect.drop) {
        if (!mail.add.delete(indexOf(peer))) mail.drop.add(indexOf(peer))
      }
      for (const { peer, turn = 0 } of effect.add) mail.add.set(indexOf(peer), turn)
    }
  }
}

function idOf(index: number): PeerId {
  return `p${index}` as PeerId
}

function indexOf(peer: PeerId): number {
  return Number(peer.slice(1))
}
