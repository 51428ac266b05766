/** Origins that the supernode can't read: the scheduler chooses a host, which is asked to read, and the supernode reads through it. */
import type { Clock } from '../src/core/clock.ts'
import type { PeerId, PieceExchange } from '../src/core/contracts/exchange.ts'
import type { DarnerError } from '../src/core/errors.ts'
import { abortable, anySignal, withDeadline } from '../src/core/signals.ts'
import { pieceCount, type TaskId } from '../src/core/task/task.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import type { Followers } from './followers.ts'
import type { Host } from './hosts.ts'
import { lentPieces } from './lent-read.ts'
import { ownPass } from './own-pass.ts'
import type { SchedulerEvent } from './scheduler/events.ts'
import type { LendOptions, Lent, SeedTask } from './seed/seed-task.ts'
import type { Traffic } from './traffic.ts'

/** How long the seed waits for somebody to read an origin in its place. */
const LEND_MS = 10_000
/** The same when one has tried in vain: other candidates are connected already. */
const LEND_AGAIN_MS = 1_000

export interface LendingParts {
  readonly node: Node
  readonly identity: Identity
  readonly followers: Followers
  readonly exchange: PieceExchange
  readonly traffic: Traffic
  readonly clock: Clock
  readonly host: (peer: PeerId) => Host | undefined
  readonly dispatch: (event: SchedulerEvent) => void
}

interface Wanted {
  readonly open: boolean
  readonly from: number
  readonly chosen: (host: Host) => void
  readonly abort: AbortController
  holder: PeerId | undefined
}

export class Lending {
  readonly #parts: LendingParts
  readonly #lends = new Map<TaskId, Wanted>()

  constructor(parts: LendingParts) {
    this.#parts = parts
  }

  /** The seed can't read an origin: the scheduler chooses a host, which is asked to read it. Undefined when nobody is there in time. */
  async lend(
    held: SeedTask,
    open: boolean,
    failure: DarnerError,
    { again, signal }: LendOptions,
  ): Promise<Lent | undefined> {
    const { task } = held
    const { node, exchange, traffic, clock, dispatch } = this.#parts
    const { peerId: peer } = node
    const pieces = pieceCount(task)
    const abort = new AbortController()
    const chosen = Promise.withResolvers<Host>()
    dispatch({ kind: 'registered', task: task.id, peer, pieces, have: held.known })
    this.#lends.set(task.id, { open, from: held.known, chosen: chosen.resolve, abort, holder: undefined })
    const retryAfterMs = Math.max(LEND_MS, failure.retryAfterMs ?? 0)
    dispatch({ kind: 'originFailed', task: task.id, peer, retryAfterMs })
    let host: Host
    try {
      host = await abortable(chosen.promise, withDeadline(signal, again ? LEND_AGAIN_MS : LEND_MS))
    } catch {
      // nobody came in time, or the supernode stops
      signal.throwIfAborted()
      this.#lends.delete(task.id)
      return undefined
    }
    const pass = ownPass(task, held.came ?? 'all', this.#parts)
    const within = anySignal([signal, abort.signal])
    return {
      peer: host.peer,
      pieces: (from) => lentPieces({ task, from, pass }, { address: host, exchange, traffic, clock, signal: within }),
    }
  }

  /** The scheduler gave the lease of a task's origin to a host. */
  leased(task: TaskId, holder: PeerId): void {
    const lend = this.#lends.get(task)
    const host = this.#parts.host(holder)
    const follower = this.#parts.followers.get(task, holder)
    if (lend === undefined || lend.holder !== undefined || host === undefined) return
    if (follower === undefined) {
      // it reads the blob by itself, or holds some: no right of its is known
      setImmediate(() => this.#parts.dispatch({ kind: 'originFailed', task, peer: holder }))
      return
    }
    lend.holder = holder
    host.session.tell('lease', { task, from: lend.from, open: lend.open }).catch(() => {})
    lend.chosen(host)
  }

  /** A host that was asked to read an origin can't either. */
  unsourced(peer: PeerId, task: TaskId, error: DarnerError): void {
    const lend = this.#lends.get(task)
    if (lend?.holder !== peer) return
    this.#lends.delete(task)
    lend.abort.abort(error)
    this.#parts.dispatch({ kind: 'originFailed', task, peer })
  }
}
