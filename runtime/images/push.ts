/** Pushes an image that is on this host: layers that the registry lacks, the configuration, the manifest last. */
import PQueue from 'p-queue'
import { type Digest, digestOf } from '../../src/core/digest.ts'
import type { Credential } from '../../src/core/task/origin.ts'
import { isForeignLayer } from '../../src/oci/media-types.ts'
import { originOf, type Reference } from '../../src/oci/reference.ts'
import type { RegistryPusher } from '../../src/origin/registry-push.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import { type ImageSourceParts, layerBytes } from './image-source.ts'

/** Blobs on their way at the same time. */
const PARALLEL = 4

export type PushState = 'preparing' | 'pushing' | 'present' | 'mounted' | 'pushed'

export interface PushRequest {
  readonly image: ImageRecord
  /** Where to: its tag becomes the manifest's name. */
  readonly target: Reference
  readonly plainHttp: boolean
  readonly credential?: Credential | undefined
  readonly onProgress: (layer: ImageLayer, state: PushState, sent: number) => void
  readonly signal: AbortSignal
}

/** Resolves with the manifest's digest and length. Throws what reading the blobs and writing to the registry throw. */
export async function pushImage(
  { image, target, plainHttp, credential, onProgress, signal }: PushRequest,
  parts: ImageSourceParts & { readonly pusher: RegistryPusher },
): Promise<{ digest: Digest; bytes: number }> {
  const { pusher } = parts
  const origin = originOf(target, { plainHttp })
  const options = { credential, signal }
  const mountFrom = image.origin?.upstream === origin.upstream ? image.origin.repository : undefined
  const layers = [...new Map(image.layers.map((layer) => [layer.digest, layer])).values()]
  const queue = new PQueue({ concurrency: PARALLEL })
  await queue.addAll(
    layers
      .filter((layer) => !isForeignLayer(layer.mediaType))
      .map((layer) => async () => {
        onProgress(layer, 'preparing', 0)
        if (await pusher.hasBlob(origin, layer.digest, options)) return onProgress(layer, 'present', 0)
        const counted = async function* () {
          let sent = 0
          for await (const chunk of layerBytes(image, layer, parts, options)) {
            yield chunk
            sent += chunk.byteLength
            onProgress(layer, 'pushing', sent)
          }
        }
        const blob = { digest: layer.digest, bytes: layer.bytes, open: counted }
        const how = await pusher.putBlob(origin, mountFrom === undefined ? blob : { ...blob, mountFrom }, options)
        onProgress(layer, how === 'mounted' ? 'mounted' : 'pushed', layer.bytes)
      }),
    { signal },
  )
  if (!(await pusher.hasBlob(origin, image.config, options))) {
    const body = Buffer.from(image.configText)
    const open = async function* () {
      yield body
    }
    await pusher.putBlob(origin, { digest: image.config, bytes: body.byteLength, open }, options)
  }
  const manifest = { mediaType: image.manifestMediaType, text: image.manifestText }
  await pusher.putManifest(origin, target.tag ?? 'latest', manifest, options)
  return { digest: digestOf(image.manifestText), bytes: Buffer.byteLength(image.manifestText) }
}
