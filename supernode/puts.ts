/**
 * Blobs that hosts give to the swarm themselves. The supernode reads each whole from the host that puts it, and trusts nothing but the
 * digest of what it read. Knowing a digest grants no access to what others hold.
 */
import type { Clock } from '../src/core/clock.ts'
import type { PieceExchange } from '../src/core/contracts/exchange.ts'
import { algorithmOf, type Digest, Digester } from '../src/core/digest.ts'
import { DarnerError } from '../src/core/errors.ts'
import { PUT_ORIGIN } from '../src/core/task/put-origin.ts'
import { blobTask, type TaskId } from '../src/core/task/task.ts'
import type { Identity } from '../src/protocol/identity.ts'
import type { Node } from '../src/protocol/node.ts'
import { PUT_PLACE } from '../src/rights/place.ts'
import type { Store } from '../src/store/store.ts'
import type { Host } from './hosts.ts'
import { lentPieces } from './lent-read.ts'
import { ownPass } from './own-pass.ts'
import { type AccessBook, noteServed } from './seed/access-book.ts'
import type { Seed } from './seed/seed.ts'
import type { Traffic } from './traffic.ts'

export interface PutsParts {
  readonly node: Node
  readonly identity: Identity
  readonly store: Store
  readonly seed: Seed
  readonly access: AccessBook
  readonly exchange: PieceExchange
  readonly traffic: Traffic
  readonly clock: Clock
}

/** Blobs that are read from hosts at the same time; more are refused. */
const MAX_PUTS = 64

export class Puts {
  readonly #options: { readonly maxTaskBytes: number }
  readonly #parts: PutsParts
  readonly #taking = new Map<Digest, Promise<unknown>>()

  constructor(options: { maxTaskBytes: number }, parts: PutsParts) {
    this.#options = options
    this.#parts = parts
  }

  /**
   * Resolves once the blob is here, verified, and open to every host of the swarm. The result is the number of bytes that were read from
   * the host for it, none if it was here before. Throws DIGEST_MISMATCH, SIZE_MISMATCH, LIMIT_EXCEEDED, DISK_FULL, PEER_UNREACHABLE and
   * others of the exchange.
   */
  async take(
    host: Host,
    blob: { digest: Digest; bytes: number },
    { signal }: { signal: AbortSignal },
  ): Promise<number> {
    const { digest, bytes } = blob
    if (bytes > this.#options.maxTaskBytes) {
      throw new DarnerError(
        'LIMIT_EXCEEDED',
        `put ${digest}: ${bytes} bytes are over the limit of ${this.#options.maxTaskBytes}`,
      )
    }
    while (this.#taking.has(digest)) await this.#taking.get(digest)
    if (this.#taking.size >= MAX_PUTS)
      throw new DarnerError('LIMIT_EXCEEDED', `put ${digest}: ${MAX_PUTS} blobs are being put already`, {
        way: 'try again when some are done',
      })
    const taking = this.#take(host, digest, bytes, signal)
    const over = taking.catch(() => {}).finally(() => this.#taking.delete(digest))
    this.#taking.set(digest, over)
    return await taking
  }

  async #take(host: Host, digest: Digest, bytes: number, signal: AbortSignal): Promise<number> {
    const { store, seed, access: book } = this.#parts
    const id = digest as string as TaskId
    // current readers are not disturbed; whether that read ends well is their affair
    await seed
      .find(id)
      ?.whole()
      .catch(() => {})
    const kept = store.byDigest(digest) ?? (await store.reopen(id, { signal }))
    const access = await book.load(id)
    if (kept?.complete && access.served.has(PUT_PLACE)) return 0
    const pieces = this.#pieces(host, digest, bytes, signal)
    if (kept?.complete) await prove(digest, bytes, pieces)
    else {
      // half a blob of somewhere else would stand in the way of this whole one
      await kept?.discard(new DarnerError('PIECE_ABSENT', `${digest}: a host has put it whole`))
      await store.ingest(pieces, { expectedDigest: digest, maxBytes: bytes, signal })
    }
    seed.drop(id)
    const now = await book.load(id)
    noteServed(now, PUT_PLACE, {}, bytes)
    await book.save(id, now)
    await seed.obtain({ origin: PUT_ORIGIN, digest, bytes }, { signal })
    return bytes
  }

  async *#pieces(host: Host, digest: Digest, bytes: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { exchange, traffic, clock } = this.#parts
    const task = blobTask(digest, bytes)
    const pass = ownPass(task, { place: PUT_PLACE, anybody: true }, this.#parts)
    for await (const { body } of lentPieces(
      { task, from: 0, pass },
      { address: host, exchange, traffic, clock, signal },
    ))
      yield body
  }
}

/** Throws DIGEST_MISMATCH unless the pieces are the whole blob. */
async function prove(digest: Digest, bytes: number, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const digester = new Digester(algorithmOf(digest))
  for await (const body of pieces) digester.update(body)
  const seen = digester.bytes
  const got = digester.finish()
  if (seen !== bytes || got !== digest)
    throw new DarnerError('DIGEST_MISMATCH', `put ${digest}: the host's ${seen} bytes hash to ${got}`)
}
