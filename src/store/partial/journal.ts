/**
 * A half-done task's journal: a header with the geometry, then one fixed record per stored piece. Records carry their own checksum and
 * stand at a fixed stride. So a torn tail or a page lost in a power cut costs just those pieces. A record that reached the kernel survives
 * kill -9. After a power cut every piece is hashed again before it counts, and one without a digest doesn't count. So neither records nor
 * pieces are synced one by one.
 *
 * Header, 512 bytes: "darnerJ1" · u64 blob bytes · u32 piece bytes · u16 id length, id · u16 digest length, digest · zeros · u32 CRC-32 of
 * the rest. Record, 40 bytes: u32 piece · its check (journal-check.ts), 32 bytes · u32 CRC-32 over the header's CRC and the 36 bytes.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { type Digest, isDigest } from '../../core/digest.ts'
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import { replaceFile } from '../../core/files.ts'
import { isTaskId, MAX_PIECE_BYTES, MAX_TASK_BYTES, pieceCount, type Task } from '../../core/task/task.ts'
import { readAll, writeAll } from '../layout.ts'
import { CHECK_BYTES } from './journal-check.ts'
import type { PieceTable } from './piece-table.ts'

const MAGIC = new TextEncoder().encode('darnerJ1')
const HEADER_BYTES = 512
const RECORD_BYTES = 40
/** Most pieces that a task may have; bounds what a header can make us allocate. */
export const MAX_PIECES = 2 ** 20
/** A piece may be recorded again after it was dropped; a journal longer than this many rounds isn't ours. */
const MAX_ROUNDS = 4

export interface JournalContent {
  readonly task: Task
  /** The last check recorded for each piece. */
  readonly pieces: ReadonlyMap<number, Uint8Array>
}

/** Appends records; those that wait while one write is under way go out together in the next. */
export class Journal {
  readonly #handle: FileHandle
  readonly #seed: number
  #end: number
  /** The header, until it is written: with the first records. */
  #header: Uint8Array | undefined
  #pending: { bytes: Uint8Array; done: PromiseWithResolvers<void> }[] = []
  #flushing: Promise<void> | undefined

  private constructor(handle: FileHandle, seed: number, start: { end: number } | { header: Uint8Array }) {
    this.#handle = handle
    this.#seed = seed
    this.#end = 'end' in start ? start.end : 0
    this.#header = 'header' in start ? start.header : undefined
  }

  /**
   * Begins the journal of a task that has no pieces. Without its header, which a kill or a power cut may cause, it is no journal, and the
   * task starts with nothing. Throws DISK_FULL.
   */
  static async begin(path: string, task: Task): Promise<Journal> {
    const header = encodeHeader(task)
    return new Journal(await open(path, 'w+', 0o600), seedOf(header), { header })
  }

  /** Writes a fresh journal with records for `pieces`, whole or not at all, and opens it. Throws DISK_FULL. */
  static async create(path: string, task: Task, table: PieceTable, pieces: Iterable<number>): Promise<Journal> {
    const header = encodeHeader(task)
    const seed = seedOf(header)
    const parts = [header]
    for (const piece of pieces)
      parts.push(encodeRecords(seed, piece, table.digest(piece) ?? new Uint8Array(CHECK_BYTES), 1))
    const bytes = Buffer.concat(parts)
    await replaceFile(path, bytes)
    return new Journal(await open(path, 'r+'), seed, { end: bytes.byteLength })
  }

  /**
   * One record for each of `count` pieces from `piece` on, with the same check. Resolves once they are with the kernel. Throws DISK_FULL;
   * they then don't count.
   */
  append(piece: number, check: Uint8Array, count = 1): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#pending.push({ bytes: encodeRecords(this.#seed, piece, check, count), done })
    this.#flushing ??= this.#flush()
    return done.promise
  }

  async #flush(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = this.#pending
      this.#pending = []
      const parts = batch.map((one) => one.bytes)
      if (this.#header !== undefined) parts.unshift(this.#header)
      const [first] = parts
      const bytes = parts.length === 1 && first !== undefined ? first : Buffer.concat(parts)
      try {
        await writeAll(this.#handle, bytes, this.#end)
        this.#end += bytes.byteLength
        this.#header = undefined
        for (const one of batch) one.done.resolve()
      } catch (error) {
        for (const one of batch) one.done.reject(asDarnerError(error, 'append to the piece journal'))
      }
    }
    this.#flushing = undefined
  }

  async close(): Promise<void> {
    await this.#flushing
    // a disk that has no room for it is left without a journal of nothing
    if (this.#header !== undefined) await writeAll(this.#handle, this.#header, 0).catch(() => {})
    await this.#handle.close()
  }
}

/** Reads a journal back. Bad records are passed over; throws STORE_CORRUPT when the header or the length can't be ours. */
export async function readJournal(path: string): Promise<JournalContent> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    const header = new Uint8Array(HEADER_BYTES)
    if ((await readAll(handle, header, 0)) < HEADER_BYTES) throw corrupt(path, `${size} bytes are no header`)
    const task = decodeHeader(header, path)
    if (size > HEADER_BYTES + RECORD_BYTES * (pieceCount(task) + 1) * MAX_ROUNDS)
      throw corrupt(path, `${size} bytes are too many`)
    const body = new Uint8Array(size - HEADER_BYTES)
    const length = await readAll(handle, body, HEADER_BYTES)
    const seed = seedOf(header)
    const pieces = new Map<number, Uint8Array>()
    const view = new DataView(body.buffer)
    for (let at = 0; at + RECORD_BYTES <= length; at += RECORD_BYTES) {
      const piece = view.getUint32(at)
      if (piece >= pieceCount(task) || crc32(body.subarray(at, at + 36), seed) !== view.getUint32(at + 36)) continue
      pieces.set(piece, body.slice(at + 4, at + 36))
    }
    return { task, pieces }
  } finally {
    await handle.close()
  }
}

/** Throws BAD_ARGUMENT unless the geometry is within what a journal can say. */
export function checkGeometry(task: Task): void {
  const { bytes, pieceBytes } = task
  const fits =
    isTaskId(task.id) &&
    (task.digest === undefined || isDigest(task.digest)) &&
    Number.isSafeInteger(bytes) &&
    bytes >= 0 &&
    bytes <= MAX_TASK_BYTES &&
    Number.isSafeInteger(pieceBytes) &&
    pieceBytes > 0 &&
    pieceBytes <= MAX_PIECE_BYTES &&
    pieceCount(task) <= MAX_PIECES
  if (!fits) {
    const what = JSON.stringify(task).slice(0, 200)
    throw new DarnerError('BAD_ARGUMENT', `task ${what}: id, length or piece length is out of bounds`)
  }
}

function encodeHeader(task: Task): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_BYTES)
  const view = new DataView(header.buffer)
  header.set(MAGIC, 0)
  view.setBigUint64(8, BigInt(task.bytes))
  view.setUint32(16, task.pieceBytes)
  let at = 20
  for (const text of [task.id, task.digest ?? '']) {
    view.setUint16(at, text.length)
    header.set(new TextEncoder().encode(text), at + 2)
    at += 2 + text.length
  }
  view.setUint32(HEADER_BYTES - 4, crc32(header.subarray(0, HEADER_BYTES - 4)))
  return header
}

function decodeHeader(header: Uint8Array<ArrayBuffer>, path: string): Task {
  const view = new DataView(header.buffer)
  if (Buffer.compare(header.subarray(0, 8), MAGIC) !== 0) throw corrupt(path, 'not a journal of this version')
  if (crc32(header.subarray(0, HEADER_BYTES - 4)) !== view.getUint32(HEADER_BYTES - 4))
    throw corrupt(path, 'header checksum is wrong')
  const texts: string[] = []
  let at = 20
  for (let one = 0; one < 2; one++) {
    const length = view.getUint16(at)
    if (at + 2 + length > HEADER_BYTES - 6) throw corrupt(path, 'a name is longer than the header')
    texts.push(new TextDecoder().decode(header.subarray(at + 2, at + 2 + length)))
    at += 2 + length
  }
  const [id = '', digest = ''] = texts
  const task = {
    id: id as Task['id'],
    bytes: Number(view.getBigUint64(8)),
    pieceBytes: view.getUint32(16),
    ...(digest === '' ? {} : { digest: digest as Digest }),
  }
  try {
    checkGeometry(task)
  } catch (error) {
    throw corrupt(path, 'geometry is out of bounds', error)
  }
  return task
}

/** The header's own CRC, which goes into each record. */
function seedOf(header: Uint8Array<ArrayBuffer>): number {
  return new DataView(header.buffer).getUint32(HEADER_BYTES - 4)
}

/** One record for each of `count` pieces from `piece` on. */
function encodeRecords(seed: number, piece: number, check: Uint8Array, count: number): Uint8Array<ArrayBuffer> {
  const records = new Uint8Array(count * RECORD_BYTES)
  const view = new DataView(records.buffer)
  for (let one = 0, at = 0; one < count; one++, at += RECORD_BYTES) {
    view.setUint32(at, piece + one)
    records.set(check, at + 4)
    view.setUint32(at + 36, crc32(records.subarray(at, at + 36), seed))
  }
  return records
}

function corrupt(path: string, what: string, cause?: unknown): DarnerError {
  return new DarnerError('STORE_CORRUPT', `read piece journal ${path}: ${what}`, { cause })
}
