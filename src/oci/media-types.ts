/** Media types of images (image-spec, media-types.md; docker image manifest v2 schema 2), and what follows from them. */
import { DarnerError } from '../core/errors.ts'

export const MEDIA = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
} as const

/** What a manifest request accepts, one header value. */
/** docker's manifests of old, signed within: their digest is of the text without its signatures. */
export const SIGNED_SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1+prettyjws'

export const MANIFEST_ACCEPT = [MEDIA.ociIndex, MEDIA.dockerIndex, MEDIA.ociManifest, MEDIA.dockerManifest].join(', ')

export type Compression = 'none' | 'gzip' | 'zstd'

interface LayerType {
  readonly compression: Compression
  /** Not to be pushed to registries; its bytes may lie only at the descriptor's `urls`. */
  readonly foreign: boolean
}

const layer = (compression: Compression, foreign = false): LayerType => ({ compression, foreign })

const LAYERS: ReadonlyMap<string, LayerType> = new Map([
  ['application/vnd.oci.image.layer.v1.tar', layer('none')],
  ['application/vnd.oci.image.layer.v1.tar+gzip', layer('gzip')],
  ['application/vnd.oci.image.layer.v1.tar+zstd', layer('zstd')],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar', layer('none', true)],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', layer('gzip', true)],
  ['application/vnd.oci.image.layer.nondistributable.v1.tar+zstd', layer('zstd', true)],
  ['application/vnd.docker.image.rootfs.diff.tar', layer('none')],
  ['application/vnd.docker.image.rootfs.diff.tar.gzip', layer('gzip')],
  ['application/vnd.docker.image.rootfs.diff.tar.zstd', layer('zstd')],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar', layer('none', true)],
  ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', layer('gzip', true)],
])

/** How a layer of this media type is compressed. Throws UNSUPPORTED for one that is no known kind of tar. */
export function layerCompression(mediaType: string): Compression {
  const known = LAYERS.get(mediaType)
  if (known === undefined)
    throw new DarnerError(
      'UNSUPPORTED',
      `layer of media type ${JSON.stringify(mediaType)}: not a plain, gzip or zstd tar`,
    )
  return known.compression
}

/** True for a layer that registries need not hold (image-spec, layer.md, "Non-Distributable Layers"). */
export function isForeignLayer(mediaType: string): boolean {
  return LAYERS.get(mediaType)?.foreign ?? false
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerIndex
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === MEDIA.ociManifest || mediaType === MEDIA.dockerManifest
}

/** True for the config of a container image, as opposed to some other artifact's. */
export function isImageConfigType(mediaType: string): boolean {
  return mediaType === MEDIA.ociConfig || mediaType === MEDIA.dockerConfig
}

/** A media type as a `Content-Type` states it: lower case, without parameters. */
export function bareMediaType(contentType: string): string {
  return (contentType.split(';', 1)[0] ?? '').trim().toLowerCase()
}

const PAGES = new Set(['text/html', 'application/xhtml+xml'])

/** Whether a `Content-Type` is that of a page for people, which no content of a registry is. */
export function isPage(contentType: string | undefined): boolean {
  return PAGES.has(bareMediaType(contentType ?? ''))
}
