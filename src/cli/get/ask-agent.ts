/**
 * One request to the agent for a stream of bytes, on the socket itself. `node:http` costs a command's start 8 ms of processor time
 * (of 45), and needs none of what it can: the agent answers HTTP/1.0 with a head and then the body as it is, to the end.
 */
import type { Socket } from 'node:net'
import { DarnerError } from '../../base/errors.ts'
import { errorOfBody, unreachable } from '../client.ts'

/** The longest head of an answer that is read. */
const MAX_HEAD_BYTES = 64 * 1024
/** The longest error that is read. */
const MAX_ERROR_BYTES = 1024 * 1024

export interface AgentAnswer extends Disposable {
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>
  /** Read once, no faster than it is taken. Throws what the socket throws. */
  readonly body: AsyncGenerator<Uint8Array, void, undefined>
}

/** Resolves with the head of a good answer. Throws AGENT_UNREACHABLE, the agent's own error, or the signal's reason. */
export async function askAgent(
  path: string,
  body: unknown,
  { socket: socketPath, signal }: { socket: string; signal: AbortSignal },
): Promise<AgentAnswer> {
  signal.throwIfAborted()
  const what = `POST ${path} at the agent on ${socketPath}`
  const { connect } = process.getBuiltinModule('node:net')
  const socket = connect(socketPath)
  const onAbort = () => void socket.destroy(signal.reason instanceof Error ? signal.reason : undefined)
  signal.addEventListener('abort', onAbort, { once: true })
  const dispose = () => {
    signal.removeEventListener('abort', onAbort)
    socket.destroy()
  }
  try {
    const text = JSON.stringify(body)
    const length = Buffer.byteLength(text)
    const head = `host: darner\r\ncontent-type: application/json\r\ncontent-length: ${length}`
    socket.write(`POST ${path} HTTP/1.0\r\n${head}\r\n\r\n${text}`)
    const bytes = bytesOf(socket)
    const { status, headers, rest } = await readHead(bytes, what)
    if (status >= 400) throw errorOfBody(await readError(rest, bytes, what), status, what)
    return { headers, body: after(rest, bytes), [Symbol.dispose]: dispose }
  } catch (error) {
    dispose()
    signal.throwIfAborted()
    throw unreachable(error, socketPath, what)
  }
}

/** What arrives, as it arrives; ends with the other side. Leaving it early keeps the socket. */
async function* bytesOf(socket: Socket): AsyncGenerator<Uint8Array, void, undefined> {
  let wake = () => {}
  let failed: Error | undefined
  let over = false
  const end = () => {
    over = true
    wake()
  }
  socket
    .on('readable', () => wake())
    .on('end', end)
    .on('close', end)
    .on('error', (error) => {
      failed = error
      wake()
    })
  for (;;) {
    const chunk: Uint8Array | null = socket.read()
    if (chunk !== null) yield chunk
    else if (failed !== undefined) throw failed
    else if (over) return
    else
      await new Promise<void>((resolve) => {
        wake = resolve
      })
  }
}

interface Head {
  readonly status: number
  readonly headers: Map<string, string>
  /** What came of the body with it. */
  readonly rest: Uint8Array
}

async function readHead(bytes: AsyncGenerator<Uint8Array, void>, what: string): Promise<Head> {
  let seen = Buffer.alloc(0)
  for (;;) {
    const end = seen.indexOf('\r\n\r\n')
    if (end >= 0) {
      const [first = '', ...lines] = seen.toString('latin1', 0, end).split('\r\n')
      const status = first.startsWith('HTTP/1.') ? Number(first.slice(9, 12)) : Number.NaN
      const headers = new Map<string, string>()
      for (const line of lines) {
        const at = line.indexOf(':')
        headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim())
      }
      if (!Number.isInteger(status) || headers.has('transfer-encoding')) break
      return { status, headers, rest: seen.subarray(end + 4) }
    }
    if (seen.byteLength > MAX_HEAD_BYTES) break
    const { value, done } = await bytes.next()
    if (done || value === undefined)
      throw new DarnerError('AGENT_UNREACHABLE', `${what}: the connection ended without an answer`)
    seen = Buffer.concat([seen, value])
  }
  throw new DarnerError('PROTOCOL_VIOLATION', `${what}: the answer is none of HTTP/1.0`)
}

async function readError(rest: Uint8Array, bytes: AsyncGenerator<Uint8Array, void>, what: string): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of after(rest, bytes)) {
    length += chunk.byteLength
    if (length > MAX_ERROR_BYTES)
      throw new DarnerError('PROTOCOL_VIOLATION', `${what}: an error of more than ${MAX_ERROR_BYTES} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'))
  } catch {
    return undefined // SyntaxError: no JSON, so no error body
  }
}

async function* after(
  first: Uint8Array,
  rest: AsyncGenerator<Uint8Array, void>,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (first.byteLength > 0) yield first
  for (;;) {
    const { value, done } = await rest.next()
    if (done || value === undefined) return
    yield value
  }
}
