/** One reader's hold on a blob: bytes in order as they land, the whole once verified. */

import type { Content, ContentProgress, ContentSummary } from '../../src/core/contracts/content.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable, anySignal } from '../../src/core/signals.ts'
import { pieceRange } from '../../src/core/task/task.ts'
import type { StoredTask } from '../../src/store/store.ts'
import type { Blocks } from './blocks.ts'
import type { Fetching } from './fetching.ts'

const CHUNK_BYTES = 256 * 1024
/** Pieces that a reader in order asks for ahead of the one it waits for; more would take the mixing out of the swarm. */
const AHEAD_PIECES = 4

export interface OpenContentParts {
  readonly stored: StoredTask
  /** The download under way; undefined when the blob is complete already. */
  readonly fetching: Fetching | undefined
  readonly blocks: Blocks
  /** Lets go of the hold. */
  readonly release: () => Promise<void>
}

export class OpenContent implements Content {
  readonly bytes: number
  readonly #parts: OpenContentParts
  #released = false

  constructor(parts: OpenContentParts) {
    this.#parts = parts
    this.bytes = parts.stored.task.bytes
  }

  get stored(): StoredTask {
    return this.#parts.stored
  }

  /** For waits: `signal`, or what fails the fetch. */
  unlessFailed(signal: AbortSignal): AbortSignal {
    const { fetching } = this.#parts
    return fetching === undefined ? signal : anySignal([signal, fetching.failing])
  }

  /**
   * As the contract has it. With `lend`, a chunk is valid until the next is asked for, and shared with other readers. With a `buffer` as
   * well, it is valid as long, but what is read from the disk is a view of that buffer. With `pace`, what this host reads at an origin
   * comes no faster than this reader takes it, within bounds. It is for a reader that would wait for an origin as for us, and whose stops
   * cost nobody anything.
   */
  async *read(options: {
    from?: number
    to?: number
    lend?: boolean
    buffer?: Uint8Array
    pace?: boolean
    least?: number
    signal: AbortSignal
  }): AsyncGenerator<Uint8Array> {
    const { stored } = this.#parts
    const { task } = stored
    const from = options.from ?? 0
    const to = Math.min(options.to ?? task.bytes, task.bytes)
    if (from < 0 || from > to)
      throw new DarnerError('BAD_ARGUMENT', `${task.id}: bytes ${from} to ${to} of ${task.bytes} are no range`)
    const { fetching, blocks } = this.#parts
    const { lend = false, buffer, least = 1 } = options
    const signal = this.unlessFailed(options.signal)
    const tail = fetching?.tail
    using follower = tail?.follow(from, { pace: options.pace === true, signal })
    for (let at = from; at < to; follower?.moved(at)) {
      const piece = Math.floor(at / task.pieceBytes)
      const wanted = Math.min(at + least, to)
      if (tail?.growing && tail.end >= at && tail.end < wanted && !stored.have.has(piece)) {
        await follower?.reached(wanted)
        continue
      }
      const fresh = tail?.from(at)
      if (fresh === undefined) {
        await this.#wait(piece, Math.ceil(to / task.pieceBytes), signal)
        if (!lend || buffer !== undefined) {
          const gap = stored.have.nextClear(piece)
          const most = buffer?.byteLength ?? CHUNK_BYTES
          const end = Math.min(to, at + most, gap < 0 ? task.bytes : pieceRange(task, gap).from)
          const chunk = buffer?.subarray(0, end - at) ?? new Uint8Array(end - at)
          await stored.read(at, chunk)
          at = end
          yield chunk
          continue
        }
      }
      using lent = fresh ?? (await blocks.take(stored, at, to))
      if (!lend && buffer === undefined) lent.keep()
      const chunk = lent.bytes.subarray(0, to - at)
      at += chunk.byteLength
      yield chunk
    }
  }

  async #wait(piece: number, last: number, signal: AbortSignal): Promise<void> {
    const { stored, fetching } = this.#parts
    if (stored.have.has(piece)) return
    if (fetching === undefined)
      throw new DarnerError('PIECE_ABSENT', `${stored.task.id}: piece ${piece} is not here and nobody fetches it`)
    using _demand = fetching.demand(piece, Math.min(last, piece + AHEAD_PIECES))
    await stored.waitFor(piece, { signal })
  }

  /**
   * Resolves once the whole digest matched. That is before the blob is safe on the disk, and may be before all of it is there: what this
   * reads is right. Throws what failed the fetch.
   */
  async matched({ signal }: { signal: AbortSignal }): Promise<void> {
    const { stored, fetching } = this.#parts
    const tail = fetching?.tail
    if (stored.verified || tail?.proven) return
    const matched = stored.matched({ signal: this.unlessFailed(signal) })
    await (tail === undefined ? matched : Promise.race([matched, tail.whenProven]))
  }

  async whole({ signal }: { signal: AbortSignal }): Promise<ContentSummary> {
    const { stored, fetching } = this.#parts
    if (fetching !== undefined) return await abortable(fetching.matched, signal)
    const { digest, task } = stored
    if (digest === undefined) throw new DarnerError('PIECE_ABSENT', `${task.id}: not complete`)
    return { digest, bytes: task.bytes, pieces: 0, seconds: 0, from: { origin: 0, supernode: 0, peers: 0 } }
  }

  path(): string {
    return this.#parts.stored.path
  }

  progress(): ContentProgress {
    const { stored, fetching } = this.#parts
    return {
      bytes: this.bytes,
      have: Math.min(this.bytes, stored.have.count * stored.task.pieceBytes),
      from: fetching?.from ?? { origin: 0, supernode: 0, peers: 0 },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return
    this.#released = true
    await this.#parts.release()
  }
}
