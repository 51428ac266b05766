/**
 * The EROFS format. A layer's tar lies in one data file as it came. An image of its tree points into it, to where each file's data is. No
 * path of the archive ever becomes a path on the host. Both files are mounted together, the data file as the image's device. Files with
 * holes lie in it with holes. Without these it is the archive to the byte, so the layer's own digest reveals rot. Equal layers give equal
 * bytes.
 */
import { open, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { allOver } from '../../src/core/all-over.ts'
import { algorithmOf, type Digest, Digester } from '../../src/core/digest.ts'
import { DarnerError, isUnreadable } from '../../src/core/errors.ts'
import { ErofsIndex } from './erofs-index.ts'
import { GrowingFile } from './growing-file.ts'
import type { LayerFormat, OpenLayer, Written } from './layer-format.ts'
import type { LayerStep, PlanDir } from './layer-plan.ts'
import type { TarEntry } from './tar.ts'
import { BLOCK } from './tar-block.ts'

const IMAGE = 'layer.erofs'
const DATA = 'layer.tar'
/** Files are read back for their digests in parts of this many bytes. */
const SCRUB_BYTES = 1024 * 1024
/** Holes of all files of a layer, which its record lists. */
const MAX_HOLES = 1024 * 1024
const HOLE_BYTES = 64 * 1024
const ZEROS = new Uint8Array(HOLE_BYTES)

export const erofsFormat: LayerFormat = {
  kind: 'erofs',
  open: async (staging) => new OpenImage(staging, await GrowingFile.create(join(staging, DATA))),
  seal: sealImage,
}

/** What is kept to notice rot: the image's sha256, and where the data file has more than the archive had. */
export interface ErofsRecord {
  readonly image: string
  /** Holes of the data file as [from, to), ascending. */
  readonly holes: readonly (readonly [from: number, to: number])[]
  readonly dataBytes: number
  /** Over all but the holes, where these don't make up the archive as it came. */
  readonly dataCrc32?: number
}

export function imageOf(layerDirectory: string): { image: string; data: string } {
  return { image: join(layerDirectory, IMAGE), data: join(layerDirectory, DATA) }
}

/** Reads a stored layer whole and compares it with its record and its digest. Throws STORE_CORRUPT, naming the file. */
export async function scrubErofs(
  layerDirectory: string,
  diffId: Digest,
  record: ErofsRecord,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const { image, data } = imageOf(layerDirectory)
  const digest = await digestOfFile(image, signal)
  if (digest !== record.image)
    throw new DarnerError('STORE_CORRUPT', `layer image ${image}: expected ${record.image}, found ${digest}`)
  const digester = new Digester(algorithmOf(diffId))
  let checksum = 0
  const take = (part: Uint8Array) => {
    if (record.dataCrc32 === undefined) digester.update(part)
    else checksum = crc32(part, checksum)
  }
  let at = 0
  for (const [from, to] of [...record.holes, [record.dataBytes, record.dataBytes] as const]) {
    await readParts(data, at, from, take, signal)
    at = to
  }
  const same = record.dataCrc32 === undefined ? digester.finish() === diffId : checksum === record.dataCrc32
  if (!same) throw new DarnerError('STORE_CORRUPT', `layer data ${data}: it changed`)
}

async function digestOfFile(path: string, signal: AbortSignal): Promise<Digest> {
  const digester = new Digester()
  await readParts(path, 0, (await stat(path)).size, (part) => digester.update(part), signal)
  return digester.finish()
}

async function readParts(
  path: string,
  from: number,
  to: number,
  take: (part: Uint8Array) => void,
  signal: AbortSignal,
): Promise<void> {
  await using file = await open(path, 'r')
  const part = new Uint8Array(SCRUB_BYTES)
  for (let at = from; at < to; ) {
    signal.throwIfAborted()
    const { bytesRead } = await file.read(part, 0, Math.min(part.byteLength, to - at), at).catch((cause: Error) => {
      throw isUnreadable(cause)
        ? new DarnerError('STORE_CORRUPT', `layer file ${path}: ${cause.message}`, { cause })
        : cause
    })
    if (bytesRead === 0) throw new DarnerError('STORE_CORRUPT', `layer file ${path}: it ends at ${at} of ${to} bytes`)
    take(part.subarray(0, bytesRead))
    at += bytesRead
  }
}

/** A hole before a place of the archive. */
interface Gap {
  readonly place: number
  readonly bytes: number
}

class OpenImage implements OpenLayer {
  readonly sliceBytes = 1024 * 1024
  readonly #staging: string
  readonly #data: GrowingFile
  readonly #index = new ErofsIndex()
  #root: PlanDir | undefined
  /** How far what is read of the archive lies behind its place in the data file. */
  #shift = 0
  readonly #holes: [from: number, to: number][] = []
  /** In the slice that is read. */
  #gaps: Gap[] = []
  /** Of the archive, up to what is written or about to be. */
  #flushed = 0
  #writing = Promise.resolve()
  /** The file with holes that is read: where it begins in the data file, and its length there. */
  #sparse: { readonly at: number; readonly bytes: number } | undefined

  constructor(staging: string, data: GrowingFile) {
    this.#staging = staging
    this.#data = data
  }

  step(step: LayerStep, place: number): void {
    if (step.do === 'whiteout') step.node.mark = this.#index.whiteout()
    else if (step.do === 'make') step.node.mark = this.#make(step.entry, place)
  }

  data(at: number, _chunk: Uint8Array, place: number): void {
    if (this.#sparse !== undefined) this.#reach(this.#sparse.at + at, place)
  }

  endFile(place: number): void {
    if (this.#sparse === undefined) return
    const { at, bytes } = this.#sparse
    this.#sparse = undefined
    const ahead = Math.max(0, at + bytes - place - this.#shift)
    // what follows is at the bound of a block there as well
    this.#reach(place + Math.ceil((this.#shift + ahead) / BLOCK) * BLOCK, place)
  }

  async flush(slice: Uint8Array = new Uint8Array(0)): Promise<void> {
    await this.#writing
    this.#writing = this.#write(slice, this.#gaps)
    this.#writing.catch(() => {}) // thrown where it is awaited
    this.#gaps = []
  }

  async #write(slice: Uint8Array, gaps: readonly Gap[]): Promise<void> {
    let from = 0
    let parts: Uint8Array[] = []
    let bytes = 0
    const put = (part: Uint8Array) => {
      parts.push(part)
      bytes += part.byteLength
    }
    const out = async () => {
      const one = parts.length === 1 ? parts[0] : undefined
      await this.#data.write(one ?? Buffer.concat(parts))
      parts = []
      bytes = 0
    }
    for (const gap of gaps) {
      const to = gap.place - this.#flushed
      put(slice.subarray(from, to))
      from = to
      // a hole where one saves a block of the file system
      if (gap.bytes < HOLE_BYTES) put(ZEROS.subarray(0, gap.bytes))
      if (bytes >= this.sliceBytes || gap.bytes >= HOLE_BYTES) await out()
      if (gap.bytes >= HOLE_BYTES) this.#data.skip(gap.bytes)
    }
    put(slice.subarray(from))
    await out()
    this.#flushed += slice.byteLength
  }

  tree(root: PlanDir): void {
    this.#root = root
  }

  async finish({ name }: { name: string }): Promise<{ [K in keyof ErofsRecord]: ErofsRecord[K] }> {
    await this.#writing
    if (this.#root === undefined) throw new DarnerError('INTERNAL', 'a layer is finished without its tree')
    if (this.#flushed === 0) this.#reach(BLOCK, 0) // no device is empty
    await this.flush()
    await this.#writing
    await this.#data.finish()
    const dataBytes = this.#data.bytes
    const parts = this.#index.finish(this.#root, { uuid: Buffer.from(name, 'hex'), dataBytes })
    const digester = new Digester()
    for (const part of parts) digester.update(part)
    await writeFile(join(this.#staging, IMAGE), parts, { flag: 'wx', mode: 0o600 })
    return { image: digester.finish(), holes: this.#holes, dataBytes }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing.catch(() => {}) // it was reported before
    await this.#data[Symbol.asyncDispose]()
  }

  #make(entry: TarEntry, place: number): number {
    const { kind } = entry
    if (kind === 'file') {
      const at = place + this.#shift
      if (entry.sparse !== undefined) this.#sparse = { at, bytes: entry.bytes }
      return this.#index.file(entry, at)
    }
    if (kind === 'dir' || kind === 'link') throw new DarnerError('INTERNAL', `an inode of its own for a ${kind}`)
    return this.#index.special({ ...entry, kind })
  }

  /** Lets a hole come before `place` of the archive, so that this is at `to` of the data file. Throws LIMIT_EXCEEDED. */
  #reach(to: number, place: number): void {
    const bytes = to - place - this.#shift
    if (bytes === 0) return
    if (this.#holes.length >= MAX_HOLES)
      throw new DarnerError('LIMIT_EXCEEDED', `layer: its files have more than ${MAX_HOLES} holes`)
    this.#gaps.push({ place, bytes })
    this.#holes.push([to - bytes, to])
    this.#shift += bytes
  }
}

async function sealImage(
  staging: string,
  written: Written,
): Promise<{ bytes: number; format: Written; durable: Promise<void> }> {
  const { image, data } = imageOf(staging)
  const [imageFacts, dataFacts] = await Promise.all([stat(image), stat(data)])
  const bytes = (imageFacts.blocks + dataFacts.blocks) * 512
  return { bytes, format: written, durable: allOver([datasync(data), datasync(image)]) }
}

async function datasync(path: string): Promise<void> {
  await using file = await open(path, 'r')
  await file.datasync()
}
