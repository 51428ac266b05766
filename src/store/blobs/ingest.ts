/** Takes a stream straight in, while hashing it; for manifests and for blobs that somebody gives us. */
import { open, rm } from 'node:fs/promises'
import { algorithmOf, type Digest, Digester, hexOf } from '../../core/digest.ts'
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import { blobTask, MAX_TASK_BYTES, pieceCount } from '../../core/task/task.ts'
import type { Hasher } from '../hash/hasher.ts'
import { type Layout, writeAll } from '../layout.ts'

export interface IngestOptions {
  /** Refused with DIGEST_MISMATCH when the bytes hash to something else. */
  readonly expectedDigest?: Digest
  /** Refused with LIMIT_EXCEEDED as soon as more come. */
  readonly maxBytes?: number
  readonly mediaType?: string
  readonly signal: AbortSignal
}

/** A verified, synced file that has no name among the blobs yet. */
export interface Ingested {
  readonly path: string
  readonly digest: Digest
  readonly bytes: number
  readonly table: Uint8Array
}

/** Most bytes hashed or written in one go, so that a giant chunk doesn't hold the event loop. */
const SLICE_BYTES = 1024 * 1024

/** Writes and verifies; the caller gives the file its name or removes it. On failure nothing is left. Throws DISK_FULL too. */
export async function ingestFile(
  stream: AsyncIterable<Uint8Array>,
  options: IngestOptions,
  parts: { layout: Layout; hasher: Hasher },
): Promise<Ingested> {
  const { expectedDigest, maxBytes = MAX_TASK_BYTES, signal } = options
  const path = parts.layout.freshIngest()
  const digester = new Digester(expectedDigest === undefined ? 'sha256' : algorithmOf(expectedDigest))
  try {
    const handle = await open(path, 'wx', 0o600)
    try {
      for await (const chunk of stream) {
        signal.throwIfAborted()
        if (digester.bytes + chunk.byteLength > maxBytes) {
          throw new DarnerError(
            'LIMIT_EXCEEDED',
            `take in ${expectedDigest ?? 'a stream'}: more than ${maxBytes} bytes`,
          )
        }
        for (let at = 0; at < chunk.byteLength; at += SLICE_BYTES) {
          const slice = chunk.subarray(at, at + SLICE_BYTES)
          const position = digester.bytes
          digester.update(slice)
          await writeAll(handle, slice, position)
        }
      }
      signal.throwIfAborted()
      await handle.sync()
    } finally {
      await handle.close()
    }
    const { bytes } = digester
    const digest = digester.finish()
    if (expectedDigest !== undefined && digest !== expectedDigest) {
      throw new DarnerError('DIGEST_MISMATCH', `take in ${expectedDigest}: the ${bytes} bytes hash to ${digest}`)
    }
    return { path, digest, bytes, table: await tableOf(path, digest, bytes, parts.hasher, signal) }
  } catch (error) {
    await rm(path, { force: true })
    if (signal.aborted && error === signal.reason) throw error
    throw asDarnerError(error, `take in ${expectedDigest ?? 'a stream'}`)
  }
}

async function tableOf(
  path: string,
  digest: Digest,
  bytes: number,
  hasher: Hasher,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const task = blobTask(digest, bytes)
  const pieces = pieceCount(task)
  // a blob of one piece is its own table
  if (pieces === 1 && algorithmOf(digest) === 'sha256') return Uint8Array.from(Buffer.from(hexOf(digest), 'hex'))
  return cutFile(path, task, hasher, { signal })
}

/** The piece digests of a file, 32 bytes each. Throws STORE_CORRUPT. */
export async function cutFile(
  path: string,
  task: { bytes: number; pieceBytes: number },
  hasher: Hasher,
  { signal }: { signal: AbortSignal },
): Promise<Uint8Array> {
  const numbers = Array.from({ length: pieceCount(task) }, (_, piece) => piece)
  const table = new Uint8Array(numbers.length * 32)
  for await (const { piece, digest, fault } of hasher.pieces(path, task, numbers, { signal })) {
    if (fault) throw fault
    table.set(digest, piece * 32)
  }
  return table
}
