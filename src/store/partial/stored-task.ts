/**
 * One task's bytes in the store: half done, with the pieces that are here, or complete. A piece from another host counts, is announced, and
 * can be read only after the table verified it. The blob is complete only after its whole digest matched. How pieces get in is
 * piece-writes.ts, how they become the whole is blob-verifier.ts.
 */
import type { FileHandle } from 'node:fs/promises'
import type { ComingPieces } from '../../core/contracts/exchange.ts'
import type { Digest } from '../../core/digest.ts'
import { asDarnerError, DarnerError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import { Bitmap, type ReadonlyBitmap } from '../../core/task/bitmap.ts'
import { pieceCount, stepBytesOf, type Task } from '../../core/task/task.ts'
import type { Hasher } from '../hash/hasher.ts'
import { type Arrival, type ArrivalListener, Arrivals } from './arrivals.ts'
import { Whole } from './blob-verifier.ts'
import { DataFile, type FilePool } from './data-file.ts'
import type { Journal } from './journal.ts'
import type { PastCache } from './past-cache.ts'
import { PieceReads } from './piece-reads.ts'
import { PieceTable } from './piece-table.ts'
import { PieceWatch } from './piece-watch.ts'
import { checkPiece, PieceWrites } from './piece-writes.ts'
import type { RecentOf, RecentPieces } from './recent-pieces.ts'
import { SetAside } from './unverified.ts'

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
  readonly #recent: RecentOf = new Map()
  readonly #arrivals = new Arrivals()
  readonly #aside = new SetAside()
  readonly #have: Bitmap
  readonly #whole: Whole
  readonly #writes: PieceWrites
  readonly #reads: PieceReads
  #losses = 0
  /** A half-done task's table lives here; a complete one's is in the metadata and may be dropped from memory. */
  #table: PieceTable | undefined
  #cachedTable: WeakRef<PieceTable> | undefined
  #journal: Journal | undefined
  #digest: Digest | undefined
  #failure: DarnerError | undefined
  /** Its table is that of the blob, which was whole here once. */
  #proven = false

  constructor(options: { task: Task; found: Found }, keeper: Keeper) {
    const { task, found } = options
    this.task = task
    this.pieces = pieceCount(task)
    this.#keeper = keeper
    this.#file = new DataFile(found.path, keeper.pool, 'handle' in found ? found.handle : undefined)
    this.#watch = new PieceWatch(keeper.log)
    if ('digest' in found) {
      this.#digest = found.digest
      this.#have = Bitmap.full(this.pieces)
    } else {
      this.#have = found.have
      this.#table = found.table
      this.#journal = found.journal
    }
    const shared = {
      file: this.#file,
      have: this.#have,
      table: () => this.table,
      failure: () => this.#failure,
    }
    this.#whole = new Whole(
      { task, verified: this.#digest },
      {
        ...shared,
        hasher: keeper.hasher,
        arrivals: this.#arrivals,
        commit: (digest) => this.#commit(digest),
        discard: (reason) => this.discard(reason),
      },
    )
    this.#writes = new PieceWrites(task, {
      ...shared,
      past: keeper.past,
      aside: this.#aside,
      whole: this.#whole,
      journal: () => this.#journal,
      stored: (from, count) => this.#stored(from, count),
    })
    this.#reads = new PieceReads(task, {
      ...shared,
      recent: this.#recent,
      arrivals: this.#arrivals,
      touched: () => keeper.touched(this),
      suspect: () => keeper.suspect(this),
    })
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
    return this.#whole.verified !== undefined
  }

  /** The whole digest: of a verified blob what it hashed to, else what it must hash to, if known. */
  get digest(): Digest | undefined {
    return this.#digest ?? this.#whole.verified ?? this.task.digest
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
    if (this.#watch.busy || this.#arrivals.busy || this.#whole.busy) return true
    return this.#file.busy || this.#writes.busy
  }

  /** True while a listener is called for each piece that arrives. */
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

  /** Stores a piece from another host: {@link PieceWrites.write}. */
  write(piece: number, body: Uint8Array, options: { signal: AbortSignal }): Promise<boolean> {
    return this.#writes.write(piece, body, options)
  }

  /** Stores a piece from the origin, with its digest: {@link PieceWrites.append}. */
  append(piece: number, body: Uint8Array): Promise<Uint8Array> {
    return this.#writes.append(piece, body)
  }

  /** Stores pieces from the origin without: {@link PieceWrites.lay}. */
  lay(piece: number, body: Uint8Array, options?: { past?: boolean }): Promise<void> {
    return this.#writes.lay(piece, body, options)
  }

  #stored(from: number, count: number): void {
    this.#whole.advance()
    this.#keeper.touched(this)
    this.#watch.announce(from, count)
    for (let piece = from; piece < from + count; piece++) this.#arrivals.stored(piece)
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
   * A fetch of it is over, and the next one may get other digests, because what was read for all may have been wrong. What is here counts,
   * and can be read, again once {@link told} confirms it. Earlier digests are forgotten. Not of a blob that was whole here once.
   */
  async doubt(): Promise<void> {
    if (!this.#proven) await this.#setAside()
  }

  /**
   * Sets aside what is here, for a reader who may have no right to it. Only {@link told} or the result brings it back, as long as nothing
   * of another place was stored. Not of a blob that is whole.
   */
  async withhold(): Promise<() => void> {
    await this.#setAside()
    const back = this.#aside.withhold()
    return () => this.#regainAll(back)
  }

  async #setAside(): Promise<void> {
    await this.#writes.settled()
    await this.#whole.settled()
    if (this.#failure !== undefined || this.verified) return
    this.#proven = false
    for (let piece = this.#have.nextSet(0); piece >= 0; piece = this.#have.nextSet(piece + 1)) {
      this.#aside.put(piece, this.table.digest(piece))
      this.#have.remove(piece)
    }
    this.#table = new PieceTable(this.pieces)
    this.#lost()
    this.#whole.startOver()
  }

  /** Nobody can tell whether what {@link doubt} set aside is right, but the digest of the whole: it counts again. Not what is withheld. */
  trust(): void {
    this.#regainAll(() => this.#aside.takeAll())
  }

  #regainAll(take: () => [piece: number, digest: Uint8Array | undefined][]): void {
    if (this.#failure !== undefined) return
    for (const [piece, digest] of take()) {
      if (digest !== undefined) this.table.setDigests(piece, digest)
      this.#regain(piece)
    }
  }

  /** How often pieces were here no longer. */
  get losses(): number {
    return this.#losses
  }

  /** Pieces that are set aside by {@link doubt} or {@link withhold}. */
  get doubted(): number {
    return this.#aside.count
  }

  /** Nothing is here of it, nor set aside. */
  get empty(): boolean {
    return this.#have.count + this.#aside.count === 0
  }

  /** How many of those have come to count again. */
  get regained(): number {
    return this.#aside.regained
  }

  /**
   * Takes digests of the pieces from `from` on, as the supernode publishes them. Pieces that were set aside count again where they agree;
   * the others are as if they had never come. Throws PROTOCOL_VIOLATION, as the table does.
   */
  told(from: number, digests: Uint8Array): { right: readonly number[]; wrong: readonly number[] } {
    this.table.setDigests(from, digests)
    const judged = this.#aside.told(from, digests)
    for (const piece of judged.right) this.#regain(piece)
    return judged
  }

  #regain(piece: number): void {
    this.#have.add(piece)
    this.#whole.advance()
    this.#watch.announce(piece, 1)
  }

  /**
   * Keeps in memory the bytes of a piece that {@link write} or {@link append} just stored, since its readers come soon. They belong to this
   * task until `release` gets them, which may be at once.
   */
  keep(piece: number, body: Uint8Array, release?: (body: Uint8Array) => void): void {
    if (this.#failure === undefined && this.#have.has(piece))
      this.#keeper.recent.keep(this.#recent, piece, body, release)
    else release?.(body)
  }

  /** Fills `into` with verified bytes from `offset` on. Throws PIECE_ABSENT when one of its pieces isn't here. */
  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#reads.read(offset, into)
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
    const link = this.#whole.links.of(piece, body)
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
  readPart(piece: number, offset: number, into: Uint8Array): Promise<void> {
    return this.#reads.readPart(piece, offset, into)
  }

  /** Calls back for each run of pieces stored from now on. Returns the unsubscriber. */
  onPieces(listener: (from: number, count: number) => void): () => void {
    return this.#watch.listen(listener)
  }

  /** Resolves once the piece can be read. Rejects with {@link failure} or the signal's reason. */
  async waitFor(piece: number, { signal }: { signal: AbortSignal }): Promise<void> {
    this.#alive()
    checkPiece(this.task, piece)
    if (!this.#have.has(piece)) await this.#watch.wait(piece, signal)
  }

  /** Resolves once the whole digest matched, be the file safe from a power cut yet or not. Rejects with {@link failure}. */
  matched(options: { signal: AbortSignal }): Promise<Digest> {
    return this.#whole.matched(options)
  }

  /** Brings to the disk what is stored so far, of which {@link finish} then has less to wait for. Throws DISK_FULL, INTERNAL. */
  async flush(): Promise<void> {
    try {
      await this.#file.use((handle) => handle.datasync())
    } catch (error) {
      throw this.#failure ?? asDarnerError(error, `flush ${this.task.id}`)
    }
  }

  /**
   * A caller that appends in order, from the first byte on, hashes the whole meanwhile and passes the digest to {@link finish}. The file
   * isn't read for it.
   */
  hashedByCaller(): void {
    this.#whole.hashedByCaller()
  }

  /**
   * Verifies the whole digest, syncs the file and gives it its final name; single flight. Throws PIECE_ABSENT when pieces are
   * missing, DISK_FULL, and DIGEST_MISMATCH or STORE_CORRUPT, after which nothing of the task is left. `hashed`: see {@link hashedByCaller}.
   */
  finish(options: { expected?: Digest; hashed?: Digest; signal: AbortSignal }): Promise<Digest> {
    return this.#digest === undefined ? this.#whole.finish(options) : this.#agree(this.#digest, options.expected)
  }

  /** Syncs the file, and has it named and recorded as the blob. */
  async #commit(digest: Digest): Promise<void> {
    try {
      await this.#file.use((handle) => handle.sync())
      this.#file.moved(await this.#keeper.commit(this, digest))
    } catch (error) {
      throw this.#failure ?? asDarnerError(error, `finish ${this.task.id}`)
    }
    const journal = this.#journal
    this.#digest = digest
    this.#journal = undefined
    this.#cachedTable = this.#table && new WeakRef(this.#table)
    this.#table = undefined
    await journal?.close()
  }

  /** Fails all waiters with `reason` and deletes everything of this task; its space is free when this resolves. */
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
    this.#whole.fail(reason)
  }

  /** Waits for writes under way and closes the files; call after {@link fail}. For the store. */
  async close(): Promise<void> {
    await this.#writes.settled()
    await this.#file.close()
    const journal = this.#journal
    this.#journal = undefined
    await journal?.close()
  }

  /** A scrub found `bad` pieces of a complete blob: it is half done again, in a file of another name. For the store. */
  damaged(bad: readonly number[], now: { path: string; table: PieceTable; journal: Journal }): void {
    for (const piece of bad) this.#have.remove(piece)
    this.#digest = undefined
    this.#proven = true
    this.#lost()
    this.#whole.damaged()
    this.#table = now.table
    this.#cachedTable = undefined
    this.#journal = now.journal
    this.#file.moved(now.path)
  }

  /** Pieces that were here are so no longer. */
  #lost(): void {
    this.#losses++
    this.#keeper.recent.dropAll(this.#recent)
  }

  async #agree(actual: Digest, expected: Digest | undefined): Promise<Digest> {
    if (expected === undefined || expected === actual) return actual
    throw new DarnerError('DIGEST_MISMATCH', `verify ${expected}: the stored blob is ${actual}`)
  }

  #alive(): void {
    if (this.#failure) throw this.#failure
  }
}
