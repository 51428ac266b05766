/**
 * The one home of failures: every error that leaves a room is a {@link DarnerError} whose `code` stands in this table.
 * The table says, once for all surfaces, which HTTP status and exit code a failure has and whether trying again can help.
 */

/** What each surface makes of a code: HTTP status, process exit code, and whether a retry can succeed. */
export interface CodeFacts {
  readonly http: number
  readonly exit: number
  readonly retry: boolean
}

const row = (http: number, exit: number, retry: boolean): CodeFacts => ({ http, exit, retry })

/** Exit codes of every command. */
export const EXIT = { done: 0, failed: 1, usage: 2, timedOut: 124, interrupted: 130 } as const

export const CODES = {
  // what a caller asked for
  BAD_ARGUMENT: row(400, EXIT.usage, false),
  CONFIG_INVALID: row(500, EXIT.usage, false),
  NOT_FOUND: row(404, EXIT.failed, false),
  CONFLICT: row(409, EXIT.failed, false),
  UNSUPPORTED: row(501, EXIT.failed, false),
  TIMED_OUT: row(504, EXIT.timedOut, true),
  INTERRUPTED: row(499, EXIT.interrupted, true),
  INTERNAL: row(500, EXIT.failed, false),
  CLOSED: row(503, EXIT.failed, true),
  // bytes and their truth
  DIGEST_INVALID: row(400, EXIT.usage, false),
  DIGEST_MISMATCH: row(502, EXIT.failed, false),
  SIZE_MISMATCH: row(502, EXIT.failed, false),
  LIMIT_EXCEEDED: row(502, EXIT.failed, false),
  MANIFEST_INVALID: row(502, EXIT.failed, false),
  REFERENCE_INVALID: row(400, EXIT.usage, false),
  LAYER_INVALID: row(502, EXIT.failed, false),
  PLATFORM_MISSING: row(404, EXIT.failed, false),
  // the origin
  ORIGIN_UNREACHABLE: row(502, EXIT.failed, true),
  ORIGIN_NOT_FOUND: row(404, EXIT.failed, false),
  ORIGIN_UNAUTHORIZED: row(401, EXIT.failed, false),
  ORIGIN_DENIED: row(403, EXIT.failed, false),
  ORIGIN_BUSY: row(503, EXIT.failed, true),
  ORIGIN_FAILED: row(502, EXIT.failed, true),
  ORIGIN_TRUNCATED: row(502, EXIT.failed, true),
  ORIGIN_FORBIDDEN: row(403, EXIT.failed, false),
  ORIGIN_CHANGED: row(502, EXIT.failed, false),
  ORIGIN_UNVERSIONED: row(502, EXIT.failed, false),
  // the swarm
  SUPERNODE_UNREACHABLE: row(503, EXIT.failed, true),
  ADMISSION_REFUSED: row(403, EXIT.failed, false),
  PEER_UNREACHABLE: row(502, EXIT.failed, true),
  PEER_REFUSED: row(502, EXIT.failed, true),
  PEER_STALLED: row(504, EXIT.failed, true),
  PEER_SLOW: row(504, EXIT.failed, true),
  PEER_BANNED: row(403, EXIT.failed, false),
  PROTOCOL_VIOLATION: row(502, EXIT.failed, false),
  PIECE_SHORT: row(502, EXIT.failed, true),
  PIECE_DIGEST: row(502, EXIT.failed, true),
  PIECE_ABSENT: row(404, EXIT.failed, true),
  PIECE_WITHDRAWN: row(404, EXIT.failed, true),
  CAPABILITY_REFUSED: row(403, EXIT.failed, false),
  TASK_FAILED: row(502, EXIT.failed, true),
  // the store
  STORE_LOCKED: row(503, EXIT.failed, true),
  STORE_CORRUPT: row(500, EXIT.failed, false),
  DISK_FULL: row(507, EXIT.failed, true),
  // the engine
  AGENT_UNREACHABLE: row(503, EXIT.failed, true),
  RUNTIME_FAILED: row(500, EXIT.failed, false),
  RUNTIME_MISSING: row(500, EXIT.failed, false),
  HOST_UNABLE: row(500, EXIT.failed, false),
  NETWORK_FAILED: row(500, EXIT.failed, false),
  MOUNT_FAILED: row(500, EXIT.failed, false),
  STATE_INVALID: row(409, EXIT.failed, false),
  COMMAND_FAILED: row(500, EXIT.failed, false),
} as const satisfies Record<string, CodeFacts>

export type Code = keyof typeof CODES

/** Plain data that names the thing an error is about; never secrets. */
export type Details = Readonly<Record<string, string | number | boolean | undefined>>

export interface ErrorOptions {
  readonly cause?: unknown
  readonly details?: Details
  /** What the person who reads it can do, as a clause: printed after the message by the CLI. */
  readonly way?: string
  /** How long the other side asked us to wait before a retry. */
  readonly retryAfterMs?: number
}

/**
 * A failure with a code from {@link CODES}. The message says what was attempted, on which thing, and what was seen.
 * Callers switch on `code`, never on the text.
 */
export class DarnerError extends Error {
  readonly code: Code
  readonly details: Details
  readonly way: string | undefined
  readonly retryAfterMs: number | undefined

  constructor(code: Code, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'DarnerError'
    this.code = code
    this.details = options.details ?? {}
    this.way = options.way
    this.retryAfterMs = options.retryAfterMs
  }

  get facts(): CodeFacts {
    return CODES[this.code]
  }
}

/** True for a {@link DarnerError}, with one of `codes` when any are given. */
export function isDarnerError(error: unknown, ...codes: Code[]): error is DarnerError {
  return error instanceof DarnerError && (codes.length === 0 || codes.includes(error.code))
}

/** The `code` of a Node system error (`ENOSPC`, `ECONNREFUSED`…), or undefined. Looks through `cause`. */
export function systemCode(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { code } = at as NodeJS.ErrnoException
    if (typeof code === 'string' && /^E[A-Z0-9]+$/.test(code)) return code
  }
  return undefined
}

/** Whether a disk has a part of a file no more, by its own word or by a checksum of the file system's. */
export function isUnreadable(error: unknown): boolean {
  return ['EIO', 'EBADMSG', 'EUCLEAN'].includes(systemCode(error) ?? '')
}

/** Turns anything thrown into a DarnerError: one passes as it is, aborts and system errors get their code. */
export function asDarnerError(error: unknown, what: string): DarnerError {
  if (error instanceof DarnerError) return error
  const text = error instanceof Error ? error.message : String(error)
  if (error instanceof Error && error.name === 'TimeoutError')
    return new DarnerError('TIMED_OUT', `${what}: timed out`, { cause: error })
  if (error instanceof Error && error.name === 'AbortError')
    return new DarnerError('INTERRUPTED', `${what}: interrupted`, { cause: error })
  const system = systemCode(error)
  if (system === 'ENOSPC' || system === 'EDQUOT')
    return new DarnerError('DISK_FULL', `${what}: no space left (${system})`, { cause: error })
  return new DarnerError('INTERNAL', `${what}: ${text}`, { cause: error })
}

/** One line for a person: the message and the way out. */
export function errorLine(error: unknown): string {
  const known = asDarnerError(error, 'failed')
  const line = (known.way ? `${known.message}; ${known.way}` : known.message).replaceAll(/\s*\n\s*/g, ' ')
  // names of files and keys come from elsewhere, and a terminal obeys
  return line.replaceAll(/\p{Cc}/gu, '\ufffd')
}

/** The chain of causes, outermost first, for `--debug`. */
export function errorChain(error: unknown): string[] {
  const lines: string[] = []
  for (let at: unknown = error, depth = 0; at !== undefined && depth < 16; depth++) {
    if (!(at instanceof Error)) {
      lines.push(String(at))
      break
    }
    lines.push(`${at.name}${'code' in at ? ` [${String(at.code)}]` : ''}: ${at.message}`)
    at = at.cause
  }
  return lines
}
