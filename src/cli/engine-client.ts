/** The client half of the agent's container API: JSON requests, log streams, and attach and exec over an HTTP upgrade. */

import type {
  ContainerList,
  ContainerView,
  CreateReply,
  CreateRequest,
  ExecReply,
  ExecRequest,
  ExitReply,
  LogsQuery,
  TerminalSize,
} from '../api/containers-api.ts'
import type { ServiceList, ServiceView, StorageView } from '../api/rich-api.ts'
import { CHANNEL, encodeFrame, type Frame, FrameDecoder, STREAM_PROTOCOL } from '../api/stream-frame.ts'
import { DarnerError } from '../core/errors.ts'
import { type Answered, after, askOnSocket } from './ask-on-socket.ts'
import { AgentClient, errorOfBody } from './client.ts'

const INPUT_FRAME_BYTES = 64 * 1024

type Waits = { readonly signal: AbortSignal }

/** Talks to one agent. Every method throws AGENT_UNREACHABLE, or the DarnerError that the agent answered with. */
export class EngineClient {
  readonly #socket: string
  readonly #agent: AgentClient

  constructor(options: { socket: string }) {
    this.#socket = options.socket
    this.#agent = new AgentClient(options)
  }

  create(body: CreateRequest, { signal }: Waits): Promise<CreateReply> {
    return this.#agent.json('POST', '/v1/containers', { body, signal })
  }

  async start(id: string, { signal }: Waits): Promise<void> {
    await this.#agent.json('POST', `${at(id)}/start`, { signal })
  }

  async stop(id: string, options: { timeoutSec?: number; stopSignal?: string; signal: AbortSignal }): Promise<void> {
    const { signal, ...body } = options
    await this.#agent.json('POST', `${at(id)}/stop`, { body, signal })
  }

  async kill(id: string, signalName: string, { signal }: Waits): Promise<void> {
    await this.#agent.json('POST', `${at(id)}/kill`, { body: { signal: signalName }, signal })
  }

  wait(id: string, options: { nextExit?: boolean; signal: AbortSignal }): Promise<ExitReply> {
    const query = options.nextExit === true ? { nextExit: true } : {}
    return this.#agent.json('POST', `${at(id)}/wait`, { query, signal: options.signal })
  }

  async remove(id: string, options: { force?: boolean; signal: AbortSignal }): Promise<void> {
    const query = options.force === true ? { force: true } : {}
    await this.#agent.json('DELETE', at(id), { query, signal: options.signal })
  }

  async rename(id: string, name: string, { signal }: Waits): Promise<void> {
    await this.#agent.json('POST', `${at(id)}/rename`, { body: { name }, signal })
  }

  /** Also before the start: the terminal then begins with this size. */
  async resize(id: string, size: TerminalSize, { signal }: Waits): Promise<void> {
    await this.#agent.json('POST', `${at(id)}/resize`, { body: size, signal })
  }

  async list(options: { all?: boolean; signal: AbortSignal }): Promise<ContainerView[]> {
    const query = options.all === true ? { all: true } : {}
    const reply = await this.#agent.json<ContainerList>('GET', '/v1/containers', { query, signal: options.signal })
    return reply.containers
  }

  storage({ signal }: Waits): Promise<StorageView> {
    return this.#agent.json('GET', '/v1/storage', { signal })
  }

  initStorage(bytes: number, { signal }: Waits): Promise<StorageView> {
    return this.#agent.json('POST', '/v1/storage', { body: { bytes }, signal })
  }

  /** Side services of all running rich containers. */
  async services({ signal }: Waits): Promise<ServiceView[]> {
    return (await this.#agent.json<ServiceList>('GET', '/v1/services', { signal })).services
  }

  inspect(id: string, { signal }: Waits): Promise<ContainerView> {
    return this.#agent.json('GET', at(id), { signal })
  }

  /** Frames of the log, to its end, or until the container ends with `follow`. */
  async *logs(id: string, query: LogsQuery, { signal }: Waits): AsyncGenerator<Frame> {
    const body = await this.#agent.open('GET', `${at(id)}/logs`, { query, signal })
    const decoder = new FrameDecoder()
    for await (const chunk of body) yield* decoder.push(chunk as Uint8Array)
    if (decoder.partial) throw new DarnerError('AGENT_UNREACHABLE', `logs of ${id}: the agent stopped in the middle`)
  }

  /**
   * Attaches to the running process, or to the next run from its first byte. With `start` that run begins, and a failure to start is the
   * session's end. The caller closes.
   */
  async attach(id: string, { start = false, signal }: Waits & { start?: boolean }): Promise<StreamSession> {
    return new StreamSession(await this.#stream(`${at(id)}/${start ? 'run' : 'attach'}`, signal))
  }

  /**
   * Creates what `body` says in docker's words, attaches to it and starts it, all in one question. Why it couldn't be started is the
   * session's end. The caller closes.
   */
  async run(
    body: unknown,
    { signal, ...asked }: Waits & { name?: string | undefined; platform?: string | undefined },
  ): Promise<StartedRun> {
    const words = Object.entries(asked).flatMap(([key, word]) =>
      word === undefined ? [] : [`${key}=${encodeURIComponent(word)}`],
    )
    const query = words.length === 0 ? '' : `?${words.join('&')}`
    const answered = await this.#stream(`/docker/containers/run${query}`, signal, body)
    const id = answered.headers.get('darner-container') ?? ''
    const warnings: unknown = JSON.parse(decodeURIComponent(answered.headers.get('darner-warnings') ?? '[]'))
    return { id, warnings: Array.isArray(warnings) ? warnings.map(String) : [], session: new StreamSession(answered) }
  }

  /** Runs one more process and attaches to it. The caller closes. */
  async exec(id: string, body: ExecRequest, { signal }: Waits): Promise<StreamSession> {
    const { execId } = await this.#agent.json<ExecReply>('POST', `${at(id)}/exec`, { body, signal })
    return new StreamSession(await this.#stream(`/v1/exec/${execId}/start`, signal))
  }

  /** Asks for the connection itself. */
  async #stream(path: string, signal: AbortSignal, body?: unknown): Promise<Answered> {
    const text = body === undefined ? '' : JSON.stringify(body)
    const what = `POST ${path} at the agent on ${this.#socket}`
    const type = body === undefined ? '' : 'content-type: application/json\r\n'
    const head = `POST ${path} HTTP/1.1\r\nhost: darner\r\nconnection: upgrade\r\nupgrade: ${STREAM_PROTOCOL}\r\n${type}content-length: ${Buffer.byteLength(text)}`
    const answered = await askOnSocket(head, text, { socket: this.#socket, what, signal })
    if (answered.status === 101) return answered
    answered.connection.destroy()
    throw new DarnerError('PROTOCOL_VIOLATION', `${what}: status ${answered.status} where the connection was asked for`)
  }
}

export interface StartedRun {
  readonly id: string
  readonly warnings: readonly string[]
  readonly session: StreamSession
}

/** The client's end of one attach or exec. */
export class StreamSession implements AsyncDisposable {
  readonly #connection: Answered['connection']
  readonly #bytes: AsyncGenerator<Uint8Array, void, undefined>
  #closed = false

  constructor({ connection, rest, more }: Answered) {
    this.#connection = connection
    this.#bytes = after(rest, more)
  }

  /** Output frames. Returns the end that the agent sent, or undefined when the session was closed here. Throws AGENT_UNREACHABLE. */
  async *frames(): AsyncGenerator<Frame, ExitReply | undefined> {
    const decoder = new FrameDecoder()
    let cause: unknown
    try {
      for await (const chunk of this.#bytes) {
        for (const frame of decoder.push(chunk)) {
          if (frame.channel === CHANNEL.end) return endOf(frame)
          yield frame
        }
      }
    } catch (error) {
      if (error instanceof DarnerError) throw error
      cause = error
    }
    if (this.#closed) return undefined
    throw new DarnerError('AGENT_UNREACHABLE', 'the agent closed the stream before the process ended', {
      cause,
    })
  }

  /** Resolves when the agent can take more. */
  async sendInput(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.byteLength; from += INPUT_FRAME_BYTES) {
      await this.#connection.write(encodeFrame(CHANNEL.stdin, bytes.subarray(from, from + INPUT_FRAME_BYTES)))
    }
  }

  async endInput(): Promise<void> {
    await this.#connection.write(encodeFrame(CHANNEL.stdin, new Uint8Array(0)))
  }

  async resize(size: TerminalSize): Promise<void> {
    await this.#connection.write(encodeFrame(CHANNEL.resize, Buffer.from(JSON.stringify(size))))
  }

  close(): void {
    this.#closed = true
    this.#connection.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }
}

function at(id: string): string {
  return `/v1/containers/${encodeURIComponent(id)}`
}

function endOf({ bytes }: Frame): ExitReply {
  const json = JSON.parse(Buffer.from(bytes).toString()) as Partial<ExitReply>
  if (typeof json.exitCode === 'number') return json as ExitReply
  throw errorOfBody(json, 200, 'the session')
}
