/**
 * The body of the local API's `get`: frames in one HTTP response, version 1. A frame is kind (1 byte), payload length (4 bytes,
 * big-endian), payload. Kinds: 1 data (8 bytes offset, then bytes), 2 progress (JSON), 3 summary (JSON, the last frame of a success), 4
 * error (JSON, the last frame of a failure). Kind 5 is landed (8 bytes offset, 8 bytes length): that range can be read in the file that the
 * response's header names. A body that ends without 3 or 4 was cut off.
 *
 * Both sides of one host's socket: commands import this, so it checks by hand and loads no schema library.
 */

import type { ByteSources } from '../core/contracts/content.ts'
import { DarnerError } from '../core/errors.ts'

export const GET_CONTENT_TYPE = 'application/vnd.darner.get.v1'
/** Data in one frame. */
export const GET_CHUNK_BYTES = 256 * 1024
/** Response headers of an answer by file: its path in URI encoding, and its device and inode as `DEV:INO`. */
export const GET_FILE_HEADER = 'darner-file'
export const GET_FILE_ID_HEADER = 'darner-file-id'
const HEADER_BYTES = 5
const OFFSET_BYTES = 8
const LANDED_BYTES = 16
const MAX_PAYLOAD_BYTES = 1024 * 1024

export interface GetProgress {
  readonly bytes: number
  readonly have: number
  readonly from: ByteSources
}

export interface GetSummary {
  readonly digest: string
  readonly bytes: number
  readonly seconds: number
  readonly from: ByteSources
  readonly pieces: number
}

export interface GetFailure {
  readonly code: string
  readonly message: string
  readonly way?: string
}

export type GetFrame =
  | { readonly kind: 'data'; readonly offset: number; readonly bytes: Uint8Array }
  | { readonly kind: 'landed'; readonly offset: number; readonly length: number }
  | { readonly kind: 'progress'; readonly body: GetProgress }
  | { readonly kind: 'summary'; readonly body: GetSummary }
  | { readonly kind: 'error'; readonly body: GetFailure }

const DATA = 1
const KINDS = { progress: 2, summary: 3, error: 4 } as const
const LANDED = 5

/** The head of a data frame; the bytes follow it as they are. */
export function dataHead(offset: number, length: number): Uint8Array {
  const head = Buffer.allocUnsafe(HEADER_BYTES + OFFSET_BYTES)
  head.writeUInt8(DATA, 0)
  head.writeUInt32BE(length + OFFSET_BYTES, 1)
  head.writeBigUInt64BE(BigInt(offset), HEADER_BYTES)
  return head
}

/** Says that a range can be read in the file. */
export function landedFrame(offset: number, length: number): Uint8Array {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + LANDED_BYTES)
  frame.writeUInt8(LANDED, 0)
  frame.writeUInt32BE(LANDED_BYTES, 1)
  frame.writeBigUInt64BE(BigInt(offset), HEADER_BYTES)
  frame.writeBigUInt64BE(BigInt(length), HEADER_BYTES + OFFSET_BYTES)
  return frame
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
      if (kind === DATA) {
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
      const frame = kind === LANDED ? landedOf(payload) : jsonOf(kind, payload)
      over ||= frame.kind === 'summary' || frame.kind === 'error'
      yield frame
    }
  }
  if (!over) throw new DarnerError('CLOSED', 'the agent broke off its answer')
}

function landedOf(payload: Buffer): GetFrame {
  if (payload.byteLength !== LANDED_BYTES)
    throw new DarnerError('PROTOCOL_VIOLATION', `the agent sent a landed frame of ${payload.byteLength} bytes`)
  const offset = Number(payload.readBigUInt64BE(0))
  return { kind: 'landed', offset, length: Number(payload.readBigUInt64BE(OFFSET_BYTES)) }
}

function jsonOf(kind: number, payload: Buffer): GetFrame {
  const body = objectOf(payload)
  if (kind === KINDS.progress && numbers(body, 'bytes', 'have') && isSources(body.from))
    return { kind: 'progress', body: body as unknown as GetProgress }
  if (
    kind === KINDS.summary &&
    typeof body.digest === 'string' &&
    numbers(body, 'bytes', 'seconds', 'pieces') &&
    isSources(body.from)
  )
    return { kind: 'summary', body: body as unknown as GetSummary }
  if (kind === KINDS.error && typeof body.code === 'string' && typeof body.message === 'string')
    return { kind: 'error', body: body as unknown as GetFailure }
  throw new DarnerError('PROTOCOL_VIOLATION', `the agent sent a frame of kind ${kind} of another shape`)
}

function objectOf(payload: Buffer): Record<string, unknown> {
  let body: unknown
  try {
    body = JSON.parse(payload.toString('utf8'))
  } catch (error) {
    throw new DarnerError('PROTOCOL_VIOLATION', 'the agent sent a frame that is not JSON', { cause: error })
  }
  return typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {}
}

function numbers(body: Record<string, unknown>, ...names: readonly string[]): boolean {
  return names.every((name) => typeof body[name] === 'number')
}

function isSources(from: unknown): boolean {
  return (
    typeof from === 'object' &&
    from !== null &&
    numbers(from as Record<string, unknown>, 'origin', 'supernode', 'peers')
  )
}
