/** What an origin's refusals and broken connections mean: one code each, with what the origin said, cleaned and bounded. */
import { type Code, DarnerError, type ErrorOptions, isDarnerError } from '../core/errors.ts'

/** Longest text of an origin that goes into a message. */
export const MAX_SAID_CHARS = 2048
/** Longest wait that an origin may ask for with `Retry-After`. */
export const MAX_RETRY_AFTER_MS = 3_600_000

/** A refusal, as far as it matters. */
export interface Refusal {
  /** What was attempted: `GET https://host/v2/app/blobs/sha256:…`. */
  readonly what: string
  readonly host: string
  /** HOST:PORT of the proxy that the answer came through, and may be of. */
  readonly proxy?: string | undefined
  /** The repository, for a registry. */
  readonly repository?: string | undefined
  readonly status: number
  /** The answer's first bytes as text, and its content type. */
  readonly body: string
  readonly contentType: string
  readonly retryAfter?: string | undefined
  /** `WWW-Authenticate` as it came. */
  readonly challenge?: string | undefined
  /** Texts that must not appear in the message, should the origin repeat them. */
  readonly secrets: readonly string[]
}

const BY_STATUS: Readonly<Record<number, Code>> = {
  401: 'ORIGIN_UNAUTHORIZED',
  403: 'ORIGIN_DENIED',
  404: 'ORIGIN_NOT_FOUND',
  410: 'ORIGIN_NOT_FOUND',
  412: 'ORIGIN_CHANGED',
  429: 'ORIGIN_BUSY',
  451: 'ORIGIN_DENIED',
  503: 'ORIGIN_BUSY',
}

/** The error for an answer that is no success. `nowMs` is epoch milliseconds, for dates in `Retry-After`. */
export function refusalError(refusal: Refusal, nowMs: number): DarnerError {
  const { what, host, proxy, repository, status } = refusal
  const said = originSaid(refusal.body, refusal.contentType, refusal.secrets)
  const code = BY_STATUS[status] ?? 'ORIGIN_FAILED'
  const thing = repository === undefined ? '' : ` for repository ${repository}`
  const through = proxy === undefined ? '' : ` through the proxy ${proxy}`
  const wait = parseRetryAfter(refusal.retryAfter, nowMs)
  const options: ErrorOptions = {
    details: { host, repository, status, ...(status === 401 ? { challenge: refusal.challenge } : {}) },
    ...(wait === undefined ? {} : { retryAfterMs: wait }),
    ...(status === 401 ? { way: loginWay(host, repository) } : {}),
  }
  return new DarnerError(
    code,
    `${what}: ${host} answered ${status}${through}${thing}${said === '' ? '' : ` (${said})`}`,
    options,
  )
}

/** What a person can do about missing rights. */
export function loginWay(host: string, repository: string | undefined): string {
  return repository === undefined
    ? `give credentials for ${host}: -H 'Authorization: …', or NAME:PASSWORD@ in the URL`
    : `log in with \`docker login ${host}\`, with an account that may pull ${repository}`
}

/** Milliseconds that a `Retry-After` asks for (RFC 9110, section 10.2.3), bounded; undefined when it says nothing usable. */
export function parseRetryAfter(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined
  const text = value.trim()
  const ms = /^\d{1,9}$/.test(text)
    ? Number(text) * 1000
    : /[A-Za-z]/.test(text)
      ? Date.parse(text) - nowMs
      : Number.NaN
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS)
}

/** The registry's own words (distribution-spec, "Error Codes"; token spec), without control characters and secrets. */
export function originSaid(body: string, contentType: string, secrets: readonly string[]): string {
  const words = wordsOf(body, contentType)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  let text = words.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\s]+/g, ' ').trim()
  for (const secret of secrets) if (secret.length >= 4) text = text.replaceAll(secret, '[redacted]')
  return text.length > MAX_SAID_CHARS ? `${text.slice(0, MAX_SAID_CHARS)}…` : text
}

function wordsOf(body: string, contentType: string): string {
  try {
    const json: unknown = JSON.parse(body)
    if (typeof json !== 'object' || json === null) return ''
    const { errors, error, error_description: description, details, message } = json as Record<string, unknown>
    const list = Array.isArray(errors) ? errors.slice(0, 4) : []
    const lines = list.map((one: unknown) => {
      const { code, message } = (typeof one === 'object' && one !== null ? one : {}) as Record<string, unknown>
      return [code, message].filter((part) => typeof part === 'string' && part !== '').join(': ')
    })
    if (lines.length > 0) return lines.filter((line) => line !== '').join('; ')
    return [error, description, details, message].filter((part) => typeof part === 'string').join(': ')
  } catch {
    // no JSON: a short plain text is worth showing, a page of HTML is not
    if (contentType.startsWith('text/plain')) return body.slice(0, 256)
    return /^(application|text)\/xml/.test(contentType) ? s3Words(body) : ''
  }
}

/** S3's errors (API reference, "REST error responses"): `AccessDenied: Request has expired` says what a 403 does not. */
function s3Words(xml: string): string {
  if (!/<Error>/.test(xml)) return ''
  const [code, message] = ['Code', 'Message'].map(
    (name) => new RegExp(`<${name}>([^<]{1,256})</${name}>`).exec(xml)?.[1],
  )
  return [code, message].filter((part) => part !== undefined).join(': ')
}

/** The first error code found through causes: a system's (`ECONNREFUSED`), TLS's or the HTTP client's. */
export function failureCode(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { code } = at as NodeJS.ErrnoException
    if (typeof code === 'string') return code
  }
  return undefined
}

/** A DarnerError among an error's causes, thrown by a hook below the HTTP client. */
export function darnerCause(error: unknown): DarnerError | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++)
    if (isDarnerError(at)) return at
  return undefined
}

const UNVERIFIED = /^(CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_TLS_CERT)/
const NO_ANSWER: ReadonlySet<string> = new Set(['UND_ERR_HEADERS_OVERFLOW', 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH'])
const PLAIN_TO_TLS = /^(EPROTO|ERR_SSL_)/

/** The target of a request that got no answer. */
export interface Unanswered {
  /** HOST:PORT. */
  readonly address: string
  readonly firstByteMs: number
  /** HOST:PORT of the proxy that was to ask it, and what a person can do about that. */
  readonly proxy?: { readonly name: string; readonly way: string | undefined } | undefined
}

/** The error for a request that got no answer: `what` as in {@link Refusal}. */
export function unansweredError(
  error: unknown,
  what: string,
  { address: host, firstByteMs, proxy }: Unanswered,
): DarnerError {
  const below = darnerCause(error)
  if (below !== undefined) return below
  const address = proxy === undefined ? host : `${host} through the proxy ${proxy.name}`
  const code = failureCode(error)
  const details = { host, system: code, ...(proxy === undefined ? {} : { proxy: proxy.name }) }
  if (error instanceof Error && /\b407\b/.test(error.message)) {
    return new DarnerError('ORIGIN_UNREACHABLE', `${what}: cannot reach ${address} (the proxy wants credentials)`, {
      cause: error,
      details,
      way: 'give NAME:PASSWORD@ in the URL of the proxy',
    })
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT') {
    return new DarnerError('TIMED_OUT', `${what}: ${address} sent no answer within ${firstByteMs} ms`, {
      cause: error,
      details,
    })
  }
  if (code === 'UND_ERR_INVALID_ARG' || code === 'ERR_INVALID_CHAR' || code === 'ERR_INVALID_HTTP_TOKEN') {
    return new DarnerError('BAD_ARGUMENT', `${what}: a request header or the URL is malformed`, { details })
  }
  // undici's parser has no code for what is no HTTP at all
  const unparsed = error instanceof Error && error.name === 'HTTPParserError' ? 'no HTTP' : undefined
  if (unparsed !== undefined || code?.startsWith('HPE_') || (code !== undefined && NO_ANSWER.has(code))) {
    return new DarnerError('ORIGIN_FAILED', `${what}: ${address} sent no valid HTTP answer (${code ?? unparsed})`, {
      cause: error,
      details,
    })
  }
  const refused = error instanceof Error ? /^Proxy response \((\d+)\)/.exec(error.message)?.[1] : undefined
  const shown = refused === undefined ? shownFailure(error, code) : `it answered ${refused}`
  const way = UNVERIFIED.test(shown)
    ? `give the CA that signed the certificate of ${host}`
    : PLAIN_TO_TLS.test(shown)
      ? `if ${host} speaks plain HTTP, say --plain-http, or for a URL http://`
      : proxy?.way
  return new DarnerError('ORIGIN_UNREACHABLE', `${what}: cannot reach ${address} (${shown})`, {
    cause: error,
    details: { ...details, system: shown },
    ...(way === undefined ? {} : { way }),
  })
}

function shownFailure(error: unknown, code: string | undefined): string {
  if (code === 'UND_ERR_CONNECT_TIMEOUT') return 'ETIMEDOUT'
  if (code === 'UND_ERR_SOCKET' || code === 'UND_ERR_PRX_CONN') return 'it closed the connection'
  return code ?? String(error)
}

/** The error for a body that broke off: `got` of `expected` bytes had come. */
export function brokenBodyError(
  error: unknown,
  what: string,
  got: number,
  expected: number | undefined,
  idleMs: number,
): DarnerError {
  const of = expected === undefined ? '' : ` of ${expected}`
  if (failureCode(error) === 'UND_ERR_BODY_TIMEOUT') {
    return new DarnerError('TIMED_OUT', `${what}: nothing came for ${idleMs} ms after ${got}${of} bytes`, {
      cause: error,
      details: { got, expected },
    })
  }
  return new DarnerError(
    'ORIGIN_TRUNCATED',
    `${what}: the body ended after ${got}${of} bytes (${failureCode(error) ?? 'connection lost'})`,
    {
      cause: error,
      details: { got, expected },
    },
  )
}
