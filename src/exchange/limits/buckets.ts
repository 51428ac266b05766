/**
 * Hierarchical token buckets as a pure core: which transfer may move how many bytes now, and when to look again. No clock, no I/O.
 *
 * A transfer passes a path of buckets: host > direction > class > origin > task > peer, those of them that have a limit. A cap must have
 * tokens. A limit that may borrow is an assured share instead. Within it a transfer goes first. Beyond it the transfer competes for what
 * the nearest cap above leaves unused. Without a cap above there is nothing to borrow from, so it is a cap itself. Among transfers that may
 * go: assured ones, then interactive before background, then the task that has moved least (start-time fair queueing).
 */
import type { Priority } from '../../core/contracts/content.ts'

export type Direction = 'in' | 'out'

/** What a limit is set on. A task, peer or origin limit without a direction covers both ways together. */
export type LimitScope =
  | { readonly on: 'host' }
  | { readonly on: 'direction'; readonly direction: Direction }
  | { readonly on: 'class'; readonly direction: Direction; readonly priority: Priority }
  | { readonly on: 'origin'; readonly origin: string }
  | { readonly on: 'task'; readonly task: string; readonly direction?: Direction }
  | { readonly on: 'peer'; readonly peer: string; readonly direction?: Direction }

export interface Limit {
  readonly bytesPerSec: number
  /** True: an assured share that may borrow what others leave; false (default): a cap. */
  readonly borrow?: boolean
}

/** The receiver of a transfer. */
export interface Flow {
  readonly direction: Direction
  readonly priority: Priority
  readonly task: string
  readonly peer?: string
  readonly origin?: string
}

const BURST_SECONDS = 0.1
const CHUNK_SECONDS = 0.05
const MIN_CHUNK_BYTES = 1024
const MAX_CHUNK_BYTES = 128 * 1024
/** The least pause between two rounds of grants; keeps timers few at high rates. */
const MIN_WAIT_MS = 4
/** How far behind the others a task that comes back may start. */
const LAG_BYTES = 256 * 1024
const MAX_TRACKED_TASKS = 1024

/** The piece of bytes that keeps a rate smooth: a twentieth of a second's worth, between 1 KiB and 128 KiB. */
export function chunkFor(bytesPerSec: number): number {
  return Math.max(MIN_CHUNK_BYTES, Math.min(MAX_CHUNK_BYTES, Math.floor(bytesPerSec * CHUNK_SECONDS)))
}

class Bucket {
  readonly scope: LimitScope
  limit: Limit
  tokens: number
  #atMs: number

  constructor(scope: LimitScope, limit: Limit, nowMs: number) {
    this.scope = scope
    this.limit = limit
    this.tokens = chunkFor(limit.bytesPerSec)
    this.#atMs = nowMs
  }

  get burst(): number {
    return Math.max(chunkFor(this.limit.bytesPerSec), this.limit.bytesPerSec * BURST_SECONDS)
  }

  refill(nowMs: number): void {
    const gained = (this.limit.bytesPerSec * Math.max(0, nowMs - this.#atMs)) / 1000
    this.#atMs = Math.max(nowMs, this.#atMs)
    this.tokens = Math.min(this.burst, this.tokens + gained)
  }

  change(limit: Limit, nowMs: number): void {
    this.refill(nowMs)
    this.limit = limit
    // an old debt would outlast a new, lower rate by far
    this.tokens = Math.max(-chunkFor(limit.bytesPerSec), Math.min(this.tokens, this.burst))
  }

  charge(bytes: number, borrows: boolean): void {
    this.tokens -= bytes
    if (borrows) this.tokens = Math.max(-this.burst, this.tokens)
  }

  /** Milliseconds until there is a token again. */
  get waitMs(): number {
    return this.tokens > 0 ? 0 : ((1 - this.tokens) / this.limit.bytesPerSec) * 1000
  }
}

/** One transfer that waits for leave to move `bytes`. */
export interface Claim {
  readonly flow: Flow
  readonly bytes: number
}

export interface Round<T extends Claim> {
  readonly granted: T[]
  /** When to ask again, in ms; undefined when nobody waits. */
  readonly waitMs: number | undefined
}

function keyOf(scope: LimitScope): string {
  switch (scope.on) {
    case 'host':
      return 'host'
    case 'direction':
      return `direction ${scope.direction}`
    case 'class':
      return `class ${scope.direction} ${scope.priority}`
    case 'origin':
      return `origin ${scope.origin}`
    case 'task':
      return `task ${scope.direction ?? 'both'} ${scope.task}`
    case 'peer':
      return `peer ${scope.direction ?? 'both'} ${scope.peer}`
  }
}

export class Buckets<T extends Claim> {
  readonly #buckets = new Map<string, Bucket>()
  readonly #waiting = new Set<T>()
  readonly #moved = new Map<string, number>()
  #virtual = 0

  /** Whether any limit is set at all. */
  get idle(): boolean {
    return this.#buckets.size === 0
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** Sets, changes or (undefined) lifts a limit. A rate below 1 byte/s is a RangeError. */
  set(scope: LimitScope, limit: Limit | undefined, nowMs: number): void {
    const key = keyOf(scope)
    if (limit === undefined) {
      this.#buckets.delete(key)
      return
    }
    if (!(limit.bytesPerSec >= 1)) throw new RangeError(`limit of ${limit.bytesPerSec} bytes/s`)
    const known = this.#buckets.get(key)
    if (known === undefined) this.#buckets.set(key, new Bucket(scope, limit, nowMs))
    else known.change(limit, nowMs)
  }

  list(): { scope: LimitScope; limit: Limit }[] {
    return [...this.#buckets.values()].map(({ scope, limit }) => ({ scope, limit }))
  }

  /** The largest chunk that keeps every limit on this flow smooth; Infinity when it has none. */
  chunkBytes(flow: Flow): number {
    if (this.#buckets.size === 0) return Number.POSITIVE_INFINITY
    return Math.min(...this.#path(flow).map((bucket) => chunkFor(bucket.limit.bytesPerSec)), Number.POSITIVE_INFINITY)
  }

  limited(flow: Flow): boolean {
    return this.#buckets.size > 0 && this.#path(flow).length > 0
  }

  add(claim: T): void {
    const key = taskKey(claim.flow)
    const moved = this.#moved.get(key) ?? 0
    this.#moved.delete(key)
    this.#moved.set(key, Math.max(moved, this.#virtual - LAG_BYTES))
    if (this.#moved.size > MAX_TRACKED_TASKS) {
      for (const oldest of this.#moved.keys()) {
        this.#moved.delete(oldest)
        break
      }
    }
    this.#waiting.add(claim)
  }

  remove(claim: T): void {
    this.#waiting.delete(claim)
  }

  /** Grants all that may move at `nowMs`, best first. */
  round(nowMs: number): Round<T> {
    for (const bucket of this.#buckets.values()) bucket.refill(nowMs)
    const paths = new Map<T, Bucket[]>()
    for (const claim of this.#waiting) paths.set(claim, this.#path(claim.flow))
    const granted: T[] = []
    for (;;) {
      const best = this.#best(paths)
      if (best === undefined) break
      this.#grant(best, paths.get(best) ?? [])
      paths.delete(best)
      granted.push(best)
    }
    let waitMs: number | undefined
    for (const path of paths.values()) {
      const needed = Math.max(MIN_WAIT_MS, ...path.filter(isCap).map((bucket) => bucket.waitMs))
      waitMs = Math.min(waitMs ?? Number.POSITIVE_INFINITY, needed)
    }
    return { granted, waitMs: waitMs === undefined ? undefined : Math.ceil(waitMs) }
  }

  #best(paths: ReadonlyMap<T, Bucket[]>): T | undefined {
    let best: T | undefined
    let bestRank = 0
    let bestMoved = 0
    for (const [claim, path] of paths) {
      const rank = rankOf(claim, path)
      if (rank === undefined) continue
      const moved = this.#moved.get(taskKey(claim.flow)) ?? 0
      if (best === undefined || rank < bestRank || (rank === bestRank && moved < bestMoved)) {
        best = claim
        bestRank = rank
        bestMoved = moved
      }
    }
    return best
  }

  #grant(claim: T, path: Bucket[]): void {
    this.#waiting.delete(claim)
    path.forEach((bucket, at) => {
      bucket.charge(claim.bytes, !isCap(bucket, at, path))
    })
    const key = taskKey(claim.flow)
    const moved = this.#moved.get(key) ?? this.#virtual
    this.#virtual = Math.max(this.#virtual, moved)
    this.#moved.set(key, moved + claim.bytes)
  }

  #path(flow: Flow): Bucket[] {
    const { direction, priority, task, peer, origin } = flow
    const path: Bucket[] = []
    const look = (key: string) => {
      const bucket = this.#buckets.get(key)
      if (bucket !== undefined) path.push(bucket)
    }
    look('host')
    look(`direction ${direction}`)
    look(`class ${direction} ${priority}`)
    if (origin !== undefined) look(`origin ${origin}`)
    look(`task both ${task}`)
    look(`task ${direction} ${task}`)
    if (peer !== undefined) {
      look(`peer both ${peer}`)
      look(`peer ${direction} ${peer}`)
    }
    return path
  }
}

const taskKey = (flow: Flow) => `${flow.direction} ${flow.task}`

/** True unless the bucket may borrow and a cap stands above it. */
function isCap(bucket: Bucket, at: number, path: readonly Bucket[]): boolean {
  return bucket.limit.borrow !== true || !path.slice(0, at).some((above) => above.limit.borrow !== true)
}

/** Lower goes first; undefined when a cap has no token. */
function rankOf(claim: Claim, path: readonly Bucket[]): number | undefined {
  let assured = false
  for (const [at, bucket] of path.entries()) {
    if (isCap(bucket, at, path)) {
      if (bucket.tokens <= 0) return undefined
    } else if (bucket.tokens > 0) assured = true
  }
  if (assured) return 0
  return claim.flow.priority === 'interactive' ? 1 : 2
}
