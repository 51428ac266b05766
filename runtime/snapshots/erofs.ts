/**
 * The EROFS format: file data goes to one data file, as the body of a plain tar that holds the planned steps, and mkfs.erofs
 * makes from that tar an index image which points into it (`--tar=i`). No path of the archive ever becomes a path on the host.
 * The image takes 30 ms for ten thousand files, holes stay holes, and equal layers give equal bytes. Both files are mounted
 * together, the data file as the image's device. (Writing the whole image from a pipe with `--tar=f` needs a second pass over all
 * data and fills holes.)
 */
import { type FileHandle, open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { DarnerError } from '../../src/base/errors.ts'
import { Digester } from '../../src/oci/digest.ts'
import type { LayerFormat, OpenLayer } from './layer-format.ts'
import type { LayerStep } from './layer-plan.ts'
import { PlainTar } from './plain-tar.ts'
import { runProgram } from './program.ts'

const IMAGE = 'layer.erofs'
const DATA = 'layer.tar'
/** The data file is read back for its checksum in parts of this many bytes. */
const SCRUB_BYTES = 1024 * 1024

export const erofsFormat: LayerFormat = {
  kind: 'erofs',
  open: async (staging, name) => new OpenImage(staging, name, await open(join(staging, DATA), 'wx', 0o600)),
}

/** What is kept to notice rot: the image's sha256, and a checksum over the written parts of the data file. */
export interface ErofsRecord {
  readonly image: string
  readonly dataCrc32: number
  /** Holes of the data file as [from, to), ascending; left out of the checksum. */
  readonly holes: readonly (readonly [from: number, to: number])[]
  readonly dataBytes: number
}

export function imageOf(layerDirectory: string): { image: string; data: string } {
  return { image: join(layerDirectory, IMAGE), data: join(layerDirectory, DATA) }
}

/** Reads a stored layer whole and compares it with its record. Throws STORE_CORRUPT, naming the file. */
export async function scrubErofs(
  layerDirectory: string,
  record: ErofsRecord,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const { image, data } = imageOf(layerDirectory)
  const digester = new Digester()
  await readParts(image, 0, (await stat(image)).size, (part) => digester.update(part), signal)
  const digest = digester.finish()
  if (digest !== record.image)
    throw new DarnerError('STORE_CORRUPT', `layer image ${image}: expected ${record.image}, found ${digest}`)
  let checksum = 0
  let at = 0
  for (const [from, to] of [...record.holes, [record.dataBytes, record.dataBytes] as const]) {
    await readParts(
      data,
      at,
      from,
      (part) => {
        checksum = crc32(part, checksum)
      },
      signal,
    )
    at = to
  }
  if (checksum !== record.dataCrc32) throw new DarnerError('STORE_CORRUPT', `layer data ${data}: its checksum changed`)
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
    const { bytesRead } = await file.read(part, 0, Math.min(part.byteLength, to - at), at)
    if (bytesRead === 0) throw new DarnerError('STORE_CORRUPT', `layer file ${path}: it ends at ${at} of ${to} bytes`)
    take(part.subarray(0, bytesRead))
    at += bytesRead
  }
}

class OpenImage implements OpenLayer {
  readonly sliceBytes = 1024 * 1024
  readonly #staging: string
  readonly #name: string
  readonly #data: FileHandle
  readonly #tar = new PlainTar()
  readonly #holes: [number, number][] = []
  #checksum = 0
  #written = 0

  constructor(staging: string, name: string, data: FileHandle) {
    this.#staging = staging
    this.#name = name
    this.#data = data
  }

  step(step: LayerStep): void {
    switch (step.do) {
      case 'mkdir':
        this.#tar.directory(step.path)
        break
      case 'whiteout':
        this.#tar.whiteout(step.path)
        break
      case 'link':
        this.#tar.link(step.path, step.target)
        break
      case 'make':
        this.#tar.entry(step.path, step.entry)
        break
      case 'settle':
        this.#tar.directory(step.path, step.facts, step.opaque)
        break
    }
  }

  data(at: number, chunk: Uint8Array): void {
    this.#tar.data(at, chunk)
  }

  endFile(): void {
    this.#tar.endFile()
  }

  async flush(): Promise<void> {
    for (const { at, parts } of this.#tar.take()) {
      if (at > this.#written) this.#holes.push([this.#written, at])
      for (const part of parts) this.#checksum = crc32(part, this.#checksum)
      let bytes = 0
      for (const part of parts) bytes += part.byteLength
      await writeAll(this.#data, parts, at, bytes)
      this.#written = at + bytes
    }
  }

  async seal({
    signal,
  }: {
    signal: AbortSignal
  }): Promise<{ bytes: number; format: { [K in keyof ErofsRecord]: ErofsRecord[K] } }> {
    this.#tar.end()
    await this.flush()
    const image = join(this.#staging, IMAGE)
    const uuid = this.#name.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5')
    const synced = this.#data.datasync()
    // --mkfs-time: -T0 is the image's own time, not every file's
    const args = ['--quiet', '--tar=i', '-T0', '--mkfs-time', '-U', uuid, image, join(this.#staging, DATA)]
    const made = runProgram('mkfs.erofs', args, { signal })
    await Promise.all([synced, made])
    await using handle = await open(image, 'r')
    const digester = new Digester()
    digester.update(await handle.readFile())
    await handle.datasync()
    const bytes = ((await handle.stat()).blocks + (await this.#data.stat()).blocks) * 512
    const record = { image: digester.finish(), dataCrc32: this.#checksum, holes: this.#holes, dataBytes: this.#written }
    return { bytes, format: record }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#data.close()
  }
}

async function writeAll(file: FileHandle, parts: readonly Uint8Array[], at: number, bytes: number): Promise<void> {
  const { bytesWritten } = await file.writev(parts, at)
  let skip = bytesWritten
  if (skip === bytes) return
  // a short write: go on part by part
  let position = at
  for (const part of parts) {
    for (let done = Math.min(skip, part.byteLength); done < part.byteLength; ) {
      done += (await file.write(part, done, part.byteLength - done, position + done)).bytesWritten
    }
    skip = Math.max(0, skip - part.byteLength)
    position += part.byteLength
  }
}
