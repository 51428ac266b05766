/**
 * The registry mirror: an HTTP server that speaks the pull part of the distribution spec for the container engines of this host.
 * Here are its connections, counts and failures; dispatch.ts says what answers which request.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { cannotListen } from '../../src/core/cannot-listen.ts'
import type { Clock } from '../../src/core/clock.ts'
import type { OriginPort } from '../../src/core/contracts/origin.ts'
import type { SchedulerPort } from '../../src/core/contracts/scheduling.ts'
import { asDarnerError, DarnerError, systemCode } from '../../src/core/errors.ts'
import { formatHostPort, parseHostPort } from '../../src/core/host-port.ts'
import type { Log } from '../../src/core/log.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { OriginHttp } from '../../src/origin/origin-http.ts'
import type { Rights } from '../../src/rights/right.ts'
import type { Store } from '../../src/store/store.ts'
import type { Engine } from '../downloader/downloader.ts'
import { breakOff, lastWords, sendWhole, wasBrokenOff } from './answer.ts'
import { credentialOf } from './ask.ts'
import type { Authority } from './authority.ts'
import { Blobs } from './blobs.ts'
import { type ConnectMode, Connects } from './connect.ts'
import { Dispatcher, isDocker, PULLS } from './dispatch.ts'
import { MirrorManifests } from './manifests.ts'
import { ociBody, ociFailure, type Subject } from './oci-errors.ts'
import { Pushed } from './pushed.ts'
import { type Route, readTarget } from './routes.ts'
import { Sizes } from './sizes.ts'
import type { MirrorTls } from './tls.ts'
import { type Upstream, Upstreams } from './upstreams.ts'

export interface MirrorOptions {
  /** `IP:PORT`; port 0 takes any free one. */
  readonly listen: string
  /** NAME → URL, the first is the default; none is Docker Hub. */
  readonly upstreams: Readonly<Record<string, string>>
  /** `pass` sends pushes on to the upstream. */
  readonly push: 'refuse' | 'pass'
  /** Passes `_catalog` on; refused otherwise. */
  readonly catalog: boolean
  /** How old an answer about a tag may be that is given while its origin is down; 0 gives none. */
  readonly staleMs: number
  /** Serves TLS, and nothing else, where there is one. */
  readonly tls?: MirrorTls | undefined
  /** What a CONNECT to an upstream gets; `intercept` needs the authority. */
  readonly connect?: ConnectMode
  readonly authority?: Authority | undefined
  /** How long a client may take to send a request's head, and a pull its whole request. Default 15 s. */
  readonly headersMs?: number
}

export interface MirrorParts {
  readonly engine: Engine
  readonly scheduler: SchedulerPort
  /** What was shown on this host. */
  readonly rights: Rights
  readonly store: Store
  readonly origin: OriginPort
  /** Sends requests on, and opens tunnels; its guard says which addresses may be asked, and which proxy asks them. */
  readonly http: OriginHttp
  readonly clock: Clock
  readonly log: Log
}

export interface MirrorStatus {
  readonly address: string
  readonly scheme: 'http' | 'https'
  /** The file with the authority that its clients have to trust. */
  readonly authority?: string
  readonly connect: ConnectMode
  readonly upstreams: readonly Upstream[]
  readonly requests: number
  readonly failures: number
  /** Blobs asked for, and how many of them this host held whole. */
  readonly blobs: number
  readonly held: number
  /** Sent in answers that are over. */
  readonly bytes: number
  /** Sent so far in answers under way. */
  readonly sending: number
}

export interface Mirror extends AsyncDisposable {
  /** `IP:PORT` that it listens on. */
  readonly address: string
  status(): MirrorStatus
}

const MAX_HEADER_BYTES = 64 * 1024
const MAX_CONNECTIONS = 8192
const HEADERS_MS = 15_000
/** Longer than containerd's idle connections, so that this side never closes under a request. */
const KEEP_ALIVE_MS = 120_000
const OTHER_WAY =
  '--mirror IP:PORT takes another address (then run `darner mirror setup` again), --mirror off does without'

/** Starts the mirror; it serves once this resolves. Throws HOST_UNABLE (port taken, no such address), BAD_ARGUMENT. */
export async function openMirror(options: MirrorOptions, parts: MirrorParts): Promise<Mirror> {
  const mirror = new RunningMirror(options, parts)
  await mirror.listen()
  return mirror
}

class RunningMirror implements Mirror {
  readonly #options: MirrorOptions
  readonly #parts: MirrorParts
  readonly #upstreams: Upstreams
  readonly #blobs: Blobs
  readonly #dispatcher: Dispatcher
  readonly #server: Server
  readonly #closed = new AbortController()
  readonly #work = new Set<Promise<void>>()
  readonly #connects: Connects
  readonly #pushed: Pushed
  /** Connections whose clients take us for this registry. */
  readonly #taken = new WeakMap<Socket, Upstream>()
  readonly #sending = new Map<ServerResponse, () => number>()
  #address = ''
  #requests = 0
  #failures = 0
  #bytes = 0

  constructor(options: MirrorOptions, parts: MirrorParts) {
    this.#options = options
    this.#parts = parts
    this.#upstreams = new Upstreams(options.upstreams)
    const sizes = new Sizes()
    this.#blobs = new Blobs({ pushes: options.push === 'pass' }, { ...parts, sizes })
    const manifests = new MirrorManifests({ staleMs: options.staleMs }, { ...parts, sizes })
    const headersMs = options.headersMs ?? HEADERS_MS
    const limits = {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: headersMs,
      // Node looks for late ones every 30 s otherwise
      connectionsCheckingInterval: Math.ceil(headersMs / 3),
      keepAliveTimeout: KEEP_ALIVE_MS,
      // a push may take as long as it moves; a pull has no body
      requestTimeout: options.push === 'pass' ? 0 : headersMs,
      noDelay: true,
    }
    const accept = (request: IncomingMessage, response: ServerResponse) => this.#accept(request, response)
    const { tls } = options
    this.#server =
      tls === undefined
        ? createServer(limits, accept)
        : createTlsServer({ ...limits, cert: tls.cert, key: tls.key, minVersion: 'TLSv1.2' }, accept)
    this.#pushed = new Pushed({ content: parts.engine, log: parts.log, signal: this.#closed.signal })
    this.#dispatcher = new Dispatcher(options, {
      http: parts.http,
      upstreams: this.#upstreams,
      blobs: this.#blobs,
      manifests,
      pushed: this.#pushed,
    })
    this.#connects = new Connects(options.connect ?? 'off', {
      upstreams: this.#upstreams,
      authority: options.connect === 'intercept' ? options.authority : undefined,
      connect: (target, { signal }) => parts.http.connect(target, { signal }),
      log: parts.log,
      serve: (socket, upstream) => {
        this.#taken.set(socket, upstream)
        // its handshake, too, has to come within the time for a request's head
        this.#server.emit(tls === undefined ? 'connection' : 'secureConnection', socket)
      },
    })
    this.#server.maxConnections = MAX_CONNECTIONS
    this.#server.on('clientError', (error: NodeJS.ErrnoException, socket) => this.#malformed(error, socket as Socket))
    this.#server.on('connect', (request: IncomingMessage, socket: Socket, head: Buffer) => {
      this.#connects.take(request, socket, head)
    })
  }

  get address(): string {
    return this.#address
  }

  status(): MirrorStatus {
    return {
      address: this.#address,
      scheme: this.#options.tls === undefined ? 'http' : 'https',
      ...(this.#options.tls?.authority === undefined ? {} : { authority: this.#options.tls.authority }),
      connect: this.#options.connect ?? 'off',
      upstreams: this.#upstreams.all,
      requests: this.#requests,
      failures: this.#failures,
      ...this.#blobs.counts,
      bytes: this.#bytes,
      sending: [...this.#sending.values()].reduce((sum, sent) => sum + sent(), 0),
    }
  }

  async listen(): Promise<void> {
    const { host, port } = parseHostPort(this.#options.listen)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) =>
        reject(cannotListen('serve the mirror', this.#options.listen, error, OTHER_WAY)),
      )
      this.#server.listen({ host, port, backlog: 1024 }, resolve)
    })
    const bound = this.#server.address() as AddressInfo
    this.#address = formatHostPort({ host: bound.address, port: bound.port })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new DarnerError('CLOSED', 'the mirror is stopping'))
    const closed = new Promise((resolve) => this.#server.close(resolve))
    await Promise.all(this.#work)
    await this.#pushed.idle()
    this.#connects.close()
    this.#server.closeAllConnections()
    await closed
  }

  #accept(request: IncomingMessage, response: ServerResponse): void {
    const work = this.#serve(request, response)
    this.#work.add(work)
    void work.finally(() => this.#work.delete(work))
  }

  /** Never rejects: a failure is an answer, or a broken connection, and one line in the log. */
  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { log, clock } = this.#parts
    const began = clock.monotonicMs()
    const { socket } = request
    const writtenBefore = socket.bytesWritten
    this.#requests++
    this.#sending.set(response, () => socket.bytesWritten - writtenBefore)
    const gone = new AbortController()
    response.on('close', () => {
      if (!response.writableFinished && !wasBrokenOff(response)) gone.abort(clientLeft(socket.errored))
    })
    response.on('error', () => {})
    request.on('error', () => {})
    const signal = anySignal([gone.signal, this.#closed.signal])
    const method = request.method ?? 'GET'
    const head = method === 'HEAD'
    const target = (request.url ?? '').slice(0, 400)
    let subject: Subject = 'request'
    try {
      response.setHeader('docker-distribution-api-version', 'registry/2.0')
      const { route, query } = readTarget(
        request.url ?? '',
        this.#upstreams,
        isDocker(request),
        this.#taken.get(socket),
      )
      subject = subjectOf(route)
      if ('place' in route && route.place.ns !== undefined) response.setHeader('oci-namespace', route.place.ns)
      response.once('finish', () => {
        if (response.statusCode === 401) this.#connects.challenged(String(response.getHeader('www-authenticate') ?? ''))
      })
      await this.#dispatcher.answer(route, {
        request,
        response,
        head,
        query,
        credential: credentialOf(request),
        signal,
        clock,
      })
      log.debug(
        { method, target, status: response.statusCode, ms: Math.round(clock.monotonicMs() - began) },
        'mirror answered',
      )
    } catch (error) {
      this.#failures++
      const known = asDarnerError(error, `${method} ${target}`)
      // a write may fail before the end is reported
      const left = gone.signal.aborted || (socket.errored !== null && !wasBrokenOff(response))
      const { headersSent: started } = response
      const why = left ? clientLeft(socket.errored) : known
      const quiet = left ? LEAVINGS.has(systemCode(why)) : why.code === 'ORIGIN_NOT_FOUND' && !started
      const sent = socket.bytesWritten - writtenBefore
      log[quiet ? 'debug' : 'warn'](
        { method, target, code: why.code, error: why.message, started, sent, left },
        'mirror request failed',
      )
      fail(request, response, known, subject, head)
    } finally {
      this.#sending.delete(response)
      this.#bytes += socket.bytesWritten - writtenBefore
    }
  }

  #malformed(error: NodeJS.ErrnoException, socket: Socket): void {
    // its answers are logged where they end
    if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy()
    this.#requests++
    this.#failures++
    // what scanners and clients that take us for another protocol send, by TLS for instance: nobody here can act on it
    this.#parts.log.debug({ code: error.code, error: error.message }, 'mirror request malformed')
    const begun = [...this.#sending.keys()].find((one) => one.socket === socket && one.headersSent)
    // what is said here would be taken for bytes of that answer
    if (begun !== undefined) return void socket.destroy()
    const large = error.code === 'HPE_HEADER_OVERFLOW'
    const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
    const status = large ? '431 Request Header Fields Too Large' : late ? '408 Request Timeout' : '400 Bad Request'
    answerRaw(
      socket,
      status,
      'UNSUPPORTED',
      large ? `more than ${MAX_HEADER_BYTES} bytes of headers` : 'no valid request',
    )
  }
}

/** How connections end when a client leaves: in order, with bytes unread, or under a write. Other ends are the network's doing. */
const LEAVINGS = new Set([undefined, 'ECONNRESET', 'EPIPE'])

function clientLeft(error: Error | null): DarnerError {
  const how = systemCode(error)
  return new DarnerError('INTERRUPTED', `the client left${how === undefined ? '' : ` (${how})`}`, {
    cause: error ?? undefined,
  })
}

function subjectOf(route: Route): Subject {
  if (route.kind === 'blob' || route.kind === 'manifest') return route.kind
  return 'place' in route ? 'name' : 'request'
}

function fail(
  request: IncomingMessage,
  response: ServerResponse,
  error: DarnerError,
  subject: Subject,
  head: boolean,
): void {
  if (response.headersSent || response.destroyed) {
    breakOff(response)
    return
  }
  const { status, code, headers } = ociFailure(error, subject)
  // a body that nobody reads would have to be taken to its end
  const unread = !request.complete && !PULLS.has(request.method ?? '')
  sendWhole(response, {
    status,
    headers: {
      'content-type': 'application/json',
      ...headers,
      ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
      ...(unread ? { connection: 'close' } : {}),
    },
    body: ociBody(code, error.message),
    head,
  })
}

function answerRaw(socket: Socket, status: string, code: Parameters<typeof ociBody>[0], message: string): void {
  const body = ociBody(code, message)
  lastWords(
    socket,
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}
