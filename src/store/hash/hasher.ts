/** Hashing as the store uses it: pieces in memory here, files on a thread of their own (hash-worker.ts). */
import { hash, webcrypto } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import { abortable } from '../../core/signals.ts'
import { pieceRange, type Task } from '../../core/task/task.ts'
import { DIGEST_BYTES } from '../partial/piece-table.ts'
import { chains, FIRST_STATE, stateAfterAside } from './hash-chain.ts'
import { HASH_WORKER_MARK, HASH_WORKER_URL, type HashAnswer, type HashFault, type HashRequest } from './hash-worker.ts'

/**
 * From this length on a hash goes to the thread pool. A wake-up of two threads costs less than an event loop that stands still for 0.1 ms
 * and more.
 */
export const POOL_FROM_BYTES = 128 * 1024 + 1
/** The thread learns of a growing prefix in steps, because each message wakes it. */
const ADVANCE_BYTES = 4 * 1024 * 1024
/** Bytes per request to the thread, so that an abort takes effect and files take turns. */
const BATCH_BYTES = 32 * 1024 * 1024
const BATCH_PIECES = 1024
/** The thread holds one buffer and little else. */
const WORKER_LIMITS = { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 } as const

/** SHA-256 of bytes in memory, without holding the event loop for a millisecond. Leave the bytes alone until it resolves. */
export async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  if (bytes.byteLength < POOL_FROM_BYTES) return hash('sha256', bytes, 'buffer')
  if (chains) return await stateAfterAside({ before: FIRST_STATE, body: bytes, at: 0, last: true })
  // takes a copy, made here
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))
}

/** A whole digest that grows with a file's contiguous prefix. */
export interface WholeHash {
  /** The first `to` bytes of the file are final. Cheap; returns at once. */
  advance(to: number): void
  /** The hex digest of the first `to` bytes. Call once. */
  finish(to: number): Promise<string>
  /** Lets go of it unfinished. */
  drop(): void
}

/** The digest of a piece, or why the disk doesn't give it. */
type HashedPiece =
  | { readonly piece: number; readonly digest: Uint8Array; readonly fault?: undefined }
  | { readonly piece: number; readonly digest?: undefined; readonly fault: DarnerError }

/** STORE_CORRUPT for a file that the disk doesn't give. */
export function unreadableFile(path: string, cause: unknown): DarnerError {
  return new DarnerError('STORE_CORRUPT', `read ${path}: ${(cause as Error).message}`, {
    cause,
    way: 'try again: the damaged part is dropped and fetched again; the kernel log says what is wrong with the disk',
  })
}

function systemErrorOf({ message, code }: HashFault): Error {
  return Object.assign(new Error(message), { code })
}

export class Hasher implements AsyncDisposable {
  readonly #waiting = new Map<number, PromiseWithResolvers<HashAnswer>>()
  #worker: Worker | undefined
  #next = 0
  #closed = false

  /** Starts a whole digest; the file is opened at once and may be renamed afterwards. */
  whole(path: string, algorithm: 'sha256' | 'sha512'): WholeHash {
    const key = this.#next++
    const worker = this.#thread()
    const post = (request: HashRequest) => worker.postMessage(request)
    post({ kind: 'open', key, path, algorithm })
    let told = 0
    return {
      advance: (to) => {
        if (to - told < ADVANCE_BYTES) return
        told = to
        post({ kind: 'advance', key, to })
      },
      finish: async (to) => {
        if (worker !== this.#worker) throw new DarnerError('INTERNAL', `hash ${path}: the hashing thread ended`)
        const { hex } = await this.#ask((id) => ({ kind: 'finish', key, to, id }), path)
        return hex ?? ''
      },
      drop: () => post({ kind: 'drop', key }),
    }
  }

  /** Digests of the given pieces of a file, 32 bytes each, in the order asked. Made in batches: bounded memory, abortable. */
  async *pieces(
    path: string,
    task: Pick<Task, 'bytes' | 'pieceBytes'>,
    numbers: readonly number[],
    { signal }: { signal: AbortSignal },
  ): AsyncIterable<HashedPiece> {
    const perBatch = Math.max(1, Math.min(BATCH_PIECES, Math.floor(BATCH_BYTES / task.pieceBytes)))
    for (let from = 0; from < numbers.length; from += perBatch) {
      const batch = numbers.slice(from, from + perBatch)
      const ranges = Float64Array.from(batch.flatMap((piece) => Object.values(pieceRange(task, piece))))
      const asked = this.#ask((id) => ({ kind: 'pieces', id, path, ranges }), path)
      const { digests = new Uint8Array(), unreadable } = await abortable(asked, signal)
      for (const [at, piece] of batch.entries()) {
        const fault = unreadable?.get(at)
        if (fault) yield { piece, fault: unreadableFile(path, systemErrorOf(fault)) }
        else yield { piece, digest: digests.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES) }
      }
    }
  }

  async #ask(request: (id: number) => HashRequest, path: string): Promise<HashAnswer> {
    const id = this.#next++
    const worker = this.#thread()
    const answer = Promise.withResolvers<HashAnswer>()
    this.#waiting.set(id, answer)
    worker.ref()
    worker.postMessage(request(id))
    try {
      const got = await answer.promise
      if (got.error) throw asDarnerError(systemErrorOf(got.error), `hash ${path}`)
      return got
    } finally {
      this.#waiting.delete(id)
      if (this.#waiting.size === 0) worker.unref()
    }
  }

  /** Started when first needed; it doesn't keep the process alive unless somebody waits for it. */
  #thread(): Worker {
    if (this.#closed) throw new DarnerError('CLOSED', 'hash a file: the store is closed')
    if (this.#worker) return this.#worker
    const worker = new Worker(HASH_WORKER_URL, {
      workerData: HASH_WORKER_MARK,
      name: 'hash',
      resourceLimits: WORKER_LIMITS,
    })
    worker.unref()
    worker.on('message', (answer: HashAnswer) => this.#waiting.get(answer.id)?.resolve(answer))
    const gone = (cause: unknown) => {
      if (this.#worker === worker) this.#worker = undefined
      const code = this.#closed ? 'CLOSED' : 'INTERNAL'
      for (const one of this.#waiting.values()) one.reject(new DarnerError(code, 'the hashing thread ended', { cause }))
    }
    worker.on('error', gone)
    worker.on('exit', gone)
    this.#worker = worker
    return worker
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    await this.#worker?.terminate()
  }
}
