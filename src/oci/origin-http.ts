/** One HTTP request to an origin: deadlines, TLS per host, redirects under a guard, and secrets that stay with their host. */
import { lookup as systemLookup } from 'node:dns'
import { isIP } from 'node:net'
import type { Readable } from 'node:stream'
import { getCACertificates } from 'node:tls'
import { Agent, type Dispatcher, ProxyAgent, request } from 'undici'
import { DarnerError } from '../base/errors.ts'
import { abortable } from '../base/signals.ts'
import { unansweredError } from './origin-errors.ts'
import { ReadBuffers } from './read-buffers.ts'

/** How to speak TLS with one host. All in PEM. */
export interface HostTls {
  /** Trusted besides the system's. */
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  /** Takes any certificate. */
  readonly insecure?: boolean
}

/** Why a URL is about to be asked. */
export type UrlPurpose = 'origin' | 'redirect' | 'token'

export interface OriginHttpOptions {
  readonly connectMs: number
  /** From sending a request to the answer's head. */
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
  /** The proxy to ask a URL through, as a URL itself; then it is the proxy that resolves names, and only literal addresses are guarded. */
  readonly proxy?: (url: URL) => string | undefined
  /** Guards every URL, each redirect and token server included. False ends the request with ORIGIN_FORBIDDEN. */
  readonly allow?: (url: URL, purpose: UrlPurpose) => boolean | Promise<boolean>
  /** Guards every address that is connected to, after names were resolved. False ends the request with ORIGIN_FORBIDDEN. */
  readonly allowAddress?: (address: string, hostname: string) => boolean
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

  async [Symbol.asyncDispose](): Promise<void> {
    const agents = [...this.#agents.values()]
    this.#agents.clear()
    // a connection that is just being made ends at its own deadline, which is not waited for
    const over = Promise.all(agents.map((agent) => agent.destroy()))
    await abortable(over, AbortSignal.timeout(CLOSE_MS)).catch(() => {})
  }

  async #guard(url: URL, purpose: UrlPurpose, ask: HttpAsk): Promise<void> {
    const { allow, allowAddress } = this.#options
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
        ...(ask.body === undefined ? {} : { body: ask.body }),
      })
      // while a connection is being made, the client doesn't look at the signal
      const data = await abortable(asking, signal).catch((error: unknown) => {
        asking.then((late) => late.body.on('error', () => {}).destroy()).catch(() => {})
        throw error
      })
      // whoever reads the body is told; while nobody does, a broken connection is no failure of ours
      data.body.on('error', () => {})
      return new Answer(data, url, crossed, this.#buffers)
    } catch (error) {
      signal.throwIfAborted()
      const through = proxy === undefined ? '' : ` through the proxy ${new URL(proxy).host}`
      throw unansweredError(error, askName(method, url), `${addressOf(url)}${through}`, this.#options.firstByteMs)
    }
  }

  #agentFor(url: URL, proxy: string | undefined): Dispatcher {
    const { hosts, tls } = this.#options
    const host = [url.host, addressOf(url), url.hostname].find((one) => Object.hasOwn(hosts, one))
    const key = `${host ?? ''} ${proxy ?? ''}`
    let agent = this.#agents.get(key)
    if (agent === undefined) {
      agent = this.#open((host === undefined ? tls : hosts[host]) ?? {}, proxy)
      this.#agents.set(key, agent)
    }
    return agent
  }

  #open(tls: HostTls, proxy: string | undefined): Dispatcher {
    const { connectMs, firstByteMs, idleMs, connectionsPerHost, allowAddress } = this.#options
    const options = {
      connections: connectionsPerHost,
      pipelining: 1,
      headersTimeout: firstByteMs,
      bodyTimeout: idleMs,
    }
    const connect = {
      timeout: connectMs,
      ...(tls.ca === undefined ? {} : { ca: [...getCACertificates('default'), tls.ca] }),
      ...(tls.cert === undefined ? {} : { cert: tls.cert }),
      ...(tls.key === undefined ? {} : { key: tls.key }),
      ...(tls.insecure === true ? { rejectUnauthorized: false } : {}),
    }
    if (proxy !== undefined)
      return new ProxyAgent({
        ...options,
        uri: proxy,
        proxyTunnel: false,
        requestTls: connect,
        connectTimeout: connectMs,
      })
    const guard = allowAddress === undefined ? {} : { lookup: guardedLookup(allowAddress) }
    // not in undici's types, which hands it on to the socket
    const ahead = { highWaterMark: READ_AHEAD_BYTES, onread: this.#buffers.onread }
    // HTTP/2 would hold a fast reader back by its windows, and put all reads of a host on one connection
    return new Agent({ ...options, allowH2: false, connect: { ...connect, ...guard, ...ahead } })
  }
}

/** Resolves as the system does, then refuses a name that leads to an address that may not be asked. */
function guardedLookup(allowAddress: (address: string, hostname: string) => boolean): typeof systemLookup {
  const lookup = (hostname: string, options: object, callback: (error: Error | null, ...found: unknown[]) => void) => {
    systemLookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return callback(error)
      const bad = found.find((one) => !allowAddress(one.address, hostname))
      if (bad !== undefined) {
        return callback(
          new DarnerError('ORIGIN_FORBIDDEN', `connect to ${hostname}: its address ${bad.address} may not be asked`, {
            details: { host: hostname },
          }),
        )
      }
      if ('all' in options && options.all === true) return callback(null, found)
      callback(null, found[0]?.address, found[0]?.family)
    })
  }
  return lookup as unknown as typeof systemLookup
}

class Answer implements HttpAnswer {
  readonly status: number
  readonly url: URL
  readonly crossed: boolean
  readonly body: Dispatcher.ResponseData['body']
  readonly #headers: Dispatcher.ResponseData['headers']
  readonly #buffers: ReadBuffers

  constructor(data: Dispatcher.ResponseData, url: URL, crossed: boolean, buffers: ReadBuffers) {
    this.status = data.statusCode
    this.url = url
    this.crossed = crossed
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
