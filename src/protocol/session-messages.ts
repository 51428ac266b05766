/**
 * Messages of a session, as CBOR arrays inside frames: `[kind, …]`. Version 1. An empty frame is a heartbeat. Asks are numbered by
 * the side that asks, so the two directions don't share numbers.
 */
import { type Static, Type } from 'typebox'
import { CODES, type Code, DarnerError } from '../core/errors.ts'
import { Count, check } from './schema.ts'

export const Kind = { ask: 0, answer: 1, failure: 2, cancel: 3, notice: 4, farewell: 5 } as const

const MAX_MESSAGE_CHARS = 4096
const MAX_WAY_CHARS = 1024

/** An error as it crosses the wire. A code that the reader doesn't know becomes INTERNAL. */
export const Failure = Type.Object(
  {
    code: Type.String({ maxLength: 64 }),
    message: Type.String({ maxLength: MAX_MESSAGE_CHARS }),
    way: Type.Optional(Type.String({ maxLength: MAX_WAY_CHARS })),
    retryAfterMs: Type.Optional(Count(2 ** 31)),
  },
  { additionalProperties: false },
)
export type Failure = Static<typeof Failure>

const Id = Count(2 ** 48)
const Name = Type.String({ maxLength: 64 })

/** Bodies are checked afterwards, by the schema that the protocol has for their name. */
const SHAPES = [
  Type.Tuple([Type.Literal(Kind.ask), Id, Name, Type.Unknown()]),
  Type.Tuple([Type.Literal(Kind.answer), Id, Type.Unknown()]),
  Type.Tuple([Type.Literal(Kind.failure), Id, Failure]),
  Type.Tuple([Type.Literal(Kind.cancel), Id]),
  Type.Tuple([Type.Literal(Kind.notice), Name, Type.Unknown()]),
  Type.Tuple([Type.Literal(Kind.farewell), Failure]),
] as const
export type Message = Static<(typeof SHAPES)[number]>

/** Throws PROTOCOL_VIOLATION, naming `what`, unless the value is a message of one of the known kinds. */
export function readMessage(value: unknown, what: string): Message {
  const kind: unknown = Array.isArray(value) ? value[0] : undefined
  const shape = typeof kind === 'number' ? SHAPES[kind] : undefined
  if (shape === undefined) throw new DarnerError('PROTOCOL_VIOLATION', `${what}: not a message of a known kind`)
  return check(shape, value, what)
}

/** What of an error goes over the wire; causes and details stay here. */
export function failureOf(error: DarnerError): Failure {
  return {
    code: error.code,
    message: error.message.slice(0, MAX_MESSAGE_CHARS),
    ...(error.way === undefined ? {} : { way: error.way.slice(0, MAX_WAY_CHARS) }),
    ...(error.retryAfterMs === undefined
      ? {}
      : { retryAfterMs: Math.min(2 ** 31, Math.max(0, Math.round(error.retryAfterMs))) }),
  }
}

/** The error that the other side meant; `what` stands in front only when its code is unknown here. */
export function failureError(failure: Failure, what: string): DarnerError {
  const { way, retryAfterMs } = failure
  const options = { ...(way === undefined ? {} : { way }), ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
  if (Object.hasOwn(CODES, failure.code)) return new DarnerError(failure.code as Code, failure.message, options)
  return new DarnerError('INTERNAL', `${what}: ${failure.message} (${failure.code})`, options)
}
