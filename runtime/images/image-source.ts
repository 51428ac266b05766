/** The blobs of images that are on this host, for passing them on: from the host's own ones, else through the swarm. */

import type { Content, ContentSource } from '../../src/core/contracts/content.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Credential, Origin } from '../../src/core/task/origin.ts'
import { type Descriptor, parseManifest } from '../../src/oci/manifest.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import type { Images } from './images.ts'
import { fromFirst, placesOf } from './layer-places.ts'
import type { OwnBlobs } from './own-blobs.ts'

export interface ImageSourceParts {
  readonly own: OwnBlobs
  readonly content: ContentSource
  readonly images: Images
}

/**
 * The bytes of a layer's blob as its digest has them. Throws NOT_FOUND if it is neither here, nor at its registry, nor, for a foreign
 * layer, at its URLs. Throws what reading throws.
 */
export async function* layerBytes(
  image: ImageRecord,
  layer: ImageLayer,
  parts: ImageSourceParts,
  options: { readonly credential?: Credential | undefined; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  if ((await parts.own.bytesOf(layer.digest)) !== undefined) {
    yield* parts.own.read(layer.digest)
    return
  }
  const held = await parts.content.openHeld(layer.digest)
  if (held !== undefined) {
    await using _held = held
    yield* held.read({ signal: options.signal })
    return
  }
  if (image.origin === undefined)
    throw new DarnerError(
      'NOT_FOUND',
      `layer ${layer.digest}: its blob is not here, and no registry is known to have it`,
    )
  const places = placesOf({ kind: 'registry', ...image.origin }, descriptorOf(image, layer))
  await using content = await fromFirst(`layer ${layer.digest}`, places, open, options)
  yield* content.read({ signal: options.signal })
  await content.whole({ signal: options.signal })

  async function open(origin: Origin, wrongAt: readonly Origin[]): Promise<Content> {
    // it is for the registry, whatever other places a manifest names
    const credential = origin.kind === 'registry' ? options.credential : undefined
    try {
      const opened = await parts.content.open(
        {
          origin,
          digest: layer.digest,
          bytes: layer.bytes,
          priority: 'interactive',
          wrongAt,
          ...(credential === undefined ? {} : { credential }),
        },
        { signal: options.signal },
      )
      // of several places one may have other bytes, which nobody should have been given by then
      if (places.length > 1) await opened.whole({ signal: options.signal }).catch(disposing(opened))
      return opened
    } catch (error) {
      if (!isDarnerError(error)) throw error
      throw new DarnerError(error.code, `layer ${layer.digest}: its blob can't be had again: ${error.message}`, {
        cause: error,
        ...(error.way === undefined ? {} : { way: error.way }),
      })
    }
  }
}

const disposing = (content: Content) => async (error: unknown) => {
  await content[Symbol.asyncDispose]()
  throw error
}

/** As the manifest has it, with the URLs of a foreign layer. */
function descriptorOf(image: ImageRecord, layer: ImageLayer): Pick<Descriptor, 'mediaType' | 'urls'> {
  const parsed = parseManifest(Buffer.from(image.manifestText), image.manifestMediaType)
  const layers = parsed.kind === 'manifest' ? parsed.manifest.layers : []
  return layers.find(({ digest }) => digest === layer.digest) ?? { mediaType: layer.mediaType }
}
