/** The origin lease of a task: one holder at a time, for a bounded time. It moves when the holder fails, leaves or falls silent. */
import type { LeaseReason, SchedulerEffect } from './events.ts'
import { setChoosing } from './mesh.ts'
import { addMember, removeMember } from './peer-table.ts'
import type { Member, PeerRow, SchedulerState, TaskRow } from './state.ts'

/** How long a peer that failed at the origin isn't asked again, unless the origin said otherwise. */
const ORIGIN_BACKOFF_MS = 5_000

/** Makes sure that somebody holds or reads the whole of a task that is followed. */
export function ensureSource(
  state: SchedulerState,
  task: TaskRow,
  why: LeaseReason,
  nowMs: number,
  effects: SchedulerEffect[],
): void {
  if (task.lease || task.members.every(({ left }) => left)) return
  if (task.full.some(({ peer, lends }) => peer.suspectUntilMs <= nowMs && !lends)) return
  const holder = chooseHolder(state, task, nowMs)
  if (!holder) return // the next tick looks again
  const untilMs = nowMs + state.options.leaseMs
  task.lease = { holder, untilMs }
  setChoosing(state, holder, true, nowMs)
  effects.push({ kind: 'lease', task: task.id, holder: holder.peer.id, untilMs, why })
}

/** Seed hosts first; then the member that has most. */
function chooseHolder(state: SchedulerState, task: TaskRow, nowMs: number): Member | undefined {
  const may = (peer: PeerRow) => peer.suspectUntilMs <= nowMs && (task.originFailed.get(peer) ?? 0) <= nowMs
  for (const peer of state.seeds) {
    if (!may(peer)) continue
    const member = task.byPeer.get(peer)
    if (member) return member
    const invited = addMember(task, peer, nowMs)
    invited.invited = true
    return invited
  }
  let best: Member | undefined
  for (const member of task.members) {
    if (!may(member.peer) || member.complete || member.left || member.lends) continue
    if (!best || member.have > best.have) best = member
  }
  return best
}

/** The holder made progress. */
export function renewLease(state: SchedulerState, member: Member, nowMs: number): void {
  const { lease } = member.task
  if (lease?.holder === member) lease.untilMs = nowMs + state.options.leaseMs
}

/** Ends the lease of a task, if this member holds it; true when it did. A host that was here for the lease alone leaves the task. */
export function endLease(state: SchedulerState, member: Member, nowMs: number): boolean {
  const { task } = member
  if (task.lease?.holder !== member) return false
  task.lease = undefined
  if (!member.complete) {
    setChoosing(state, member, false, nowMs)
    if (member.invited) removeMember(member, nowMs)
  }
  return true
}

/** The holder couldn't read the origin: not it again for a while. */
export function failLease(
  state: SchedulerState,
  member: Member,
  retryAfterMs: number | undefined,
  nowMs: number,
  effects: SchedulerEffect[],
): void {
  member.task.originFailed.set(member.peer, nowMs + (retryAfterMs ?? ORIGIN_BACKOFF_MS))
  if (endLease(state, member, nowMs)) ensureSource(state, member.task, 'origin failed there', nowMs, effects)
}
