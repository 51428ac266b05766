/**
 * One task's bytes in the store: half done, with the pieces that are here, or complete. A piece from another host counts, is told to
 * others and can be read only after it was checked by the table; the blob is complete only after its whole digest matched, which the
 * pieces' own checks prove where the table has the states between them (hash-chain.ts).
 */
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { asDarnerError, DarnerError, isDarnerError, isUnreadable } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { abortable } from '../base/signals.ts'
import type { ComingPieces } from '../contracts/exchange.ts'
import { algorithmOf, type Digest } from '../oci/digest.ts'
import { Bitmap, type ReadonlyBitmap } from '../task/bitmap.ts'
import { pieceCount, pieceRange, stepBytesOf, type Task } from '../task/task.ts'
import { type Arrival, type ArrivalListener, Arrivals } from './arrivals.ts'
import { DataFile, type FilePool } from './data-file.ts'
import { type Hasher, sha256, unreadableFile, type WholeHash } from './hasher.ts'
import type { Journal } from './journal.ts'
import { readAll, writeAll } from './layout.ts'
import { Links } from './links.ts'
import type { PastCache } from './past-cache.ts'
import { bootCheck } from './piece-check.ts'
import { PieceTable, same } from './piece-table.ts'
import { PieceWatch } from './piece-watch.ts'
import type { RecentOf, RecentPieces } from './recent-pieces.ts'
import { SetAside } from './set-aside.ts'

/** Up to this length a whole blob is read and hashed in one go at the end; the thread isn't bothered. */
const SMALL_BYTES = 512 * 1024

/** What a stored task asks of its store. */
export interface Keeper {
  readonly hasher: Hasher
  readonly pool: FilePool
  readonly past: PastCache
  readonly recent: RecentPieces
  readonly log: Log
  /** Somebody used it: it isn't the next to be collected. */
  touched(stored: StoredTask): void
  /** Records the blob and gives its file the final name; returns that. All or nothing. */
  commit(stored: StoredTask, digest: Digest): Promise<string>
  /** Something of it could not be read. */
  suspect(stored: StoredTask): void
  /** Takes it out of the index at once and deletes its files. */
  purge(stored: StoredTask): Promise<void>
  /** The piece table that was recorded with a complete blob, as `PieceTable.whole` gives it. */
  tableOf(digest: Digest): Uint8Array | undefined
}

/** What is here of a task at the moment it is opened. */
export type Found =
  | {
      readonly path: string
      /** The file, where it is open already. */
      readonly handle?: FileHandle
      readonly have: Bitmap
      readonly table: PieceTable
      readonly journal: Journal
    }
  | { readonly path: string; readonly digest: Digest }

export class StoredTask {
  readonly task: Task
  readonly pieces: number
  readonly #keeper: Keeper
  readonly #file: DataFile
  readonly #watch: PieceWatch
  readonly #writing = new Map<number, Promise<void>>()
  readonly #recent: RecentOf = new Map()
  readonly #arrivals = new Arrivals()
  readonly #aside = new SetAside()
  #losses = 0
  #have: Bitmap
  /** A half-done task's table lives here; a complete one's is in the metadata and may be dropped from memory. */
  #table: PieceTable | undefined
  #cachedTable: WeakRef<PieceTable> | undefined
  #journal: Journal | undefined
  #digest: Digest | undefined
  #failure: DarnerError | undefined
  #whole: WholeHash | undefined
  #prefix = 0
  #hashedByCaller = false
  /** Its table is that of the blob, which was whole here once. */
  #proven = false
  #links: Links
  /** What the whole hashed to, once it matched. */
  #verified: Digest | undefined
  #matched = Promise.withResolvers<Digest>()
  #finishing: Promise<Digest> | undefined

  constructor(options: { task: Task; found: Found }, keeper: Keeper) {
    const { task, found } = options
    this.task = task
    this.pieces = pieceCount(task)
    this.#keeper = keeper
    this.#file = new DataFile(found.path, keeper.pool, 'handle' in found ? found.handle : undefined)
    this.#watch = new PieceWatch(keeper.log)
    this.#matched.promise.catch(() => {})
    this.#links = this.#freshLinks()
    if ('digest' in found) {
      this.#digest = found.digest
      this.#verified = found.digest
      this.#matched.resolve(found.digest)
      this.#have = Bitmap.full(this.pieces)
    } else {
      this.#have = found.have
      this.#table = found.table
      this.#journal = found.journal
    }
  }

  /** Pieces that can be read now; grows, and shrinks only when {@link damaged} or in {@link doubt}. */
  get have(): ReadonlyBitmap {
    return this.#have
  }

  /** True once the whole digest matched and the file has its final name. */
  get complete(): boolean {
    return this.#digest !== undefined
  }

  /** True once the whole digest matched; {@link complete} follows soon. */
  get verified(): boolean {
    return this.#verified !== undefined
  }

  /** The whole digest: of a verified blob what it hashed to, else what it must hash to, if known. */
  get digest(): Digest | undefined {
    return this.#digest ?? this.#verified ?? this.task.digest
  }

  /** Why nothing more can be had from this: discarded, collected, or the store was closed. */
  get failure(): DarnerError | undefined {
    return this.#failure
  }

  /** The file; under its final name once complete. Stays while a lease is held. */
  get path(): string {
    return this.#file.path
  }

  /** Bytes of those, and of what is {@link doubted}. */
  get haveBytes(): number {
    const last = this.pieces - 1
    const ends = this.#have.has(last) || this.#aside.has(last)
    const missingTail = last >= 0 && ends ? this.pieces * this.task.pieceBytes - this.task.bytes : 0
    return (this.#have.count + this.#aside.count) * this.task.pieceBytes - missingTail
  }

  /** True while somebody reads, writes, waits or listens. */
  get busy(): boolean {
    if (this.#watch.busy || this.#arrivals.busy || this.#finishing !== undefined) return true
    return this.#file.busy || this.#writing.size > 0
  }

  /** True while somebody is told of pieces as they come. */
  get heard(): boolean {
    return this.#watch.heard
  }

  /** Piece digests. Of a complete blob it may be empty of knowledge (a stream that was never cut): see `Store.cut`. */
  get table(): PieceTable {
    if (this.#table) return this.#table
    const cached = this.#cachedTable?.deref()
    if (cached) return cached
    const bytes = this.#digest === undefined ? undefined : this.#keeper.tableOf(this.#digest)
    const table = (bytes && PieceTable.fromBytes(this.pieces, bytes)) ?? new PieceTable(this.pieces)
    this.#cachedTable = new WeakRef(table)
    return table
  }

  /**
   * Stores a piece whose digest the table knows; false when it was there. Leave `body` alone until this settles. Throws
   * PIECE_SHORT (another length), PIECE_DIGEST, DISK_FULL, STATE_INVALID (digest not known yet); then nothing is visible.
   */
  async write(piece: number, body: Uint8Array, { signal }: { signal: AbortSignal }): Promise<boolean> {
    this.#check(piece, body)
    for (let other = this.#writing.get(piece); other; other = this.#writing.get(piece)) {
      await abortable(
        other.catch(() => {}),
        signal,
      )
    }
    this.#alive()
    if (this.#have.has(piece)) return false
    const expected = this.table.digest(piece)
    if (!expected) throw new DarnerError('STATE_INVALID', `store ${this.#name(piece)}: its digest is not known yet`)
    await this.#once(piece, async () => {
      const linked = await this.#links.leads(piece, body)
      const actual = linked ? expected : await sha256(body)
      signal.throwIfAborted()
      if (!same(actual, expected)) {
        const seen = Buffer.from(actual).toString('hex')
        throw new DarnerError('PIECE_DIGEST', `${this.#name(piece)}: its bytes hash to sha256:${seen}`, {
          details: { piece },
        })
      }
      await this.#store(piece, body, { digest: expected, linked })
    })
    return true
  }

  /**
   * Stores a piece from the origin and establishes its digest, which is returned. A digest known before must agree
   * (PIECE_DIGEST). For a piece that is here already its digest is returned. Of pieces that are appended in order from the first on, the
   * table gets the states too. Throws PIECE_SHORT, DISK_FULL.
   */
  async append(piece: number, body: Uint8Array): Promise<Uint8Array> {
    this.#check(piece, body)
    await this.#writing.get(piece)?.catch(() => {})
    const linking = this.task.bytes > SMALL_BYTES ? this.#links.extend(piece, body) : undefined
    const [actual, linked] = await Promise.all([sha256(body), linking])
    this.#alive()
    const known = this.table.digest(piece)
    if (known ? !same(known, actual) : linked === false) {
      throw new DarnerError('PIECE_DIGEST', `${this.#name(piece)}: the origin sent other bytes than before`, {
        details: { piece },
      })
    }
    if (!this.#have.has(piece) && !this.#writing.has(piece)) {
      await this.#once(piece, async () => {
        await this.#store(piece, body, { digest: actual, linked: linked === true })
      })
    } else await this.#writing.get(piece)
    return actual
  }

  /**
   * Stores pieces from the origin, from `piece` on, without their digests: only the whole digest says whether they are right. They are
   * for this host's own readers, and for hosts that have the digests from elsewhere. Of a task whose digests others have told, it
   * checks as {@link append} does. `past` the kernel's cache go bytes that nobody will read soon, if they can. Throws PIECE_SHORT,
   * PIECE_DIGEST, DISK_FULL.
   */
  async lay(piece: number, body: Uint8Array, { past = false }: { past?: boolean } = {}): Promise<void> {
    const { pieceBytes } = this.task
    const count = Math.max(1, Math.ceil(body.byteLength / pieceBytes))
    this.#check(piece, body, count)
    if (!this.#untouched(piece, count)) {
      for (let at = 0; at < count; at++)
        await this.append(piece + at, body.subarray(at * pieceBytes, (at + 1) * pieceBytes))
      return
    }
    await this.#once(piece, () => this.#store(piece, body, { count, past }), count)
  }

  /** Establishes the digests of pieces that are here without, which are read for it. Throws STORE_CORRUPT, the signal's reason. */
  async learn({ signal }: { signal: AbortSignal }): Promise<void> {
    if (this.complete) return
    const { table } = this
    const unknown: number[] = []
    for (let piece = this.#have.nextSet(0); piece >= 0; piece = this.#have.nextSet(piece + 1))
      if (!table.known.has(piece)) unknown.push(piece)
    unknown.push(...this.#aside.unknown())
    for await (const { piece, digest, fault } of this.#keeper.hasher.pieces(this.path, this.task, unknown, {
      signal,
    })) {
      this.#alive()
      if (fault) throw fault
      if (this.#aside.has(piece)) this.#aside.put(piece, digest)
      else table.setDigests(piece, digest)
    }
  }

  /**
   * A fetch of it is over, and the next may be told other digests, be it that what was read for all was wrong: what is here counts, and can
   * be read, again once {@link told} has it right. What was told before is forgotten. Not of a blob that was whole here once.
   */
  async doubt(): Promise<void> {
    while (this.#writing.size > 0) await Promise.allSettled(this.#writing.values())
    await this.#finishing?.catch(() => {})
    if (this.#failure !== undefined || this.verified || this.#proven) return
    for (let piece = this.#have.nextSet(0); piece >= 0; piece = this.#have.nextSet(piece + 1)) {
      this.#aside.put(piece, this.table.digest(piece))
      this.#have.remove(piece)
    }
    this.#table = new PieceTable(this.pieces)
    this.#startOver()
  }

  /** Nobody can tell whether what {@link doubt} set aside is right, but the digest of the whole: it counts again. */
  trust(): void {
    if (this.#failure !== undefined) return
    for (const [piece, digest] of this.#aside.takeAll()) {
      if (digest !== undefined) this.table.setDigests(piece, digest)
      this.#regain(piece)
    }
  }

  /** How often pieces were here no longer. */
  get losses(): number {
    return this.#losses
  }

  /** Pieces that are set aside by {@link doubt}. */
  get doubted(): number {
    return this.#aside.count
  }

  /** How many of those have come to count again. */
  get regained(): number {
    return this.#aside.regained
  }

  /**
   * Takes digests of the pieces from `from` on, as the supernode tells them. Pieces that were set aside count again where they agree; the
   * others are as if they had never come. Throws PROTOCOL_VIOLATION, as the table does.
   */
  told(from: number, digests: Uint8Array): { right: readonly number[]; wrong: readonly number[] } {
    this.table.setDigests(from, digests)
    const judged = this.#aside.told(from, digests)
    for (const piece of judged.right) this.#regain(piece)
    return judged
  }

  #regain(piece: number): void {
    this.#have.add(piece)
    this.#advance()
    this.#watch.announce(piece, 1)
  }

  /**
   * Keeps in memory the bytes of a piece that {@link write} or {@link append} just stored, since who reads it does so soon. They belong
   * to this task until `release` gets them, which may be at once.
   */
  keep(piece: number, body: Uint8Array, release?: (body: Uint8Array) => void): void {
    if (this.#failure === undefined && this.#have.has(piece))
      this.#keeper.recent.keep(this.#recent, piece, body, release)
    else release?.(body)
  }

  /** Fills `into` with verified bytes from `offset` on. Throws PIECE_ABSENT when one of its pieces isn't here. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    if (into.byteLength === 0) return
    this.#alive()
    const { bytes, pieceBytes } = this.task
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + into.byteLength > bytes) {
      throw new DarnerError(
        'BAD_ARGUMENT',
        `read ${into.byteLength} bytes at ${offset} of ${this.task.id}: it has ${bytes}`,
      )
    }
    const first = Math.floor(offset / pieceBytes)
    const gap = this.#have.nextClear(first)
    if (gap >= 0 && gap * pieceBytes < offset + into.byteLength) {
      throw new DarnerError('PIECE_ABSENT', `read ${this.#name(gap)}: it is not here`, { details: { piece: gap } })
    }
    this.#keeper.touched(this)
    const at = offset - first * pieceBytes
    const kept = this.#recent.get(first)?.body
    if (kept !== undefined && at + into.byteLength <= kept.byteLength) {
      into.set(kept.subarray(at, at + into.byteLength))
      return
    }
    try {
      const got = await this.#file.use((handle) => readAll(handle, into, offset))
      if (got < into.byteLength) throw new Error(`it ends at ${offset + got} instead of ${bytes}`)
    } catch (error) {
      if (isDarnerError(error)) throw this.#failure ?? error
      const { path } = this.#file
      this.#keeper.suspect(this)
      throw unreadableFile(path, error)
    }
  }

  has(piece: number): boolean {
    return this.#have.has(piece)
  }

  /**
   * A piece begins to come into `body`, and may be read while it does, as far as it is checked. Undefined where nobody would, where it can't be
   * checked by parts, and where it comes from elsewhere already. Leave `body` alone until the arrival is over.
   */
  arriving(piece: number, body: Uint8Array): Arrival | undefined {
    if (!this.#arrivals.heard || this.#failure !== undefined || this.#have.has(piece)) return undefined
    const stepBytes = stepBytesOf(this.task)
    const expected = this.table.steps(piece)
    const link = this.#links.of(piece, body)
    if (stepBytes === undefined || expected === undefined || link === undefined) return undefined
    return this.#arrivals.begin(piece, link, { stepBytes, expected })
  }

  /** Calls back for each piece that is coming, or begins to, of which a part may be read, and when it isn't coming any more. Returns the unsubscriber. */
  onArriving(listener: ArrivalListener): () => void {
    return this.#arrivals.listen(listener)
  }

  /** How far pieces are that are coming now; {@link readPart} reads them. */
  readonly coming: ComingPieces = {
    checked: (piece) => (this.#have.has(piece) ? undefined : this.#arrivals.checked(piece)),
    beyond: (piece, bytes) => this.#arrivals.beyond(piece, bytes),
  }

  /** Fills `into` with verified bytes of a piece that is here or {@link coming}, from `offset` on. Throws PIECE_ABSENT. */
  async readPart(piece: number, offset: number, into: Uint8Array): Promise<void> {
    if (!this.#have.has(piece) && this.#arrivals.read(piece, offset, into)) return
    await this.read(piece * this.task.pieceBytes + offset, into)
  }

  /** Calls back for each run of pieces stored from now on. Returns the unsubscriber. */
  onPieces(listener: (from: number, count: number) => void): () => void {
    return this.#watch.listen(listener)
  }

  /** Resolves once the piece can be read. Rejects with {@link failure} or the signal's reason. */
  async waitFor(piece: number, { signal }: { signal: AbortSignal }): Promise<void> {
    this.#alive()
    this.#bounds(piece)
    if (!this.#have.has(piece)) await this.#watch.wait(piece, signal)
  }

  /** Resolves once the whole digest matched, be the file safe from a power cut yet or not. Rejects with {@link failure}. */
  async matched({ signal }: { signal: AbortSignal }): Promise<Digest> {
    return await abortable(this.#matched.promise, signal)
  }

  /** Brings to the disk what is stored so far, of which {@link finish} then has less to wait for. Throws DISK_FULL, INTERNAL. */
  async flush(): Promise<void> {
    try {
      await this.#file.use((handle) => handle.datasync())
    } catch (error) {
      throw this.#failure ?? asDarnerError(error, `flush ${this.task.id}`)
    }
  }

  /** Whoever appends from the first byte on, in order, hashes the whole meanwhile and tells {@link finish}: the file isn't read for it. */
  hashedByCaller(): void {
    this.#hashedByCaller = true
    this.#links.unneeded()
  }

  /**
   * Verifies the whole digest, syncs the file and gives it its final name; single flight. Throws PIECE_ABSENT when pieces are
   * missing, DISK_FULL, and DIGEST_MISMATCH or STORE_CORRUPT, after which nothing of the task is left. `hashed`: see {@link hashedByCaller}.
   */
  finish({ expected, hashed, signal }: { expected?: Digest; hashed?: Digest; signal: AbortSignal }): Promise<Digest> {
    if (this.#digest !== undefined) return this.#agree(this.#digest, expected)
    if (!this.#finishing) {
      this.#finishing = this.#finish(expected, hashed).finally(() => {
        this.#finishing = undefined
      })
      // whoever asked may have gone by abort; the outcome is also in `complete` and `failure`
      this.#finishing.catch(() => {})
    }
    return abortable(this.#finishing, signal)
  }

  async #finish(expected: Digest | undefined, hashed: Digest | undefined): Promise<Digest> {
    this.#alive()
    const wanted = expected ?? this.task.digest
    const gap = this.#have.nextClear(0)
    if (gap >= 0)
      throw new DarnerError('PIECE_ABSENT', `finish ${this.task.id}: piece ${gap} is not here`, {
        details: { piece: gap },
      })
    const algorithm = wanted === undefined ? 'sha256' : algorithmOf(wanted)
    const actual =
      hashed ?? (algorithm === 'sha256' ? this.#links.proven : undefined) ?? (await this.#readBack(algorithm))
    this.#alive()
    if (wanted !== undefined && actual !== wanted) {
      const error = new DarnerError(
        'DIGEST_MISMATCH',
        `verify ${wanted}: the ${this.task.bytes} bytes hash to ${actual}`,
      )
      await this.discard(error)
      throw error
    }
    this.#verified = actual
    this.#matched.resolve(actual)
    try {
      await this.#file.use((handle) => handle.sync())
      this.#file.moved(await this.#keeper.commit(this, actual))
    } catch (error) {
      throw this.#failure ?? asDarnerError(error, `finish ${this.task.id}`)
    }
    const journal = this.#journal
    this.#digest = actual
    this.#journal = undefined
    this.#cachedTable = this.#table && new WeakRef(this.#table)
    this.#table = undefined
    await journal?.close()
    return actual
  }

  /** Fails whoever waits with `reason` and deletes everything of this task; its space is free when this resolves. */
  async discard(reason: DarnerError): Promise<void> {
    this.fail(reason)
    await this.#keeper.purge(this)
  }

  /** Ends it with `reason`, leaving the files: waiters reject, later calls throw. For the store. */
  fail(reason: DarnerError): void {
    if (this.#failure) return
    this.#failure = reason
    this.#keeper.recent.dropAll(this.#recent)
    this.#arrivals.drop()
    this.#watch.fail(reason)
    this.#matched.reject(reason)
    this.#whole?.drop()
    this.#whole = undefined
  }

  /** Waits for writes under way and closes the files; call after {@link fail}. For the store. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#writing.values())
    await this.#file.close()
    const journal = this.#journal
    this.#journal = undefined
    await journal?.close()
  }

  /** A scrub found `bad` pieces of a complete blob: it is half done again, in a file of another name. For the store. */
  damaged(bad: readonly number[], now: { path: string; table: PieceTable; journal: Journal }): void {
    for (const piece of bad) this.#have.remove(piece)
    this.#digest = undefined
    this.#verified = undefined
    this.#matched = Promise.withResolvers()
    this.#matched.promise.catch(() => {})
    this.#proven = true
    this.#startOver()
    this.#table = now.table
    this.#cachedTable = undefined
    this.#journal = now.journal
    this.#file.moved(now.path)
  }

  /** What was seen of the pieces on the way to the whole is of no use any more. */
  #startOver(): void {
    this.#losses++
    this.#keeper.recent.dropAll(this.#recent)
    this.#hashedByCaller = false
    this.#prefix = 0
    this.#whole?.drop()
    this.#whole = undefined
    this.#links = this.#freshLinks()
  }

  #freshLinks(): Links {
    return new Links(this.task, { table: () => this.table, arrivals: this.#arrivals })
  }

  /** The digest of the whole file. Throws STORE_CORRUPT where the disk doesn't give it back, after which nothing of the task is left. */
  async #readBack(algorithm: 'sha256' | 'sha512'): Promise<Digest> {
    try {
      return await this.#wholeDigest(algorithm)
    } catch (error) {
      if (!isUnreadable(error)) throw this.#failure ?? asDarnerError(error, `verify ${this.task.id}`)
      const reason = unreadableFile(this.path, error)
      await this.discard(reason)
      throw reason
    }
  }

  /** The digest as hex of the whole file, along the prefix as it grows when the file is large. */
  async #wholeDigest(algorithm: 'sha256' | 'sha512'): Promise<Digest> {
    const { bytes } = this.task
    if (bytes <= SMALL_BYTES) {
      const body = new Uint8Array(bytes)
      await this.#file.use((handle) => readAll(handle, body, 0))
      return `${algorithm}:${createHash(algorithm).update(body).digest('hex')}` as Digest
    }
    let whole = this.#whole
    this.#whole = undefined
    if (algorithm !== this.#wholeAlgorithm()) {
      whole?.drop()
      whole = undefined
    }
    whole ??= this.#keeper.hasher.whole(this.#file.path, algorithm)
    return `${algorithm}:${await whole.finish(bytes)}` as Digest
  }

  #wholeAlgorithm(): 'sha256' | 'sha512' {
    return this.task.digest === undefined ? 'sha256' : algorithmOf(this.task.digest)
  }

  /** True while nothing is here of these pieces, on its way here, or known of them. */
  #untouched(piece: number, count: number): boolean {
    for (let at = piece; at < piece + count; at++)
      if (this.#have.has(at) || this.#writing.has(at) || this.table.known.has(at)) return false
    return true
  }

  async #once(piece: number, work: () => Promise<void>, count = 1): Promise<void> {
    const running = work()
    for (let at = piece; at < piece + count; at++) this.#writing.set(at, running)
    try {
      await running
    } finally {
      for (let at = piece; at < piece + count; at++) this.#writing.delete(at)
    }
  }

  /** One piece, or `count` from `piece` on that weren't checked. */
  async #store(
    piece: number,
    body: Uint8Array,
    {
      digest,
      linked = false,
      count = 1,
      past = false,
    }: { digest?: Uint8Array; linked?: boolean; count?: number; past?: boolean },
  ): Promise<void> {
    this.#alive()
    const journal = this.#journal
    if (!journal) throw new DarnerError('STATE_INVALID', `store ${this.#name(piece)}: the task is not open for writing`)
    this.#aside.drop(piece, count)
    try {
      const writing = this.#bytes(body, pieceRange(this.task, piece).from, past)
      if (digest === undefined) {
        await writing
        await journal.append(piece, bootCheck(), count)
      } else {
        // side by side: a record without its bytes is found out when the piece is hashed again at the next start
        await Promise.all([writing, journal.append(piece, digest)])
      }
    } catch (error) {
      throw this.#failure ?? asDarnerError(error, `store ${this.#name(piece)}`)
    }
    this.#alive()
    if (digest !== undefined) this.table.setDigests(piece, digest)
    this.#have.addRange(piece, count)
    if (linked) this.#links.made(piece)
    this.#advance()
    this.#keeper.touched(this)
    this.#watch.announce(piece, count)
    for (let at = piece; at < piece + count; at++) this.#arrivals.stored(at)
  }

  async #bytes(body: Uint8Array, at: number, past: boolean): Promise<void> {
    if (past && (await this.#keeper.past.write(this.#file, body, at))) return
    await this.#file.use((handle) => writeAll(handle, body, at))
  }

  #advance(): void {
    const { bytes, pieceBytes } = this.task
    if (this.#hashedByCaller || bytes <= SMALL_BYTES || !this.#have.has(this.#prefix)) return
    // the links may prove the whole without a further look at it
    if (this.#links.count === this.#have.count) return
    const gap = this.#have.nextClear(this.#prefix)
    this.#prefix = gap < 0 ? this.pieces : gap
    this.#whole ??= this.#keeper.hasher.whole(this.#file.path, this.#wholeAlgorithm())
    this.#whole.advance(Math.min(bytes, this.#prefix * pieceBytes))
  }

  async #agree(actual: Digest, expected: Digest | undefined): Promise<Digest> {
    if (expected === undefined || expected === actual) return actual
    throw new DarnerError('DIGEST_MISMATCH', `verify ${expected}: the stored blob is ${actual}`)
  }

  #check(piece: number, body: Uint8Array, count = 1): void {
    this.#alive()
    this.#bounds(piece)
    this.#bounds(piece + count - 1)
    const { from } = pieceRange(this.task, piece)
    const { to } = pieceRange(this.task, piece + count - 1)
    if (body.byteLength !== to - from) {
      const text = `${this.#name(piece)}: expected ${to - from} bytes, got ${body.byteLength}`
      throw new DarnerError('PIECE_SHORT', text, { details: { piece, bytes: body.byteLength } })
    }
  }

  #bounds(piece: number): void {
    if (!Number.isInteger(piece) || piece < 0 || piece >= this.pieces) {
      throw new DarnerError('BAD_ARGUMENT', `${this.#name(piece)}: it has ${this.pieces} pieces`)
    }
  }

  #alive(): void {
    if (this.#failure) throw this.#failure
  }

  #name(piece: number): string {
    return `piece ${piece} of ${this.task.id}`
  }
}
