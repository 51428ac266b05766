/** How an error leaves by HTTP: `{ error: { code, message, way, retryAfterMs } }`. */
import type { DarnerError, Details } from '../core/errors.ts'

export interface ErrorBody {
  readonly error: {
    readonly code: string
    readonly message: string
    readonly way?: string
    readonly retryAfterMs?: number
    /** Only some routes tell them. */
    readonly details?: Details
  }
}

export function errorBody(error: DarnerError): ErrorBody {
  const { code, message, way, retryAfterMs } = error
  return {
    error: {
      code,
      message,
      ...(way === undefined ? {} : { way }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    },
  }
}
