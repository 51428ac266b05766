/** Images that are made on this host: a tar becomes a layer, layers and a configuration become an image. */

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import type { Clock } from '../../src/core/clock.ts'
import type { Snapshotter, UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { Digester, digestOf } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { ImageConfig } from '../../src/oci/manifest.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { formatPlatform } from '../../src/oci/platform.ts'
import type { Reference } from '../../src/oci/reference.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import type { Images } from './images.ts'
import type { OwnBlobs } from './own-blobs.ts'
import { readableConfig } from './readable-config.ts'

const LAYER_TYPE = 'application/vnd.oci.image.layer.v1.tar+gzip'

export interface MakeParts {
  readonly own: OwnBlobs
  readonly images: Images
  readonly snapshotter: Snapshotter
  readonly clock: Clock
}

/** Keeps a plain tar as a gzip blob, and unpacks it. Throws LAYER_INVALID, LIMIT_EXCEEDED, DISK_FULL, or what the source throws. */
export async function makeLayer(
  tar: AsyncIterable<Uint8Array>,
  { own, snapshotter }: Pick<MakeParts, 'own' | 'snapshotter'>,
  options: { limits: UnpackLimits; signal: AbortSignal },
): Promise<ImageLayer> {
  const digester = new Digester('sha256')
  const gzip = createGzip()
  const watched = async function* () {
    for await (const chunk of tar) {
      digester.update(chunk)
      yield chunk
    }
  }
  const flowing = pipeline(Readable.from(watched(), { objectMode: false }), gzip, { signal: options.signal })
  flowing.catch(() => gzip.destroy()) // awaited below
  const [kept, flowed] = await Promise.allSettled([own.put(gzip), flowing])
  // that nobody takes the bytes any more ends their flow
  if (kept.status === 'rejected' && kept.reason instanceof DarnerError) throw kept.reason
  if (flowed.status === 'rejected') throw flowed.reason
  if (kept.status === 'rejected') throw kept.reason
  const { digest, bytes } = kept.value
  const diffId = digester.finish()
  await snapshotter.unpack(diffId, own.read(digest), options)
  return { digest, diffId, mediaType: LAYER_TYPE, bytes }
}

/** Writes the manifest for a configuration over layers that are here, and keeps the image under `names`. Throws MANIFEST_INVALID. */
export async function makeImage(
  config: Readonly<Record<string, unknown>>,
  layers: readonly ImageLayer[],
  names: readonly Reference[],
  { images, clock }: Pick<MakeParts, 'images' | 'clock'>,
): Promise<ImageRecord> {
  const configText = JSON.stringify({
    ...config,
    rootfs: { type: 'layers', diff_ids: layers.map((one) => one.diffId) },
  })
  const record = recordOf(configText, layers, clock.now())
  await images.save(record, names)
  return record
}

/** The record of an image whose manifest is made here from its configuration. Throws MANIFEST_INVALID. */
export function recordOf(configText: string, layers: readonly ImageLayer[], now: number): ImageRecord {
  const parsed = readableConfig(Buffer.from(configText), layers.length)
  const config = digestOf(configText)
  const manifestText = JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType: MEDIA.ociConfig, digest: config, size: Buffer.byteLength(configText) },
    layers: layers.map(({ mediaType, digest, bytes }) => ({ mediaType, digest, size: bytes })),
  })
  return {
    manifest: digestOf(manifestText),
    manifestMediaType: MEDIA.ociManifest,
    manifestText,
    config,
    configText,
    layers: [...layers],
    platform: platformOf(parsed),
    pulledAt: now,
  }
}

export function platformOf({ os, architecture, variant }: ImageConfig): string {
  return formatPlatform({ os, architecture, ...(variant ? { variant } : {}) })
}
