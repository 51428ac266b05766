/** What no image and no container needs any more. */
import type { Digest } from '../../src/core/digest.ts'
import type { DockerParts } from './context.ts'

/** Removes layers and blobs that nothing needs any more; the bytes of the layers. */
export async function removeUnneeded({ images, own, snapshotter, runtime }: DockerParts): Promise<number> {
  const held = (await runtime.containers.layersInUse()) as ReadonlySet<Digest>
  const gone = await images.collectLayers(snapshotter, held)
  await images.collectBlobs(own)
  return gone.reduce((sum, layer) => sum + layer.bytes, 0)
}
