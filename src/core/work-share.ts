/** How busy this thread is: whether what can wait, or could be done early, had better wait. */
import { performance } from 'node:perf_hooks'

/** A meter. Each call returns the share of time that this thread was at work since the last call, or since the meter was made. */
export function workShare(): () => number {
  let before = performance.eventLoopUtilization()
  return () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    before = now
    return utilization
  }
}
