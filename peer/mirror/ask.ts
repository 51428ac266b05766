/** One request of a client, as the handlers of the mirror see it. */
import { createHash } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import { originName, type RegistryOrigin } from '../../src/core/task/origin.ts'

export interface Ask {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** True for HEAD: no body may follow. */
  readonly head: boolean
  /** The query as the client sent it, without `ns`. */
  readonly query: string
  /** The client's own rights; they go to the upstream of this request and nowhere else. */
  readonly credential: Credential | undefined
  /** Aborts when the client is gone or the mirror stops. */
  readonly signal: AbortSignal
  /** Says when a client is too slow. */
  readonly clock: Clock
}

const MAX_AUTHORIZATION_CHARS = 32_768

/** What the client sent as `Authorization`. Throws BAD_ARGUMENT for one that is too long. */
export function credentialOf(request: IncomingMessage): Credential | undefined {
  const value = request.headers.authorization
  if (value === undefined || value === '') return undefined
  if (value.length > MAX_AUTHORIZATION_CHARS)
    throw new DarnerError('BAD_ARGUMENT', `an Authorization of ${value.length} characters is too long`)
  return { kind: 'header', value }
}

/** Names a (place, content, credential) triple without keeping the secret. */
export function askKey(
  origin: Omit<RegistryOrigin, 'collection'>,
  reference: string,
  credential: Credential | undefined,
): string {
  const who =
    credential === undefined ? '' : createHash('sha256').update(JSON.stringify(credential)).digest('base64url')
  return `${originName({ ...origin, collection: 'blobs' })} ${reference} ${who}`
}
