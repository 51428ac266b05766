/**
 * What hosts say they hold, on their word alone. A claim of a blob that the seed holds is proven: that blob was read at its origin. Of
 * the others each host may make so many, and all hosts together may name so many blobs.
 */
import type { PeerId } from '../src/core/contracts/exchange.ts'
import type { TaskId } from '../src/core/task/task.ts'

export interface ClaimsOptions {
  /** Unproven claims of one host. */
  readonly perHost: number
  /** Blobs that are known from unproven claims only. */
  readonly inAll: number
}

export interface ClaimsParts {
  readonly proven: (task: TaskId) => boolean
  /** A host's claim counts no longer. */
  readonly drop: (peer: PeerId, task: TaskId) => void
}

export const CLAIMS_DEFAULTS: ClaimsOptions = { perHost: 4096, inAll: 65_536 }

export class Claims {
  readonly #options: ClaimsOptions
  readonly #parts: ClaimsParts
  readonly #byHost = new Map<PeerId, Set<TaskId>>()
  /** How many hosts claim each blob. */
  readonly #claimants = new Map<TaskId, number>()

  constructor(options: ClaimsOptions, parts: ClaimsParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Blobs that are claimed, and not proven when they were. */
  get size(): number {
    return this.#claimants.size
  }

  /** Notes a claim; false where it doesn't count. When all is full, the host with the most unproven claims loses them. */
  take(peer: PeerId, task: TaskId): boolean {
    if (this.#parts.proven(task)) return true
    const { perHost, inAll } = this.#options
    const claims = this.#byHost.get(peer) ?? new Set()
    if (claims.has(task)) return true
    if (claims.size >= perHost) this.#settle(claims)
    if (claims.size >= perHost) return false
    claims.add(task)
    this.#byHost.set(peer, claims)
    this.#claimants.set(task, (this.#claimants.get(task) ?? 0) + 1)
    while (this.#claimants.size > inAll) this.#loseMost()
    return claims.has(task)
  }

  /** A host takes a claim back, or has shown a right to the blob. */
  forget(peer: PeerId, task: TaskId): void {
    if (this.#byHost.get(peer)?.delete(task)) this.#uncount(task)
  }

  /** A host has left the swarm: what it said goes with it. */
  gone(peer: PeerId): void {
    for (const task of this.#byHost.get(peer) ?? []) this.#uncount(task)
    this.#byHost.delete(peer)
  }

  #loseMost(): void {
    let most: [PeerId, Set<TaskId>] | undefined
    for (const one of this.#byHost) if (most === undefined || one[1].size > most[1].size) most = one
    if (most === undefined) return
    const [peer, claims] = most
    this.#settle(claims)
    const lost = [...claims]
    claims.clear()
    for (const task of lost) {
      this.#uncount(task)
      this.#parts.drop(peer, task)
    }
  }

  /** What was proven meanwhile is counted no longer. */
  #settle(claims: Set<TaskId>): void {
    for (const task of claims) {
      if (!this.#parts.proven(task)) continue
      claims.delete(task)
      this.#uncount(task)
    }
  }

  #uncount(task: TaskId): void {
    const left = (this.#claimants.get(task) ?? 1) - 1
    if (left > 0) this.#claimants.set(task, left)
    else this.#claimants.delete(task)
  }
}
