/** A failure as the local API words it: status and body from the one code table. */

import type { ErrorReply } from '../src/api/containers-api.ts'
import { asDarnerError, DarnerError } from '../src/core/errors.ts'

/** `what` names the request, for failures that don't name themselves. */
export function errorReply(error: unknown, what: string): { status: number; body: ErrorReply } {
  const known = clientError(error) ?? asDarnerError(error, what)
  const { code, message, way, details } = known
  const kept = Object.entries(details).filter((one): one is [string, string | number | boolean] => one[1] !== undefined)
  return {
    status: known.facts.http,
    body: { error: { code, message, ...(way === undefined ? {} : { way }), details: Object.fromEntries(kept) } },
  }
}

/** fastify's own refusals (a body that isn't JSON or doesn't fit its schema) carry a status below 500. */
function clientError(error: unknown): DarnerError | undefined {
  if (!(error instanceof Error) || error instanceof DarnerError || !('statusCode' in error)) return undefined
  const status = Number(error.statusCode)
  return status >= 400 && status < 500 ? new DarnerError('BAD_ARGUMENT', error.message, { cause: error }) : undefined
}
