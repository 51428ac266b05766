/** The followers of each task, and how much of its piece table each has received. */
import type { Clock } from '../src/core/clock.ts'
import type { PeerId } from '../src/core/contracts/exchange.ts'
import { DarnerError } from '../src/core/errors.ts'
import { Bitmap } from '../src/core/task/bitmap.ts'
import { pieceCount, type Task, type TaskId } from '../src/core/task/task.ts'
import { type CONTROL, MAX_TABLE_RUN, REPORT_PIECES } from '../src/protocol/control.ts'
import type { Grant } from '../src/protocol/pass.ts'
import type { Session } from '../src/protocol/session.ts'
import { LINE_MOST } from './scheduler/chain.ts'
import type { SeedRequest } from './seed/first-read.ts'

export type ControlSession = Session<typeof CONTROL>

export interface Follower {
  readonly peer: PeerId
  readonly session: ControlSession
  readonly task: Task
  /** What its pass is given for. */
  grant: Grant
  /** As what it asked, and with which rights: asked again before its pass is renewed. */
  readonly request: SeedRequest
  readonly have: Bitmap
  /** It has all of it, and saw that it is the blob. */
  complete: boolean
  /** Digests sent: pieces [0, tableAt). */
  tableAt: number
  passUntilMs: number
}

/**
 * A table that grows slowly is sent in steps no closer than this; a fast one, every REPORT_PIECES pieces. Each telling is a message to
 * every follower, which costs both ends far more than its bytes. A host that gets a piece from the seed gets its digest at once. At first
 * the steps are as long as the blob is old: a host of a chain that waits for a digest keeps all behind it waiting.
 */
const TABLE_STEP_MS = 250
const LEAST_STEP_MS = 20

/** More hosts than this don't get the states inside pieces: they form no chain, beside which there may be a few. */
const STEPS_HOSTS = LINE_MOST + 8
const NOTHING = new Uint8Array()
/** Blobs that one session may follow: a host takes a few at once. */
const MOST_FOLLOWED = 1024

/** When a task's table was first sent, when last, and how much of it was known then. */
interface Told {
  readonly sinceMs: number
  atMs: number
  known: number
  timer: NodeJS.Timeout | undefined
}

/** What is known to the seed of a task's pieces, which grows in order. */
export interface KnownTable {
  readonly known: () => number
  readonly digests: (from: number, count: number) => Uint8Array
  /** The states after these pieces, as far as they are known. */
  readonly states: (from: number, count: number) => Uint8Array
  /** Those inside them. */
  readonly steps: (from: number, count: number) => Uint8Array
}

export class Followers {
  readonly #clock: Clock
  readonly #byTask = new Map<TaskId, Map<PeerId, Follower>>()
  readonly #bySession = new Map<ControlSession, Set<TaskId>>()
  readonly #toldMs = new Map<TaskId, Told>()

  constructor(parts: { clock: Clock }) {
    this.#clock = parts.clock
  }

  /** Throws LIMIT_EXCEEDED where a session follows as much as it may, and `task` isn't among it. */
  checkRoom(session: ControlSession, task: TaskId | undefined): void {
    const followed = this.#bySession.get(session)
    if (followed === undefined || followed.size < MOST_FOLLOWED || (task !== undefined && followed.has(task))) return
    throw new DarnerError('LIMIT_EXCEEDED', `${session.remote} follows ${followed.size} blobs already`)
  }

  add(follower: Omit<Follower, 'have' | 'complete'>, have: Bitmap | undefined): Follower {
    const whole: Follower = {
      ...follower,
      have: have ?? new Bitmap(pieceCount(follower.task)),
      complete: false,
    }
    let peers = this.#byTask.get(follower.task.id)
    if (peers === undefined) {
      peers = new Map()
      this.#byTask.set(follower.task.id, peers)
    }
    this.#unlist(peers.get(follower.peer))
    peers.set(follower.peer, whole)
    const followed = this.#bySession.get(follower.session) ?? new Set()
    this.#bySession.set(follower.session, followed.add(follower.task.id))
    return whole
  }

  get(task: TaskId, peer: PeerId): Follower | undefined {
    return this.#byTask.get(task)?.get(peer)
  }

  of(task: TaskId): Iterable<Follower> {
    return this.#byTask.get(task)?.values() ?? []
  }

  *all(): Generator<Follower> {
    for (const peers of this.#byTask.values()) yield* peers.values()
  }

  count(task: TaskId): number {
    return this.#byTask.get(task)?.size ?? 0
  }

  remove(task: TaskId, peer: PeerId, session?: ControlSession): void {
    const peers = this.#byTask.get(task)
    if (peers === undefined || (session !== undefined && peers.get(peer)?.session !== session)) return
    this.#unlist(peers.get(peer))
    peers.delete(peer)
    if (peers.size > 0) return
    this.#byTask.delete(task)
    const told = this.#toldMs.get(task)
    clearTimeout(told?.timer)
    this.#toldMs.delete(task)
  }

  removeSession(session: ControlSession): TaskId[] {
    const left = [...(this.#bySession.get(session) ?? [])]
    for (const task of left) this.remove(task, session.remote, session)
    return left
  }

  #unlist(follower: Follower | undefined): void {
    if (follower === undefined) return
    const followed = this.#bySession.get(follower.session)
    followed?.delete(follower.task.id)
    if (followed?.size === 0) this.#bySession.delete(follower.session)
  }

  /** The table of a task grew: its followers hear of it now, or within TABLE_STEP_MS. */
  grew(task: TaskId, table: KnownTable): void {
    if (this.count(task) === 0) return
    let told = this.#toldMs.get(task)
    if (told === undefined) {
      told = { sinceMs: this.#clock.monotonicMs(), atMs: Number.NEGATIVE_INFINITY, known: 0, timer: undefined }
      this.#toldMs.set(task, told)
    }
    const now = this.#clock.monotonicMs()
    const due = told.atMs + Math.min(TABLE_STEP_MS, Math.max(LEAST_STEP_MS, now - told.sinceMs)) - now
    if (table.known() - told.known >= REPORT_PIECES || due <= 0 || this.#whole(task, table))
      this.#flush(task, told, table)
    else if (told.timer === undefined) {
      const waiting = told
      told.timer = setTimeout(() => this.#flush(task, waiting, table), due)
      told.timer.unref()
    }
  }

  /** Tells one follower what it lacks of the table. */
  tell(follower: Follower, table: KnownTable): void {
    for (const known = table.known(); follower.tableAt < known; ) {
      const count = Math.min(MAX_TABLE_RUN, known - follower.tableAt)
      const body = {
        task: follower.task.id,
        from: follower.tableAt,
        digests: table.digests(follower.tableAt, count),
        ...this.states(follower.task.id, table, follower.tableAt, count),
      }
      follower.tableAt += count
      follower.session.tell('table', body).catch(() => {})
    }
  }

  /** The states that a follower gets beside digests. Those inside pieces are for hosts in a line, which are few. */
  states(task: TaskId, table: KnownTable, from: number, count: number): { states?: Uint8Array; steps?: Uint8Array } {
    const steps = this.count(task) <= STEPS_HOSTS ? table.steps(from, count) : NOTHING
    return { states: table.states(from, count), ...(steps.byteLength > 0 && { steps }) }
  }

  /** Nothing more will come that the last digests could wait for. */
  #whole(task: TaskId, table: KnownTable): boolean {
    for (const follower of this.of(task)) return table.known() === pieceCount(follower.task)
    return false
  }

  #flush(task: TaskId, told: Told, table: KnownTable): void {
    clearTimeout(told.timer)
    told.timer = undefined
    told.atMs = this.#clock.monotonicMs()
    told.known = table.known()
    for (const follower of this.of(task)) this.tell(follower, table)
  }
}
