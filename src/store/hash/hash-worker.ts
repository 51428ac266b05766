/**
 * The thread that hashes files, so that the event loop doesn't: whole digests along a growing prefix, and piece digests for
 * reopened and scrubbed blobs. One per store. It reads through the page cache in slices and takes turns between files.
 */
import { createHash, type Hash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { isUnreadable } from '../../core/errors.ts'

/** What the store asks. `key` names a running whole digest, `id` an answer that is waited for. */
export type HashRequest =
  | { readonly kind: 'open'; readonly key: number; readonly path: string; readonly algorithm: 'sha256' | 'sha512' }
  | { readonly kind: 'advance'; readonly key: number; readonly to: number }
  | { readonly kind: 'finish'; readonly key: number; readonly to: number; readonly id: number }
  | { readonly kind: 'drop'; readonly key: number }
  | { readonly kind: 'pieces'; readonly id: number; readonly path: string; readonly ranges: Float64Array }

/** An answer: the hex digest; or the 32-byte digests one after another, with the places of unreadable pieces; or the system's error. */
export type HashAnswer = {
  readonly id: number
  readonly hex?: string
  readonly digests?: Uint8Array
  readonly unreadable?: ReadonlyMap<number, HashFault>
  readonly error?: HashFault
}

/** What went wrong: a system error's code doesn't survive the way between threads by itself. */
export interface HashFault {
  readonly message: string
  readonly code: string | undefined
}

/** Where this file is: in a checkout it ends in .ts, in the package in .js. */
export const HASH_WORKER_URL = new URL(import.meta.url)
export const HASH_WORKER_MARK = 'darner-hash-worker'

const SLICE_BYTES = 4 * 1024 * 1024
const READ_BYTES = 512 * 1024

interface Whole {
  readonly fd: number
  readonly hash: Hash
  at: number
  to: number
  finish?: { id: number; to: number }
  error?: HashFault
}

if (!isMainThread && workerData === HASH_WORKER_MARK && parentPort) serve(parentPort)

function serve(port: NonNullable<typeof parentPort>): void {
  const wholes = new Map<number, Whole>()
  const buffer = new Uint8Array(READ_BYTES)
  let turning = false

  port.on('message', (request: HashRequest) => {
    if (request.kind === 'pieces') {
      try {
        const hashed = pieces(request.path, request.ranges, buffer)
        port.postMessage({ id: request.id, ...hashed } satisfies HashAnswer)
      } catch (error) {
        port.postMessage({ id: request.id, error: faultOf(error) } satisfies HashAnswer)
      }
      return
    }
    if (request.kind === 'open') {
      try {
        wholes.set(request.key, { fd: openSync(request.path, 'r'), hash: createHash(request.algorithm), at: 0, to: 0 })
      } catch (error) {
        wholes.set(request.key, { fd: -1, hash: createHash('sha256'), at: 0, to: 0, error: faultOf(error) })
      }
      return
    }
    const whole = wholes.get(request.key)
    if (!whole) return
    if (request.kind === 'drop') return forget(request.key, whole)
    whole.to = Math.max(whole.to, request.to)
    if (request.kind === 'finish') whole.finish = { id: request.id, to: request.to }
    if (!turning) turn()
  })

  function forget(key: number, whole: Whole): void {
    if (whole.fd >= 0) closeSync(whole.fd)
    wholes.delete(key)
  }

  /** One slice of each file that has bytes to hash, then lets messages in. */
  function turn(): void {
    turning = false
    for (const [key, whole] of wholes) {
      try {
        if (!whole.error) slice(whole)
      } catch (error) {
        whole.error = faultOf(error)
      }
      if (whole.finish && (whole.error || whole.at >= whole.finish.to)) {
        const { id } = whole.finish
        port.postMessage(whole.error ? { id, error: whole.error } : { id, hex: whole.hash.digest('hex') })
        forget(key, whole)
      } else if (!whole.error && whole.at < whole.to) turning = true
    }
    if (turning) setImmediate(turn)
  }

  function slice(whole: Whole): void {
    const end = Math.min(whole.to, whole.at + SLICE_BYTES)
    while (whole.at < end) {
      const got = readSync(whole.fd, buffer, 0, Math.min(buffer.byteLength, end - whole.at), whole.at)
      if (got === 0) throw new Error(`file ends at ${whole.at}, expected ${whole.to} bytes`)
      whole.hash.update(buffer.subarray(0, got))
      whole.at += got
    }
  }
}

function faultOf(error: unknown): HashFault {
  const { message, code } = error as NodeJS.ErrnoException
  return { message, code }
}

/** `ranges` is from, to, from, to …; a range beyond the end of the file hashes to what there is of it. */
function pieces(
  path: string,
  ranges: Float64Array,
  buffer: Uint8Array,
): Required<Pick<HashAnswer, 'digests' | 'unreadable'>> {
  const digests = new Uint8Array((ranges.length / 2) * 32)
  const unreadable = new Map<number, HashFault>()
  const fd = openSync(path, 'r')
  try {
    for (let one = 0; one * 2 < ranges.length; one++) {
      try {
        digests.set(digestOf(fd, ranges[one * 2] ?? 0, ranges[one * 2 + 1] ?? 0, buffer), one * 32)
      } catch (error) {
        if (!isUnreadable(error)) throw error
        unreadable.set(one, faultOf(error))
      }
    }
  } finally {
    closeSync(fd)
  }
  return { digests, unreadable }
}

function digestOf(fd: number, from: number, to: number, buffer: Uint8Array): Uint8Array {
  const hash = createHash('sha256')
  for (let at = from; at < to; ) {
    const got = readSync(fd, buffer, 0, Math.min(buffer.byteLength, to - at), at)
    if (got === 0) break
    hash.update(buffer.subarray(0, got))
    at += got
  }
  return hash.digest()
}
