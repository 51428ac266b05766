/**
 * The commands' side of the agent's local API: HTTP over its unix socket. On `node:http`, which is there at once, since a
 * command's start counts in every `darner get`.
 */
import type { ClientRequest, IncomingMessage, RequestOptions as RequestOptionsOfNode } from 'node:http'
import type { Readable } from 'node:stream'
import type { ErrorBody } from '../api/error-body.ts'
import { CODES, type Code, DarnerError, type ErrorOptions, isDarnerError, systemCode } from '../core/errors.ts'

/**
 * Loaded when it is needed, and never by `import … from 'node:http'`. That touches every export, also those that load a whole fetch
 * implementation: 20 ms of each command.
 */
function httpRequest(options: RequestOptionsOfNode): ClientRequest {
  // no name of a TLS server: to find that out, node compiles a pattern of IPv6 addresses, 2 ms of each command
  const spared = { ...options, servername: '' }
  return process.getBuiltinModule('node:http').request(spared)
}

const MAX_JSON_BYTES = 64 * 1024 * 1024
const MAX_LINE_BYTES = 1024 * 1024

export interface ClientOptions {
  /** Path of the agent's socket. */
  readonly socket: string
}

export interface RequestOptions {
  readonly query?: Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>
  readonly headers?: Readonly<Record<string, string>>
  /** Sent as JSON. */
  readonly body?: unknown
  /** Sent as bytes, in place of a JSON body, no faster than they are taken. */
  readonly content?: Readable
  readonly signal: AbortSignal
}

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE'

export class AgentClient {
  readonly #socket: string

  constructor(options: ClientOptions) {
    this.#socket = options.socket
  }

  /** The JSON answer; undefined when it is empty. Throws the agent's own error, or AGENT_UNREACHABLE. */
  async json<T = unknown>(method: Method, path: string, options: RequestOptions): Promise<T> {
    const answer = await this.open(method, path, options)
    return parseJson<T>(await bodyOf(answer), this.#what(method, path))
  }

  /**
   * The answer's lines (NDJSON), each as soon as it is here. A line `{ error: … }` is thrown as the agent's error. Leaving the
   * loop ends the request.
   */
  async *lines<T = unknown>(method: Method, path: string, options: RequestOptions): AsyncGenerator<T, void, undefined> {
    const answer = await this.open(method, path, options)
    const what = this.#what(method, path)
    let rest = ''
    try {
      answer.setEncoding('utf8')
      for await (const chunk of answer as AsyncIterable<string>) {
        const parts = (rest + chunk).split('\n')
        rest = parts.pop() ?? ''
        if (rest.length > MAX_LINE_BYTES)
          throw new DarnerError('PROTOCOL_VIOLATION', `${what}: a line of more than ${MAX_LINE_BYTES} bytes`)
        for (const line of parts) if (line !== '') yield lineOf<T>(line, what)
      }
      if (rest !== '') yield lineOf<T>(rest, what)
    } catch (error) {
      options.signal.throwIfAborted()
      throw unreachable(error, this.#socket, what)
    } finally {
      answer.destroy()
    }
  }

  /** The answer as it comes, its status already checked. The caller reads or destroys it. */
  open(method: Method, path: string, options: RequestOptions): Promise<IncomingMessage> {
    const what = this.#what(method, path)
    return new Promise((resolve, reject) => {
      // kept alive: an answer that comes before all is sent must not end the connection below what is on its way
      const content = options.content && { 'content-type': 'application/octet-stream', connection: 'keep-alive' }
      const { request, body } = this.#request(method, path, options, { ...content }, reject)
      request.on('response', (answer) => {
        if ((answer.statusCode ?? 500) < 400) return resolve(answer)
        errorOf(answer, what)
          .then(reject, (error) =>
            reject(options.signal.aborted ? options.signal.reason : unreachable(error, this.#socket, what)),
          )
          .finally(() => request.destroy())
      })
      if (options.content === undefined) request.end(body)
      else options.content.pipe(request)
    })
  }

  /** A request that is not ended yet; what it fails with goes to `failed`. */
  #request(
    method: Method,
    path: string,
    options: RequestOptions,
    headers: Readonly<Record<string, string>>,
    failed: (reason: unknown) => void,
  ): { request: ClientRequest; body: Buffer | undefined } {
    const body = options.body === undefined ? undefined : Buffer.from(JSON.stringify(options.body))
    const request = httpRequest({
      socketPath: this.#socket,
      method,
      path: withQuery(path, options.query),
      agent: false,
      signal: options.signal,
      headers: {
        host: 'darner',
        ...headers,
        ...(body && { 'content-type': 'application/json', 'content-length': body.byteLength }),
        ...options.headers,
      },
    })
    request.on('error', (error) =>
      failed(
        options.signal.aborted ? options.signal.reason : unreachable(error, this.#socket, this.#what(method, path)),
      ),
    )
    return { request, body }
  }

  #what(method: Method, path: string): string {
    return `${method} ${path} at the agent on ${this.#socket}`
  }
}

/** What a socket's failure is to a command: AGENT_UNREACHABLE, with what to do about it. */
export function unreachable(error: unknown, socket: string, what: string): DarnerError {
  if (error instanceof DarnerError) return error
  const code = systemCode(error)
  if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK') {
    return new DarnerError('AGENT_UNREACHABLE', `no agent listens on ${socket} (${code})`, {
      cause: error,
      way: 'start one with: darner agent --supernode MULTIADDR, or name its socket with --socket or DARNER_SOCKET',
    })
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new DarnerError('AGENT_UNREACHABLE', `the agent's socket ${socket} may not be opened (${code})`, {
      cause: error,
      way: 'run this as root or as a member of the group that owns it',
    })
  }
  return new DarnerError('AGENT_UNREACHABLE', `${what}: the connection ended: ${code ?? (error as Error).message}`, {
    cause: error,
  })
}

/** The engine's answer; undefined of an agent that has none. */
export async function withEngine<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (isDarnerError(error, 'NOT_FOUND')) return undefined
    throw error
  }
}

/** The agent's error as it was thrown there; a code that isn't in the table becomes INTERNAL. */
export function errorOfBody(body: unknown, status: number, what: string): DarnerError {
  const error = (body as Partial<ErrorBody> | undefined)?.error ?? dockersError(body, status)
  if (typeof error?.message !== 'string')
    return new DarnerError('INTERNAL', `${what}: status ${status} without an error body`)
  const options: ErrorOptions = {
    ...(typeof error.way === 'string' && { way: error.way }),
    ...(typeof error.retryAfterMs === 'number' && { retryAfterMs: error.retryAfterMs }),
    ...(typeof error.details === 'object' && error.details !== null && { details: error.details }),
  }
  return new DarnerError(Object.hasOwn(CODES, error.code) ? (error.code as Code) : 'INTERNAL', error.message, options)
}

/** docker's API has a status and `{ message }`; this program's engine adds the code of its own errors. */
function dockersError(body: unknown, status: number): ErrorBody['error'] | undefined {
  const { message, code: told } = (body ?? {}) as { message?: unknown; code?: unknown }
  if (typeof message !== 'string') return undefined
  if (typeof told === 'string') return { code: told, message }
  const code =
    status === 400
      ? 'BAD_ARGUMENT'
      : status === 404
        ? 'NOT_FOUND'
        : status === 409
          ? 'CONFLICT'
          : status === 501
            ? 'UNSUPPORTED'
            : 'INTERNAL'
  return { code, message }
}

async function errorOf(answer: IncomingMessage, what: string): Promise<DarnerError> {
  const text = await bodyOf(answer)
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    // SyntaxError: no JSON, so no error body
  }
  return errorOfBody(body, answer.statusCode ?? 500, what)
}

async function bodyOf(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength
    if (bytes > MAX_JSON_BYTES)
      throw new DarnerError('PROTOCOL_VIOLATION', `the agent's answer has more than ${MAX_JSON_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function lineOf<T>(line: string, what: string): T {
  const value = parseJson<T>(line, what)
  if (
    typeof value === 'object' &&
    value !== null &&
    'error' in value &&
    typeof (value as ErrorBody).error?.code === 'string'
  ) {
    throw errorOfBody(value, 200, what)
  }
  return value
}

function parseJson<T>(text: string, what: string): T {
  if (text === '') return undefined as T
  try {
    return JSON.parse(text) as T
  } catch (error) {
    throw new DarnerError('PROTOCOL_VIOLATION', `${what}: the answer is not JSON`, { cause: error })
  }
}

function withQuery(path: string, query: RequestOptions['query']): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined) search.append(name, String(one))
  }
  return search.size === 0 ? path : `${path}?${search}`
}
