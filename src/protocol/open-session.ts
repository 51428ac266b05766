/** How sessions of a protocol are opened and accepted. */
import { asDarnerError } from '../core/errors.ts'
import type { DialTarget, Node } from './node.ts'
import { Session, type SessionParts } from './session.ts'
import type { Protocol } from './session-protocol.ts'

/** Sessions of one protocol that one connection may have open; a peer that lost track of its own gets a new one. */
const MAX_SESSIONS_PER_CONNECTION = 8

/**
 * Opens a session. Throws what {@link Node.openStream} does: PEER_UNREACHABLE, PEER_REFUSED, BAD_ARGUMENT, or the signal's reason.
 * The signal is for the opening only.
 */
export async function openSession<P extends Protocol>(
  node: Node,
  target: DialTarget,
  protocol: P,
  parts: SessionParts<P>,
  options: { signal: AbortSignal },
): Promise<Session<P>> {
  const { stream, peer } = await node.openStream(target, protocol.id, options)
  return new Session(node, peer, stream, protocol, parts)
}

/**
 * Accepts sessions of a protocol. `accept` sees each one before its first message and returns what serves it; what it throws is sent to the
 * other side. Returns the way to stop accepting; sessions that are open stay so.
 */
export function acceptSessions<P extends Protocol>(
  node: Node,
  protocol: P,
  accept: (session: Session<P>) => SessionParts<P>,
): Promise<() => Promise<void>> {
  return node.handle(
    protocol.id,
    async (stream, peer) => {
      let refusal: unknown
      const parts = (session: Session<P>) => {
        try {
          return accept(session)
        } catch (error) {
          refusal = error
          return {}
        }
      }
      const session = new Session(node, peer, stream, protocol, parts, { greeting: protocol.greeting })
      if (refusal !== undefined) await session.close(asDarnerError(refusal, protocol.id))
    },
    { maxInboundStreams: MAX_SESSIONS_PER_CONNECTION },
  )
}
