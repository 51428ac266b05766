/** One request to the agent for a stream of bytes, in HTTP/1.0: the answer's body is the bytes as they are, to the end. */
import { after, askOnSocket } from '../ask-on-socket.ts'

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
  const text = JSON.stringify(body)
  const about = `host: darner\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}`
  const what = `POST ${path} at the agent on ${socketPath}`
  const asked = { socket: socketPath, what, signal }
  const { headers, rest, more, connection } = await askOnSocket(`POST ${path} HTTP/1.0\r\n${about}`, text, asked)
  return { headers, body: after(rest, more), [Symbol.dispose]: () => connection.destroy() }
}
