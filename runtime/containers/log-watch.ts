/**
 * When to look at a log that must not grow beyond a length. The engine can't be notified of each write without waking for each, so it
 * looks. It looks sooner the faster the log grows, so what comes between two looks stays a part of the length.
 */

export interface LogLook {
  /** Milliseconds of a monotonic clock. */
  readonly at: number
  readonly bytes: number
}

/** Between two looks at a log that doesn't grow, and at one that grows as fast as it can. */
export const SLOW_LOOK_MS = 1000
export const FAST_LOOK_MS = 100
/** A log that goes on as it did is looked at before so much of what it may still take has come. */
const SHARE = 0.5

/** How long after `now` to look again. `before` is the look before; a log that got shorter meanwhile was rotated. */
export function nextLookMs(before: LogLook | undefined, now: LogLook, maxBytes: number): number {
  if (before === undefined || now.at <= before.at) return FAST_LOOK_MS
  const grown = now.bytes >= before.bytes ? now.bytes - before.bytes : now.bytes
  if (grown === 0) return SLOW_LOOK_MS
  const perMs = grown / (now.at - before.at)
  const left = Math.max(0, maxBytes - now.bytes)
  return Math.min(SLOW_LOOK_MS, Math.max(FAST_LOOK_MS, (left / perMs) * SHARE))
}
