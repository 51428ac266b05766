/** Looks for bit rot in unpacked layers from time to time, and unpacks those anew that have it. */
import type { Clock } from '../../src/core/clock.ts'
import type { Snapshotter, StoredLayer, UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { type ImageSourceParts, layerBytes } from './image-source.ts'
import { DEFAULT_LAYER_LIMITS } from './pull.ts'

/** A Snapshotter that can look at what it stored. */
export interface LayerShelf extends Snapshotter {
  /** Throws STORE_CORRUPT; NOT_FOUND for one that has gone meanwhile. */
  scrub(diffId: Digest, options: { signal: AbortSignal }): Promise<void>
  /** As `unpack`, in the place of what is stored; containers that run keep what they have until their next start. */
  renew(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer>
}

export interface LayerCareOptions {
  /** From the end of one look to the next; the first comes this long after the start. */
  readonly everyMs: number
  readonly bytesPerSec: number
}

export interface LayerCareParts extends ImageSourceParts {
  readonly snapshotter: LayerShelf
  readonly clock: Clock
  readonly log: Log
}

/** Until `signal` is aborted; rejects with its reason. */
export async function careForLayers(
  { everyMs, bytesPerSec }: LayerCareOptions,
  parts: LayerCareParts,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  for (;;) {
    await parts.clock.sleep(everyMs, { signal })
    for (const { diffId, bytes } of await stored(parts)) {
      await lookAt(diffId, parts, signal)
      await parts.clock.sleep(Math.max(1, (bytes / bytesPerSec) * 1000), { signal })
    }
  }
}

async function stored({ snapshotter, log }: LayerCareParts): Promise<StoredLayer[]> {
  try {
    return await snapshotter.layers()
  } catch (error) {
    log.warn({ error: asDarnerError(error, 'layers').message }, 'layers not looked at')
    return []
  }
}

async function lookAt(diffId: Digest, parts: LayerCareParts, signal: AbortSignal): Promise<void> {
  const { snapshotter, log } = parts
  try {
    await snapshotter.scrub(diffId, { signal })
  } catch (error) {
    signal.throwIfAborted()
    if (isDarnerError(error, 'NOT_FOUND')) return
    if (!isDarnerError(error, 'STORE_CORRUPT')) {
      log.warn({ layer: diffId, error: asDarnerError(error, 'scrub').message }, 'layer not looked at')
      return
    }
    log.warn({ layer: diffId, error: error.message }, 'bit rot in a layer')
    try {
      await heal(diffId, parts, signal)
      log.info({ layer: diffId }, 'layer unpacked anew; containers on it have it from their next start on')
    } catch (cause) {
      signal.throwIfAborted()
      const why = asDarnerError(cause, 'unpack').message
      log.error({ layer: diffId, error: why }, 'bit rot in a layer stays: remove its images and pull them again')
    }
  }
}

/** From the first image that has it and whose blob can be had. */
async function heal(diffId: Digest, parts: LayerCareParts, signal: AbortSignal): Promise<void> {
  let failure: unknown = new DarnerError('NOT_FOUND', `layer ${diffId}: no image here has it any more`)
  for (const { image } of await parts.images.list()) {
    const layer = image.layers.find((one) => one.diffId === diffId)
    if (layer === undefined) continue
    try {
      const blob = layerBytes(image, layer, parts, { signal })
      await parts.snapshotter.renew(diffId, blob, { limits: DEFAULT_LAYER_LIMITS, signal })
      return
    } catch (error) {
      signal.throwIfAborted()
      failure = error
    }
  }
  throw failure
}
