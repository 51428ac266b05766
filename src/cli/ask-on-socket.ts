/**
 * One request to the agent on the socket itself. `node:http` costs a command's start 8 ms of processor time (of 45), and none of its
 * features is needed. The answer is a head and then the bytes as they are, to the end.
 */
import { DarnerError } from '../core/errors.ts'
import { errorOfBody, unreachable } from './client.ts'
import { UnixConnection } from './unix-connection.ts'

/** The longest head of an answer that is read. */
const MAX_HEAD_BYTES = 64 * 1024
/** The longest error that is read. */
const MAX_ERROR_BYTES = 1024 * 1024

export interface Answered {
  readonly status: number
  /** By lower-case name. */
  readonly headers: ReadonlyMap<string, string>
  /** What came after the head with it. */
  readonly rest: Uint8Array
  /** What comes after that. Leaving it early keeps the connection. */
  readonly more: AsyncGenerator<Uint8Array, void, undefined>
  readonly connection: UnixConnection
}

/**
 * Sends `head` (without the empty line at its end) and `text`. Resolves with a good answer; the caller destroys the connection. Throws
 * AGENT_UNREACHABLE, the agent's own error, or the signal's reason.
 */
export async function askOnSocket(
  head: string,
  text: string,
  { socket: path, what, signal }: { socket: string; what: string; signal: AbortSignal },
): Promise<Answered> {
  signal.throwIfAborted()
  const onAbort = () => connection.destroy(signal.reason instanceof Error ? signal.reason : undefined)
  const connection = new UnixConnection(path, () => signal.removeEventListener('abort', onAbort))
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    void connection.write(Buffer.from(`${head}\r\n\r\n${text}`))
    const more = connection.bytes()
    const { status, headers, rest } = await readHead(more, what)
    if (status >= 400) throw errorOfBody(await readError(rest, more, what), status, what)
    return { status, headers, rest, more, connection }
  } catch (error) {
    connection.destroy()
    signal.throwIfAborted()
    throw unreachable(error, path, what)
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
  throw new DarnerError('PROTOCOL_VIOLATION', `${what}: the answer is not HTTP/1`)
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

/** `first`, then the rest. */
export async function* after(
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
