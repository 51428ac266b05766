/** When to ask an origin again. Pure: chance is handed in, and waiting is the caller's. */

import type { Random } from '../core/clock.ts'
import { isDarnerError } from '../core/errors.ts'

export interface RetryLimits {
  /** Most attempts in all, the first one included. */
  readonly attempts: number
  readonly baseMs: number
  /** Longest wait of our own choice. */
  readonly capMs: number
  /** Longest wait that an origin's `Retry-After` may impose; a longer one counts as this. */
  readonly capRetryAfterMs: number
}

export const RETRY_LIMITS: RetryLimits = { attempts: 6, baseMs: 250, capMs: 15_000, capRetryAfterMs: 60_000 }

/**
 * Milliseconds to wait before the next attempt, or undefined to give up. `attempt` is how many have failed, from 1. The wait
 * is a random share of an exponentially growing span, so that many waiters spread; a `Retry-After` is waited out first.
 * Only failures of the origin, and deadlines on it, are tried again; its refusals of a malformed request are not.
 */
export function retryPlan(
  error: unknown,
  attempt: number,
  random: Random,
  limits: RetryLimits = RETRY_LIMITS,
): number | undefined {
  if (!isDarnerError(error) || !error.facts.retry || attempt >= limits.attempts) return undefined
  if (!error.code.startsWith('ORIGIN_') && error.code !== 'TIMED_OUT') return undefined
  const { status } = error.details
  if (error.code === 'ORIGIN_FAILED' && typeof status === 'number' && status < 500 && status !== 408) return undefined
  const span = Math.min(limits.capMs, limits.baseMs * 2 ** (attempt - 1))
  const asked = Math.min(error.retryAfterMs ?? 0, limits.capRetryAfterMs)
  return Math.round(asked + span * (0.5 + random() / 2))
}
