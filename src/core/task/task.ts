/**
 * A task is one blob being distributed. Its identity says what the bytes are, its geometry how they are cut.
 *
 * Piece length follows from blob length alone: a power of two of at least 64 KiB. It makes at most 256 pieces, and at most 1,024 from 512
 * KiB on. It is at most 2 MiB up to 4 GiB, and 4 MiB above. M pieces cost N peers at least (⌈log2 N⌉ − 1)/M over the fluid bound, and in
 * practice three to five times that. 64 KiB keeps the cost of one request small, and 4 MiB bounds what one piece in flight may hold in
 * memory.
 */
import type { Digest } from '../digest.ts'

/** A blob's digest, or `url:<64 hex>` for content that is known by address and validator only. */
export type TaskId = string & { readonly __taskId: true }

export interface Task {
  readonly id: TaskId
  /** What the whole blob must hash to; absent while only its address is known. */
  readonly digest?: Digest
  readonly bytes: number
  readonly pieceBytes: number
}

export const MIN_PIECE_BYTES = 64 * 1024
export const MAX_PIECE_BYTES = 4 * 1024 * 1024
/** A blob larger than this is refused: 2^42 bytes are 2^20 pieces of 4 MiB. */
export const MAX_TASK_BYTES = 2 ** 42
/** So few pieces while they are short, since each costs its agent the same; then more, since the last to come is waited for. */
const SHORT_PIECE_BYTES = 512 * 1024
const MOST_SHORT_PIECES = 256
export const MOST_PIECES = 1024
/** Above this length a blob has more than 2,048 pieces of 2 MiB, and takes the largest instead. */
const LARGE_TASK_BYTES = 4 * 1024 ** 3

/** The piece length of a blob of `bytes` bytes. */
export function pieceBytesFor(bytes: number): number {
  if (bytes > LARGE_TASK_BYTES) return MAX_PIECE_BYTES
  let piece = MIN_PIECE_BYTES
  while (piece < MAX_PIECE_BYTES / 2) {
    const most = piece < SHORT_PIECE_BYTES ? MOST_SHORT_PIECES : MOST_PIECES
    if (piece * most >= bytes) break
    piece *= 2
  }
  return piece
}

/** How many pieces a task has; an empty blob has none. */
export function pieceCount(task: Pick<Task, 'bytes' | 'pieceBytes'>): number {
  return Math.ceil(task.bytes / task.pieceBytes)
}

/** A piece may be passed on by so many steps while the rest of it comes. */
export const STEPS = 4
/** The states of SHA-256 inside one piece, after each of its steps but the last: 32 bytes each. */
export const STEPS_BYTES = (STEPS - 1) * 32
/** Pieces so short are whole soon enough, and longer ones would make tables longer than they are worth. */
const LEAST_STEP_BYTES = 64 * 1024
const MOST_STEP_BYTES = 256 * 1024

/** The length of a step of this task's pieces; undefined where they have none. */
export function stepBytesOf(task: Pick<Task, 'bytes' | 'pieceBytes'>): number | undefined {
  const stepBytes = task.pieceBytes / STEPS
  if (stepBytes < LEAST_STEP_BYTES || stepBytes > MOST_STEP_BYTES || stepBytes % 64 !== 0) return undefined
  return pieceCount(task) <= MOST_PIECES ? stepBytes : undefined
}

/** The byte range of piece `number`, end excluded. */
export function pieceRange(task: Pick<Task, 'bytes' | 'pieceBytes'>, number: number): { from: number; to: number } {
  const from = number * task.pieceBytes
  return { from, to: Math.min(task.bytes, from + task.pieceBytes) }
}

/** The task of a blob that is known by its digest. */
export function blobTask(digest: Digest, bytes: number): Task {
  return { id: digest as string as TaskId, digest, bytes, pieceBytes: pieceBytesFor(bytes) }
}

const TASK_ID = /^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|url:[a-f0-9]{64})$/

export function isTaskId(text: string): text is TaskId {
  return TASK_ID.test(text)
}
