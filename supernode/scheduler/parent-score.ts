/** Ranks candidates for a parent: lower is better. */
import type { Member, SchedulerState } from './state.ts'

/** Children that this member may have for its task now. */
export function childLimit(state: SchedulerState, parent: Member): number {
  return parent.choosing ? state.options.seedDegree : parent.peer.capacity
}

/** False when this one can't be a parent of that child at all. */
export function eligible(state: SchedulerState, parent: Member, child: Member, nowMs: number): boolean {
  if (parent.peer === child.peer || parent.lends || parent.peer.suspectUntilMs > nowMs) return false
  const spare = child.have === 0 ? state.options.reserve : 0
  return parent.children.length < childLimit(state, parent) + spare && !child.parents.includes(parent)
}

/**
 * How full the candidate is against its own limit, how full its host is over all tasks, and whether it has anything to give.
 * Load follows capacity, because the limit does.
 */
export function score(state: SchedulerState, parent: Member): number {
  const own = parent.children.length / Math.max(1, childLimit(state, parent))
  const host = Math.max(0, parent.peer.load / state.options.hostDegree - 0.5)
  const empty = parent.have === 0 ? 0.25 : 0
  return own + host + empty
}
