/** Images as OCI layout folders (image-spec, image-layout.md): writing one from tar streams, and reading one to push it. */
import { randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { type Digest, Digester, digestOf, hexOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { type Descriptor, type Manifest, parseManifest } from '../../src/oci/manifest.ts'
import { MEDIA } from '../../src/oci/media-types.ts'

export interface Layer {
  readonly descriptor: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>
  readonly diffId: Digest
  /** What it holds, for the image's history. */
  readonly createdBy: string
}

/** Where a blob of a layout lies. */
export function blobPath(folder: string, digest: Digest): string {
  return join(folder, 'blobs', digest.slice(0, digest.indexOf(':')), hexOf(digest))
}

/** Begins an empty layout. */
export async function makeLayout(folder: string): Promise<void> {
  await mkdir(join(folder, 'blobs/sha256'), { recursive: true })
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
}

/** Compresses a tar into a layer of the layout as it comes; nothing is held in memory. */
export async function addLayer(
  folder: string,
  tar: AsyncIterable<Uint8Array>,
  createdBy: string,
  { signal }: { signal: AbortSignal },
): Promise<Layer> {
  const draft = join(folder, `draft-${randomUUID()}`)
  const plain = new Counted(tar)
  const gzip = createGzip({ level: 6 })
  let packed: Counted | undefined
  await pipeline(
    plain,
    gzip,
    (chunks: AsyncIterable<Uint8Array>) => {
      packed = new Counted(chunks)
      return packed
    },
    createWriteStream(draft),
    { signal },
  )
  if (packed === undefined) throw new DarnerError('INTERNAL', 'layer without bytes')
  const digest = packed.digest()
  await rename(draft, blobPath(folder, digest))
  return {
    descriptor: { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest, size: packed.bytes },
    diffId: plain.digest(),
    createdBy,
  }
}

/** Ends a layout: config, manifest and index over its layers, lowest first. `config` is the image's `config` member. */
export async function finishLayout(
  folder: string,
  layers: readonly Layer[],
  image: { architecture: string; config: object; createdAt: string },
): Promise<void> {
  const config = await addJson(folder, MEDIA.ociConfig, {
    created: image.createdAt,
    os: 'linux',
    architecture: image.architecture,
    config: image.config,
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map((layer) => ({ created: image.createdAt, created_by: layer.createdBy })),
  })
  const manifest = await addJson(folder, MEDIA.ociManifest, {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config,
    layers: layers.map((layer) => layer.descriptor),
  })
  const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [manifest] }
  await writeFile(join(folder, 'index.json'), JSON.stringify(index))
}

export interface LayoutImage {
  readonly folder: string
  readonly mediaType: string
  readonly manifestDigest: Digest
  readonly manifestBytes: Uint8Array
  readonly manifest: Manifest
}

/** The one image of a layout. Throws MANIFEST_INVALID, NOT_FOUND. */
export async function readLayout(folder: string): Promise<LayoutImage> {
  const index = parseManifest(await readFile(join(folder, 'index.json')), MEDIA.ociIndex)
  const first = index.kind === 'index' ? index.index.manifests[0] : undefined
  if (first === undefined) throw new DarnerError('NOT_FOUND', `${folder}: no image in this layout`)
  const manifestBytes = await readFile(blobPath(folder, first.digest))
  const parsed = parseManifest(manifestBytes, first.mediaType)
  if (parsed.kind !== 'manifest')
    throw new DarnerError('NOT_FOUND', `${folder}: its first entry is an index, not an image`)
  const { mediaType, manifest } = parsed
  return { folder, mediaType, manifestDigest: first.digest, manifestBytes, manifest }
}

async function addJson(folder: string, mediaType: string, value: object): Promise<Layer['descriptor']> {
  const body = Buffer.from(JSON.stringify(value))
  const digest = digestOf(body)
  await writeFile(blobPath(folder, digest), body)
  return { mediaType, digest, size: body.byteLength }
}

/** Passes bytes on, counting and hashing them. */
class Counted implements AsyncIterable<Uint8Array> {
  bytes = 0
  readonly #source: AsyncIterable<Uint8Array>
  readonly #digester = new Digester()

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source
  }

  digest(): Digest {
    return this.#digester.finish()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for await (const chunk of this.#source) {
      this.bytes += chunk.byteLength
      this.#digester.update(chunk)
      yield chunk
    }
  }
}
