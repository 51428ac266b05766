/** Accused peers: the supernode looks at them itself, and remembers what it saw. */

import { LRUCache } from 'lru-cache'
import type { Clock, Random } from '../src/core/clock.ts'
import type { PeerId, PieceExchange } from '../src/core/contracts/exchange.ts'
import type { Log } from '../src/core/log.ts'
import type { Scope } from '../src/core/scope.ts'
import type { TaskId } from '../src/core/task/task.ts'
import { upTo } from '../src/core/up-to.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { checkPeer } from './check-peer.ts'
import type { Host } from './hosts.ts'
import { ownPass } from './own-pass.ts'
import type { SchedulerEvent } from './scheduler/events.ts'
import type { Seed } from './seed/seed.ts'

/** Peers that are looked at at the same time; a further accusation waits for the next complaint. */
const MAX_CHECKS = 4
const MAX_REMEMBERED = 4096

export interface TrialsParts {
  readonly node: Node
  readonly identity: Identity
  readonly seed: Seed
  readonly exchange: PieceExchange
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly host: (peer: PeerId) => Host | undefined
  readonly dispatch: (event: SchedulerEvent) => void
}

export class Trials {
  readonly #parts: TrialsParts
  readonly #checking = new Set<PeerId>()
  /** The piece that each peer was last said to have sent wrongly. */
  readonly #complaints = new LRUCache<PeerId, { readonly task: TaskId; readonly piece: number }>(upTo(MAX_REMEMBERED))
  readonly #evidence = new LRUCache<PeerId, string>(upTo(MAX_REMEMBERED))
  #scope: Scope | undefined

  constructor(parts: TrialsParts) {
    this.#parts = parts
  }

  /** Checks run in this scope. */
  start(scope: Scope): void {
    this.#scope = scope
  }

  /** What the supernode saw a peer do. */
  evidence(peer: PeerId): string | undefined {
    return this.#evidence.get(peer)
  }

  forget(peer: PeerId): void {
    this.#evidence.delete(peer)
    this.#complaints.delete(peer)
  }

  /** Somebody says that `accused` sent it this piece wrongly. */
  complaint(task: TaskId, accused: PeerId, piece: number): void {
    if (this.#parts.host(accused) === undefined) return
    this.#complaints.set(accused, { task, piece })
  }

  /** One host says that another sent it a corrupt piece: the supernode asks it for that piece, and for some others, itself. */
  check(task: TaskId, accused: PeerId, by: PeerId): void {
    const { seed, log, exchange, random, dispatch } = this.#parts
    const host = this.#parts.host(accused)
    const held = seed.find(task)
    if (host === undefined || held === undefined || this.#checking.has(accused) || this.#checking.size >= MAX_CHECKS)
      return
    // what is being read may be another blob than it is called: only its whole digest makes its table evidence
    if (!held.stored.verified) return
    this.#checking.add(accused)
    const last = this.#complaints.get(accused)
    const piece = last?.task === task ? last.piece : undefined
    const pass = ownPass(held.task, 'all', this.#parts)
    this.#scope?.run(async (signal) => {
      try {
        const verdict = await checkPeer(
          { task: held.task, table: held.stored.table, piece, pass },
          { address: host, exchange, random, signal },
        )
        log.info({ taskId: task, peer: accused, by, verdict }, 'accused peer checked')
        if (verdict === 'unknown') return
        const guilty = verdict !== 'clean'
        if (guilty) this.#evidence.set(accused, `the supernode got a corrupt piece from it: ${task} piece ${verdict}`)
        dispatch({ kind: 'checked', accused, guilty })
      } catch (error) {
        signal.throwIfAborted()
        log.error({ taskId: task, peer: accused, by, error }, 'accused peer not checked')
      } finally {
        this.#checking.delete(accused)
      }
    })
  }
}
