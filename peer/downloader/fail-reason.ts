/** The meaning of a failed question for the plan, and the fault that is reported to the supernode. */
import { asDarnerError, type Code } from '../../src/core/errors.ts'
import type { FailReason, ReplaceReason } from './plan.ts'

const REASONS: Partial<Record<Code, FailReason>> = {
  PIECE_DIGEST: 'corrupt',
  PROTOCOL_VIOLATION: 'corrupt',
  PIECE_SHORT: 'short',
  PIECE_ABSENT: 'absent',
  PIECE_WITHDRAWN: 'withdrawn',
  PEER_REFUSED: 'refused',
  PEER_BANNED: 'refused',
  CAPABILITY_REFUSED: 'refused',
  PEER_STALLED: 'stalled',
  TIMED_OUT: 'stalled',
  INTERRUPTED: 'cancelled',
}

/** The reason for the plan; anything unnamed counts as unreachable. */
export function failReason(error: unknown): FailReason {
  return REASONS[asDarnerError(error, 'piece').code] ?? 'unreachable'
}

const CODES: Record<ReplaceReason, Code> = {
  corrupt: 'PIECE_DIGEST',
  short: 'PIECE_SHORT',
  absent: 'PIECE_ABSENT',
  refused: 'PEER_REFUSED',
  unreachable: 'PEER_UNREACHABLE',
  stalled: 'PEER_STALLED',
  slow: 'PEER_SLOW',
  cancelled: 'INTERRUPTED',
}

/** The code that a parent is reported with. */
export function blameCode(reason: ReplaceReason): Code {
  return CODES[reason]
}
