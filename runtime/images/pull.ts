/**
 * Pulls an image: reference → manifest → config → layers, each layer read from the ContentSource, decompressed and unpacked
 * while its pieces arrive. The record is saved last, so an image that is listed is whole.
 */
import PQueue from 'p-queue'
import type { Clock } from '../../src/core/clock.ts'
import type { ByteSources, Content, ContentSource, ContentSummary, Priority } from '../../src/core/contracts/content.ts'
import type { Snapshotter, UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { algorithmOf, type Digest, Digester } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { anySignal } from '../../src/core/signals.ts'
import type { Credential, Origin, RegistryOrigin } from '../../src/core/task/origin.ts'
import { readConfig } from '../../src/oci/image-config.ts'
import { findImage } from '../../src/oci/image-in-index.ts'
import { type Descriptor, type Platform, parseManifest } from '../../src/oci/manifest.ts'
import { isImageConfigType, layerCompression } from '../../src/oci/media-types.ts'
import { familiarReference, manifestReference, originOf, type Reference } from '../../src/oci/reference.ts'
import { EarlyLayers } from './early-layers.ts'
import type { ImageLayer, ImageRecord } from './image-record.ts'
import { type Images, layerPair } from './images.ts'
import { fromFirst, placesOf } from './layer-places.ts'
import { platformOf } from './make-image.ts'
import { unpackProven } from './proven-layer.ts'
import { readableConfig } from './readable-config.ts'

/** What one layer of an image may be unpacked to, unless a setting says otherwise. */
export const DEFAULT_LAYER_LIMITS: UnpackLimits = { bytes: 64 * 1024 ** 3, entries: 2_000_000 }
/** Layers that are read and unpacked at the same time. */
const DEFAULT_PARALLEL = 4
/** The shortest time between two reports of a layer's progress: there are many more chunks than anybody reads. */
const PROGRESS_MS = 100
/** Layers are read by as much at once, at least: each chunk is work for the event loop. */
const RUN_BYTES = 128 * 1024
/** How long is waited for the rest of what can't be unpacked, which says whether it is the layer at all. */
const VERDICT_MS = 3_000
/** How wrong bytes look when they are unpacked. */
const MAY_BE_WRONG = ['LAYER_INVALID', 'LIMIT_EXCEEDED', 'DIGEST_MISMATCH'] as const

export interface PullRequest {
  readonly reference: Reference
  readonly platform: Platform
  readonly credential?: Credential
  readonly plainHttp: boolean
  readonly priority?: Priority
  readonly limits?: UnpackLimits
  readonly parallel?: number
  readonly onProgress?: (event: PullEvent) => void
  readonly signal: AbortSignal
}

export interface PullParts {
  readonly content: ContentSource
  readonly snapshotter: Snapshotter
  readonly images: Images
  readonly clock: Clock
}

/** `present`: unpacked before, nothing is read. `unpacking` begins when the last byte has come and goes on until `done`. */
export type LayerState = 'waiting' | 'present' | 'downloading' | 'unpacking' | 'done'

export type PullEvent =
  | { readonly kind: 'resolved'; readonly manifest: Digest; readonly layers: readonly ImageLayer[] }
  | {
      readonly kind: 'layer'
      readonly layer: ImageLayer
      readonly state: LayerState
      /** Verified bytes of the blob that are here, and where they came from. */
      readonly have: number
      readonly from: ByteSources
    }

export interface PulledImage {
  readonly image: ImageRecord
  /** Of each blob that was read; layers that were there before have none. */
  readonly blobs: readonly ContentSummary[]
}

interface LayerParts extends PullParts {
  readonly early: EarlyLayers
  /** See `Images.layerPairs`. */
  readonly pairs: ReadonlySet<string>
}

const NOWHERE: ByteSources = { origin: 0, supernode: 0, peers: 0 }

/**
 * Throws what the origin or the swarm threw, MANIFEST_INVALID, PLATFORM_MISSING, UNSUPPORTED, DIGEST_MISMATCH, SIZE_MISMATCH,
 * LAYER_INVALID, LIMIT_EXCEEDED, DISK_FULL, or the signal's reason. The first failing layer ends the others.
 */
export async function pullImage(request: PullRequest, parts: PullParts): Promise<PulledImage> {
  const origin = originOf(request.reference, { plainHttp: request.plainHttp })
  const { manifest, digest, mediaType, text } = await resolveManifest(origin, request, parts)
  if (!isImageConfigType(manifest.config.mediaType)) {
    throw new DarnerError(
      'UNSUPPORTED',
      `${origin.repository}: an artifact of type ${JSON.stringify(manifest.config.mediaType)}, not a container image`,
    )
  }
  await using early = new EarlyLayers()
  if ((await parts.images.get(digest)) === undefined) {
    for (const { size } of manifest.layers) parts.snapshotter.expect(size)
    const { blobs } = await parts.images.referenced()
    const open = (layer: Descriptor) => openBlob({ ...origin, collection: 'blobs' }, layer, request, parts)
    early.begin(manifest.layers, { most: request.parallel ?? DEFAULT_PARALLEL, known: blobs, open })
  }
  const configBody = await readConfig(manifest.config, {
    name: familiarReference(request.reference),
    open: () => openBlob({ ...origin, collection: 'blobs' }, manifest.config, request, parts),
    signal: request.signal,
  })
  early.end()
  const config = readableConfig(configBody.body, manifest.layers.length)
  const layers = manifest.layers.map((one, at): ImageLayer => {
    layerCompression(one.mediaType) // throws for what is no layer
    const diffId = config.rootfs.diff_ids[at]
    if (diffId === undefined) throw new DarnerError('MANIFEST_INVALID', `image config: layer ${at} has no DiffID`)
    return { digest: one.digest, diffId, mediaType: one.mediaType, bytes: one.size }
  })
  request.onProgress?.({ kind: 'resolved', manifest: digest, layers })
  using _making = parts.images.making()
  const places = new Map(manifest.layers.map((one) => [one.digest, placesOf(origin, one)]))
  const pairs = await parts.images.layerPairs()
  const summaries = await pullLayers(layers, places, request, { ...parts, early, pairs })
  const image: ImageRecord = {
    manifest: digest,
    manifestMediaType: mediaType,
    manifestText: text,
    config: manifest.config.digest,
    configText: new TextDecoder().decode(configBody.body),
    layers,
    platform: platformOf(config),
    pulledAt: parts.clock.now(),
    origin: { upstream: origin.upstream, repository: origin.repository },
  }
  const { registry, repository } = request.reference
  await parts.images.save(image, [request.reference, { registry, repository, digest }])
  return { image, blobs: [configBody.summary, ...summaries] }
}

async function resolveManifest(origin: Omit<RegistryOrigin, 'collection'>, request: PullRequest, parts: PullParts) {
  const first = await fetchManifest(origin, manifestReference(request.reference), request, parts)
  const asked = request.reference.digest
  if (asked !== undefined && first.digest !== asked)
    throw new DarnerError('DIGEST_MISMATCH', `manifest ${asked}: what came hashes to ${first.digest}`)
  const name = familiarReference(request.reference)
  const read = async ({ digest, size }: Descriptor) => {
    const found = await fetchManifest(origin, digest, request, parts)
    if (found.digest !== digest)
      throw new DarnerError('DIGEST_MISMATCH', `manifest ${digest}: what came hashes to ${found.digest}`)
    if (found.bytes !== size)
      throw new DarnerError(
        'SIZE_MISMATCH',
        `manifest ${digest}: its index states ${size} bytes, it has ${found.bytes}`,
      )
    return found
  }
  const { document, manifest } = await findImage(first, request.platform, { name, read })
  return { ...document, manifest }
}

/** The manifest or index that `reference` names there, proven by the digest that its registry states. Throws DIGEST_MISMATCH, MANIFEST_INVALID, and what the origin threw. */
export async function fetchManifest(
  origin: Omit<RegistryOrigin, 'collection'>,
  reference: string,
  request: Omit<PullRequest, 'platform'>,
  parts: Pick<PullParts, 'content'>,
) {
  const credential = request.credential === undefined ? {} : { credential: request.credential }
  const answer = await parts.content.manifest({ origin, reference, ...credential }, { signal: request.signal })
  const digester = new Digester(algorithmOf(answer.digest))
  digester.update(answer.body)
  const digest = digester.finish()
  if (digest !== answer.digest)
    throw new DarnerError(
      'DIGEST_MISMATCH',
      `manifest ${reference} of ${origin.repository}: stated ${answer.digest}, it hashes to ${digest}`,
    )
  const parsed = parseManifest(answer.body, answer.mediaType)
  return {
    parsed,
    digest,
    mediaType: parsed.mediaType,
    bytes: answer.body.byteLength,
    text: new TextDecoder().decode(answer.body),
  }
}

/** A blob of an image that is pulled or looked at, which the caller closes. */
export async function openBlob(
  origin: Origin,
  blob: Pick<Descriptor, 'digest' | 'size'>,
  request: Omit<PullRequest, 'platform'>,
  parts: Pick<PullParts, 'content'>,
  wrongAt: readonly Origin[] = [],
): Promise<Content> {
  const content = await parts.content.open(
    {
      origin,
      digest: blob.digest,
      bytes: blob.size,
      priority: request.priority ?? 'interactive',
      lead: true,
      wrongAt,
      ...rightsAt(origin, request),
    },
    { signal: request.signal },
  )
  if (content.bytes === blob.size) return content
  await content[Symbol.asyncDispose]()
  throw new DarnerError(
    'SIZE_MISMATCH',
    `blob ${blob.digest}: the manifest states ${blob.size} bytes, it has ${content.bytes}`,
  )
}

/** Throws the refusal of the place. */
async function mayHave(origin: Origin, layer: ImageLayer, request: PullRequest, { content }: PullParts): Promise<void> {
  const { digest, bytes } = layer
  await content.right(
    { origin, digest, bytes, priority: request.priority ?? 'interactive', ...rightsAt(origin, request) },
    { signal: request.signal },
  )
}

/** A credential is for the registry, whatever other places a manifest names. */
function rightsAt(origin: Origin, { credential }: Pick<PullRequest, 'credential'>): { credential?: Credential } {
  return origin.kind === 'registry' && credential !== undefined ? { credential } : {}
}

async function pullLayers(
  layers: readonly ImageLayer[],
  places: ReadonlyMap<Digest, readonly Origin[]>,
  request: PullRequest,
  parts: LayerParts,
): Promise<ContentSummary[]> {
  const ending = new AbortController()
  const signal = anySignal([request.signal, ending.signal])
  const queue = new PQueue({ concurrency: request.parallel ?? DEFAULT_PARALLEL })
  // an image may list one layer twice
  const distinct = [...new Map(layers.map((layer) => [layerPair(layer), layer])).values()]
  const work = distinct.map((layer) => {
    request.onProgress?.({ kind: 'layer', layer, state: 'waiting', have: 0, from: NOWHERE })
    return queue.add(async () => {
      signal.throwIfAborted()
      try {
        return await pullLayer(layer, places.get(layer.digest) ?? [], { ...request, signal }, parts)
      } catch (error) {
        if (!ending.signal.aborted) ending.abort(error)
        throw error
      }
    })
  })
  await Promise.allSettled(work) // nothing runs on after this returns
  if (request.signal.aborted) throw request.signal.reason
  if (ending.signal.aborted) throw ending.signal.reason
  return (await Promise.all(work)).filter((summary) => summary !== undefined)
}

async function pullLayer(
  layer: ImageLayer,
  places: readonly Origin[],
  request: PullRequest,
  parts: LayerParts,
): Promise<ContentSummary | undefined> {
  const { signal } = request
  // a DiffID alone opens nothing: the blob has to be one that unpacked to it here, and the asker's to read
  if (parts.pairs.has(layerPair(layer)) && (await parts.snapshotter.layer(layer.diffId)) !== undefined) {
    parts.early.leave(layer.digest)
    await fromFirst(`layer ${layer.digest}`, places, (place) => mayHave(place, layer, request, parts), { signal })
    request.onProgress?.({ kind: 'layer', layer, state: 'present', have: 0, from: NOWHERE })
    return undefined
  }
  const take = (place: Origin, wrongAt: readonly Origin[]) => pullFrom({ place, wrongAt }, layer, request, parts)
  const pulled = await fromFirst(`layer ${layer.digest}`, places, take, { signal })
  if (pulled instanceof DarnerError) throw pulled
  return pulled
}

/** Resolves with what is wrong with the layer itself, which is so wherever it comes from. */
async function pullFrom(
  { place, wrongAt }: { place: Origin; wrongAt: readonly Origin[] },
  layer: ImageLayer,
  request: PullRequest,
  parts: LayerParts,
): Promise<ContentSummary | DarnerError> {
  const { signal, limits = DEFAULT_LAYER_LIMITS } = request
  const tell = (state: LayerState, have: number, from: ByteSources) =>
    request.onProgress?.({ kind: 'layer', layer, state, have, from })
  await using content =
    (await parts.early.take(layer.digest)) ??
    (await openBlob(place, { digest: layer.digest, size: layer.bytes }, request, parts, wrongAt))
  const watched = async function* (source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let toldMs = Number.NEGATIVE_INFINITY
    for await (const chunk of source) {
      const nowMs = parts.clock.monotonicMs()
      if (nowMs - toldMs >= PROGRESS_MS) {
        toldMs = nowMs
        const { have, from } = content.progress()
        tell('downloading', have, from)
      }
      yield chunk
    }
    const { have, from } = content.progress()
    tell('unpacking', have, from)
  }
  const blob = () => watched(content.read({ lend: true, least: RUN_BYTES, signal }))
  try {
    await unpackProven(parts.snapshotter, layer.diffId, blob, { limits, signal })
  } catch (error) {
    if (!isDarnerError(error, ...MAY_BE_WRONG)) throw error
    await verdict(content, error, parts, signal)
    return error
  }
  const summary = await content.whole({ signal })
  tell('done', summary.bytes, summary.from)
  return summary
}

/** What came can't be unpacked. Resolves if it is the layer nevertheless. Throws DIGEST_MISMATCH, LAYER_INVALID where that can't be said. */
async function verdict(content: Content, why: DarnerError, { clock }: PullParts, signal: AbortSignal): Promise<void> {
  const known = new AbortController()
  const late = clock.sleep(VERDICT_MS, { signal: anySignal([signal, known.signal]) }).then(() => {
    throw new DarnerError('TIMED_OUT', `the rest did not come within ${VERDICT_MS / 1000} s`)
  })
  try {
    await Promise.race([content.whole({ signal }), late])
  } catch (error) {
    signal.throwIfAborted()
    if (isDarnerError(error, 'DIGEST_MISMATCH')) throw error
    const { message } = asDarnerError(error, 'the rest')
    const text = `${why.message}; whether it has its digest is not known: ${message}`
    throw new DarnerError('LAYER_INVALID', text, { cause: why })
  } finally {
    known.abort()
    late.catch(() => {})
  }
}
