/** Attach, run and exec-start: the connection is taken over by `Upgrade: darner-stream` and carries frames both ways to the end. */
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { Value } from 'typebox/value'
import { TerminalSize } from '../src/api/containers-api.ts'
import { DOCKER_PREFIX } from '../src/api/docker-prefix.ts'
import { CHANNEL, encodeFrame, type Frame, FrameDecoder, STREAM_PROTOCOL } from '../src/api/stream-frame.ts'
import { DarnerError } from '../src/core/errors.ts'
import { put } from '../src/core/outflow.ts'
import { errorReply } from './api-error.ts'
import type { Session } from './containers/session.ts'
import type { Runtime } from './runtime.ts'

/** How long a client may take to close after it received the end. */
const CLOSE_MS = 5000

/** Answers upgrade requests on `server`: `POST /v1/containers/ID/attach`, `POST /v1/containers/ID/run`, which starts it too, and `POST /v1/exec/ID/start`. */
export function serveStreams(server: Server, runtime: Runtime, { signal }: { signal: AbortSignal }): void {
  server.on('upgrade', (request, socket, head) => {
    if (request.url?.startsWith(`${DOCKER_PREFIX}/`)) return // mount.ts has those
    socket.on('error', () => socket.destroy()) // the client is gone, which the session sees as close
    serve(request, socket, head, runtime, signal).catch((error: unknown) => refuse(socket, request, error))
  })
}

async function serve(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  runtime: Runtime,
  signal: AbortSignal,
): Promise<void> {
  if (request.headers.upgrade !== STREAM_PROTOCOL) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `upgrade to ${String(request.headers.upgrade).slice(0, 60)}: only ${STREAM_PROTOCOL} is spoken here`,
    )
  }
  const opened = await openSession(request, runtime, signal)
  if (head.byteLength > 0) socket.unshift(head)
  await carrySession(socket, opened, { signal })
}

interface Opened {
  readonly session: Session
  /** Rejects with why it couldn't be started. */
  readonly started?: Promise<void>
}

/** Answers that the connection is taken over, and joins it to the session until its end. */
export async function carrySession(
  socket: Duplex,
  { session, started }: Opened,
  { headers = {}, signal }: { headers?: Readonly<Record<string, string>>; signal: AbortSignal },
): Promise<void> {
  await using _session = session
  const about = { Connection: 'Upgrade', Upgrade: STREAM_PROTOCOL, ...headers }
  const lines = Object.entries(about).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join('')}\r\n`)
  const onAbort = () => socket.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  socket.once('close', () => session.leave())
  const input = readInput(socket, session).catch((error: unknown) => {
    // a client that breaks the protocol is let go; one that left has closed already
    socket.destroy(error instanceof Error ? error : undefined)
  })
  try {
    await writeOutput(socket, session, started)
  } finally {
    signal.removeEventListener('abort', onAbort)
    await input
  }
}

async function openSession(request: IncomingMessage, runtime: Runtime, signal: AbortSignal): Promise<Opened> {
  const path = (request.url ?? '').split('?')[0] ?? ''
  const [, attach, verb] = /^\/v1\/containers\/([^/]{1,256})\/(attach|run)$/.exec(path) ?? []
  const exec = /^\/v1\/exec\/([^/]{1,256})\/start$/.exec(path)?.[1]
  if (request.method !== 'POST' || (attach ?? exec) === undefined) {
    throw new DarnerError('NOT_FOUND', `${request.method} ${path.slice(0, 200)}: nothing to stream there`)
  }
  if (attach === undefined) return { session: await runtime.execs.start(decodeURIComponent(exec ?? ''), { signal }) }
  const id = decodeURIComponent(attach)
  return verb === 'run'
    ? await runtime.containers.startAttached(id, { signal })
    : { session: await runtime.containers.attach(id) }
}

async function writeOutput(socket: Duplex, session: Session, started: Promise<void> | undefined): Promise<void> {
  let end: unknown
  try {
    for await (const { stream, bytes } of session.output()) await put(socket, encodeFrame(CHANNEL[stream], bytes))
    if (socket.destroyed) return // the client left: nobody is there to tell
    await started
    end = await session.result
  } catch (error) {
    // the start says it better, once it is undone
    const failure = await Promise.resolve(started).then(
      () => error,
      (reason: unknown) => reason,
    )
    end = errorReply(failure, 'attach').body
  }
  if (socket.destroyed) return
  await put(socket, encodeFrame(CHANNEL.end, Buffer.from(JSON.stringify(end))))
  socket.end()
  // the client closes when it has the end; closing here first could cost it output while its input is still on the way
  const patience = setTimeout(() => socket.destroy(), CLOSE_MS).unref()
  socket.once('close', () => clearTimeout(patience))
}

async function readInput(socket: Duplex, session: Session): Promise<void> {
  const decoder = new FrameDecoder()
  for await (const chunk of socket) {
    for (const frame of decoder.push(chunk as Uint8Array)) await take(frame, session)
  }
}

async function take({ channel, bytes }: Frame, session: Session): Promise<void> {
  switch (channel) {
    case CHANNEL.stdin:
      try {
        await (bytes.byteLength === 0 ? session.endInput() : session.write(bytes))
      } catch (error) {
        if (!(error instanceof DarnerError && error.code === 'CLOSED') && !isBrokenPipe(error)) throw error
      }
      return
    case CHANNEL.resize: {
      const size: unknown = JSON.parse(Buffer.from(bytes).toString())
      if (!Value.Check(TerminalSize, size))
        throw new DarnerError('PROTOCOL_VIOLATION', 'resize frame without rows and columns')
      await session.resize(size)
      return
    }
    default:
      throw new DarnerError('PROTOCOL_VIOLATION', `a client sent a frame on channel ${channel}`)
  }
}

/** Input for a process that closed its stdin or ended is dropped, as a pipe's would be. */
function isBrokenPipe(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    (error.code === 'EPIPE' || error.code === 'ECONNRESET' || error.code === 'ENOTCONN')
  )
}

function refuse(socket: Duplex, request: IncomingMessage, error: unknown): void {
  if (socket.destroyed) return
  const { status, body } = errorReply(error, `${request.method} ${request.url}`)
  const text = JSON.stringify(body)
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
  )
}
