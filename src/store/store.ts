/**
 * The content-addressed store, one for peer, seed and runtime. It holds partial tasks piece by piece and complete blobs under their digest,
 * and decides what is kept and what is deleted. Bytes become visible only when verified. One process at a time.
 */
import { mkdir, rm } from 'node:fs/promises'
import type { Clock } from '../core/clock.ts'
import type { Digest } from '../core/digest.ts'
import { asDarnerError, DarnerError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import { Scope } from '../core/scope.ts'
import { blobTask, type Task, type TaskId } from '../core/task/task.ts'
import { BlobNames } from './blobs/blob-names.ts'
import { pickVictims, targetOf, type Watermarks } from './blobs/collect.ts'
import { demote } from './blobs/demote.ts'
import { cutFile, type IngestOptions, ingestFile } from './blobs/ingest.ts'
import { type Holding, Inventory, type Usage } from './blobs/inventory.ts'
import { checkOwner } from './blobs/leases.ts'
import { Metadata } from './blobs/metadata.ts'
import { Removal } from './blobs/removal.ts'
import { type Damage, type ScrubOptions, type ScrubReport, scrubBlobs } from './blobs/scrub.ts'
import { Handles } from './handles.ts'
import { Hasher } from './hash/hasher.ts'
import { Layout } from './layout.ts'
import { lockedError, removeHolder, writeHolder } from './lock.ts'
import { checkGeometry } from './partial/journal.ts'
import type { PieceTable } from './partial/piece-table.ts'
import type { StoredTask } from './partial/stored-task.ts'
import { type Dormant, recoverBlobs, recoverPartials } from './recover.ts'
import { Room } from './space.ts'

export type { Arrival } from './partial/arrivals.ts'
export type { StoredTask } from './partial/stored-task.ts'

export interface StoreOptions {
  readonly directory: string
  /** Most bytes that blobs and half-done tasks may take together; without it only the disk is the limit. */
  readonly maxBytes?: number
  /**
   * Collection starts above `high` and goes down to `low`. Both are shares of `maxBytes`, or of what is used and free on the file system
   * together, if that is less. Default 0.9 and 0.75.
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
  await mkdir(options.directory, { recursive: true, mode: 0o700 })
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
  readonly #room: Room
  readonly #inventory: Inventory
  readonly #names: BlobNames
  readonly #removal: Removal
  readonly #handles: Handles
  readonly #damage = new Set<(damage: Damage) => void>()
  readonly #gone = new Set<(task: TaskId) => void>()
  /** Blobs that are looked at since they could not be read. */
  readonly #suspected = new Set<Digest>()
  #demoting: Promise<unknown> = Promise.resolve()
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
    this.#names = new BlobNames({ ...parts, inventory: this.#inventory })
    this.#removal = new Removal({ layout: parts.layout, inventory: this.#inventory, names: this.#names })
    this.#handles = new Handles(
      { maxOpenFiles: options.maxOpenFiles ?? 256 },
      {
        ...parts,
        inventory: this.#inventory,
        names: this.#names,
        removal: this.#removal,
        room: this.#room,
        hasher: this.#hasher,
        suspect: (stored) => this.#suspect(stored),
        signal: this.#scope.signal,
      },
    )
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
    return this.#handles.find(id)
  }

  /** The complete blob, or the half-done task, of that digest. */
  byDigest(digest: Digest): StoredTask | undefined {
    return this.find(digest as string as TaskId)
  }

  /** Opens the half-done task that an earlier run left under this id, with the geometry it had; undefined when there is none. */
  async reopen(id: TaskId, options: { signal: AbortSignal }): Promise<StoredTask | undefined> {
    const dormant = this.#inventory.dormant.get(id)
    return dormant ? this.#handles.open(dormant.task, options.signal) : this.find(id)
  }

  /**
   * The task to write to: the open one, the complete blob, what an earlier run left (each piece is hashed again), or a fresh file. Single
   * flight per id. Throws BAD_ARGUMENT, SIZE_MISMATCH (a complete blob of another length), CONFLICT (a task in hand is cut otherwise),
   * DISK_FULL.
   */
  async create(task: Task, { signal }: { signal: AbortSignal }): Promise<StoredTask> {
    signal.throwIfAborted()
    this.#open()
    checkGeometry(task)
    const stored = await this.#handles.open(task, signal)
    if (!stored.complete && !stored.empty) await this.#room.mustHave(task.bytes - stored.haveBytes)
    this.#inventory.left.delete(stored)
    return stored
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
      await this.#room.take(bytes, { written: true }, () =>
        this.#names.give(path, digest, blobTask(digest, bytes), more),
      )
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

  /** The fetcher of a partial task has given it up for now. It may be deleted when space is needed. */
  left(stored: StoredTask): void {
    this.#inventory.left.add(stored)
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
    if (holding.keep && holding.keep !== 'recent')
      throw new DarnerError('CONFLICT', `delete ${id}: it is ${holding.keep}`)
    await this.#drop(holding, 'deleted')
    return true
  }

  /**
   * Makes room, least recently used first, never what is pinned, leased or in use. Down to `targetBytes`, half-done tasks included that
   * were left a moment ago, or, without one, from above the high mark down to the low one. With `dryRun` it only says what would go.
   */
  async collect({ dryRun = false, targetBytes }: { dryRun?: boolean; targetBytes?: number } = {}): Promise<Collected> {
    const marks = targetBytes === undefined ? await this.#room.marks() : undefined
    const usedBytes = this.#inventory.usedBytes()
    const target = marks === undefined ? (targetBytes ?? usedBytes) : targetOf(usedBytes, marks)
    const victims =
      usedBytes <= target
        ? []
        : pickVictims(this.#inventory.holdings(), usedBytes, target, { recent: targetBytes !== undefined })
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
   * Hashes complete blobs again. A blob with rotten pieces becomes partial. Those pieces are dropped, the rest stays and is served, and
   * {@link onDamage} notifies the owner, who can fetch the others. Throws the signal's reason.
   */
  async scrub(options: ScrubOptions): Promise<ScrubReport> {
    const blobs = [...this.#inventory.complete].map(([digest, { record, lastUsedMs }]) => ({
      digest,
      record,
      lastUsedMs,
    }))
    return this.#scrub(blobs, options)
  }

  #scrub(blobs: Parameters<typeof scrubBlobs>[0], options: ScrubOptions): Promise<ScrubReport> {
    return scrubBlobs(blobs, options, {
      hasher: this.#hasher,
      clock: this.#clock,
      pathOf: (digest) => this.#layout.blob(digest),
      stored: (digest) => this.byDigest(digest),
      lease: (digest) => this.lease(digest as string as TaskId, 'scrub'),
      cut: (stored) => this.cut(stored, options),
      demote: (stored, bad) => this.#demote(stored, bad),
      lost: async (stored, digest, reason) => {
        const { task, pieces } = stored
        await stored.discard(reason)
        this.#tell({ task, digest, pieces: Array.from({ length: pieces }, (_, piece) => piece) })
      },
      log: this.#log,
    })
  }

  /** A complete blob of which something could not be read is looked at as {@link scrub} does, once for all reports. */
  #suspect({ digest }: StoredTask): void {
    const entry = digest && this.#inventory.complete.get(digest)
    if (!entry || this.#suspected.has(digest)) return
    this.#suspected.add(digest)
    this.#scope.run(async (signal) => {
      try {
        await this.#scrub([{ digest, ...entry }], { signal })
      } catch (error) {
        if (!signal.aborted) this.#log.error({ digest, error }, 'blob not looked at')
      } finally {
        this.#suspected.delete(digest)
      }
    })
  }

  /** Calls back for each name of what was collected or deleted. Returns the unsubscriber. */
  onGone(listener: (task: TaskId) => void): () => void {
    this.#gone.add(listener)
    return () => void this.#gone.delete(listener)
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
    await this.#handles.fail(reason)
    await this.#hasher[Symbol.asyncDispose]()
    await this.#names.settled()
    await this.#handles.closeFiles()
    await removeHolder(this.#layout.lock)
    await this.#metadata[Symbol.asyncDispose]()
  }

  #open(): void {
    if (this.#closed) throw new DarnerError('CLOSED', `store ${this.#layout.root} was closed`)
  }

  /** Takes a holding out of the index in this turn, then frees its space. */
  async #drop({ task, state }: Holding, what: string): Promise<void> {
    const reason = new DarnerError('PIECE_ABSENT', `${task.id} was ${what}`)
    const stored = state === 'dormant' ? undefined : this.find(task.id)
    const digest = stored?.complete ? stored.digest : undefined
    const names = new Set([task.id, ...((digest && this.#inventory.complete.get(digest)?.record.ids) ?? [])])
    if (state === 'dormant') await this.#removal.dormant(task.id)
    stored?.fail(reason)
    if (stored) await this.#removal.stored(stored, reason)
    for (const name of names) for (const listener of this.#gone) listener(name)
  }

  async #sweep(): Promise<void> {
    try {
      await this.#metadata.flushUses()
      await this.collect()
    } catch (error) {
      this.#log.error({ error }, 'store sweep failed')
    }
  }

  /** One after the other: two looks at one blob would each make a journal of it. One that has gone meanwhile is left alone. */
  async #demote(stored: StoredTask, bad: readonly number[]): Promise<void> {
    const demoting = this.#demoting.then(async () => {
      if (!stored.complete || stored.failure) return
      const damage = await demote(stored, bad, {
        layout: this.#layout,
        inventory: this.#inventory,
        names: this.#names,
        run: (work) => this.#scope.run(work),
      })
      if (damage) this.#tell(damage)
    })
    this.#demoting = demoting.catch(() => {})
    await demoting
  }

  #tell(damage: Damage): void {
    for (const listener of this.#damage) listener(damage)
  }
}
