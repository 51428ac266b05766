/** `docker load`: images from a docker archive (`manifest.json`) or an OCI image layout (`index.json`), plain or compressed. */
import { open } from 'node:fs/promises'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { algorithmOf, type Digest, digestOf, hexOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { findImage } from '../../src/oci/image-in-index.ts'
import { type Descriptor, MAX_LAYERS, type Manifest, parseManifest } from '../../src/oci/manifest.ts'
import { isImageConfigType, isIndexType, layerCompression, MEDIA } from '../../src/oci/media-types.ts'
import { hostPlatform } from '../../src/oci/platform.ts'
import { parseReference, type Reference } from '../../src/oci/reference.ts'
import { type ArchiveFile, ArchiveFiles } from './archive-files.ts'
import { compressionOf, decompress } from './decompress.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import { type MakeParts, platformOf, recordOf } from './make-image.ts'
import { unpackProven } from './proven-layer.ts'
import { readableConfig } from './readable-config.ts'

export interface LoadedImage {
  readonly image: ImageRecord
  readonly names: readonly Reference[]
}

const DockerItems = Type.Array(
  Type.Object({
    Config: Type.String({ maxLength: 4096 }),
    RepoTags: Type.Optional(
      Type.Union([Type.Array(Type.String({ maxLength: 1024 }), { maxItems: 1000 }), Type.Null()]),
    ),
    Layers: Type.Union([Type.Array(Type.String({ maxLength: 4096 }), { maxItems: MAX_LAYERS }), Type.Null()]),
  }),
  { maxItems: 1000 },
)

/**
 * Keeps every image of an archive, its blobs included. Throws LAYER_INVALID for what is no such archive or lacks a blob,
 * DIGEST_MISMATCH, MANIFEST_INVALID, LIMIT_EXCEEDED, DISK_FULL. What was loaded before a failure stays.
 */
export async function loadArchive(
  archive: AsyncIterable<Uint8Array>,
  parts: MakeParts,
  options: { limits: UnpackLimits; signal: AbortSignal },
): Promise<LoadedImage[]> {
  using _making = parts.images.making()
  const tar = decompress(archive, options)
  await using files = await ArchiveFiles.read(tar, await parts.own.draft(), { mostBytes: options.limits.bytes })
  const found =
    files.find('manifest.json') !== undefined
      ? await fromDocker(files, parts.clock.now())
      : await fromLayout(files, parts.clock.now())
  const loaded: LoadedImage[] = []
  for (const { image, names, blobs } of found) {
    for (const [at, layer] of image.layers.entries()) {
      const blob = blobs[at]
      if (blob === undefined) continue
      await parts.own.adopt(blob.path, layer.digest)
      await unpackProven(parts.snapshotter, layer.diffId, () => parts.own.read(layer.digest), options)
    }
    await parts.images.save(image, names)
    loaded.push({ image, names })
  }
  return loaded
}

interface FoundImage extends LoadedImage {
  readonly blobs: readonly ArchiveFile[]
}

async function fromDocker(files: ArchiveFiles, now: number): Promise<FoundImage[]> {
  const items = await files.json('manifest.json')
  if (!Value.Check(DockerItems, items))
    throw new DarnerError('LAYER_INVALID', 'image archive: its manifest.json is not that of a docker archive')
  const found: FoundImage[] = []
  for (const item of items) found.push(await dockerImage(item, files, now))
  return found
}

async function dockerImage(
  item: Static<typeof DockerItems>[number],
  files: ArchiveFiles,
  now: number,
): Promise<FoundImage> {
  const names = (item.RepoTags ?? []).map(parseReference)
  const configBody = await files.text(item.Config)
  const paths = item.Layers ?? []
  const { rootfs } = readableConfig(configBody, paths.length)
  const blobs = paths.map((path) => fileOf(files, path))
  const known = await manifestOf(files, digestOf(configBody))
  if (known !== undefined) return { ...(await layoutImage(known, files, now)), names }
  const layers: ImageLayer[] = []
  for (const [at, blob] of blobs.entries())
    layers.push({
      digest: blob.digest,
      diffId: rootfs.diff_ids[at] as Digest,
      mediaType: await mediaTypeOf(blob),
      bytes: blob.bytes,
    })
  return { image: recordOf(configBody.toString(), layers, now), names, blobs }
}

/** The archive's own manifest of a configuration, when it is an OCI layout as well: its digest is worth keeping. */
async function manifestOf(files: ArchiveFiles, config: Digest): Promise<Descriptor | undefined> {
  if (files.find('index.json') === undefined) return undefined
  for (const descriptor of await imagesOf(await indexAt(files), files)) {
    const { manifest } = await manifestAt(descriptor, files)
    if (manifest.config.digest === config) return descriptor
  }
  return undefined
}

async function fromLayout(files: ArchiveFiles, now: number): Promise<FoundImage[]> {
  if (files.find('index.json') === undefined)
    throw new DarnerError('LAYER_INVALID', 'image archive: it has neither manifest.json nor index.json', {
      way: 'load takes what docker save, podman save or skopeo copy wrote; a root file system is taken by import',
    })
  const found = new Map<Digest, FoundImage>()
  for (const descriptor of await imagesOf(await indexAt(files), files)) {
    const image = await layoutImage(descriptor, files, now)
    const before = found.get(image.image.manifest)
    const names = [...(before?.names ?? []), ...namesOf(descriptor)]
    found.set(image.image.manifest, { ...image, names })
  }
  return [...found.values()]
}

async function indexAt(files: ArchiveFiles): Promise<readonly Descriptor[]> {
  const parsed = parseManifest(await files.text('index.json'), MEDIA.ociIndex)
  return parsed.kind === 'index' ? parsed.index.manifests : []
}

/** Descriptors of image manifests for this host; of an index within, the one that fits. */
async function imagesOf(descriptors: readonly Descriptor[], files: ArchiveFiles): Promise<Descriptor[]> {
  const read = async (descriptor: Descriptor) => ({
    descriptor,
    parsed: parseManifest(await files.text(blobPath(descriptor.digest)), descriptor.mediaType),
  })
  const found: Descriptor[] = []
  for (const one of descriptors) {
    if (!isIndexType(one.mediaType)) {
      found.push(one)
      continue
    }
    const { document } = await findImage(await read(one), hostPlatform(), { name: 'image archive', read })
    const { descriptor } = document
    found.push({ ...descriptor, annotations: { ...descriptor.annotations, ...one.annotations } })
  }
  return found
}

async function manifestAt(
  { digest, mediaType }: Descriptor,
  files: ArchiveFiles,
): Promise<{ manifest: Manifest; text: string }> {
  const body = await files.text(blobPath(digest))
  matches(digest, digestOf(body))
  const parsed = parseManifest(body, mediaType)
  if (parsed.kind !== 'manifest')
    throw new DarnerError('LAYER_INVALID', `image archive: ${digest} is not an image manifest`)
  return { manifest: parsed.manifest, text: body.toString() }
}

async function layoutImage(descriptor: Descriptor, files: ArchiveFiles, now: number): Promise<FoundImage> {
  const { manifest, text } = await manifestAt(descriptor, files)
  if (!isImageConfigType(manifest.config.mediaType))
    throw new DarnerError('UNSUPPORTED', `image archive: ${descriptor.digest} is an artifact, not a container image`)
  const configBody = await files.text(blobPath(manifest.config.digest))
  matches(manifest.config.digest, digestOf(configBody))
  const config = readableConfig(configBody, manifest.layers.length)
  const blobs = manifest.layers.map(({ digest }) => {
    const file = fileOf(files, blobPath(digest))
    matches(digest, file.digest)
    return file
  })
  const layers = manifest.layers.map((one, at): ImageLayer => {
    layerCompression(one.mediaType) // throws for what is no layer
    return {
      digest: one.digest,
      diffId: config.rootfs.diff_ids[at] as Digest,
      mediaType: one.mediaType,
      bytes: one.size,
    }
  })
  const image: ImageRecord = {
    manifest: descriptor.digest,
    manifestMediaType: descriptor.mediaType,
    manifestText: text,
    config: manifest.config.digest,
    configText: configBody.toString(),
    layers,
    platform: platformOf(config),
    pulledAt: now,
  }
  return { image, names: namesOf(descriptor), blobs }
}

/** The full name that containerd writes; podman and others put it, or only a tag, into the other annotation. */
function namesOf({ annotations }: Descriptor): Reference[] {
  const full = annotations?.['io.containerd.image.name'] ?? annotations?.['org.opencontainers.image.ref.name']
  return full !== undefined && /[/:]/.test(full) ? [parseReference(full)] : []
}

function fileOf(files: ArchiveFiles, path: string): ArchiveFile {
  const file = files.find(path)
  if (file !== undefined) return file
  throw new DarnerError('LAYER_INVALID', `image archive: the layer ${path.slice(0, 200)} is missing`)
}

function matches(stated: Digest, found: Digest): void {
  if (stated === found) return
  throw new DarnerError('DIGEST_MISMATCH', `image archive: ${stated} is stated, the bytes have ${found}`)
}

function blobPath(digest: Digest): string {
  return `blobs/${algorithmOf(digest)}/${hexOf(digest)}`
}

async function mediaTypeOf({ path }: ArchiveFile): Promise<string> {
  await using file = await open(path)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0)
  const compression = compressionOf(buffer.subarray(0, bytesRead))
  return `application/vnd.oci.image.layer.v1.tar${compression === 'none' ? '' : `+${compression}`}`
}
