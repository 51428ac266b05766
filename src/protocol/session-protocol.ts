/** A session's protocol as one table of schemas, and the types that follow from it. */
import type { Static, TSchema } from 'typebox'

export interface Method {
  readonly ask: TSchema
  readonly answer: TSchema
}

/** What two sides may say to each other. Either side may ask methods and send notices. */
export interface Protocol {
  /** The libp2p protocol id, with its version: `/darner/control/1`. */
  readonly id: string
  /** Longest frame, and so longest message, that either side accepts. */
  readonly maxFrameBytes: number
  readonly methods: Readonly<Record<string, Method>>
  readonly notices: Readonly<Record<string, TSchema>>
  /**
   * The method that the opener of a session asks first, and once. Nothing else is read before its answer, and a refusal ends the
   * connection. Without one a session is open from the start.
   */
  readonly greeting?: string
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
