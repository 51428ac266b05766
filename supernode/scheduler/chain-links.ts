/** The links of a line, made anew from its order. */
import type { NewParent } from './events.ts'
import { link, unlink } from './links.ts'
import type { Member, SchedulerState, TaskRow } from './state.ts'

/** Predecessors that the scheduler names to a host: it asks the first, has a channel to the second too, and knows the others. */
const KNOWN = 4

/**
 * Links everybody to those before it, the nearest first, and says so where that changed. The reader of the origin comes first of all.
 * Resting hosts, and those that a host gave up, are passed over; the latter only if there is somebody else.
 */
export function arrange(state: SchedulerState, task: TaskRow, nowMs: number): void {
  const { line } = task
  if (line === undefined) return
  const before: Member[] = []
  for (const member of [...task.choosing, ...line.filter((one) => !one.choosing)]) {
    if (!member.complete && !member.choosing) {
      const liked = before.filter((one) => !member.avoids?.has(one))
      const parents = (liked.length > 0 ? liked : before).slice(-KNOWN).reverse()
      for (const parent of [...member.parents]) if (!parents.includes(parent)) unlink(state, member, parent)
      for (const [at, parent] of parents.entries()) link(state, member, parent, turnAt(at))
    }
    if (member.peer.suspectUntilMs <= nowMs && !member.lends) before.push(member)
  }
}

/** The nearest is asked, the next has its channel open, those further away are known. */
function turnAt(place: number): NonNullable<NewParent['turn']> {
  return place === 0 ? 1 : place === 1 ? 2 : 3
}
