/** Rows of peers, tasks and members: made, found, removed. No decision is taken here. */
import type { PeerId } from '../../src/core/contracts/exchange.ts'
import type { TaskId } from '../../src/core/task/task.ts'
import type { Member, PeerRow, SchedulerState, TaskRow } from './state.ts'

export function addPeer(state: SchedulerState, id: PeerId, nowMs: number): PeerRow {
  const known = state.peers.get(id)
  if (known) return known
  const row: PeerRow = {
    id,
    zone: '',
    rack: '',
    seed: false,
    seenMs: nowMs,
    members: [],
    load: 0,
    capacity: state.options.degree,
    alikeUntilMs: 0,
    aloneUntilMs: 0,
    slowUntilMs: 0,
    suspectUntilMs: 0,
    complaints: [],
    falseReports: 0,
    voice: VOICE,
    forgiven: new Set(),
  }
  state.peers.set(id, row)
  return row
}

/** Complaints that count from one peer until the next refill: enough for all its parents, too few to silence a swarm. */
export const VOICE = 48

export function addTask(state: SchedulerState, id: TaskId, pieces: number, nowMs: number): TaskRow {
  const known = state.tasks.get(id)
  if (known) return known
  const row: TaskRow = {
    id,
    pieces,
    proven: false,
    byPeer: new Map(),
    members: [],
    zones: new Map(),
    full: [],
    choosing: [],
    thin: new Set(),
    line: [],
    paces: new Map(),
    best: undefined,
    waits: new Map(),
    moved: 0,
    lineDoneMs: 0,
    lease: undefined,
    originFailed: new Map(),
    emptySinceMs: nowMs,
  }
  state.tasks.set(id, row)
  return row
}

export function addMember(task: TaskRow, peer: PeerRow, nowMs: number): Member {
  const member: Member = {
    peer,
    task,
    have: 0,
    complete: false,
    choosing: false,
    lends: false,
    invited: false,
    left: false,
    parents: [],
    sinceMs: nowMs,
    fresh: false,
    turns: undefined,
    avoids: undefined,
    leastLag: Number.POSITIVE_INFINITY,
    children: [],
    seeds: 0,
    at: task.members.length,
    zoneAt: 0,
    fullAt: -1,
  }
  task.members.push(member)
  task.byPeer.set(peer, member)
  peer.members.push(member)
  const zone = task.zones.get(peer.zone) ?? []
  if (zone.length === 0) task.zones.set(peer.zone, zone)
  member.zoneAt = zone.length
  zone.push(member)
  return member
}

/** Takes a member without links out of all lists. */
export function removeMember(member: Member, nowMs: number): void {
  const { task, peer } = member
  task.byPeer.delete(peer)
  task.paces.delete(peer)
  task.waits.delete(peer)
  task.thin.delete(member)
  take(task.members, member.at, (moved, at) => (moved.at = at))
  const zone = task.zones.get(peer.zone)
  if (zone) {
    take(zone, member.zoneAt, (moved, at) => (moved.zoneAt = at))
    if (zone.length === 0) task.zones.delete(peer.zone)
  }
  if (member.fullAt >= 0) take(task.full, member.fullAt, (moved, at) => (moved.fullAt = at))
  member.fullAt = -1
  removeOne(task.choosing, member)
  removeOne(peer.members, member)
  task.emptySinceMs = nowMs
}

/** Forgets a task and its last members, which have no links. */
export function dropTask(state: SchedulerState, task: TaskRow, nowMs: number): void {
  for (const member of [...task.members]) removeMember(member, nowMs)
  state.tasks.delete(task.id)
}

export function markFull(member: Member): void {
  member.complete = true
  if (member.fullAt >= 0) return
  member.fullAt = member.task.full.length
  member.task.full.push(member)
  member.task.thin.delete(member)
}

/** Removes the element at `at` by moving the last one there. */
function take(list: Member[], at: number, moved: (member: Member, at: number) => void): void {
  const last = list.pop()
  if (!last || at === list.length) return
  list[at] = last
  moved(last, at)
}

/** Removes one element from an unordered list; false when it isn't there. */
export function removeOne<T>(list: T[], one: T): boolean {
  const at = list.indexOf(one)
  if (at < 0) return false
  const last = list.pop()
  if (last !== undefined && at < list.length) list[at] = last
  return true
}
