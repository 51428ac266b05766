/** How busy this thread is: whether what can wait, or could be done early, had better wait. */
import { performance } from 'node:perf_hooks'

/** A meter: each call tells which share of the time since the last one, or since the meter was made, this thread was at work. */
export function workShare(): () => number {
  let before = performance.eventLoopUtilization()
  return () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    before = now
    return utilization
  }
}
