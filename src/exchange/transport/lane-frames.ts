/**
 * The bulk lane's frames: what a child and a parent say to each other, over TLS 1.3 or over a libp2p stream.
 *
 * Each side first sends an 8-byte preface (`DRNL`, version, three zero bytes). Then come frames: a 16-byte header and
 * `bytes` bytes of payload. Numbers are big-endian.
 *
 * ```
 * 0      1       2         4         8         12        16
 * | type | flags | channel | request | number  | bytes   | payload …
 * ```
 *
 * A channel is one task that the child reads at this parent; the child numbers it. Requests are numbered by the child too,
 * and belong to a connection. Fields that a type doesn't use are zero.
 */
import { DarnerError } from '../../core/errors.ts'
import { isTaskId, MAX_PIECE_BYTES, MAX_TASK_BYTES, MIN_PIECE_BYTES, type TaskId } from '../../core/task/task.ts'

export const LANE_VERSION = 3
/** ALPN name of the TLS lane, and the libp2p protocol of the fallback. */
export const LANE_ALPN = 'darner-lane/3'
export const LANE_PROTOCOL = '/darner/lane/3'
export const PREFACE_BYTES = 8
export const HEADER_BYTES = 16

/** A piece's body travels in segments of at most this; between two of them other frames may pass. */
export const MAX_SEGMENT_BYTES = 256 * 1024
export const MAX_PASS_BYTES = 4096
export const MAX_RUNS = 512
export const MAX_TEXT_BYTES = 512
/** 2^20 pieces, the most a task can have, are 128 KiB of bitmap. */
export const MAX_BITMAP_BYTES = MAX_TASK_BYTES / MAX_PIECE_BYTES / 8
export const MAX_CHANNEL = 0xffff
/** Credit that never ends; the state of a channel that its child does not meter. */
export const UNMETERED = Number.MAX_SAFE_INTEGER

export const FRAME = {
  /** child: opens a task. `channel`, flags OPEN_*; payload: id length (1), id, pass length (2), pass, bitmap of what the child has (or nothing). */
  OPEN: 1,
  /** child: wants piece `number` as `request`. */
  ASK: 2,
  /** child: wants a piece of the parent's choice as `request`; the parent OFFERs one, or, with ANY_SURE, sends one that it may. */
  ANY: 3,
  /** child: no longer wants `request`; the parent ends it with the last segment, or with GONE. */
  CANCEL: 4,
  /** child: has these runs now; flags TELL_*: they are on their way to it from this parent or another, or aren't after all. Payload: runs. */
  TELL: 5,
  /** child: done with the channel; all its requests are void. */
  CLOSE: 6,
  /** child: the parent may have sent `request << 32 | number` body bytes on this channel since it was opened. All ones: no bound. */
  CREDIT: 7,
  /** child: `request` shall be answered with the piece that was offered for it. */
  TAKE: 8,
  /** child: has the offered piece, or gets it from elsewhere; `request` waits for another offer. */
  PASS: 9,
  /** child: shows a newer right to read the channel's task, before the one that it showed ends. Payload: the pass. */
  RENEW: 10,
  /** parent: the task is open, flags OPENED_*. Payload: task bytes (8), piece bytes (4), bitmap of what the parent has (or nothing). */
  OPENED: 16,
  /** parent: it is not. `number` is a refusal from {@link REFUSAL}; payload: text. */
  REFUSED: 17,
  /** parent: has these runs now, beside those before. Payload: runs. */
  HAVE: 18,
  /** parent: a segment of piece `number` for `request`; flags PIECE_*; payload: the bytes, in order. */
  PIECE: 19,
  /** parent: no (more) bytes for `request`; `number` is a refusal. */
  GONE: 20,
  /** parent: would answer `request` with piece `number`; waits for TAKE or PASS. */
  OFFER: 22,
  /** parent: the channel is over (its task left the shelf, or the right to read it ended). `number` is a refusal; payload: text. */
  ENDED: 21,
  /** either: are you there? */
  PING: 32,
  /** either: yes. */
  PONG: 33,
  /** either: the connection ends. `number` is a refusal; payload: text. */
  BYE: 34,
} as const

export type FrameType = (typeof FRAME)[keyof typeof FRAME]

export const OPEN_BACKGROUND = 1
/** The channel starts with no credit. */
export const OPEN_METERED = 2
/** The parent never announces what it has. */
export const OPENED_SILENT = 1
/** The child asks nobody else and takes whatever comes: lower numbers first, without an offer. */
export const ANY_SURE = 1
/** Of such a question: it may be a piece that is still coming to the parent. */
export const ANY_EARLY = 2
export const TELL_COMING = 1
export const TELL_LOST = 2
/** This segment completes the piece. */
export const PIECE_LAST = 1
/** The parent hasn't the rest of the piece yet. */
export const PIECE_WAITS = 2

/** Why something was refused; the number is what travels. */
export const REFUSAL = {
  NONE_LEFT: 0,
  PIECE_ABSENT: 1,
  PEER_REFUSED: 2,
  CAPABILITY_REFUSED: 3,
  ADMISSION_REFUSED: 4,
  PROTOCOL_VIOLATION: 5,
  CANCELLED: 6,
  BUSY: 7,
  CLOSED: 8,
  /** A piece that was passed on while it came isn't coming any more. */
  WITHDRAWN: 9,
} as const

export type Refusal = keyof typeof REFUSAL
const REFUSAL_NAMES = Object.keys(REFUSAL) as Refusal[]

/** The name of a refusal's number; unknown numbers, from a later version, read as PEER_REFUSED. */
export function refusalOf(number: number): Refusal {
  return REFUSAL_NAMES[number] ?? 'PEER_REFUSED'
}

const MAX_OPEN_BYTES = 1 + 140 + 2 + MAX_PASS_BYTES + MAX_BITMAP_BYTES

/** The most payload that each type may have; a type that isn't here is a violation. */
const PAYLOAD_BOUND: Readonly<Record<number, number>> = {
  [FRAME.OPEN]: MAX_OPEN_BYTES,
  [FRAME.ASK]: 0,
  [FRAME.ANY]: 0,
  [FRAME.CANCEL]: 0,
  [FRAME.TELL]: MAX_RUNS * 8,
  [FRAME.CLOSE]: 0,
  [FRAME.CREDIT]: 0,
  [FRAME.TAKE]: 0,
  [FRAME.PASS]: 0,
  [FRAME.RENEW]: MAX_PASS_BYTES,
  [FRAME.OPENED]: 12 + MAX_BITMAP_BYTES,
  [FRAME.REFUSED]: MAX_TEXT_BYTES,
  [FRAME.HAVE]: MAX_RUNS * 8,
  [FRAME.PIECE]: MAX_SEGMENT_BYTES,
  [FRAME.GONE]: 0,
  [FRAME.OFFER]: 0,
  [FRAME.ENDED]: MAX_TEXT_BYTES,
  [FRAME.PING]: 0,
  [FRAME.PONG]: 0,
  [FRAME.BYE]: MAX_TEXT_BYTES,
}

export interface FrameHeader {
  readonly type: number
  readonly flags: number
  readonly channel: number
  readonly request: number
  readonly number: number
  /** Payload bytes that follow. */
  readonly bytes: number
}

export interface FrameFields {
  readonly flags?: number
  readonly channel?: number
  readonly request?: number
  readonly number?: number
}

export type Run = readonly [from: number, count: number]

const violation = (text: string) => new DarnerError('PROTOCOL_VIOLATION', `lane frame: ${text}`)

export function preface(): Uint8Array {
  return Uint8Array.of(0x44, 0x52, 0x4e, 0x4c, LANE_VERSION, 0, 0, 0)
}

/** Throws PROTOCOL_VIOLATION unless `bytes` starts a lane of our version. */
export function checkPreface(bytes: Uint8Array): void {
  const ours = preface()
  if (bytes.byteLength !== ours.byteLength || !ours.every((byte, at) => bytes[at] === byte)) {
    throw violation(`preface ${Buffer.from(bytes).toString('hex')} is not that of version ${LANE_VERSION}`)
  }
}

/** Writes a header into the first 16 bytes of `into`. */
export function putHeader(into: Buffer, type: FrameType, fields: FrameFields, bytes: number): void {
  into[0] = type
  into[1] = fields.flags ?? 0
  into.writeUInt16BE(fields.channel ?? 0, 2)
  into.writeUInt32BE(fields.request ?? 0, 4)
  into.writeUInt32BE(fields.number ?? 0, 8)
  into.writeUInt32BE(bytes, 12)
}

/** A whole frame with its payload. */
export function frame(type: FrameType, fields: FrameFields, payload?: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(HEADER_BYTES + (payload?.byteLength ?? 0))
  putHeader(out, type, fields, payload?.byteLength ?? 0)
  if (payload !== undefined) out.set(payload, HEADER_BYTES)
  return out
}

/** Reads a header. Throws PROTOCOL_VIOLATION for an unknown type or a payload above its type's bound. */
export function readHeader(from: Buffer): FrameHeader {
  const type = from[0] ?? 0
  const bytes = from.readUInt32BE(12)
  const bound = PAYLOAD_BOUND[type]
  if (bound === undefined) throw violation(`unknown type ${type}`)
  if (bytes > bound) throw violation(`type ${type} with ${bytes} bytes, allowed ${bound}`)
  return {
    type,
    flags: from[1] ?? 0,
    channel: from.readUInt16BE(2),
    request: from.readUInt32BE(4),
    number: from.readUInt32BE(8),
    bytes,
  }
}

export interface OpenMessage {
  readonly task: TaskId
  readonly pass: Uint8Array
  /** Empty when the child has nothing. */
  readonly have: Uint8Array
}

export function encodeOpen(message: OpenMessage): Buffer {
  const id = Buffer.from(message.task, 'latin1')
  if (message.pass.byteLength > MAX_PASS_BYTES) {
    throw new DarnerError('BAD_ARGUMENT', `pass of ${message.pass.byteLength} bytes, allowed ${MAX_PASS_BYTES}`)
  }
  const passLength = Buffer.alloc(2)
  passLength.writeUInt16BE(message.pass.byteLength)
  return Buffer.concat([Buffer.of(id.byteLength), id, passLength, message.pass, message.have])
}

/** Throws PROTOCOL_VIOLATION for anything cut short or out of bounds. Views into `payload`. */
export function decodeOpen(payload: Buffer): OpenMessage {
  const idBytes = payload[0] ?? 0
  const passAt = 1 + idBytes
  if (payload.byteLength < passAt + 2) throw violation(`OPEN cut short at ${payload.byteLength} bytes`)
  const task = payload.toString('latin1', 1, passAt)
  if (!isTaskId(task)) throw violation(`OPEN of ${JSON.stringify(task)}, which is not a task id`)
  const passBytes = payload.readUInt16BE(passAt)
  const haveAt = passAt + 2 + passBytes
  if (passBytes > MAX_PASS_BYTES || payload.byteLength < haveAt)
    throw violation(`OPEN with a pass of ${passBytes} bytes`)
  if (payload.byteLength - haveAt > MAX_BITMAP_BYTES)
    throw violation(`OPEN with a bitmap of ${payload.byteLength - haveAt} bytes`)
  return { task, pass: payload.subarray(passAt + 2, haveAt), have: payload.subarray(haveAt) }
}

export interface OpenedMessage {
  readonly bytes: number
  readonly pieceBytes: number
  /** Empty when the parent has nothing or is silent. */
  readonly have: Uint8Array
}

export function encodeOpened(message: OpenedMessage): Buffer {
  const head = Buffer.alloc(12)
  head.writeBigUInt64BE(BigInt(message.bytes), 0)
  head.writeUInt32BE(message.pieceBytes, 8)
  return Buffer.concat([head, message.have])
}

export function decodeOpened(payload: Buffer): OpenedMessage {
  if (payload.byteLength < 12) throw violation(`OPENED cut short at ${payload.byteLength} bytes`)
  const bytes = payload.readBigUInt64BE(0)
  const pieceBytes = payload.readUInt32BE(8)
  if (bytes > BigInt(MAX_TASK_BYTES)) throw violation(`OPENED with ${bytes} bytes, allowed ${MAX_TASK_BYTES}`)
  if (pieceBytes < MIN_PIECE_BYTES || pieceBytes > MAX_PIECE_BYTES)
    throw violation(`OPENED with pieces of ${pieceBytes} bytes`)
  return { bytes: Number(bytes), pieceBytes, have: payload.subarray(12) }
}

export function encodeRuns(runs: readonly Run[]): Buffer {
  const out = Buffer.allocUnsafe(runs.length * 8)
  runs.forEach(([from, count], at) => {
    out.writeUInt32BE(from, at * 8)
    out.writeUInt32BE(count, at * 8 + 4)
  })
  return out
}

/** Reads runs that must lie in [0, pieces), and that must not sum to more than `pieces`. Throws PROTOCOL_VIOLATION. */
export function decodeRuns(payload: Buffer, pieces: number): Run[] {
  if (payload.byteLength % 8 !== 0 || payload.byteLength === 0) throw violation(`runs of ${payload.byteLength} bytes`)
  const runs: Run[] = []
  let sum = 0
  for (let at = 0; at < payload.byteLength; at += 8) {
    const from = payload.readUInt32BE(at)
    const count = payload.readUInt32BE(at + 4)
    sum += count
    if (count === 0 || from + count > pieces || sum > pieces)
      throw violation(`run of ${count} from ${from} in ${pieces} pieces`)
    runs.push([from, count])
  }
  return runs
}

export function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  return bytes.byteLength <= MAX_TEXT_BYTES ? bytes : bytes.subarray(0, MAX_TEXT_BYTES)
}

/** A peer's text, made safe for a log line. */
export function decodeText(payload: Buffer): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is taken out
  return payload.toString('utf8').replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}

/** The fields of a CREDIT frame for `upTo` body bytes. */
export function creditFields(channel: number, upTo: number): FrameFields {
  if (upTo >= UNMETERED) return { channel, request: 0xffffffff, number: 0xffffffff }
  return { channel, request: Math.floor(upTo / 2 ** 32), number: upTo % 2 ** 32 }
}

export function creditOf(header: FrameHeader): number {
  return Math.min(UNMETERED, header.request * 2 ** 32 + header.number)
}
