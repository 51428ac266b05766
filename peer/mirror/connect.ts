/**
 * CONNECT, for clients that know a proxy and no mirrors: to registries on the list only. Their bytes pass unread (`tunnel`), or the mirror
 * answers in the registry's place with a certificate of its own authority (`intercept`). Then blobs come from the swarm.
 */

import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createSecureContext, type SecureContext, TLSSocket } from 'node:tls'
import { LRUCache } from 'lru-cache'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import type { HostPort } from '../../src/core/host-port.ts'
import type { Log } from '../../src/core/log.ts'
import { withDeadline } from '../../src/core/signals.ts'
import { upTo } from '../../src/core/up-to.ts'
import { lastWords } from './answer.ts'
import type { Authority } from './authority.ts'
import type { Upstream, Upstreams } from './upstreams.ts'

export type ConnectMode = 'off' | 'tunnel' | 'intercept'

export interface ConnectsParts {
  readonly upstreams: Upstreams
  /** Present for `intercept`. */
  readonly authority: Authority | undefined
  /** Connects to a host as its requests are sent: through the proxy where there is one, under the guard of addresses. */
  readonly connect: (target: HostPort, options: { signal: AbortSignal }) => Promise<Duplex>
  readonly log: Log
  /** Serves HTTP on a connection whose client takes us for that registry; its handshake may still be to come. */
  readonly serve: (socket: Socket, upstream: Upstream) => void
}

const DIAL_MS = 10_000
const IDLE_MS = 5 * 60_000
const MAX_TUNNELS = 1024
/** Token servers that registries on the list have named. */
const MAX_REALMS = 256

export class Connects {
  readonly #mode: ConnectMode
  readonly #parts: ConnectsParts
  readonly #contexts = new Map<string, Promise<SecureContext>>()
  readonly #realms = new LRUCache<string, true>(upTo(MAX_REALMS))
  readonly #sockets = new Set<Socket>()

  constructor(mode: ConnectMode, parts: ConnectsParts) {
    this.#mode = mode
    this.#parts = parts
  }

  /** A registry's challenge was passed on: its client is about to ask the token server that it names. */
  challenged(challenge: string | undefined): void {
    if (this.#mode !== 'intercept' || challenge === undefined) return
    const realm = /\brealm="(https:\/\/[^"\s]{1,500})"/.exec(challenge)?.[1]
    if (realm === undefined || !URL.canParse(realm)) return
    const { hostname, port } = new URL(realm)
    this.#realms.set(`${hostname}:${port === '' ? 443 : port}`, true)
  }

  /** Answers one CONNECT; `head` is what the client sent behind it already. Never throws. */
  take(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const named = (request.url ?? '').slice(0, 300)
    const refuse = (status: string, why: string) => {
      this.#parts.log.warn({ target: named, why }, 'mirror refused CONNECT')
      lastWords(socket, `HTTP/1.1 ${status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`)
    }
    socket.on('error', () => socket.destroy())
    const judged = this.#judge(named)
    if ('status' in judged) {
      refuse(judged.status, judged.why)
      return
    }
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    if (head.byteLength > 0) socket.unshift(head)
    const { target, upstream } = judged
    const { authority } = this.#parts
    if (upstream !== undefined && authority !== undefined) void this.#intercept(target, socket, upstream, authority)
    else void this.#tunnel(upstream === undefined ? target : hostOf(upstream), { named, socket, refuse })
  }

  #judge(named: string): { target: HostPort; upstream: Upstream | undefined } | { status: string; why: string } {
    if (this.#mode === 'off') return { status: '405 Method Not Allowed', why: 'the mirror is not a proxy' }
    const target = readTarget(named)
    if (target === undefined) return { status: '400 Bad Request', why: 'not HOST:PORT' }
    if (this.#sockets.size >= MAX_TUNNELS)
      return { status: '503 Service Unavailable', why: `${MAX_TUNNELS} are open already` }
    const upstream = this.#parts.upstreams.atHost(target, 'https:')
    if (upstream === undefined && !this.#realms.has(`${target.host}:${target.port}`))
      return { status: '403 Forbidden', why: 'no upstream of this mirror' }
    return { target, upstream }
  }

  /** Ends what is under way. */
  close(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async #intercept({ host }: HostPort, socket: Socket, upstream: Upstream, authority: Authority): Promise<void> {
    try {
      let context = this.#contexts.get(host)
      if (context === undefined) {
        context = authority.issue([host]).then((made) => createSecureContext(made))
        this.#contexts.set(host, context)
        context.catch(() => this.#contexts.delete(host))
      }
      const secureContext = await context
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
      const secure = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['http/1.1'] })
      secure.on('error', (error) => {
        this.#parts.log.debug({ host, error: error.message }, 'intercepted connection ended')
        socket.destroy()
      })
      this.#parts.serve(secure, upstream)
    } catch (error) {
      this.#parts.log.warn({ host, error: (error as Error).message }, 'connection not intercepted')
      socket.destroy()
    }
  }

  async #tunnel(
    target: HostPort,
    { named, socket, refuse }: { named: string; socket: Socket; refuse: (status: string, why: string) => void },
  ): Promise<void> {
    const { connect, log } = this.#parts
    const gone = new AbortController()
    socket.once('close', () => gone.abort(new DarnerError('CLOSED', 'the client left')))
    let far: Duplex
    try {
      far = await connect(target, { signal: withDeadline(gone.signal, DIAL_MS) })
    } catch (error) {
      if (!socket.destroyed) refuse('502 Bad Gateway', error instanceof Error ? error.message : String(error))
      return
    }
    if (socket.destroyed) {
      far.destroy()
      return
    }
    socket.write('HTTP/1.1 200 Connection Established\r\n\r\n')
    socket.pipe(far)
    far.pipe(socket)
    // whatever passes, passes here
    socket.setTimeout(IDLE_MS, () => {
      log.debug({ target: named, idleMs: IDLE_MS }, 'mirror ended an idle tunnel')
      socket.destroy()
    })
    far.on('error', (error) => {
      log.warn({ target: named, why: systemCode(error) ?? error.message }, 'mirror tunnel broke')
      socket.destroy()
    })
    far.once('close', () => socket.destroy())
    socket.once('close', () => far.destroy())
  }
}

/** `HOST:PORT`, IPv6 in brackets. */
function readTarget(text: string): HostPort | undefined {
  const [, six, name, port] = /^(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9._-]{1,253})):(\d{1,5})$/i.exec(text) ?? []
  const host = (six ?? name)?.toLowerCase()
  return host === undefined || Number(port) > 65_535 ? undefined : { host, port: Number(port) }
}

function hostOf({ url }: Upstream): HostPort {
  const { hostname, port } = new URL(url)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 443 : Number(port) }
}
