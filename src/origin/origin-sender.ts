/** One request to an origin with the rights that it takes: challenges of the host that was asked are answered, of no other. */
import type { Readable } from 'node:stream'
import type { Clock } from '../core/clock.ts'
import type { DarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { isPage } from '../oci/media-types.ts'
import type { OriginAsk } from './origin-ask.ts'
import { MAX_SAID_CHARS, refusalError } from './origin-errors.ts'
import { askName, type HttpAnswer, type HttpAsk, OriginHttp, type OriginHttpOptions } from './origin-http.ts'
import { secretsOf, TokenAuth, type TokenAuthOptions } from './token-auth.ts'

/** How often one call answers a 401: a kept token that has ended, then one that was refused at once. */
const MAX_RENEWALS = 2

/** Like {@link OriginAsk}, of any method; a body is made anew for each time that it is sent. */
export interface SenderAsk extends Omit<OriginAsk, 'method'> {
  readonly method: HttpAsk['method']
  readonly body?: () => string | Readable
}

/** Owns its connections and tokens; dispose it to end what is under way. */
export class OriginSender implements AsyncDisposable {
  readonly #http: OriginHttp
  readonly #auth: TokenAuth
  readonly #clock: Clock
  readonly #log: Log

  constructor(options: OriginHttpOptions & TokenAuthOptions, parts: { log: Log; clock: Clock }) {
    this.#http = new OriginHttp(options)
    this.#auth = new TokenAuth(options, { http: this.#http, ...parts })
    this.#clock = parts.clock
    this.#log = parts.log
  }

  /** An answer of one of the `wanted` statuses; any other throws the origin's refusal. */
  async accept(ask: SenderAsk, wanted: readonly number[]): Promise<HttpAnswer> {
    const answer = await this.send(ask)
    if (wanted.includes(answer.status)) return answer
    throw await this.refusal(ask, answer)
  }

  /** The answer, whatever its status. Throws what asking and getting a token throw. */
  async send(ask: SenderAsk): Promise<HttpAnswer> {
    const { signal, method, url } = ask
    const began = this.#clock.monotonicMs()
    let authorization = await this.#auth.first(ask, { signal })
    for (let renewals = 0; ; renewals++) {
      const secretHeaders = authorization === undefined ? ask.secretHeaders : { ...ask.secretHeaders, authorization }
      const body = ask.body?.()
      const answer = await this.#http.ask({
        method,
        url,
        purpose: 'origin',
        headers: ask.headers,
        secretHeaders,
        ...(body === undefined ? {} : { body }),
        signal,
      })
      const { status, crossed } = answer
      this.#log.debug(
        {
          origin: askName(method, url),
          status,
          redirected: crossed,
          ms: Math.round(this.#clock.monotonicMs() - began),
        },
        'origin answered',
      )
      const page = authorization === undefined && ask.credential !== undefined && isPage(answer.header('content-type'))
      if (((status !== 401 || crossed) && !page) || renewals === MAX_RENEWALS) return answer
      let next: string | undefined
      try {
        const challenge = page ? await this.#challenge(ask) : answer.header('www-authenticate')
        next = await this.#auth.next(ask, challenge, authorization, { signal })
      } catch (error) {
        await answer[Symbol.asyncDispose]()
        throw error
      }
      if (next === undefined) return answer
      await answer.discard()
      authorization = next
    }
  }

  /** A registry that shows strangers a page says at its root what it wants (distribution-spec, "Determining Support"). */
  async #challenge({ url, repository, signal }: SenderAsk): Promise<string | undefined> {
    const at = url.pathname.indexOf(`/v2/${repository}/`)
    if (repository === undefined || at < 0) return undefined
    const root = new URL(`${url.pathname.slice(0, at)}/v2/`, url.origin)
    const ask = { method: 'GET', url: root, purpose: 'origin', headers: {}, secretHeaders: {}, signal } as const
    await using answer = await this.#http.ask(ask)
    await answer.discard()
    return answer.status === 401 && !answer.crossed ? answer.header('www-authenticate') : undefined
  }

  /** What an answer refuses, as an error; the answer is closed. */
  async refusal(ask: SenderAsk, answer: HttpAnswer): Promise<DarnerError> {
    await using refused = answer
    const body = await refused.text(MAX_SAID_CHARS * 8)
    ask.signal.throwIfAborted()
    return refusalError(
      {
        what: askName(ask.method, ask.url),
        host: refused.url.host,
        proxy: refused.proxy,
        repository: ask.repository,
        status: refused.status,
        body,
        contentType: refused.header('content-type') ?? '',
        retryAfter: refused.header('retry-after'),
        challenge: refused.header('www-authenticate'),
        secrets: [...secretsOf(ask.credential), ...Object.values(ask.secretHeaders)],
      },
      this.#clock.now(),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#auth.close()
    await this.#http[Symbol.asyncDispose]()
  }
}
