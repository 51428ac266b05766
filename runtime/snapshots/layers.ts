/**
 * Stored layers of one format. A layer is a folder `layers/<algorithm>-<hex>` with `record.json` and the format's files. It is made under
 * `ingest/` and renamed when its digest matched and its bytes are durable, so a folder under `layers/` is whole.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { allOver } from '../../src/core/all-over.ts'
import type { StoredLayer, UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { algorithmOf, type Digest, hexOf, isDigest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError, systemCode } from '../../src/core/errors.ts'
import { syncFolder } from '../../src/core/files.ts'
import { abortable } from '../../src/core/signals.ts'
import type { FormatRecord, LayerFormat } from './layer-format.ts'
import { LayerThread } from './layer-thread.ts'
import { runProgram } from './program.ts'

export interface LayerRecord extends StoredLayer {
  readonly entries: number
  readonly tarBytes: number
  /** Directories that no entry of the layer stated, as latin1 text of their bytes; the root is empty. */
  readonly implied: readonly string[]
  /** Those with whiteouts, but the root. Records that were made before there was such a list are without it and without the next. */
  readonly hiding?: readonly string[]
  /** Its root hides all that is below it. */
  readonly opaque?: boolean
  readonly format: FormatRecord
}

export class LayerStore {
  readonly #directory: string
  readonly #format: LayerFormat
  readonly #running = new Map<Digest, { done: Promise<StoredLayer>; signal: AbortSignal }>()
  readonly #records = new Map<Digest, LayerRecord>()
  readonly #thread = new LayerThread()

  constructor(options: { directory: string }, parts: { format: LayerFormat }) {
    this.#directory = options.directory
    this.#format = parts.format
  }

  async start(): Promise<void> {
    await mkdir(join(this.#directory, 'layers'), { recursive: true, mode: 0o700 })
    await mkdir(join(this.#directory, 'ingest'), { recursive: true, mode: 0o700 })
  }

  /** The folder of a stored layer. */
  path(diffId: Digest): string {
    return join(this.#directory, 'layers', `${algorithmOf(diffId)}-${hexOf(diffId)}`)
  }

  async get(diffId: Digest): Promise<LayerRecord | undefined> {
    const known = this.#records.get(diffId)
    if (known !== undefined) return known
    let text: string
    try {
      text = await readFile(join(this.path(diffId), 'record.json'), 'utf8')
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw error
    }
    const record = readRecord(text, diffId)
    this.#records.set(diffId, record)
    return record
  }

  async list(): Promise<LayerRecord[]> {
    const found: LayerRecord[] = []
    for (const name of await readdir(join(this.#directory, 'layers'))) {
      const diffId = name.replace('-', ':')
      const record = isDigest(diffId) ? await this.get(diffId) : undefined
      if (record !== undefined) found.push(record)
    }
    return found
  }

  /** A blob of `bytes` is about to come. */
  expect(bytes: number): void {
    this.#thread.expect(bytes)
  }

  /** Single flight: the second caller waits. Its own stream is read only if the first caller gave up. */
  async unpack(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer> {
    for (;;) {
      options.signal.throwIfAborted()
      const stored = await this.get(diffId)
      if (stored !== undefined) return stored
      const running = this.#running.get(diffId)
      if (running === undefined) break
      try {
        return await abortable(running.done, options.signal)
      } catch (error) {
        if (options.signal.aborted || !running.signal.aborted) throw error
      }
    }
    const done = this.#unpack(diffId, blob, options)
    this.#running.set(diffId, { done, signal: options.signal })
    try {
      return await done
    } finally {
      this.#running.delete(diffId)
    }
  }

  async remove(diffId: Digest): Promise<void> {
    const doomed = await this.#away(diffId)
    if (doomed !== undefined) await removeTree(doomed)
  }

  /** Unpacks it once more and puts that in the place of what is stored. A kill between the two leaves none, as if it had been removed. */
  async renew(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer> {
    return this.#unpack(diffId, blob, options)
  }

  /** Takes its place from a stored layer; where it is now. */
  async #away(diffId: Digest): Promise<string | undefined> {
    this.#records.delete(diffId)
    const doomed = join(this.#directory, 'ingest', `gone-${randomUUID()}`)
    try {
      await rename(this.path(diffId), doomed)
      return doomed
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw error
    }
  }

  /** Deletes what an ended process left half made. Returns what was mended. */
  async recover(): Promise<string[]> {
    const mended: string[] = []
    const busy = this.#running.size > 0
    for (const name of busy ? [] : await readdir(join(this.#directory, 'ingest'))) {
      await removeTree(join(this.#directory, 'ingest', name))
      mended.push(`removed the half-made layer ${name}`)
    }
    return mended
  }

  async #unpack(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer> {
    const staging = join(this.#directory, 'ingest', `${hexOf(diffId).slice(0, 16)}-${randomUUID()}`)
    try {
      await mkdir(staging, { mode: 0o700 })
      const order = { diffId, kind: this.#format.kind, staging, limits: options.limits }
      const { written, ...facts } = await this.#thread.write(order, blob, options)
      const sealed = await this.#format.seal(staging, written, { signal: options.signal })
      const { bytes, format, durable } = sealed
      const record: LayerRecord = { diffId, bytes, ...facts, format }
      // side by side, since each waits for the disk: nothing of it counts before the folder has its name
      await allOver([durable, writeDurably(join(staging, 'record.json'), JSON.stringify(record))])
      await syncFolder(staging)
      const before = await this.#away(diffId)
      await rename(staging, this.path(diffId))
      await syncFolder(join(this.#directory, 'layers'))
      this.#records.set(diffId, record)
      if (before !== undefined) await removeTree(before)
      return record
    } catch (error) {
      await removeTree(staging)
      if (options.signal.aborted) throw options.signal.reason
      throw translate(error, diffId)
    }
  }
}

function translate(error: unknown, diffId: Digest): DarnerError {
  if (isDarnerError(error)) return error
  const known = asDarnerError(error, `unpacking layer ${diffId}`)
  return known
}

function readRecord(text: string, diffId: Digest): LayerRecord {
  try {
    const record = JSON.parse(text) as LayerRecord
    if (record.diffId === diffId && Array.isArray(record.implied)) return record
  } catch {
    // reported below, like any other record that is not as written
  }
  throw new DarnerError('STORE_CORRUPT', `layer ${diffId}: its record can't be read`)
}

/** Removes a tree whose names may be any bytes. */
export async function removeTree(path: string): Promise<void> {
  await runProgram('rm', ['-rf', '--one-file-system', '--', path])
}

async function writeDurably(path: string, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600, flush: true })
}
