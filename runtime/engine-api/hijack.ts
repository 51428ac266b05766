/**
 * Attach and exec-start: the connection becomes the streams of a process. A client that sends `Upgrade: tcp` gets 101. One that asks for no
 * upgrade gets 200 and is treated alike: `front` marks such requests, since node's HTTP would go on reading.
 */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { ExitReply } from '../../src/api/containers-api.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { put } from '../../src/core/outflow.ts'
import type { Session } from '../containers/session.ts'
import type { OutputChunk } from '../shim/attach.ts'
import type { DockerParts } from './context.ts'
import { DetachWatch, detachKeys } from './detach-keys.ts'
import { dockerError, StatusError, startFailure } from './errors.ts'
import { yes } from './filters.ts'
import { framed } from './frames.ts'
import { logBytes } from './logs.ts'
import { OptFlag } from './optional.ts'
import { decoded, routeOf } from './version-path.ts'

/** Header by which {@link front} says that the client asked for no upgrade. */
export const PLAIN_HIJACK = 'x-darner-plain-hijack'
const RAW = 'application/vnd.docker.raw-stream'
const MULTIPLEXED = 'application/vnd.docker.multiplexed-stream'
const MOST_START_BYTES = 65_536
const STDERR = 2
const STDOUT = 1

const StartBody = Type.Object({
  Detach: OptFlag(),
  Tty: OptFlag(),
  ConsoleSize: Type.Optional(Type.Union([Type.Array(Type.Integer()), Type.Null()])),
})

/** Serves one upgraded connection to its end. Never rejects. */
export async function serveHijack(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  parts: DockerParts,
): Promise<void> {
  takeOver(socket, head)
  let answered = false
  try {
    const { path, query } = routeOf(request.url ?? '')
    const attach = /^\/containers\/([^/]{1,256})\/attach$/.exec(path)?.[1]
    const exec = /^\/exec\/([^/]{1,256})\/start$/.exec(path)?.[1]
    if (request.method !== 'POST' || (attach ?? exec) === undefined)
      throw new StatusError(400, `${request.method} ${path.slice(0, 200)}: nothing to upgrade there`)
    const body = await readBody(request, socket, MOST_START_BYTES)
    const opened =
      attach !== undefined
        ? await openAttach(decoded(attach), query, parts)
        : await openExec(decoded(exec ?? ''), body, parts)
    const plain = request.headers[PLAIN_HIJACK] !== undefined
    const type = opened.tty ? RAW : MULTIPLEXED
    answered = true
    // ahead of any output: clients of python take what comes along with the head for a part of it, and lose it
    await put(
      socket,
      Buffer.from(
        plain
          ? `HTTP/1.1 200 OK\r\nContent-Type: ${RAW}\r\n\r\n`
          : `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`,
      ),
    )
    await using session = await opened.begin()
    await carry(socket, { ...opened, session }, parts)
  } catch (error) {
    if (answered) socket.destroy()
    else refuse(socket, error, request)
  }
}

interface Opened {
  /** Called once the client has the answer's head, so that its streams follow. */
  readonly begin: () => Promise<Session>
  readonly tty: boolean
  readonly wants: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean }
  /** Of a terminal: the keys by which the client leaves it, and the callback for that. */
  readonly detach?: { readonly keys: readonly number[]; readonly tell?: () => void }
  /** True when the streams end only after the exit code is known. */
  readonly settles?: boolean
  /** What was written before, when it was asked for. */
  readonly past?: () => AsyncGenerator<Uint8Array>
}

async function openAttach(reference: string, query: URLSearchParams, parts: DockerParts): Promise<Opened> {
  const { containers } = parts.runtime
  const entry = containers.entry(reference)
  const { record } = entry
  const asked = (name: string) => yes(query.get(name) ?? undefined)
  if (record.status === 'paused')
    throw new StatusError(409, `container ${entry.id} is paused, unpause the container before attach`)
  const stream = asked('stream')
  const tty = record.request.tty === true
  const keys = detachKeys(query.get('detachKeys'))
  const wants = { stdin: asked('stdin'), stdout: asked('stdout'), stderr: asked('stderr') }
  const session = await containers.attach(entry.id)
  containers.tell(entry, 'attach')
  const past = asked('logs')
    ? () => logBytes(containers.logs(entry.id, {}, { signal: parts.signal }), { tty, timestamps: false, ...wants })
    : undefined
  if (!stream) session.leave()
  const detach = tty ? { detach: { keys, tell: () => containers.tell(entry, 'detach') } } : {}
  return { begin: async () => session, tty, wants, ...detach, ...(past ? { past } : {}) }
}

async function openExec(execId: string, body: Buffer, parts: DockerParts): Promise<Opened> {
  const { execs } = parts.runtime
  const start = parseStart(body)
  const { request } = execs.startable(execId)
  // docker frames the output by what the start says, whatever the exec has
  const tty = start.Tty === true
  const wants = { stdin: request.stdin === true, stdout: true, stderr: true }
  const begin = async (): Promise<Session> => {
    try {
      const session = await execs.start(execId, { signal: parts.signal })
      const [rows = 0, columns = 0] = start.ConsoleSize ?? []
      if (request.tty === true && rows > 0 && columns > 0) await execs.resize(execId, { rows, columns })
      return session
    } catch (error) {
      // as docker: the streams tell why it didn't start, and the exit code is asked for afterwards
      const failure = asDarnerError(error, `exec ${execId.slice(0, 12)}`)
      const { message, details } = failure
      const text = `OCI runtime exec failed: ${startFailure(failure) ?? `${message}: unknown`}\r\n`
      return new EndedSession(Buffer.from(text), typeof details.exitCode === 'number' ? details.exitCode : 126)
    }
  }
  const detach = request.tty === true ? { detach: { keys: detachKeys(request.detachKeys) } } : {}
  return { begin, tty, wants, ...detach, settles: true }
}

/** The streams of what never ran: one text. */
class EndedSession implements Session {
  readonly #text: Uint8Array
  readonly result: Promise<ExitReply>

  constructor(text: Uint8Array, exitCode: number) {
    this.#text = text
    this.result = Promise.resolve({ exitCode })
  }

  async *output(): AsyncGenerator<OutputChunk> {
    yield { stream: 'stdout', bytes: this.#text }
  }

  async write(): Promise<void> {}
  async endInput(): Promise<void> {}
  async resize(): Promise<void> {}
  leave(): void {}
  async [Symbol.asyncDispose](): Promise<void> {}
}

/** Throws 400. */
export function parseStart(body: Uint8Array): Static<typeof StartBody> {
  if (body.byteLength === 0) return {}
  const json = jsonOf(body)
  if (!Value.Check(StartBody, json)) throw new StatusError(400, 'invalid exec start configuration')
  return json
}

async function carry(
  socket: Duplex,
  { session, tty, wants, past, detach, settles }: Omit<Opened, 'begin'> & { readonly session: Session },
  parts: DockerParts,
): Promise<void> {
  const onAbort = () => socket.destroy()
  parts.signal.addEventListener('abort', onAbort, { once: true })
  socket.once('close', () => session.leave())
  let left = false
  const leave = () => {
    left = true
    session.leave()
    detach?.tell?.()
  }
  const watch = detach && { keys: new DetachWatch(detach.keys), leave }
  const input = feed(socket, session, wants.stdin, watch).catch(() => socket.destroy())
  try {
    if (past) for await (const bytes of past()) await put(socket, bytes)
    for await (const { stream, bytes } of session.output()) {
      if (!wants[stream]) continue
      await put(socket, tty ? bytes : framed(stream === 'stdout' ? STDOUT : STDERR, bytes))
    }
    // clients ask for the exit code as soon as the streams end
    if (!socket.destroyed && settles && !left)
      await Promise.race([session.result, new Promise((resolve) => socket.once('close', resolve))])
  } catch (error) {
    // the start's own answer reports a start that failed; a client that left has closed already
    if (!(error instanceof DarnerError)) throw error
  } finally {
    parts.signal.removeEventListener('abort', onAbort)
    socket.end()
    setTimeout(() => socket.destroy(), 5000).unref()
    await input
  }
}

async function feed(
  socket: Duplex,
  session: Session,
  wanted: boolean,
  watch: { readonly keys: DetachWatch; readonly leave: () => void } | undefined,
): Promise<void> {
  // a client that has no more input may still read
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    if (!wanted) continue
    const { input, left } = watch?.keys.pass(chunk as Uint8Array) ?? { input: chunk as Uint8Array, left: false }
    if (input.byteLength > 0) await session.write(input).catch(dropped)
    if (left) return watch?.leave()
  }
  if (wanted) await session.endInput().catch(dropped)
}

/** Input for a process that closed its stdin or ended is dropped, as a pipe's would be. */
function dropped(error: unknown): void {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (!['CLOSED', 'EPIPE', 'ECONNRESET', 'ENOTCONN'].includes(code)) throw error
}

/** Makes an upgraded connection ready to be read. */
export function takeOver(socket: Duplex, head: Buffer): void {
  socket.on('error', () => socket.destroy()) // the client is gone, which the session sees as close
  if (head.byteLength > 0) socket.unshift(head)
}

/** Throws 400. */
export function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString())
  } catch {
    throw new StatusError(400, 'invalid JSON')
  }
}

/** The body that came before the upgrade: an upgraded connection hands it over unread. Throws 400, above `mostBytes` too. */
export async function readBody(request: IncomingMessage, socket: Duplex, mostBytes: number): Promise<Buffer> {
  if (/chunked/i.test(request.headers['transfer-encoding'] ?? '')) return await readChunked(socket, mostBytes)
  const length = Number(request.headers['content-length'] ?? 0)
  if (!Number.isInteger(length) || length < 0 || length > mostBytes) throw new StatusError(400, 'body too long')
  return length === 0 ? Buffer.alloc(0) : await readBytes(socket, length)
}

async function readBytes(socket: Duplex, length: number): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read(length) as Buffer | null
    if (chunk !== null)
      return chunk.byteLength === length ? chunk : Promise.reject(new StatusError(400, 'unexpected EOF'))
    if (socket.readableEnded || socket.destroyed) throw new StatusError(400, 'unexpected EOF')
    await new Promise<void>((resolve) => {
      const done = () => {
        for (const name of ['readable', 'end', 'close']) socket.off(name, done)
        resolve()
      }
      for (const name of ['readable', 'end', 'close']) socket.once(name, done)
    })
  }
}

async function readChunked(socket: Duplex, mostBytes: number): Promise<Buffer> {
  const parts: Buffer[] = []
  let bytes = 0
  for (;;) {
    let line = ''
    while (!line.endsWith('\r\n')) {
      line += (await readBytes(socket, 1)).toString('latin1')
      if (line.length > 64) throw new StatusError(400, 'malformed chunked encoding')
    }
    const length = Number.parseInt(line, 16)
    bytes += length
    if (!Number.isInteger(length) || bytes > mostBytes) throw new StatusError(400, 'body too long')
    const chunk = length > 0 ? await readBytes(socket, length) : Buffer.alloc(0)
    await readBytes(socket, 2)
    if (length === 0) return Buffer.concat(parts)
    parts.push(chunk)
  }
}

/** Answers with the error, in place of the streams. */
export function refuse(socket: Duplex, error: unknown, request: IncomingMessage): void {
  if (socket.destroyed) return
  const { status, ...body } = dockerError(error, `${request.method} ${request.url}`)
  const text = `${JSON.stringify(body)}\n`
  socket.end(
    `HTTP/1.1 ${status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\nConnection: close\r\n\r\n${text}`,
  )
}
