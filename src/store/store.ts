/**
 * The content-addressed store, one for peer, seed and runtime: half-done tasks piece by piece, complete blobs under their
 * digest, what keeps them alive and what makes room. Bytes become visible only when verified. One process at a time.
 */
import { renameSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../base/clock.ts'
import { asDarnerError, DarnerError } from '../base/errors.ts'
import { syncFolder } from '../base/files.ts'
import type { Log } from '../base/log.ts'
import { Scope } from '../base/scope.ts'
import { abortable } from '../base/signals.ts'
import type { Digest } from '../oci/digest.ts'
import { blobTask, type Task, type TaskId } from '../task/task.ts'
import { pickVictims, targetOf, type Watermarks } from './collect.ts'
import { FilePool } from './data-file.ts'
import { Hasher } from './hasher.ts'
import { cutFile, type IngestOptions, ingestFile } from './ingest.ts'
import { type Holding, Inventory, type Usage } from './inventory.ts'
import { checkGeometry, Journal } from './journal.ts'
import { Layout } from './layout.ts'
import { checkOwner } from './leases.ts'
import { lockedError, removeHolder, writeHolder } from './lock.ts'
import { Metadata } from './metadata.ts'
import { createPartial, reopenPartial, sizeFile } from './partials.ts'
import type { PieceTable } from './piece-table.ts'
import { type Dormant, recoverBlobs, recoverPartials } from './recover.ts'
import { Room } from './room.ts'
import { type Damage, type ScrubOptions, type ScrubReport, scrubBlobs } from './scrub.ts'
import { type Keeper, StoredTask } from './stored-task.ts'

export type { StoredTask } from './stored-task.ts'

export interface StoreOptions {
  readonly directory: string
  /** Most bytes that blobs and half-done tasks may take together; without it only the disk is the limit. */
  readonly maxBytes?: number
  /**
   * Collection starts above, and goes down to, these shares of `maxBytes`, or of what is used and what the file system has left, where
   * that is less. Default 0.9 and 0.75.
   */
  readonly high?: number
  readonly low?: number
  /** A half-done task that nobody leased or touched for this long may be collected. Default one hour. */
  readonly partialIdleMs?: number
  /** How often use times are written and the high mark is checked. Default one minute. */
  readonly sweepMs?: number
  /** Idle files kept open. Default 256. */
  readonly maxOpenFiles?: number
}

/** What went, or would go. */
export interface Collected {
  readonly victims: readonly Holding[]
  readonly freedBytes: number
  readonly usedBytes: number
}

const HOUR_MS = 3_600_000
const MINUTE_MS = 60_000

/** Opens or makes the store in `options.directory`. Throws STORE_LOCKED naming the process that has it, STORE_CORRUPT, DISK_FULL. */
export async function openStore(
  options: StoreOptions,
  parts: { log: Log; clock: Clock; freeBytes?: () => Promise<number> },
): Promise<Store> {
  const layout = new Layout(options.directory)
  await mkdir(options.directory, { recursive: true })
  const metadata = await Metadata.open(layout.meta, (cause) => lockedError(options.directory, layout.lock, cause))
  try {
    await writeHolder(layout.lock)
    await layout.prepare()
    const found = await recoverBlobs(layout, metadata, parts.log)
    const dormant = await recoverPartials(layout, new Set(found.blobs.keys()), parts.log)
    return new Store(options, { ...parts, layout, metadata, found, dormant })
  } catch (error) {
    await metadata[Symbol.asyncDispose]()
    throw asDarnerError(error, `open store ${options.directory}`)
  }
}

export class Store implements AsyncDisposable {
  readonly #layout: Layout
  readonly #metadata: Metadata
  readonly #log: Log
  readonly #clock: Clock
  readonly #scope = new Scope()
  readonly #hasher = new Hasher()
  readonly #pool: FilePool
  readonly #keeper: Keeper
  readonly #room: Room
  readonly #inventory: Inventory
  readonly #opening = new Map<TaskId, Promise<StoredTask>>()
  readonly #damage = new Set<(damage: Damage) => void>()
  #serial: Promise<unknown> = Promise.resolve()
  #closed: Promise<void> | undefined

  /** Use {@link openStore}. */
  constructor(
    options: StoreOptions,
    parts: {
      log: Log
      clock: Clock
      freeBytes?: () => Promise<number>
      layout: Layout
      metadata: Metadata
      found: Awaited<ReturnType<Metadata['load']>>
      dormant: Map<TaskId, Dormant>
    },
  ) {
    const { maxBytes = Number.POSITIVE_INFINITY, high = 0.9, low = 0.75 } = options
    this.#log = parts.log
    this.#clock = parts.clock
    this.#layout = parts.layout
    this.#metadata = parts.metadata
    this.#inventory = new Inventory({ partialIdleMs: options.partialIdleMs ?? HOUR_MS }, parts)
    this.#room = new Room(
      { directory: options.directory, maxBytes, high, low },
      {
        usedBytes: () => this.#inventory.usedBytes(),
        reservedBytes: () => this.#inventory.reservedBytes(),
        collect: (targetBytes) => this.collect({ targetBytes }),
        ...(parts.freeBytes && { freeBytes: parts.freeBytes }),
      },
    )
    this.#pool = new FilePool({ most: options.maxOpenFiles ?? 256 })
    this.#keeper = {
      hasher: this.#hasher,
      pool: this.#pool,
      log: this.#log,
      touched: (stored) => this.#touch(stored),
      commit: (stored, digest) => this.#commitTask(stored, digest),
      purge: (stored) => this.#purge(stored),
      tableOf: (digest) => this.#metadata.tableOf(digest),
    }
    const sweepMs = options.sweepMs ?? MINUTE_MS
    this.#scope.run(async (signal) => {
      for (;;) {
        await this.#clock.sleep(sweepMs, { signal })
        await this.#sweep()
      }
    })
  }

  /** What is here of a task, complete or half done; undefined when nothing is, or nothing that was checked in this run. */
  find(id: TaskId): StoredTask | undefined {
    const live = this.#inventory.live.get(id)
    if (live) return live
    const digest = this.#inventory.digestOf(id)
    const entry = this.#inventory.complete.get(digest)
    if (!entry) return undefined
    const { bytes, pieceBytes } = entry.record
    return this.#enlive(
      new StoredTask(
        { task: { id, digest, bytes, pieceBytes }, found: { path: this.#layout.blob(digest), digest } },
        this.#keeper,
      ),
    )
  }

  /** The complete blob, or the half-done task, of that digest. */
  byDigest(digest: Digest): StoredTask | undefined {
    return this.find(digest as string as TaskId)
  }

  /** Opens the half-done task that an earlier run left under this id, with the geometry it had; undefined when there is none. */
  async reopen(id: TaskId, options: { signal: AbortSignal }): Promise<StoredTask | undefined> {
    const dormant = this.#inventory.dormant.get(id)
    return dormant ? this.create(dormant.task, options) : this.find(id)
  }

  /**
   * The task to write to: the one in hand, the complete blob, what an earlier run left (each piece hashed again before it
   * counts), or a fresh file. Single flight per id. Throws BAD_ARGUMENT, SIZE_MISMATCH (a complete blob of another length),
   * CONFLICT (a task in hand is cut otherwise), DISK_FULL.
   */
  async create(task: Task, { signal }: { signal: AbortSignal }): Promise<StoredTask> {
    signal.throwIfAborted()
    this.#open()
    checkGeometry(task)
    let opening = this.#opening.get(task.id)
    if (!opening) {
      const here = this.find(task.id)
      if (here) return sameGeometry(here, task)
      opening = this.#create(task).finally(() => this.#opening.delete(task.id))
      opening.catch(() => {})
      this.#opening.set(task.id, opening)
    }
    return sameGeometry(await abortable(opening, signal), task)
  }

  /** Every task of which something is here. */
  tasks(): Iterable<Holding> {
    return this.#inventory.tasks()
  }

  /** Stores a small blob whole, such as a manifest, and returns it. Throws DIGEST_MISMATCH, DISK_FULL. */
  async put(bytes: Uint8Array, options: IngestOptions): Promise<StoredTask> {
    return this.ingest(
      (async function* () {
        yield bytes
      })(),
      { ...options, maxBytes: bytes.byteLength },
    )
  }

  /** Stores a stream as a blob. Throws DIGEST_MISMATCH, LIMIT_EXCEEDED, DISK_FULL; then nothing of it is left. */
  async ingest(stream: AsyncIterable<Uint8Array>, options: IngestOptions): Promise<StoredTask> {
    this.#open()
    const { path, digest, bytes, table } = await ingestFile(stream, options, {
      layout: this.#layout,
      hasher: this.#hasher,
    })
    try {
      const { mediaType } = options
      const more = { table, ...(mediaType === undefined ? {} : { mediaType }) }
      await this.#room.take(bytes, { written: true }, () => this.#commit(path, digest, blobTask(digest, bytes), more))
    } catch (error) {
      await rm(path, { force: true })
      throw error
    }
    const stored = this.byDigest(digest)
    if (!stored) throw new DarnerError('CLOSED', `take in ${digest}: it was removed at once`)
    return stored
  }

  /** Makes sure that a complete blob's piece table is known, hashing the file if need be, and returns it. */
  async cut(stored: StoredTask, { signal }: { signal: AbortSignal }): Promise<PieceTable> {
    const { digest } = stored
    if (!stored.complete || digest === undefined || stored.table.known.full) return stored.table
    const digests = await cutFile(stored.path, stored.task, this.#hasher, { signal })
    const table = stored.table
    table.setDigests(0, digests)
    const entry = this.#inventory.complete.get(digest)
    if (entry) await this.#metadata.putBlob(digest, entry.record, digests)
    return table
  }

  /** Keeps a task from being collected while this process lives and the lease isn't disposed. */
  lease(id: TaskId, owner = 'reader'): Disposable {
    checkOwner(owner)
    return this.#inventory.leases.take(id, owner)
  }

  /** Keeps a task from being collected until {@link unpin}, restarts included. It need not be here yet. */
  async pin(id: TaskId, owner: string): Promise<void> {
    checkOwner(owner)
    this.#inventory.pins.add(id, owner)
    await this.#metadata.pin(id, owner)
  }

  async unpin(id: TaskId, owner: string): Promise<void> {
    await this.#metadata.unpin(id, owner)
    this.#inventory.pins.remove(id, owner)
  }

  /** Deletes a task that nobody needs. Throws CONFLICT when it is pinned, leased or in use; false when it isn't here. */
  async remove(id: TaskId): Promise<boolean> {
    const digest = this.#inventory.digestOf(id)
    const holding = this.#inventory.holdings().find((one) => one.task.id === id || one.task.digest === digest)
    if (!holding) return false
    if (holding.keep) throw new DarnerError('CONFLICT', `delete ${id}: it is ${holding.keep}`)
    await this.#drop(holding, 'deleted')
    return true
  }

  /**
   * Makes room, least recently used first, never what is pinned, leased or in use. Down to `targetBytes`, or, without one, from
   * above the high mark down to the low one. With `dryRun` it only says what would go.
   */
  async collect({ dryRun = false, targetBytes }: { dryRun?: boolean; targetBytes?: number } = {}): Promise<Collected> {
    const marks = targetBytes === undefined ? await this.#room.marks() : undefined
    const usedBytes = this.#inventory.usedBytes()
    const target = marks === undefined ? (targetBytes ?? usedBytes) : targetOf(usedBytes, marks)
    const victims = usedBytes <= target ? [] : pickVictims(this.#inventory.holdings(), usedBytes, target)
    if (!dryRun) await Promise.all(victims.map((one) => this.#drop(one, 'collected')))
    const freedBytes = victims.reduce((sum, one) => sum + one.bytes, 0)
    if (!dryRun && victims.length > 0) this.#log.info({ blobs: victims.length, freedBytes, usedBytes }, 'collected')
    return { victims, freedBytes, usedBytes }
  }

  usage(): Usage {
    return this.#inventory.usage()
  }

  /** What the file system has left, and the marks between which collection keeps the store, as they stand. */
  async room(): Promise<Watermarks & { readonly freeBytes: number }> {
    return await this.#room.marks()
  }

  /**
   * Hashes complete blobs again. A blob with rotten pieces becomes half done: those pieces are dropped, the rest stays and is
   * served, and {@link onDamage} tells who can fetch the others. Throws the signal's reason.
   */
  async scrub(options: ScrubOptions): Promise<ScrubReport> {
    const blobs = [...this.#inventory.complete].map(([digest, { record, lastUsedMs }]) => ({
      digest,
      record,
      lastUsedMs,
    }))
    return scrubBlobs(blobs, options, {
      hasher: this.#hasher,
      clock: this.#clock,
      pathOf: (digest) => this.#layout.blob(digest),
      stored: (digest) => this.byDigest(digest),
      lease: (digest) => this.lease(digest as string as TaskId, 'scrub'),
      cut: (stored) => this.cut(stored, options),
      demote: (stored, bad) => this.#demote(stored, bad),
      lost: (stored, reason) => stored.discard(reason),
      log: this.#log,
    })
  }

  /** Calls back for each blob in which a scrub found rot. Returns the unsubscriber. */
  onDamage(listener: (damage: Damage) => void): () => void {
    this.#damage.add(listener)
    return () => void this.#damage.delete(listener)
  }

  /** Rejects all waiters with CLOSED, waits for writes under way, writes use times. What is half done stays on disk. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    const reason = new DarnerError('CLOSED', `store ${this.#layout.root} was closed`)
    await this.#scope.close(reason)
    await Promise.allSettled(this.#opening.values())
    for (const stored of this.#inventory.live.values()) stored.fail(reason)
    await Promise.allSettled([...this.#inventory.live.values()].map((stored) => stored.close()))
    await this.#hasher[Symbol.asyncDispose]()
    await this.#serial.catch(() => {})
    await this.#pool[Symbol.asyncDispose]()
    await removeHolder(this.#layout.lock)
    await this.#metadata[Symbol.asyncDispose]()
  }

  #open(): void {
    if (this.#closed) throw new DarnerError('CLOSED', `store ${this.#layout.root} was closed`)
  }

  async #create(task: Task): Promise<StoredTask> {
    const { signal } = this.#scope
    const known = await this.#alias(task)
    if (known) return known
    const dormant = this.#inventory.dormant.get(task.id)
    const resumable = dormant && dormant.task.bytes === task.bytes && dormant.task.pieceBytes === task.pieceBytes
    if (dormant && resumable) {
      try {
        const found = await reopenPartial(task, this.#layout, this.#hasher, { signal })
        this.#inventory.dormant.delete(task.id)
        const stored = this.#enlive(new StoredTask({ task, found }, this.#keeper))
        this.#log.debug({ taskId: task.id, pieces: found.have.count, dropped: found.dropped }, 'task reopened')
        return stored
      } catch (error) {
        if (asDarnerError(error, '').code !== 'STORE_CORRUPT') throw error
        this.#log.warn({ taskId: task.id, error }, 'half-done task starts over')
      }
    }
    if (dormant) {
      this.#inventory.dormant.delete(task.id)
      await this.#trash(this.#layout.partial(task.id))
    }
    return this.#room.take(task.bytes, { written: false }, async () =>
      this.#enlive(new StoredTask({ task, found: await createPartial(task, this.#layout) }, this.#keeper)),
    )
  }

  /** A task whose digest is complete under another id is that blob, from now on under this name too. */
  async #alias(task: Task): Promise<StoredTask | undefined> {
    const { digest } = task
    if (digest === undefined) return undefined
    return this.#inOrder(async () => {
      const entry = this.#inventory.complete.get(digest)
      if (!entry) return undefined
      const record = { ...entry.record, ids: [...new Set([...entry.record.ids, task.id])] }
      this.#inventory.index(digest, record, entry.lastUsedMs)
      await this.#metadata.putBlob(digest, record, undefined)
      return this.find(task.id)
    })
  }

  #enlive(stored: StoredTask): StoredTask {
    this.#inventory.live.set(stored.task.id, stored)
    this.#touch(stored)
    return stored
  }

  #touch(stored: StoredTask): void {
    const used = this.#inventory.touch(stored)
    if (used) this.#metadata.setUsed(used.digest, used.ms)
  }

  async #commitTask(stored: StoredTask, digest: Digest): Promise<string> {
    const table = stored.table.slice(0, stored.pieces)
    const path = await this.#commit(stored.path, digest, stored.task, { ...(table ? { table } : {}), stored })
    await rm(this.#layout.partial(stored.task.id), { recursive: true, force: true })
    return path
  }

  /** Record first, then the name: a crash between them leaves a record without a file, which the next start drops. */
  #commit(
    from: string,
    digest: Digest,
    task: Task,
    more: { table?: Uint8Array; mediaType?: string; stored?: StoredTask },
  ): Promise<string> {
    return this.#inOrder(async () => {
      const path = this.#layout.blob(digest)
      const old = this.#inventory.complete.get(digest)?.record
      const mediaType = more.mediaType ?? old?.mediaType
      const { bytes, pieceBytes } = task
      const ids = [...new Set([...(old?.ids ?? []), task.id])]
      const record = { bytes, pieceBytes, ids, ...(mediaType === undefined ? {} : { mediaType }) }
      await this.#metadata.putBlob(digest, record, more.table)
      try {
        if (more.stored?.failure) throw more.stored.failure
        await rename(from, path)
      } catch (error) {
        if (old && this.#inventory.complete.has(digest)) await this.#metadata.putBlob(digest, old, undefined)
        else await this.#metadata.dropBlobs([digest])
        throw asDarnerError(error, `name blob ${digest}`)
      }
      this.#inventory.index(digest, record, this.#clock.now())
      this.#metadata.setUsed(digest, this.#clock.now())
      await syncFolder(dirname(path))
      return path
    })
  }

  async #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#serial.then(work, work)
    this.#serial = turn.catch(() => {})
    return turn
  }

  /** Takes a holding out of the index in this turn, then frees its space. */
  async #drop({ task, state }: Holding, what: string): Promise<void> {
    const reason = new DarnerError('PIECE_ABSENT', `${task.id} was ${what}`)
    if (state === 'dormant') {
      this.#inventory.dormant.delete(task.id)
      return this.#trash(this.#layout.partial(task.id))
    }
    const stored = this.find(task.id)
    stored?.fail(reason)
    if (stored) await this.#purge(stored, reason)
  }

  async #purge(stored: StoredTask, reason = stored.failure): Promise<void> {
    const { task } = stored
    const digest = stored.complete ? stored.digest : undefined
    if (digest === undefined) {
      if (this.#inventory.live.get(task.id) === stored) this.#inventory.live.delete(task.id)
      const trashed = this.#toTrash(this.#layout.partial(task.id))
      await stored.close()
      return rm(trashed, { recursive: true, force: true })
    }
    const handles = this.#inventory.forget(digest).add(stored)
    for (const live of handles) live.fail(reason ?? new DarnerError('PIECE_ABSENT', `${digest} was deleted`))
    const path = this.#layout.blob(digest)
    const trashed = this.#layout.freshTrash()
    await this.#inOrder(async () => {
      // a download of the same bytes may have come in before our turn: then that one stays
      if (this.#inventory.complete.has(digest)) return
      try {
        await rename(path, trashed)
      } catch {
        // ENOENT: gone already; ENOSPC, no room for a new name: deleted where it is
        await rm(path, { force: true })
      }
      await this.#metadata.dropBlobs([digest])
    })
    await Promise.all([...handles].map((live) => live.close()))
    await rm(trashed, { recursive: true, force: true })
  }

  /** Out of its place at once; returns where to delete it. What is gone already is fine. */
  #toTrash(path: string): string {
    const trashed = this.#layout.freshTrash()
    try {
      renameSync(path, trashed)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return trashed
      // no room for a new name: deleted where it is
      return path
    }
    return trashed
  }

  async #trash(path: string): Promise<void> {
    await rm(this.#toTrash(path), { recursive: true, force: true })
  }

  async #sweep(): Promise<void> {
    try {
      await this.#metadata.flushUses()
      await this.collect()
    } catch (error) {
      this.#log.error({ error }, 'store sweep failed')
    }
  }

  /** A complete blob becomes half done without its bad pieces; handles under other ids end. */
  async #demote(stored: StoredTask, bad: readonly number[]): Promise<void> {
    const { task, table, digest } = stored
    if (digest === undefined) return
    const good = Array.from({ length: stored.pieces }, (_, piece) => piece).filter((piece) => !bad.includes(piece))
    await mkdir(this.#layout.partial(task.id), { recursive: true })
    const journal = await Journal.create(this.#layout.journal(task.id), task, table, good)
    const path = this.#layout.data(task.id)
    renameSync(stored.path, path)
    for (const other of this.#inventory.forget(digest)) {
      if (other === stored) continue
      other.fail(new DarnerError('STORE_CORRUPT', `${other.task.id}: the stored blob ${digest} is damaged`))
      this.#scope.run(() => other.close())
    }
    this.#inventory.dormant.delete(task.id)
    this.#inventory.live.set(task.id, stored)
    stored.damaged(bad, { path, table, journal })
    await sizeFile(path, task.bytes)
    await this.#inOrder(() => this.#metadata.dropBlobs([digest]))
    for (const listener of this.#damage) listener({ task, digest, pieces: bad })
  }
}

function sameGeometry(stored: StoredTask, task: Task): StoredTask {
  const { bytes, pieceBytes } = stored.task
  if (bytes === task.bytes && (stored.complete || pieceBytes === task.pieceBytes)) return stored
  const code = stored.complete ? 'SIZE_MISMATCH' : 'CONFLICT'
  const text = `open ${task.id} as ${task.bytes} bytes in pieces of ${task.pieceBytes}: here it has ${bytes} in pieces of ${pieceBytes}`
  throw new DarnerError(code, text)
}
