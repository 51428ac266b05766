/** What only time brings about: silence, expired leases, forgotten tasks, capacities that grow back. */
import type { SchedulerEffect } from './events.ts'
import { endLease, ensureSource } from './leases.ts'
import { dropTask, VOICE } from './peer-table.ts'
import type { PeerRow, SchedulerState } from './state.ts'

const REFILL_MS = 1_000

/** Does what is due at `nowMs`; returns the peers that said nothing for too long. */
export function sweep(state: SchedulerState, nowMs: number, effects: SchedulerEffect[]): PeerRow[] {
  const { silentMs, forgetMs } = state.options
  const silent: PeerRow[] = []
  const refill = nowMs - state.sweptMs >= REFILL_MS
  if (refill) state.sweptMs = nowMs
  for (const row of state.peers.values()) {
    if (nowMs - row.seenMs >= silentMs) silent.push(row)
    else if (refill) {
      row.voice = Math.min(VOICE, row.voice + 4)
      row.capacity = Math.min(state.options.degree, row.capacity + 1)
    }
  }
  for (const task of state.tasks.values()) {
    if (task.lease && task.lease.untilMs <= nowMs) {
      const { holder } = task.lease
      task.originFailed.set(holder.peer, nowMs + state.options.leaseMs)
      endLease(state, holder, nowMs)
      ensureSource(state, task, 'holder silent', nowMs, effects)
    } else if (!task.lease) ensureSource(state, task, 'first reader', nowMs, effects)
    if (task.members.every((member) => member.invited || member.peer.seed) && nowMs - task.emptySinceMs >= forgetMs)
      dropTask(state, task, nowMs)
  }
  return silent
}
