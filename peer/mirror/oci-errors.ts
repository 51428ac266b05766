/** Failures in a registry's form: status and `{ errors: [{ code, message, detail }] }` (distribution-spec, "Error Codes"). */
import type { Code, DarnerError } from '../../src/core/errors.ts'

export type OciCode =
  | 'BLOB_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'RANGE_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'UNSUPPORTED'

export interface OciFailure {
  readonly status: number
  readonly code: OciCode
  readonly headers: Readonly<Record<string, string>>
}

/** What a request was about; says which kind of "unknown" a 404 is. */
export type Subject = 'manifest' | 'blob' | 'name' | 'request'

const UNKNOWN: Readonly<Record<Subject, OciCode>> = {
  manifest: 'MANIFEST_UNKNOWN',
  blob: 'BLOB_UNKNOWN',
  name: 'NAME_UNKNOWN',
  request: 'NAME_UNKNOWN',
}

const FAILURES: Partial<Record<Code, readonly [status: number, code: OciCode]>> = {
  ORIGIN_UNAUTHORIZED: [401, 'UNAUTHORIZED'],
  ORIGIN_DENIED: [403, 'DENIED'],
  ORIGIN_FORBIDDEN: [403, 'DENIED'],
  CAPABILITY_REFUSED: [403, 'DENIED'],
  REFERENCE_INVALID: [400, 'NAME_INVALID'],
  DIGEST_INVALID: [400, 'DIGEST_INVALID'],
  BAD_ARGUMENT: [400, 'UNSUPPORTED'],
  UNSUPPORTED: [405, 'UNSUPPORTED'],
  ORIGIN_BUSY: [503, 'TOOMANYREQUESTS'],
  LIMIT_EXCEEDED: [503, 'TOOMANYREQUESTS'],
  DIGEST_MISMATCH: [502, 'DIGEST_INVALID'],
  SIZE_MISMATCH: [502, 'DIGEST_INVALID'],
  TIMED_OUT: [504, 'UNAVAILABLE'],
}

/** How an error leaves the mirror. What isn't the client's doing is 502 to 504, so that it goes on to its next registry. */
export function ociFailure(error: DarnerError, subject: Subject): OciFailure {
  const headers: Record<string, string> = {}
  if (error.retryAfterMs !== undefined) headers['retry-after'] = String(Math.ceil(error.retryAfterMs / 1000))
  if (error.code === 'NOT_FOUND') return { status: 404, code: 'NAME_UNKNOWN', headers }
  if (error.code === 'ORIGIN_NOT_FOUND') return { status: 404, code: UNKNOWN[subject], headers }
  if (error.code === 'ORIGIN_BUSY' && error.details.status === 429)
    return { status: 429, code: 'TOOMANYREQUESTS', headers }
  if (error.code === 'MANIFEST_INVALID')
    return { status: subject === 'request' ? 400 : 502, code: 'MANIFEST_INVALID', headers }
  const known = FAILURES[error.code]
  if (known !== undefined) return { status: known[0], code: known[1], headers }
  const status = error.facts.http >= 500 ? error.facts.http : 502
  return { status: status === 500 || status === 507 ? 503 : status, code: 'UNAVAILABLE', headers }
}

/** The body of an error answer. */
export function ociBody(code: OciCode, message: string): string {
  return `${JSON.stringify({ errors: [{ code, message, detail: null }] })}\n`
}
