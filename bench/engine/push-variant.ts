/** Large layers as an image in a registry that nobody has pulled from yet. */
import { arch } from 'node:os'
import type { Digest } from '../../src/core/digest.ts'
import { MEDIA } from '../../src/oci/media-types.ts'
import { aBlob, type Blob, type PushTarget } from '../../test/fixtures/images/an-image.ts'
import { type BigLayer, variant } from './layers.ts'

/** An image in a registry. */
export interface PushedVariant {
  readonly manifest: Digest
  /** Config and layers. */
  readonly blobs: readonly Digest[]
}

/** Puts the layers, each with a few bytes that no other one has, there as an image. */
export async function pushVariant(
  registry: PushTarget,
  { repository, tag }: { repository: string; tag: string },
  layers: readonly BigLayer[],
  number: number,
): Promise<PushedVariant> {
  const diffIds: Digest[] = []
  const descriptors: Omit<Blob, 'body'>[] = []
  for (const layer of layers) {
    const { body, diffId } = await variant(layer, number)
    const { digest, size } = aBlob(layer.mediaType, body)
    await registry.putBlob(repository, digest, body)
    diffIds.push(diffId)
    descriptors.push({ mediaType: layer.mediaType, digest, size })
  }
  const config = json(MEDIA.ociConfig, {
    architecture: arch() === 'x64' ? 'amd64' : arch(),
    os: 'linux',
    config: { Cmd: ['/bin/true'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
  })
  const { mediaType, digest, size } = config
  const manifest = json(MEDIA.ociManifest, {
    schemaVersion: 2,
    mediaType: MEDIA.ociManifest,
    config: { mediaType, digest, size },
    layers: descriptors,
  })
  await registry.putBlob(repository, config.digest, config.body)
  await registry.putManifest(repository, tag, manifest.mediaType, manifest.body)
  return { manifest: manifest.digest, blobs: [config.digest, ...descriptors.map((one) => one.digest)] }
}

function json(mediaType: string, value: object): Blob {
  return aBlob(mediaType, new Uint8Array(Buffer.from(JSON.stringify(value))))
}
