/** The engine's image routes on the agent's unix socket; src/api/images-api.ts has the shapes. */
import { Readable } from 'node:stream'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { errorBody } from '../../src/api/error-body.ts'
import {
  ImageList,
  type ImageView,
  LayerUse,
  type PullLine,
  PullRequest,
  type PullSummary,
  RemoveImageQuery,
} from '../../src/api/images-api.ts'
import type { ContentSummary } from '../../src/core/contracts/content.ts'
import type { Snapshotter, StoredLayer } from '../../src/core/contracts/snapshots.ts'
import type { Digest } from '../../src/core/digest.ts'
import { asDarnerError, DarnerError, isDarnerError } from '../../src/core/errors.ts'
import { Feed } from '../../src/core/feed.ts'
import { anySignal } from '../../src/core/signals.ts'
import { hostPlatform, parsePlatform } from '../../src/oci/platform.ts'
import { parseReference } from '../../src/oci/reference.ts'
import type { RegistrySchemes } from '../../src/origin/registry-schemes.ts'
import type { Images, ListedImage } from './images.ts'
import { otherPlatform } from './other-platform.ts'
import { type PullEvent, type PulledImage, type PullParts, pullImage } from './pull.ts'

/** Lines of one pull that a slow reader may leave unread. */
const MAX_LINES = 100_000

export interface ImageRouteParts extends PullParts {
  readonly snapshotter: Snapshotter
  readonly images: Images
  readonly schemes: RegistrySchemes
  /** DiffIDs of layers that containers stand on. */
  readonly layersInUse: () => Promise<ReadonlySet<string>>
}

/** Adds `/v1/images…` to a server that the caller owns; errors are mapped there. `signal` ends pulls when the agent ends. */
export function registerImageRoutes(
  plain: FastifyInstance,
  parts: ImageRouteParts,
  { signal }: { signal: AbortSignal },
): void {
  const app = plain.withTypeProvider<TypeBoxTypeProvider>()
  app.get('/v1/images', { schema: { response: { 200: ImageList } } }, async () => ({
    images: (await parts.images.list()).map(viewOf),
  }))
  app.get('/v1/layers', { schema: { response: { 200: LayerUse } } }, async () => {
    const [layers, used] = await Promise.all([parts.snapshotter.layers(), parts.layersInUse()])
    const sum = (some: readonly StoredLayer[]) => some.reduce((total, { bytes }) => total + bytes, 0)
    return {
      layers: layers.length,
      bytes: sum(layers),
      usedBytes: sum(layers.filter(({ diffId }) => used.has(diffId))),
    }
  })
  app.delete('/v1/images', { schema: { querystring: RemoveImageQuery } }, async (request) => {
    const { reference, force } = request.query
    const { untagged, deleted } = await parts.images.remove(reference, { force: force === true })
    if (deleted !== undefined) await collectLayers(parts)
    return { untagged, deleted: deleted?.config }
  })
  app.post('/v1/images/pull', { schema: { body: PullRequest } }, async (request, reply) => {
    const gone = new AbortController()
    const lines = new Feed<PullLine | ReturnType<typeof errorBody>>(MAX_LINES)
    reply.raw.once('close', () => gone.abort(new DarnerError('INTERRUPTED', 'the client of the pull left')))
    void pull(request.body, parts, lines, anySignal([signal, gone.signal]))
    return reply.type('application/x-ndjson').send(Readable.from(textOf(lines)))
  })
}

async function collectLayers({ images, snapshotter, layersInUse }: ImageRouteParts): Promise<void> {
  await images.collectLayers(snapshotter, (await layersInUse()) as ReadonlySet<Digest>)
}

async function* textOf(lines: AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const line of lines) yield `${JSON.stringify(line)}\n`
}

/** Pulls and reports progress; a failure is the last line. Never rejects. */
async function pull(
  request: PullRequest,
  parts: ImageRouteParts,
  lines: Feed<PullLine | ReturnType<typeof errorBody>>,
  signal: AbortSignal,
): Promise<void> {
  const startedMs = parts.clock.monotonicMs()
  try {
    const { reference, plainHttp, platform, credential } = request
    const wanted = platform === undefined ? undefined : parsePlatform(platform)
    const parsed = parseReference(reference)
    const asked = {
      reference: parsed,
      platform: wanted ?? hostPlatform(),
      onProgress: (event: PullEvent) => lines.push(lineOf(event)),
      signal,
      ...(credential === undefined ? {} : { credential }),
    }
    const pulled = await parts.schemes.ask(parsed.registry, { plainHttp: plainHttp === true, signal }, (plain) =>
      pullImage({ ...asked, plainHttp: plain }, parts),
    )
    const other = otherPlatform(reference, parsePlatform(pulled.image.platform), wanted)
    const summary = summed(pulled, (parts.clock.monotonicMs() - startedMs) / 1000)
    lines.push({ kind: 'pulled', summary: other === undefined ? summary : { ...summary, warning: other } })
  } catch (error) {
    lines.push(errorBody(asDarnerError(error, `pull ${request.reference}`)))
    // layers that were unpacked by then would be in the way of all else
    if (isDarnerError(error, 'DISK_FULL')) await collectLayers(parts).catch(() => {})
  } finally {
    lines.end()
  }
}

function lineOf(event: PullEvent): PullLine {
  if (event.kind === 'resolved') {
    return {
      kind: 'resolved',
      manifest: event.manifest,
      layers: event.layers.map(({ digest, bytes }) => ({ digest, bytes })),
    }
  }
  const { layer, state, have, from } = event
  return { kind: 'layer', digest: layer.digest, bytes: layer.bytes, state, have, from }
}

function summed({ image, blobs }: PulledImage, seconds: number): PullSummary {
  const sum = (of: (blob: ContentSummary) => number) => blobs.reduce((total, blob) => total + of(blob), 0)
  return {
    digest: image.manifest,
    bytes: sum((blob) => blob.bytes),
    seconds,
    from: {
      origin: sum((blob) => blob.from.origin),
      supernode: sum((blob) => blob.from.supernode),
      peers: sum((blob) => blob.from.peers),
    },
    pieces: sum((blob) => blob.pieces),
  }
}

function viewOf({ image, tags, digests }: ListedImage): ImageView {
  return {
    id: image.config,
    manifest: image.manifest,
    tags: [...tags],
    digests: [...digests],
    platform: image.platform,
    bytes: image.layers.reduce((sum, layer) => sum + layer.bytes, 0),
    layers: image.layers.length,
    blobs: [image.config, ...new Set(image.layers.map(({ digest }) => digest))],
    pulledAt: image.pulledAt,
  }
}
