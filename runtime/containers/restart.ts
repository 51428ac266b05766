/** Restart policies: whether a container that ended starts again, and after how long. Pure. */
import type { RestartPolicy } from '../../src/api/container-options.ts'

export const FIRST_DELAY_MS = 100
export const MOST_DELAY_MS = 60_000
/** A run this long counts as one that went well: the delay begins anew. */
export const GOOD_RUN_MS = 10_000

export interface RunEnd {
  readonly exitCode: number
  /** Somebody asked for the end. */
  readonly stopRequested: boolean
  /** Restarts since the policy last had nothing to do. */
  readonly restarts: number
}

/** True when the policy wants another run. */
export function wantsRestart(
  policy: RestartPolicy | undefined,
  { exitCode, stopRequested, restarts }: RunEnd,
): boolean {
  if (stopRequested) return false
  switch (policy?.name) {
    case 'always':
    case 'unless-stopped':
      return true
    case 'on-failure':
      return exitCode !== 0 && (!policy.maximumRetries || restarts < policy.maximumRetries)
    default:
      return false
  }
}

/** True when a container that doesn't run is to be started with the agent. */
export function wantsStartWithAgent(policy: RestartPolicy | undefined, end: RunEnd): boolean {
  return policy?.name === 'always' || (policy?.name === 'unless-stopped' && !end.stopRequested)
}

/** 100 ms doubled with each failed run, at most a minute; `beforeMs` is the last delay, `ranMs` how long the run was. */
export function nextDelayMs(beforeMs: number, ranMs: number): number {
  if (beforeMs === 0 || ranMs >= GOOD_RUN_MS) return FIRST_DELAY_MS
  return Math.min(beforeMs * 2, MOST_DELAY_MS)
}
