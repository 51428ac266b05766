/** The scheduler's memory: peers, tasks, and the members of each. Rows point at each other, so that a decision costs no search. */
import type { Random } from '../../src/core/clock.ts'
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import type { NewParent } from './events.ts'

export interface SchedulerOptions {
  /** Parents that a newcomer gets, fewer in a small swarm; later newcomers bring it more, up to {@link degree}. */
  readonly joinDegree: number
  /** Most parents of a child, and most children of a parent per task before others are preferred. */
  readonly degree: number
  /** Children that a parent takes above `degree` when they have nothing yet. */
  readonly reserve: number
  /** Children that a seed serves; a swarm no larger than this has the seed for everyone. */
  readonly seedDegree: number
  /** Children of one host over all tasks before other hosts are preferred. */
  readonly hostDegree: number
  /** Share of a child's parents in its own zone, where the zone has enough, in [0, 1]. */
  readonly zoneShare: number
  /** A peer that says nothing for this long is taken for dead. */
  readonly silentMs: number
  /** An origin lease without progress ends after this. */
  readonly leaseMs: number
  /** A task without members is forgotten after this. */
  readonly forgetMs: number
  /** Within this time two reports about a parent belong together. */
  readonly witnessMs: number
}

export const SCHEDULER_DEFAULTS: SchedulerOptions = {
  joinDegree: 16,
  degree: 36,
  reserve: 8,
  seedDegree: 8,
  hostDegree: 400,
  zoneShare: 0.75,
  silentMs: 12_000,
  leaseMs: 10_000,
  forgetMs: 300_000,
  witnessMs: 10_000,
}

export interface PeerRow {
  readonly id: PeerId
  zone: string
  rack: string
  /** May hold an origin lease before others. */
  seed: boolean
  seenMs: number
  members: Member[]
  /** Children over all tasks. */
  load: number
  /** Children it may have per task now: lowered when found slow, grows back. */
  capacity: number
  /** Until then it may stand in a line: it took a blob about as fast as the best of a mesh did. */
  alikeUntilMs: number
  /** The same for a line of its own: nobody else took that blob. */
  aloneUntilMs: number
  /** It held up a line, or was far behind in a mesh: until then it stands at the end of lines. */
  slowUntilMs: number
  /** Not handed out until this instant. */
  suspectUntilMs: number
  /** Recent complaints: by whom, about what. */
  complaints: Complaint[]
  /** Its own accusations that proved false, and complaints of it that still count. */
  falseReports: number
  voice: number
  /** Of these it gave wrong pieces that it only had left, which it was forgiven once. */
  readonly forgiven: Set<TaskId>
}

export interface Complaint {
  readonly by: PeerRow
  readonly about: 'down' | 'slow' | 'corrupt'
  readonly atMs: number
}

export interface Member {
  readonly peer: PeerRow
  readonly task: TaskRow
  have: number
  complete: boolean
  /** Chooses what its children get: it reads the origin under a lease, or is a seed host. */
  choosing: boolean
  /**
   * The seed reads through it. Nobody else does meanwhile: other children could check nothing that the seed hasn't yet, and would delay it.
   */
  lends: boolean
  /** It never registered: it is here only to read the origin under a lease. */
  invited: boolean
  /**
   * It has what an earlier fetch left, has no digest of it since, so it can't know which pieces are wrong, and fetches no more. It is
   * nobody's child.
   */
  left: boolean
  /** Since when it is a member. */
  readonly sinceMs: number
  /**
   * It began with nothing. The time of a host that resumed, or was known before a restart of the supernode, shows nothing about its pace.
   */
  fresh: boolean
  readonly parents: Member[]
  /** Turns of parents, where any has one (`NewParent.turn`): none in a mesh, whose members are many. */
  turns: Map<Member, NewParent['turn']> | undefined
  /** Parents that it gave up in its line, if any. */
  avoids: Set<Member> | undefined
  /** The fewest pieces that it lacked of what the one before it in its line had, since that one is before it. */
  leastLag: number
  readonly children: Member[]
  /** Seeds among its parents. */
  seeds: number
  /** Positions in the lists of the task, for removal at once. */
  at: number
  zoneAt: number
  fullAt: number
}

/** When one began with a blob, and had all of it. */
export interface Pace {
  readonly sinceMs: number
  readonly doneMs: number
}

/** The parent behind which a host fell, when, and what the host had then. */
export interface Wait {
  readonly before: PeerRow
  readonly atMs: number
  readonly have: number
}

export interface Lease {
  readonly holder: Member
  untilMs: number
}

export interface TaskRow {
  readonly id: TaskId
  readonly pieces: number
  /** A peer registered it with a right that its place accepted, or the seed reads it; else it is known from peers' word alone. */
  proven: boolean
  readonly byPeer: Map<PeerRow, Member>
  readonly members: Member[]
  readonly zones: Map<string, Member[]>
  /** Those that hold everything. */
  readonly full: Member[]
  readonly choosing: Member[]
  /** Members that have too few parents, mended at each tick. */
  readonly thin: Set<Member>
  /** The hosts that stand in a line, in its order; undefined once they are meshed. How many were sent to its end, when the first was done. */
  line: Member[] | undefined
  /** The time that each host that began with nothing took for all of it, and the shortest. */
  readonly paces: Map<PeerRow, Pace>
  best: Pace | undefined
  /** Those that fell behind in the line, if only because the one before did not give them more. */
  readonly waits: Map<PeerRow, Wait>
  moved: number
  lineDoneMs: number
  lease: Lease | undefined
  /** Peers that failed at the origin, until when. */
  readonly originFailed: Map<PeerRow, number>
  emptySinceMs: number
}

/** The changes that one child will get: parents that are new or have another rank, and those that are over. */
export interface ParentChange {
  readonly add: NewParent[]
  readonly drop: PeerId[]
  /** Those of `add` that it has already, if any. */
  retold: Set<PeerId> | undefined
}

export interface SchedulerState {
  readonly options: SchedulerOptions
  readonly random: Random
  readonly peers: Map<PeerId, PeerRow>
  readonly tasks: Map<TaskId, TaskRow>
  /** Peers that may hold an origin lease before others. */
  readonly seeds: PeerRow[]
  readonly banned: Set<PeerId>
  /** Changes of parents collected while one event is decided. */
  readonly changes: Map<Member, ParentChange>
  sweptMs: number
}

export function newScheduler(random: Random, options: Partial<SchedulerOptions> = {}): SchedulerState {
  return {
    options: { ...SCHEDULER_DEFAULTS, ...options },
    random,
    peers: new Map(),
    tasks: new Map(),
    seeds: [],
    banned: new Set(),
    changes: new Map(),
    sweptMs: 0,
  }
}
