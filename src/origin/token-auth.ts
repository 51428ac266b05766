/**
 * Rights at a registry (distribution token spec; RFC 7617). It learns from 401 answers what the registry wants, and gets tokens. It keeps
 * each for one (upstream, repository, credential) until shortly before it expires. Concurrent callers share one request. Secrets live in
 * memory only and go to the upstream or to the token server that it names.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { Clock } from '../core/clock.ts'
import { DarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { abortable, withDeadline } from '../core/signals.ts'
import type { Credential } from '../core/task/origin.ts'
import { type Challenge, parseChallenges } from './auth-challenge.ts'
import { refusalError } from './origin-errors.ts'
import { askName, type OriginHttp } from './origin-http.ts'

export interface TokenAuthOptions {
  /** Longest wait for a token. */
  readonly tokenMs: number
  /** How long before its end a token is not used any more; a fifth of its life when that is shorter. */
  readonly tokenMarginMs: number
}

/** The caller, and what it asks of which registry. */
export interface Asker {
  readonly url: URL
  /** Undefined for plain URLs, which know no tokens. */
  readonly repository: string | undefined
  readonly credential: Credential | undefined
}

interface Bearer {
  readonly kind: 'bearer'
  readonly realm: URL
  readonly service: string | undefined
  readonly scope: string
}

interface Known {
  readonly way: Bearer | { readonly kind: 'basic' }
  token?: { readonly value: string; readonly untilMs: number }
}

/** Most (upstream, repository, credential) triples that are remembered. */
const MAX_KNOWN = 4096
/** Life of a token whose server names none (token spec, "Token Response Fields"). */
const DEFAULT_TOKEN_SECONDS = 60
const MAX_TOKEN_ANSWER_BYTES = 128 * 1024
const MAX_SCOPES = 16

export class TokenAuth {
  readonly #options: TokenAuthOptions
  readonly #http: OriginHttp
  readonly #clock: Clock
  readonly #log: Log
  readonly #known = new Map<string, Known>()
  readonly #asking = new Map<string, Promise<string>>()
  readonly #salt = randomBytes(32)
  readonly #closed = new AbortController()

  constructor(options: TokenAuthOptions, parts: { http: OriginHttp; clock: Clock; log: Log }) {
    this.#options = options
    this.#http = parts.http
    this.#clock = parts.clock
    this.#log = parts.log
  }

  /** The `Authorization` value to begin with; undefined to ask without and see. Throws what getting a token throws. */
  async first(asker: Asker, { signal }: { signal: AbortSignal }): Promise<string | undefined> {
    const { credential } = asker
    if (credential?.kind === 'header' && basicOf(credential) === undefined) return credential.value
    if (asker.repository === undefined) return basicHeader(credential)
    const key = this.#key(asker)
    const known = this.#known.get(key)
    if (known === undefined) return undefined
    if (known.way.kind === 'basic') return basicHeader(credential)
    if (known.token !== undefined && this.#clock.monotonicMs() < known.token.untilMs)
      return `Bearer ${known.token.value}`
    return `Bearer ${await this.#token(key, known, known.way, asker, signal)}`
  }

  /**
   * The next `Authorization` value after a 401 whose `WWW-Authenticate` was `header`, `sent` having been refused; undefined
   * when nothing better is known. Throws ORIGIN_UNAUTHORIZED, ORIGIN_FORBIDDEN and others from asking the token server.
   */
  async next(
    asker: Asker,
    header: string | undefined,
    sent: string | undefined,
    { signal }: { signal: AbortSignal },
  ): Promise<string | undefined> {
    const { credential } = asker
    // a token that the client brought is the client's to renew
    if (asker.repository === undefined || (credential?.kind === 'header' && basicOf(credential) === undefined))
      return undefined
    const challenges = parseChallenges(header ?? '')
    const key = this.#key(asker)
    const bearer = challenges.find((one) => one.scheme === 'bearer' && one.parameters.has('realm'))
    if (bearer !== undefined) {
      if (sent?.startsWith('Bearer ') && bearer.parameters.get('error') === 'insufficient_scope') return undefined
      const way = this.#bearerOf(bearer, asker, asker.repository)
      const before = this.#known.get(key)
      const same =
        before?.way.kind === 'bearer' && before.way.realm.href === way.realm.href && before.way.scope === way.scope
      const known: Known = same && before !== undefined ? before : { way }
      if (known.token !== undefined && `Bearer ${known.token.value}` === sent) delete known.token
      this.#remember(key, known)
      return `Bearer ${known.token?.value ?? (await this.#token(key, known, way, asker, signal))}`
    }
    if (!challenges.some((one) => one.scheme === 'basic')) return undefined
    const basic = basicHeader(credential)
    if (basic === undefined || basic === sent) return undefined
    this.#remember(key, { way: { kind: 'basic' } })
    return basic
  }

  close(): void {
    this.#closed.abort(new DarnerError('CLOSED', 'origin client is closed'))
  }

  #key({ url, repository, credential }: Asker): string {
    const who =
      credential === undefined ? '' : createHmac('sha256', this.#salt).update(JSON.stringify(credential)).digest('hex')
    return `${url.origin}\n${repository}\n${who}`
  }

  #remember(key: string, known: Known): void {
    this.#known.delete(key)
    this.#known.set(key, known)
    if (this.#known.size <= MAX_KNOWN) return
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest)
      return
    }
  }

  #bearerOf(challenge: Challenge, asker: Asker, repository: string): Bearer {
    const text = challenge.parameters.get('realm') ?? ''
    const realm = URL.canParse(text) ? new URL(text) : undefined
    const what = askName('GET', asker.url)
    if (realm === undefined || (realm.protocol !== 'https:' && realm.protocol !== 'http:')) {
      throw new DarnerError('ORIGIN_FAILED', `${what}: ${asker.url.host} named an unreadable token server`)
    }
    if (asker.url.protocol === 'https:' && realm.protocol === 'http:') {
      throw new DarnerError(
        'ORIGIN_FORBIDDEN',
        `${what}: ${asker.url.host} named a token server without TLS, ${realm.host}`,
        {
          details: { host: asker.url.host, realm: realm.host },
        },
      )
    }
    return {
      kind: 'bearer',
      realm,
      service: challenge.parameters.get('service'),
      scope: challenge.parameters.get('scope') ?? `repository:${repository}:pull`,
    }
  }

  /** A fresh token, one request for all concurrent callers. A waiter's abort ends its own wait only. */
  #token(key: string, known: Known, way: Bearer, asker: Asker, signal: AbortSignal): Promise<string> {
    const flight = `${key}\n${way.realm.href}\n${way.service}\n${way.scope}`
    let asking = this.#asking.get(flight)
    if (asking === undefined) {
      asking = this.#flight(flight, key, known, way, asker)
      this.#asking.set(flight, asking)
      // every waiter may have left by abort; the failure is then nobody's
      asking.catch(() => {})
    }
    return abortable(asking, signal)
  }

  async #flight(flight: string, key: string, known: Known, way: Bearer, asker: Asker): Promise<string> {
    try {
      return await this.#fetch(known, way, asker)
    } catch (error) {
      // the registry may name another token server by now: the next request asks it again
      if (this.#known.get(key) === known) this.#known.delete(key)
      throw error
    } finally {
      this.#asking.delete(flight)
    }
  }

  async #fetch(known: Known, way: Bearer, asker: Asker): Promise<string> {
    const signal = withDeadline(this.#closed.signal, this.#options.tokenMs)
    const { credential, repository } = asker
    const refresh = credential?.kind === 'refresh' ? credential.token : undefined
    const basic = basicHeader(credential)
    const url = new URL(way.realm)
    const scopes = way.scope
      .split(' ')
      .filter((one) => one !== '')
      .slice(0, MAX_SCOPES)
    const begun = this.#clock.monotonicMs()
    if (refresh === undefined) {
      if (way.service !== undefined) url.searchParams.set('service', way.service)
      for (const scope of scopes) url.searchParams.append('scope', scope)
      if (basic !== undefined) url.searchParams.set('account', userOf(basic))
    }
    const form = new URLSearchParams({
      grant_type: 'refresh_token',
      client_id: 'darner',
      scope: scopes.join(' '),
      refresh_token: refresh ?? '',
    })
    if (way.service !== undefined) form.set('service', way.service)
    await using answer = await this.#http.ask({
      method: refresh === undefined ? 'GET' : 'POST',
      url,
      purpose: 'token',
      headers: {
        accept: 'application/json',
        ...(refresh === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
      },
      secretHeaders: basic === undefined ? {} : { authorization: basic },
      ...(refresh === undefined ? {} : { body: form.toString() }),
      signal,
    })
    const body = await answer.text(MAX_TOKEN_ANSWER_BYTES)
    const what = `token from ${askName(refresh === undefined ? 'GET' : 'POST', url)}`
    if (answer.status !== 200) {
      const status = answer.status === 400 ? 401 : answer.status
      throw refusalError(
        {
          what: `${what} for ${asker.url.host}`,
          host: asker.url.host,
          proxy: answer.proxy,
          repository,
          status,
          body,
          contentType: answer.header('content-type') ?? '',
          retryAfter: answer.header('retry-after'),
          secrets: secretsOf(credential),
        },
        this.#clock.now(),
      )
    }
    const { value, seconds } = readToken(body, what)
    const lifeMs = seconds * 1000
    known.token = { value, untilMs: begun + lifeMs - Math.min(this.#options.tokenMarginMs, lifeMs / 5) }
    this.#log.debug({ upstream: asker.url.host, realm: way.realm.host, scope: way.scope, seconds }, 'token obtained')
    return value
  }
}

/** The texts that a message must never show. */
export function secretsOf(credential: Credential | undefined): string[] {
  if (credential === undefined) return []
  if (credential.kind === 'refresh') return [credential.token]
  if (credential.kind === 'query') return [credential.value, ...new URLSearchParams(credential.value).values()]
  if (credential.kind === 'header')
    return [credential.value, credential.value.replace(/^\S+\s+/, ''), basicOf(credential)?.password ?? '']
  return [credential.password, (basicHeader(credential) ?? '').slice('Basic '.length)]
}

function readToken(body: string, what: string): { value: string; seconds: number } {
  let json: Record<string, unknown> = {}
  try {
    const parsed: unknown = JSON.parse(body)
    if (typeof parsed === 'object' && parsed !== null) json = parsed as Record<string, unknown>
  } catch (error) {
    throw new DarnerError('ORIGIN_FAILED', `${what}: the answer is not JSON`, {
      cause: error instanceof SyntaxError ? undefined : error,
    })
  }
  const value = json.token || json.access_token
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value))
    throw new DarnerError('ORIGIN_FAILED', `${what}: the answer holds no token`)
  const seconds = Number(json.expires_in)
  return { value, seconds: Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 86_400) : DEFAULT_TOKEN_SECONDS }
}

function basicOf(
  credential: Extract<Credential, { kind: 'header' }>,
): { username: string; password: string } | undefined {
  const encoded = /^basic\s+([A-Za-z0-9+/=_-]+)\s*$/i.exec(credential.value)?.[1]
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const colon = text.indexOf(':')
  return colon < 0 ? undefined : { username: text.slice(0, colon), password: text.slice(colon + 1) }
}

function basicHeader(credential: Credential | undefined): string | undefined {
  const pair =
    credential?.kind === 'basic' ? credential : credential?.kind === 'header' ? basicOf(credential) : undefined
  return pair === undefined ? undefined : `Basic ${Buffer.from(`${pair.username}:${pair.password}`).toString('base64')}`
}

function userOf(basic: string): string {
  const text = Buffer.from(basic.slice('Basic '.length), 'base64').toString('utf8')
  return text.slice(0, text.indexOf(':'))
}
