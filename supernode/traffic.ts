/** Bytes that went through the supernode: in from origins and hosts, out to each host. */
import type { PeerId } from '../src/core/contracts/exchange.ts'

const MAX_PEERS = 100_000

export class Traffic {
  /** Bytes read at origins. */
  origin = 0
  /** Bytes that hosts gave to the seed: read at an origin in its place, or put into the swarm. */
  fromHosts = 0
  /** Bytes that left the seed, over all hosts. */
  seeded = 0
  readonly #toPeer = new Map<PeerId, number>()

  sent(peer: PeerId, bytes: number): void {
    this.seeded += bytes
    if (this.#toPeer.size < MAX_PEERS || this.#toPeer.has(peer))
      this.#toPeer.set(peer, (this.#toPeer.get(peer) ?? 0) + bytes)
  }

  to(peer: PeerId): number {
    return this.#toPeer.get(peer) ?? 0
  }
}
