/** One HTTP request to an origin: deadlines, TLS per host, redirects under a guard, and secrets that stay with their host. */
import { isIP } from 'node:net'
import type { Duplex, Readable } from 'node:stream'
import { Agent, type Dispatcher, request } from 'undici'
import { DarnerError } from '../core/errors.ts'
import type { HostPort } from '../core/host-port.ts'
import { abortable } from '../core/signals.ts'
import {
  type AllowAddress,
  connectOptions,
  guardedLookup,
  type HostTls,
  openProxy,
  openStraight,
  openTunnel,
  type ProxyWay,
} from './origin-connect.ts'
import { unansweredError } from './origin-errors.ts'
import { ReadBuffers } from './read-buffers.ts'

/** Why a URL is about to be asked. */
export type UrlPurpose = 'origin' | 'redirect' | 'token'

export interface OriginHttpOptions {
  readonly connectMs: number
  /** From sending a request to the answer's head; what is written may take longer. */
  readonly firstByteMs: number
  /** Longest silence within a body, while the reader is willing. */
  readonly idleMs: number
  readonly maxRedirects: number
  readonly connectionsPerHost: number
  readonly userAgent: string
  /** TLS by `host:port`, or by host name alone. */
  readonly hosts: Readonly<Record<string, HostTls>>
  /** TLS of hosts that `hosts` doesn't name. */
  readonly tls?: HostTls
  /** The proxy to ask a URL through, as a URL itself. The proxy then resolves names, so only names and literal addresses are guarded. */
  readonly proxy?: (url: URL) => string | undefined
  /** What a person can do where the proxy fails. */
  readonly proxyWay?: string
  /** Guards every URL, each redirect and token server included. False ends the request with ORIGIN_FORBIDDEN. */
  readonly allow?: (url: URL, purpose: UrlPurpose) => boolean | Promise<boolean>
  /** Guards every address that is connected to, after names were resolved. False ends the request with ORIGIN_FORBIDDEN. */
  readonly allowAddress?: AllowAddress
  /** Guards every name before it is resolved, here or by a proxy. False ends the request with ORIGIN_FORBIDDEN. */
  readonly allowName?: (hostname: string) => boolean
}

export interface HttpAsk {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  readonly url: URL
  readonly purpose: UrlPurpose
  readonly headers: Readonly<Record<string, string>>
  /** Sent to the host of `url` only, and dropped at the first redirect away from it. */
  readonly secretHeaders: Readonly<Record<string, string>>
  readonly body?: string | Readable
  readonly signal: AbortSignal
}

/** An answer whose body has not been read. Closing it ends the connection unless the body was read whole. */
export interface HttpAnswer extends AsyncDisposable {
  readonly status: number
  /** Where the answer came from. */
  readonly url: URL
  /** True when a redirect left the host that was asked. */
  readonly crossed: boolean
  /** HOST:PORT of the proxy that it came through. */
  readonly proxy: string | undefined
  readonly body: Dispatcher.ResponseData['body']
  /** A chunk of the body isn't needed any more by anybody: its memory may be used again. Need not be said. */
  done(chunk: Uint8Array): void
  /** A header's value; several values are joined as HTTP has it. */
  header(name: string): string | undefined
  /** A header's values, each as it came. */
  values(name: string): string[]
  /** At most `limit` bytes of the body; the rest is thrown away. */
  text(limit: number): Promise<string>
  /** Throws the body away; a short one leaves the connection usable. */
  discard(): Promise<void>
}

/**
 * A registry, object stores above all, may move and hash a whole layer before it answers. This is as long as distribution's own recipe for
 * nginx allows.
 */
const STORED_MS = 900_000
const REDIRECTS = new Set([301, 302, 303, 307, 308])
/** What is read off a redirect's body to keep its connection. */
const DUMP_BYTES = 16 * 1024
/** What a connection reads before its reader asks for it. */
const READ_AHEAD_BYTES = 256 * 1024
/** Longest wait for connections to end. */
const CLOSE_MS = 500
/** Longest wait for the text of a refusal. */
const TEXT_MS = 5000

/** What to call a request in messages and logs: no query, no user info. */
export function askName(method: string, url: URL): string {
  return `${method} ${url.protocol}//${url.host}${url.pathname.slice(0, 512)}`
}

/** host:port, the port filled in. */
export function addressOf(url: URL): string {
  return `${url.hostname}:${url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port}`
}

export class OriginHttp implements AsyncDisposable {
  readonly #options: OriginHttpOptions
  readonly #agents = new Map<string, Dispatcher>()
  readonly #buffers = new ReadBuffers()

  constructor(options: OriginHttpOptions) {
    this.#options = options
  }

  /**
   * The final answer, whatever its status. Throws ORIGIN_FORBIDDEN, ORIGIN_UNREACHABLE, TIMED_OUT, ORIGIN_FAILED (too many
   * redirects, no HTTP), BAD_ARGUMENT, or the signal's reason.
   */
  async ask(ask: HttpAsk): Promise<HttpAnswer> {
    let url = ask.url
    let crossed = false
    for (let hop = 0; ; hop++) {
      await this.#guard(url, hop === 0 ? ask.purpose : 'redirect', ask)
      const answer = await this.#once(ask, url, crossed)
      const location = answer.header('location')
      if (!REDIRECTS.has(answer.status) || location === undefined) return answer
      await answer.discard()
      if (ask.method !== 'GET' && ask.method !== 'HEAD')
        throw new DarnerError(
          'ORIGIN_FAILED',
          `${askName(ask.method, url)}: ${url.host} answered a redirect to a ${ask.method}`,
        )
      if (hop >= this.#options.maxRedirects) {
        throw new DarnerError(
          'ORIGIN_FAILED',
          `${askName(ask.method, ask.url)}: redirected more than ${this.#options.maxRedirects} times`,
          {
            details: { host: ask.url.host, status: answer.status },
          },
        )
      }
      const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined
      if (next === undefined)
        throw new DarnerError('ORIGIN_FAILED', `${askName(ask.method, url)}: redirected to an unreadable URL`)
      crossed ||= next.origin !== ask.url.origin
      url = next
    }
  }

  /** A connection on which somebody else speaks with a host, under the same guard and through the same proxy. Throws as `ask` does. */
  async connect({ host, port }: HostPort, { signal }: { signal: AbortSignal }): Promise<Duplex> {
    const url = new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}`)
    await this.#guard(url, 'origin', { method: 'CONNECT', url })
    const proxy = this.#options.proxy?.(url)
    try {
      const { allowAddress } = this.#options
      if (proxy === undefined) return await openStraight({ host, port }, allowAddress, { signal })
      return await openTunnel(this.#proxyWay(proxy), addressOf(url), { signal })
    } catch (error) {
      signal.throwIfAborted()
      throw this.#unanswered(error, 'CONNECT', url, proxy)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const agents = [...this.#agents.values()]
    this.#agents.clear()
    // a connection that is just being made ends at its own deadline, which is not waited for
    const over = Promise.all(agents.map((agent) => agent.destroy()))
    await abortable(over, AbortSignal.timeout(CLOSE_MS)).catch(() => {})
  }

  async #guard(url: URL, purpose: UrlPurpose, ask: { method: string; url: URL }): Promise<void> {
    const { allow, allowAddress, allowName } = this.#options
    const from = purpose === 'redirect' ? `${askName(ask.method, ask.url)}: redirected to ` : ''
    const refuse = (why: string) =>
      new DarnerError('ORIGIN_FORBIDDEN', `${from}${askName(ask.method, url)}: ${why}`, {
        details: { host: url.host, purpose },
      })
    if (url.protocol !== 'https:' && url.protocol !== 'http:') throw refuse('neither http nor https')
    if (allow !== undefined && !(await allow(url, purpose))) throw refuse('this host may not be asked')
    const literal = url.hostname.replace(/^\[|\]$/g, '')
    if (isIP(literal) !== 0 && allowAddress !== undefined && !allowAddress(literal, url.hostname))
      throw refuse('this address may not be asked')
    if (allowName !== undefined && !allowName(url.hostname)) throw refuse('this name may not be asked')
  }

  async #once(ask: HttpAsk, url: URL, crossed: boolean): Promise<HttpAnswer> {
    const { signal, method } = ask
    signal.throwIfAborted()
    const proxy = this.#options.proxy?.(url)
    const headers = { 'user-agent': this.#options.userAgent, ...ask.headers, ...(crossed ? {} : ask.secretHeaders) }
    try {
      const asking = request(url, {
        dispatcher: this.#agentFor(url, proxy),
        method,
        headers,
        signal,
        headersTimeout: this.#answerMs(method),
        ...(ask.body === undefined ? {} : { body: ask.body }),
      })
      // while a connection is being made, the client doesn't look at the signal
      const data = await abortable(asking, signal).catch((error: unknown) => {
        asking.then((late) => late.body.on('error', () => {}).destroy()).catch(() => {})
        throw error
      })
      // the body's reader gets the failure; while nobody reads, a broken connection is no failure of ours
      data.body.on('error', () => {})
      return new Answer(data, { url, crossed, proxy: proxyName(proxy), buffers: this.#buffers })
    } catch (error) {
      signal.throwIfAborted()
      throw this.#unanswered(error, method, url, proxy)
    }
  }

  #unanswered(error: unknown, method: string, url: URL, proxy: string | undefined): DarnerError {
    const { proxyWay } = this.#options
    const firstByteMs = this.#answerMs(method)
    const name = proxyName(proxy)
    const through = name === undefined ? undefined : { name, way: proxyWay }
    return unansweredError(error, askName(method, url), { address: addressOf(url), firstByteMs, proxy: through })
  }

  #answerMs(method: string): number {
    const { firstByteMs } = this.#options
    return method === 'PUT' || method === 'PATCH' ? Math.max(firstByteMs, STORED_MS) : firstByteMs
  }

  #agentFor(url: URL, proxy: string | undefined): Dispatcher {
    const host = this.#hostOf(url)
    const key = `${host ?? ''} ${proxy ?? ''}`
    let agent = this.#agents.get(key)
    if (agent === undefined) {
      agent = this.#open((host === undefined ? this.#options.tls : this.#options.hosts[host]) ?? {}, proxy)
      this.#agents.set(key, agent)
    }
    return agent
  }

  /** The name under which a host has TLS settings of its own. */
  #hostOf(url: URL): string | undefined {
    return [url.host, addressOf(url), url.hostname].find((one) => Object.hasOwn(this.#options.hosts, one))
  }

  #proxyWay(proxy: string): ProxyWay {
    const host = this.#hostOf(new URL(proxy))
    const tls = host === undefined ? undefined : this.#options.hosts[host]
    return { url: proxy, tls: tls ?? {}, connectMs: this.#options.connectMs }
  }

  #open(tls: HostTls, proxy: string | undefined): Dispatcher {
    const { connectMs, firstByteMs, idleMs, connectionsPerHost, allowAddress } = this.#options
    const options = {
      connections: connectionsPerHost,
      pipelining: 1,
      headersTimeout: firstByteMs,
      bodyTimeout: idleMs,
    }
    if (proxy !== undefined) return openProxy(this.#proxyWay(proxy), options, tls)
    const guard = allowAddress === undefined ? {} : { lookup: guardedLookup(allowAddress) }
    // not in undici's types, which hands it on to the socket
    const ahead = { highWaterMark: READ_AHEAD_BYTES, onread: this.#buffers.onread }
    const connect = { ...connectOptions(tls, connectMs), ...guard, ...ahead }
    return new Agent({ ...options, allowH2: false, connect })
  }
}

/** HOST:PORT: whatever is said about a proxy, its credentials are no part of it. */
export function proxyName(proxy: string | undefined): string | undefined {
  return proxy === undefined ? undefined : new URL(proxy).host
}

class Answer implements HttpAnswer {
  readonly status: number
  readonly url: URL
  readonly crossed: boolean
  readonly proxy: string | undefined
  readonly body: Dispatcher.ResponseData['body']
  readonly #headers: Dispatcher.ResponseData['headers']
  readonly #buffers: ReadBuffers

  constructor(
    data: Dispatcher.ResponseData,
    { url, crossed, proxy, buffers }: { url: URL; crossed: boolean; proxy: string | undefined; buffers: ReadBuffers },
  ) {
    this.status = data.statusCode
    this.url = url
    this.crossed = crossed
    this.proxy = proxy
    this.body = data.body
    this.#headers = data.headers
    this.#buffers = buffers
  }

  done(chunk: Uint8Array): void {
    this.#buffers.done(chunk)
  }

  header(name: string): string | undefined {
    const value = this.#headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  values(name: string): string[] {
    const value = this.#headers[name]
    return value === undefined ? [] : Array.isArray(value) ? value : [value]
  }

  async text(limit: number): Promise<string> {
    const chunks: Buffer[] = []
    let bytes = 0
    const timer = setTimeout(() => this.body.destroy(), TEXT_MS)
    try {
      for await (const chunk of this.body) {
        chunks.push(chunk)
        bytes += chunk.byteLength
        if (bytes >= limit) break
      }
    } catch {
      // ORIGIN_TRUNCATED: a refusal whose text broke off is still that refusal
    } finally {
      clearTimeout(timer)
    }
    return Buffer.concat(chunks).subarray(0, limit).toString('utf8')
  }

  async discard(): Promise<void> {
    const length = this.header('content-length')
    const timer = setTimeout(() => this.body.destroy(), TEXT_MS)
    try {
      if (length !== undefined && Number(length) > DUMP_BYTES) this.body.destroy()
      else await this.body.dump({ limit: DUMP_BYTES })
    } catch {
      // ORIGIN_TRUNCATED: nobody wants this body
    } finally {
      clearTimeout(timer)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.body.readableEnded) this.body.destroy()
  }
}
