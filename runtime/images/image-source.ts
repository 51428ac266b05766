/** The blobs of images that are on this host, for who passes them on: from the host's own ones, else through the swarm. */
import { DarnerError, isDarnerError } from '../../src/base/errors.ts'
import type { ContentSource } from '../../src/contracts/content.ts'
import type { Credential, RegistryOrigin } from '../../src/task/origin.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import type { Images } from './images.ts'
import type { OwnBlobs } from './own-blobs.ts'

export interface ImageSourceParts {
  readonly own: OwnBlobs
  readonly content: ContentSource
  readonly images: Images
}

/**
 * The bytes of a layer's blob as its digest has them. Throws NOT_FOUND when it is neither here nor at where the image was pulled
 * from, or what reading throws.
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
  if (image.origin === undefined)
    throw new DarnerError(
      'NOT_FOUND',
      `layer ${layer.digest}: its blob is not here, and no registry is known to have it`,
    )
  const origin: RegistryOrigin = { kind: 'registry', ...image.origin, collection: 'blobs' }
  await using content = await open()
  yield* content.read({ signal: options.signal })
  await content.whole({ signal: options.signal })

  async function open() {
    try {
      return await parts.content.open(
        {
          origin,
          digest: layer.digest,
          bytes: layer.bytes,
          priority: 'interactive',
          ...(options.credential === undefined ? {} : { credential: options.credential }),
        },
        { signal: options.signal },
      )
    } catch (error) {
      if (!isDarnerError(error)) throw error
      throw new DarnerError(error.code, `layer ${layer.digest}: its blob can't be had again: ${error.message}`, {
        cause: error,
        ...(error.way === undefined ? {} : { way: error.way }),
      })
    }
  }
}
