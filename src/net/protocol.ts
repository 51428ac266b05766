/** A session's protocol as one table of schemas, the types that follow from it, and how its sessions are opened and accepted. */
import type { Static, TSchema } from 'typebox'
import { asDarnerError } from '../base/errors.ts'
import type { DialTarget, Node } from './node.ts'
import { Session, type SessionParts } from './session.ts'

/** Sessions of one protocol that one connection may have open; a peer that lost track of its own gets a new one. */
const MAX_SESSIONS_PER_CONNECTION = 8

export interface Method {
  readonly ask: TSchema
  readonly answer: TSchema
}

/** What two sides may say to each other. Methods may be asked, and notices told, by either side. */
export interface Protocol {
  /** The libp2p protocol id, with its version: `/darner/control/1`. */
  readonly id: string
  /** Longest frame, and so longest message, that either side accepts. */
  readonly maxFrameBytes: number
  readonly methods: Readonly<Record<string, Method>>
  readonly notices: Readonly<Record<string, TSchema>>
}

/** Names a protocol; here for its types. */
export function defineProtocol<const P extends Protocol>(protocol: P): P {
  return protocol
}

export type AskName<P extends Protocol> = keyof P['methods'] & string
export type Ask<P extends Protocol, M extends AskName<P>> = Static<P['methods'][M]['ask']>
export type Answer<P extends Protocol, M extends AskName<P>> = Static<P['methods'][M]['answer']>
export type NoticeName<P extends Protocol> = keyof P['notices'] & string
export type Notice<P extends Protocol, N extends NoticeName<P>> = Static<P['notices'][N]>

export interface AskContext<P extends Protocol> {
  /** Aborts when the asker cancelled or the session is over. */
  readonly signal: AbortSignal
  readonly session: Session<P>
}

/** One function per method that this side serves. A DarnerError that it throws reaches the asker with its code. */
export type Handlers<P extends Protocol> = {
  readonly [M in AskName<P>]?: (body: Ask<P, M>, context: AskContext<P>) => Promise<Answer<P, M>> | Answer<P, M>
}

/** One function per notice that this side listens to; called in order of arrival. What it throws ends the session. */
export type NoticeHandlers<P extends Protocol> = {
  readonly [N in NoticeName<P>]?: (body: Notice<P, N>, session: Session<P>) => void
}

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
 * Accepts sessions of a protocol: `accept` sees each one before its first message and says what serves it; what it throws is
 * told to the other side. Returns the way to stop accepting; sessions that are open stay so.
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
      const session = new Session(node, peer, stream, protocol, (session) => {
        try {
          return accept(session)
        } catch (error) {
          refusal = error
          return {}
        }
      })
      if (refusal !== undefined) await session.close(asDarnerError(refusal, protocol.id))
    },
    { maxInboundStreams: MAX_SESSIONS_PER_CONNECTION },
  )
}
