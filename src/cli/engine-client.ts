/** The client half of the agent's container API: JSON by undici over the unix socket, streams by an HTTP upgrade. */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import type { Duplex, Readable } from 'node:stream'
import { Client, type Dispatcher } from 'undici'
import { CODES, type Code, DarnerError, systemCode } from '../base/errors.ts'
import {
  type ContainerList,
  type ContainerView,
  type CreateReply,
  type CreateRequest,
  type ExecReply,
  type ExecRequest,
  type ExitReply,
  type LogsQuery,
  STREAM_PROTOCOL,
  type TerminalSize,
} from '../wire/local-api.ts'
import { CHANNEL, encodeFrame, type Frame, FrameDecoder } from '../wire/stream-frame.ts'

const MOST_REPLY_BYTES = 64 << 20
/** So long is the agent given to take a connection. */
const CONNECT_MS = 10_000

interface Ask {
  readonly method: Dispatcher.HttpMethod
  readonly path: string
  readonly body?: unknown
  readonly signal: AbortSignal
}

type Waits = { readonly signal: AbortSignal }

/** Talks to one agent. Every method throws AGENT_UNREACHABLE, or the DarnerError that the agent answered with. */
export class EngineClient implements AsyncDisposable {
  readonly #socket: string
  readonly #client: Client

  constructor(options: { socket: string }) {
    this.#socket = options.socket
    this.#client = new Client('http://agent', {
      connect: { socketPath: options.socket, timeout: CONNECT_MS },
      headersTimeout: 0,
      bodyTimeout: 0,
      pipelining: 1,
    })
  }

  create(request: CreateRequest, { signal }: Waits): Promise<CreateReply> {
    return this.#json({ method: 'POST', path: '/v1/containers', body: request, signal })
  }

  async start(id: string, { signal }: Waits): Promise<void> {
    await this.#json({ method: 'POST', path: `${at(id)}/start`, signal })
  }

  async stop(id: string, options: { timeoutSec?: number; signal: AbortSignal }): Promise<void> {
    const { timeoutSec, signal } = options
    await this.#json({
      method: 'POST',
      path: `${at(id)}/stop`,
      body: timeoutSec === undefined ? {} : { timeoutSec },
      signal,
    })
  }

  async kill(id: string, signalName: string, { signal }: Waits): Promise<void> {
    await this.#json({ method: 'POST', path: `${at(id)}/kill`, body: { signal: signalName }, signal })
  }

  wait(id: string, options: { nextExit?: boolean; signal: AbortSignal }): Promise<ExitReply> {
    const query = options.nextExit === true ? '?nextExit=true' : ''
    return this.#json({ method: 'POST', path: `${at(id)}/wait${query}`, signal: options.signal })
  }

  async remove(id: string, options: { force?: boolean; signal: AbortSignal }): Promise<void> {
    await this.#json({
      method: 'DELETE',
      path: `${at(id)}${options.force ? '?force=true' : ''}`,
      signal: options.signal,
    })
  }

  async list(options: { all?: boolean; signal: AbortSignal }): Promise<ContainerView[]> {
    const path = `/v1/containers${options.all ? '?all=true' : ''}`
    return (await this.#json<ContainerList>({ method: 'GET', path, signal: options.signal })).containers
  }

  inspect(id: string, { signal }: Waits): Promise<ContainerView> {
    return this.#json({ method: 'GET', path: at(id), signal })
  }

  /** Frames of the log, to the end, or until the container ends with `follow`. */
  async *logs(id: string, query: LogsQuery, { signal }: Waits): AsyncGenerator<Frame> {
    const search = new URLSearchParams(
      Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]),
    )
    const body = await this.#stream({ method: 'GET', path: `${at(id)}/logs?${search}`, signal })
    const decoder = new FrameDecoder()
    for await (const chunk of body) yield* decoder.push(chunk as Uint8Array)
    if (decoder.partial) throw new DarnerError('AGENT_UNREACHABLE', `logs of ${id}: the agent stopped in the middle`)
  }

  /** Attaches to the running process, or to the next run from its first byte. The caller closes. */
  attach(id: string, { signal }: Waits): Promise<StreamSession> {
    return this.#upgrade(`${at(id)}/attach`, signal)
  }

  /** Runs one more process and attaches to it. */
  async exec(id: string, request: ExecRequest, { signal }: Waits): Promise<StreamSession> {
    const { execId } = await this.#json<ExecReply>({ method: 'POST', path: `${at(id)}/exec`, body: request, signal })
    return this.#upgrade(`/v1/exec/${execId}/start`, signal)
  }

  /** Pulls an image; yields the agent's progress lines as they come. Throws the failure that the last of them may carry. */
  async *pull(
    request: { reference: string; plainHttp?: boolean; platform?: string },
    { signal }: Waits,
  ): AsyncGenerator<Record<string, unknown>> {
    const body = await this.#stream({ method: 'POST', path: '/v1/images/pull', body: request, signal })
    let held = ''
    for await (const chunk of body.setEncoding('utf8')) {
      held += String(chunk)
      if (held.length > MOST_REPLY_BYTES)
        throw new DarnerError('PROTOCOL_VIOLATION', 'pull: a progress line without end')
      const lines = held.split('\n')
      held = lines.pop() ?? ''
      for (const line of lines) if (line.trim() !== '') yield progress(line)
    }
    if (held.trim() !== '') yield progress(held)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.destroy()
  }

  async #json<Reply>(ask: Ask): Promise<Reply> {
    const reply = await this.#send(ask)
    const text = await textOf(reply.body)
    return (text === '' ? undefined : JSON.parse(text)) as Reply
  }

  async #stream(ask: Ask): Promise<Readable> {
    return (await this.#send(ask)).body
  }

  async #send({ method, path, body, signal }: Ask): Promise<Dispatcher.ResponseData> {
    let reply: Dispatcher.ResponseData
    try {
      const json =
        body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
      reply = await this.#client.request({ method, path, signal, ...json })
    } catch (error) {
      throw signal.aborted ? signal.reason : unreachable(this.#socket, error)
    }
    if (reply.statusCode < 400) return reply
    throw refusal(reply.statusCode, await textOf(reply.body), `${method} ${path}`)
  }

  #upgrade(path: string, signal: AbortSignal): Promise<StreamSession> {
    return new Promise((resolve, reject) => {
      const headers = { connection: 'Upgrade', upgrade: STREAM_PROTOCOL, 'content-length': '0' }
      const request = httpRequest({ socketPath: this.#socket, path, method: 'POST', headers, signal })
      request.once('upgrade', (_reply: IncomingMessage, socket: Duplex, head: Buffer) => {
        if (head.byteLength > 0) socket.unshift(head)
        resolve(new StreamSession(socket))
      })
      request.once('response', (reply) => {
        textOf(reply).then((text) => reject(refusal(reply.statusCode ?? 500, text, `POST ${path}`)), reject)
      })
      request.once('error', (error) => reject(signal.aborted ? signal.reason : unreachable(this.#socket, error)))
      request.end()
    })
  }
}

/** The client's end of one attach or exec. */
export class StreamSession implements AsyncDisposable {
  readonly #socket: Duplex
  #error: Error | undefined

  constructor(socket: Duplex) {
    this.#socket = socket
    socket.on('error', (error) => {
      this.#error = error
    })
  }

  /** Output frames; returns the end that the agent told, or undefined when the session was closed here. Throws AGENT_UNREACHABLE. */
  async *frames(): AsyncGenerator<Frame, ExitReply | undefined> {
    const decoder = new FrameDecoder()
    let closedHere = false
    this.#socket.once('close', () => {
      closedHere = this.#closed
    })
    try {
      for await (const chunk of this.#socket) {
        for (const frame of decoder.push(chunk as Uint8Array)) {
          if (frame.channel === CHANNEL.end) return endOf(frame)
          yield frame
        }
      }
    } catch (error) {
      if (error instanceof DarnerError) throw error
      this.#error ??= error instanceof Error ? error : undefined
    }
    if (closedHere || this.#closed) return undefined
    throw new DarnerError('AGENT_UNREACHABLE', 'the agent closed the stream before the process ended', {
      cause: this.#error,
    })
  }

  /** Resolves when the agent can take more. */
  async sendInput(bytes: Uint8Array): Promise<void> {
    await this.#write(encodeFrame(CHANNEL.stdin, bytes))
  }

  async endInput(): Promise<void> {
    await this.#write(encodeFrame(CHANNEL.stdin, new Uint8Array(0)))
  }

  async resize(size: TerminalSize): Promise<void> {
    await this.#write(encodeFrame(CHANNEL.resize, Buffer.from(JSON.stringify(size))))
  }

  #closed = false

  close(): void {
    this.#closed = true
    this.#socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  #write(frame: Uint8Array): Promise<void> {
    if (this.#socket.destroyed || this.#socket.writableEnded) return Promise.resolve()
    return new Promise((resolve) => {
      this.#socket.write(frame, () => resolve()) // a failure shows in frames()
    })
  }
}

function at(id: string): string {
  return `/v1/containers/${encodeURIComponent(id)}`
}

function endOf({ bytes }: Frame): ExitReply {
  const json = JSON.parse(Buffer.from(bytes).toString()) as Partial<ExitReply> | { error: unknown }
  if ('exitCode' in json && typeof json.exitCode === 'number') return json as ExitReply
  throw refusal(500, JSON.stringify(json), 'the session')
}

function progress(line: string): Record<string, unknown> {
  const json = JSON.parse(line) as Record<string, unknown>
  if (typeof json.error === 'object' && json.error !== null) throw refusal(500, line, 'pull')
  return json
}

/** The DarnerError that an error reply carries. */
function refusal(status: number, text: string, what: string): DarnerError {
  try {
    const { error } = JSON.parse(text) as { error?: Record<string, unknown> }
    if (error && typeof error.code === 'string' && error.code in CODES && typeof error.message === 'string') {
      const way = error.way
      const details = error.details
      return new DarnerError(error.code as Code, error.message, {
        ...(typeof way === 'string' ? { way } : {}),
        ...(typeof details === 'object' && details !== null ? { details: details as Record<string, string> } : {}),
      })
    }
  } catch {
    // SyntaxError: not the agent's own words; the status tells
  }
  return new DarnerError(
    status === 404 ? 'NOT_FOUND' : 'INTERNAL',
    `${what}: the agent answered ${status}: ${text.slice(0, 300)}`,
  )
}

function unreachable(socket: string, error: unknown): DarnerError {
  const code = systemCode(error)
  const way =
    code === 'EACCES'
      ? 'become root, or join the group that owns the socket'
      : 'start it with `darner agent`, or name its socket with --socket'
  return new DarnerError(
    'AGENT_UNREACHABLE',
    `the agent at ${socket} doesn't answer (${code ?? (error instanceof Error ? error.message : error)})`,
    {
      cause: error,
      way,
    },
  )
}

async function textOf(body: AsyncIterable<unknown>): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    const part = Buffer.from(chunk as Uint8Array)
    bytes += part.byteLength
    if (bytes > MOST_REPLY_BYTES)
      throw new DarnerError('LIMIT_EXCEEDED', `the agent's reply has more than ${MOST_REPLY_BYTES} bytes`)
    chunks.push(part)
  }
  return Buffer.concat(chunks).toString('utf8')
}
