/**
 * `docker save`: images as one tar that is an OCI image layout (image-spec, image-layout.md). By its `manifest.json` it is a docker archive
 * too. Each blob is there once.
 */
import type { Digest } from '../../src/core/digest.ts'
import { algorithmOf, hexOf } from '../../src/core/digest.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { familiarReference, formatReference, parseReference } from '../../src/oci/reference.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import { type ImageSourceParts, layerBytes } from './image-source.ts'
import type { Images } from './images.ts'
import { TAR_END, tarHeader, tarPadding } from './tar-writer.ts'

export interface ChosenImage {
  readonly image: ImageRecord
  /** Full names that it gets in the archive. */
  readonly tags: readonly string[]
}

const blobPath = (digest: Digest) => `blobs/${algorithmOf(digest)}/${hexOf(digest)}`

/** The images that words name: a name, an id, or a repository without a tag for all its tags. Throws NOT_FOUND. */
export async function chooseImages(words: readonly string[], images: Images): Promise<ChosenImage[]> {
  const chosen = new Map<Digest, { image: ImageRecord; tags: Set<string> }>()
  const add = (image: ImageRecord, tags: readonly string[]) => {
    const one = chosen.get(image.manifest) ?? { image, tags: new Set<string>() }
    for (const tag of tags) one.tags.add(tag)
    chosen.set(image.manifest, one)
  }
  for (const word of words) {
    const repository = repositoryOf(word)
    const under =
      repository === undefined
        ? []
        : (await images.list()).flatMap(({ image, tags }) => {
            const own = tags.filter((tag) => tag.startsWith(`${repository}:`))
            return own.length > 0 ? [{ image, own }] : []
          })
    if (under.length > 0) {
      for (const { image, own } of under) add(image, own)
      continue
    }
    const { image, name } = await images.find(word)
    add(image, name === undefined || name.includes('@') ? [] : [name])
  }
  return [...chosen.values()].map(({ image, tags }) => ({ image, tags: [...tags].sort() }))
}

/** `registry/name` when the word names a repository without tag and digest. */
function repositoryOf(word: string): string | undefined {
  if (/[:@][^/]*$/.test(word) || /^[a-f0-9]{64}$/.test(word)) return undefined
  try {
    const { registry, repository } = parseReference(word)
    return formatReference({ registry, repository })
  } catch {
    return undefined // REFERENCE_INVALID: an id, which the caller looks up
  }
}

/** The archive, read lazily. Throws what reading a blob throws. */
export async function* saveArchive(
  chosen: readonly ChosenImage[],
  parts: ImageSourceParts,
  { signal }: { signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const texts = new Map<string, string>()
  const layers = new Map<Digest, { image: ImageRecord; layer: ImageLayer }>()
  for (const { image } of chosen) {
    texts.set(blobPath(image.manifest), image.manifestText)
    texts.set(blobPath(image.config), image.configText)
    for (const layer of image.layers) layers.set(layer.digest, { image, layer })
  }
  texts.set('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  texts.set('index.json', JSON.stringify(indexOf(chosen)))
  texts.set('manifest.json', JSON.stringify(dockerManifest(chosen)))
  for (const folder of ['blobs/', 'blobs/sha256/']) yield tarHeader({ name: folder, bytes: 0 })
  for (const [name, text] of texts) {
    const body = Buffer.from(text)
    yield Buffer.concat([tarHeader({ name, bytes: body.byteLength }), body, tarPadding(body.byteLength)])
  }
  for (const { image, layer } of layers.values()) {
    yield tarHeader({ name: blobPath(layer.digest), bytes: layer.bytes })
    yield* layerBytes(image, layer, parts, { signal })
    yield tarPadding(layer.bytes)
  }
  yield TAR_END
}

function indexOf(chosen: readonly ChosenImage[]): Record<string, unknown> {
  return {
    schemaVersion: 2,
    mediaType: MEDIA.ociIndex,
    manifests: chosen.flatMap(({ image, tags }) => {
      const plain = {
        mediaType: image.manifestMediaType,
        digest: image.manifest,
        size: Buffer.byteLength(image.manifestText),
      }
      if (tags.length === 0) return [plain]
      return tags.map((tag) => ({
        ...plain,
        annotations: {
          'io.containerd.image.name': tag,
          'org.opencontainers.image.ref.name': tag.slice(tag.lastIndexOf(':') + 1),
        },
      }))
    }),
  }
}

function dockerManifest(chosen: readonly ChosenImage[]): unknown[] {
  return chosen.map(({ image, tags }) => ({
    Config: blobPath(image.config),
    RepoTags: tags.length > 0 ? tags.map((tag) => familiarReference(parseReference(tag))) : null,
    Layers: image.layers.map((layer) => blobPath(layer.digest)),
  }))
}
