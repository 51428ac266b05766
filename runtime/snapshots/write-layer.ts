/** From a layer's blob to its files, not durable yet: here, or on the thread of layer-worker.ts. */
import type { UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { type Digest, hexOf } from '../../src/core/digest.ts'
import { decompress } from '../images/decompress.ts'
import { erofsFormat } from './erofs.ts'
import type { LayerFormat, Written } from './layer-format.ts'
import { feed } from './layer-sink.ts'
import { directoryFormat } from './unpack.ts'

/** Which layer, in which format, into which empty folder. Plain data. */
export interface LayerOrder {
  readonly diffId: Digest
  readonly kind: LayerFormat['kind']
  readonly staging: string
  readonly limits: UnpackLimits
}

/** Plain data too. */
export interface WrittenLayer {
  readonly entries: number
  readonly tarBytes: number
  /** As latin1 text of their bytes. */
  readonly implied: readonly string[]
  readonly hiding: readonly string[]
  readonly opaque: boolean
  readonly written: Written
}

function formatOf(kind: LayerFormat['kind']): LayerFormat {
  return kind === 'erofs' ? erofsFormat : directoryFormat
}

/** `blob` is the tar, plain or compressed; its chunks are good until the next is asked for. Throws as `Snapshotter.unpack` does. */
export async function writeLayer(
  { diffId, kind, staging, limits }: LayerOrder,
  blob: AsyncIterable<Uint8Array>,
  { signal }: { signal: AbortSignal },
): Promise<WrittenLayer> {
  await using layer = await formatOf(kind).open(staging)
  const { implied, hiding, ...facts } = await feed(
    diffId,
    decompress(blob, { lend: true, judged: true, signal }),
    layer,
    {
      limits,
      signal,
    },
  )
  const written = await layer.finish({ name: hexOf(diffId) })
  const [impliedText = [], hidingText = []] = [implied, hiding].map((paths) =>
    paths.map((path) => path.toString('latin1')),
  )
  return { ...facts, implied: impliedText, hiding: hidingText, written }
}
