/** What all parts of a simulated swarm share: the clock and its queue, the hosts, who reaches whom how fast, and what is counted. */
import { type Random, seededRandom } from '../../src/core/clock.ts'
import { Hearing } from './hearing.ts'
import type { Host } from './host.ts'
import type { SimOptions } from './options.ts'
import { EventQueue } from './queue.ts'

/** The supernode and its seed. */
export const SEED = 0

export class World {
  readonly options: SimOptions
  readonly random: Random
  readonly queue = new EventQueue()
  readonly hearing = new Hearing()
  readonly hosts: Host[] = []
  readonly pieces: number
  nowMs = 0
  /** Hosts that are not done. */
  left = 0
  /** Whether the last zone is cut off. */
  cut = false
  maxParents = 0
  maxChildren = 0
  /** Parents that were given up for others, offers that were declined. */
  replaced = 0
  declined = 0
  /** Bytes of pieces that were dropped, as far as they went. */
  abortedBytes = 0

  constructor(options: SimOptions) {
    this.options = options
    this.random = seededRandom(options.seed)
    this.pieces = Math.ceil(options.bytes / options.pieceBytes)
  }

  host(index: number): Host {
    const host = this.hosts[index]
    if (!host) throw new RangeError(`host ${index} of ${this.hosts.length}`)
    return host
  }

  latency(from: Host, to: Host): number {
    const { latencyMs, jitterMs, zoneLatencyMs } = this.options
    return latencyMs - Math.log(1 - this.random()) * jitterMs + (from.zone === to.zone ? 0 : zoneLatencyMs)
  }

  /** Whether the supernode and a host can talk. */
  reaches(host: Host): boolean {
    return !this.cut || host.zone !== this.options.zones - 1
  }

  connected(a: Host, b: Host): boolean {
    return a.alive && b.alive && (a.zone === b.zone || (this.reaches(a) && this.reaches(b)))
  }

  bytesOf(piece: number): number {
    const { bytes, pieceBytes } = this.options
    return Math.min(pieceBytes, bytes - piece * pieceBytes)
  }
}
