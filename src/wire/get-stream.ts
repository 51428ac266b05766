/**
 * The body of the local API's `get`: frames in one HTTP response, version 1. A frame is kind (1 byte), payload length (4 bytes,
 * big-endian), payload. Kinds: 1 data (8 bytes offset, then bytes), 2 progress (JSON), 3 summary (JSON, the last frame of a
 * success), 4 error (JSON, the last frame of a failure). A body that ends without 3 or 4 was cut off.
 */
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { DarnerError } from '../base/errors.ts'
import { Credential, Origin } from '../task/origin.ts'

export const GET_CONTENT_TYPE = 'application/vnd.darner.get.v1'
/** Data in one frame. */
export const GET_CHUNK_BYTES = 256 * 1024
const HEADER_BYTES = 5
const OFFSET_BYTES = 8
const MAX_PAYLOAD_BYTES = 1024 * 1024

const Sources = Type.Object({ origin: Type.Integer(), supernode: Type.Integer(), peers: Type.Integer() })

export const GetRequest = Type.Object(
  {
    origin: Origin,
    digest: Type.Optional(Type.String({ maxLength: 160 })),
    credential: Type.Optional(Credential),
    priority: Type.Union([Type.Literal('interactive'), Type.Literal('background')]),
    /** `landed`: data as pieces land, in any order; `ordered`: from first byte to last. */
    order: Type.Union([Type.Literal('landed'), Type.Literal('ordered')]),
  },
  { additionalProperties: false },
)
export type GetRequest = Static<typeof GetRequest>

export const GetProgress = Type.Object({ bytes: Type.Integer(), have: Type.Integer(), from: Sources })
export const GetSummary = Type.Object({
  digest: Type.String(),
  bytes: Type.Integer(),
  seconds: Type.Number(),
  from: Sources,
  pieces: Type.Integer(),
})
export const GetFailure = Type.Object({
  code: Type.String(),
  message: Type.String(),
  way: Type.Optional(Type.String()),
})
export type GetProgress = Static<typeof GetProgress>
export type GetSummary = Static<typeof GetSummary>
export type GetFailure = Static<typeof GetFailure>

export type GetFrame =
  | { readonly kind: 'data'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'progress'; readonly body: GetProgress }
  | { readonly kind: 'summary'; readonly body: GetSummary }
  | { readonly kind: 'error'; readonly body: GetFailure }

const KINDS = { progress: 2, summary: 3, error: 4 } as const

/** The head of a data frame; the bytes follow it as they are. */
export function dataHead(offset: number, length: number): Uint8Array {
  const head = Buffer.allocUnsafe(HEADER_BYTES + OFFSET_BYTES)
  head.writeUInt8(1, 0)
  head.writeUInt32BE(length + OFFSET_BYTES, 1)
  head.writeBigUInt64BE(BigInt(offset), HEADER_BYTES)
  return head
}

export function jsonFrame(kind: keyof typeof KINDS, body: GetProgress | GetSummary | GetFailure): Uint8Array {
  const payload = Buffer.from(JSON.stringify(body))
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.byteLength)
  frame.writeUInt8(KINDS[kind], 0)
  frame.writeUInt32BE(payload.byteLength, 1)
  payload.copy(frame, HEADER_BYTES)
  return frame
}

/** Frames of a response body. Data comes in views as large as they arrived. Throws PROTOCOL_VIOLATION, CLOSED when it is cut off. */
export async function* readGetStream(body: AsyncIterable<Uint8Array>): AsyncGenerator<GetFrame> {
  let head: Buffer = Buffer.alloc(0)
  let data: { offset: number; left: number } | undefined
  let over = false
  for await (const chunk of body) {
    let rest: Buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    while (rest.byteLength > 0) {
      if (data !== undefined) {
        const bytes = rest.subarray(0, data.left)
        rest = rest.subarray(bytes.byteLength)
        yield { kind: 'data', offset: data.offset, bytes }
        data =
          data.left === bytes.byteLength
            ? undefined
            : { offset: data.offset + bytes.byteLength, left: data.left - bytes.byteLength }
        continue
      }
      head = head.byteLength === 0 ? rest : Buffer.concat([head, rest])
      rest = Buffer.alloc(0)
      if (head.byteLength < HEADER_BYTES) break
      const kind = head.readUInt8(0)
      const length = head.readUInt32BE(1)
      if (length > MAX_PAYLOAD_BYTES)
        throw new DarnerError('PROTOCOL_VIOLATION', `the agent sent a frame of ${length} bytes`)
      if (kind === 1) {
        if (head.byteLength < HEADER_BYTES + OFFSET_BYTES) break
        data = { offset: Number(head.readBigUInt64BE(HEADER_BYTES)), left: length - OFFSET_BYTES }
        if (data.left < 0) throw new DarnerError('PROTOCOL_VIOLATION', 'the agent sent a data frame without an offset')
        rest = head.subarray(HEADER_BYTES + OFFSET_BYTES)
        head = Buffer.alloc(0)
        if (data.left === 0) data = undefined
        continue
      }
      if (head.byteLength < HEADER_BYTES + length) break
      const payload = head.subarray(HEADER_BYTES, HEADER_BYTES + length)
      rest = head.subarray(HEADER_BYTES + length)
      head = Buffer.alloc(0)
      const frame = jsonOf(kind, payload)
      over ||= frame.kind !== 'progress'
      yield frame
    }
  }
  if (!over) throw new DarnerError('CLOSED', 'the agent ended the answer half way')
}

function jsonOf(kind: number, payload: Buffer): GetFrame {
  const body: unknown = JSON.parse(payload.toString('utf8'))
  if (kind === KINDS.progress) return { kind: 'progress', body: known(GetProgress, body) }
  if (kind === KINDS.summary) return { kind: 'summary', body: known(GetSummary, body) }
  if (kind === KINDS.error) return { kind: 'error', body: known(GetFailure, body) }
  throw new DarnerError('PROTOCOL_VIOLATION', `the agent sent a frame of kind ${kind}`)
}

function known<T extends TSchema>(schema: T, body: unknown): Static<T> {
  if (Value.Check(schema, body)) return body as Static<T>
  throw new DarnerError('PROTOCOL_VIOLATION', 'the agent sent a frame of another shape')
}
