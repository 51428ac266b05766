/**
 * The first host that wants a blob reads it at the origin itself, for all: what comes goes to its own readers, into the store
 * and from there to whoever asks, without a stop in between. A read that breaks goes on at the next byte.
 */
import { DarnerError } from '../../src/base/errors.ts'
import type { OriginRead } from '../../src/contracts/origin.ts'
import { algorithmOf, type Digest, Digester } from '../../src/oci/digest.ts'
import { pieceRange } from '../../src/task/task.ts'
import { checkRead, type OriginReadOptions, type OriginReadParts } from './fallback.ts'
import type { Page, Tail } from './tail.ts'

export interface LeadParts extends OriginReadParts {
  /** A piece is stored. */
  readonly gained: (piece: number) => void
  /** Begins where the first read does. */
  readonly tail: Tail
}

/** Bytes on their way to the disk at most. */
const WRITING_BYTES = 2 * 1024 * 1024

/**
 * Reads what lacks of a blob and verifies the whole. `first` is a read opened at `tail.end`, which is the start of a piece. Throws the
 * origin's errors, SIZE_MISMATCH, DIGEST_MISMATCH, DISK_FULL.
 */
export async function leadRead(
  options: OriginReadOptions,
  parts: LeadParts,
  context: { first: OriginRead; signal: AbortSignal },
): Promise<Digest> {
  const { stored, tail, clock, random, retryMs, log } = parts
  const { signal } = context
  const { task } = stored
  const digest = task.digest
  if (digest === undefined) throw new DarnerError('INTERNAL', `${task.id}: only what has a digest is read for all`)
  // bytes that are here from before can be hashed only where they lie
  const hash = tail.end === 0 ? new Digester(algorithmOf(digest)) : undefined
  if (hash !== undefined) stored.hashedByCaller()
  await using pieces = new Pieces(parts)
  const target = { origin: options.origin, digest }
  for (let attempt = 0, read: OriginRead | undefined = context.first; tail.end < task.bytes; read = undefined) {
    const before = tail.end
    try {
      await using opened =
        read ?? (await parts.originPort.read(target, { from: before, credential: options.credential, signal }))
      checkRead(opened, task, before, options.origin)
      let skip = before - opened.from
      for await (const chunk of opened.stream) {
        parts.read(chunk.byteLength)
        const fresh = skip > 0 ? chunk.subarray(Math.min(skip, chunk.byteLength)) : chunk
        skip -= chunk.byteLength - fresh.byteLength
        if (tail.end + fresh.byteLength > task.bytes)
          throw new DarnerError('SIZE_MISMATCH', `${task.id}: expected ${task.bytes} bytes, the origin sent more`)
        hash?.update(fresh)
        await pieces.take(fresh)
        opened.done?.(chunk)
        // what other hosts wait for comes as fast as it can
        if (tail.ahead && !stored.heard) await tail.paced()
      }
      if (tail.end < task.bytes) {
        const text = `${task.id}: expected ${task.bytes} bytes, the origin ended after ${tail.end}`
        throw new DarnerError('ORIGIN_TRUNCATED', text)
      }
    } catch (error) {
      signal.throwIfAborted()
      if (tail.end > before) attempt = 0
      const waitMs = ++attempt >= options.attempts ? undefined : retryMs(error, attempt, random)
      if (waitMs === undefined) throw error
      log.warn({ taskId: task.id, attempt, waitMs, at: tail.end, error: (error as Error).message }, 'origin read broke')
      await clock.sleep(waitMs, { signal })
    }
  }
  const hashed = hash?.finish()
  // who has read along waits for no disk
  if (hashed === digest) tail.prove()
  await pieces.done()
  return await stored.finish({ expected: digest, signal, ...(hashed === undefined ? {} : { hashed }) })
}

/** Cuts a stream into pieces and stores them, several at once. */
class Pieces implements AsyncDisposable {
  readonly #parts: LeadParts
  readonly #writing = new Set<Promise<void>>()
  readonly #most: number
  #failed: unknown

  constructor(parts: LeadParts) {
    this.#parts = parts
    this.#most = Math.max(2, Math.floor(WRITING_BYTES / parts.stored.task.pieceBytes))
  }

  /** The stream went on; waits while too much is on its way to the disk, and then has a copy. Throws what storing threw. */
  async take(chunk: Uint8Array): Promise<void> {
    const { tail, stored } = this.#parts
    for (let at = 0; at < chunk.byteLength; ) {
      const piece = Math.floor(tail.end / stored.task.pieceBytes)
      const { from, to } = pieceRange(stored.task, piece)
      const { taken, full } = tail.push(at === 0 ? chunk : chunk.subarray(at), to - from)
      at += taken
      if (full === undefined) continue
      this.#store(piece, full)
      if (this.#writing.size >= this.#most) await Promise.race(this.#writing)
      if (this.#failed !== undefined) throw this.#failed
    }
  }

  /** Resolves when all is stored. Throws what storing threw. */
  async done(): Promise<void> {
    await Promise.all(this.#writing)
    if (this.#failed !== undefined) throw this.#failed
  }

  #store(piece: number, page: Page): void {
    const { stored, gained, tail } = this.#parts
    const writing = stored
      .append(piece, page.body)
      .then(() => gained(piece))
      .catch((error: unknown) => {
        this.#failed ??= error
      })
      .finally(() => {
        this.#writing.delete(writing)
        tail.written(page)
      })
    this.#writing.add(writing)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#writing)
  }
}
