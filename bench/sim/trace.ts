/** One line on stderr each so often: how far the hosts of a simulated swarm are, how busy their links, how deep their questions. */
import { TRACE } from './events.ts'
import type { Host } from './host.ts'
import { SEED, type World } from './world.ts'

export class Trace {
  readonly #world: World
  #sentBytes = 0

  constructor(world: World) {
    this.#world = world
  }

  line(): void {
    const { hosts: all, options, nowMs, queue, replaced, declined } = this.#world
    const hosts = all.filter((host) => host.alive && host.plan)
    const seed = this.#world.host(SEED)
    const mean = (of: (host: Host) => number) =>
      (hosts.reduce((sum, host) => sum + of(host), 0) / Math.max(1, hosts.length)).toFixed(2)
    const haves = hosts.map((host) => host.have.count).sort((a, b) => a - b)
    const sent = hosts.reduce((sum, host) => sum + host.upBytes, 0)
    const busy = (sent - this.#sentBytes) / (options.traceMs * options.rate * Math.max(1, hosts.length))
    this.#sentBytes = sent
    console.error(
      `${(nowMs / 1000).toFixed(2)} s: have ${haves[0]}..${haves[haves.length >> 1]}..${haves.at(-1)} of ${seed.have.count}, ` +
        `uplinks ${(busy * 100).toFixed(1)} %, waiting ${mean((host) => host.asking.length)}, in flight ${mean((host) => host.plan?.inFlight ?? 0)}, ` +
        `parents ${mean((host) => host.parents.size)}, replaced ${replaced}, declined ${declined}, seed copies ${(seed.upBytes / options.bytes).toFixed(3)}`,
    )
    queue.push(nowMs + options.traceMs, TRACE)
  }
}
