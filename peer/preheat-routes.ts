/**
 * `POST /v1/preheat` on the agent's socket: resolves an image here, has the supernode bring its blobs to hosts, reports their progress.
 */
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { errorBody } from '../src/api/error-body.ts'
import type { Clock } from '../src/core/clock.ts'
import type { Digest } from '../src/core/digest.ts'
import { asDarnerError, DarnerError } from '../src/core/errors.ts'
import { goneOf, withDeadline } from '../src/core/signals.ts'
import { Credential, type RegistryOrigin } from '../src/core/task/origin.ts'
import { readConfig } from '../src/oci/image-config.ts'
import { everyImage, findImage, type ReadDocument } from '../src/oci/image-in-index.ts'
import { type Manifest, type Platform, parseImageConfig, parseManifest } from '../src/oci/manifest.ts'
import { isForeignLayer, isImageConfigType } from '../src/oci/media-types.ts'
import { formatPlatform, normalisePlatform, parsePlatform, suits } from '../src/oci/platform.ts'
import { manifestReference, originOf, parseReference } from '../src/oci/reference.ts'
import type { RegistrySchemes } from '../src/origin/registry-schemes.ts'
import { MAX_PREHEAT_BLOBS, type PreheatBlob } from '../src/protocol/preheat.ts'
import { readSelector } from '../src/protocol/preheat-selector.ts'
import type { Peer } from './peer.ts'

export const PreheatRequest = Type.Object(
  {
    reference: Type.String({ maxLength: 1024 }),
    /** `OS/ARCH`; every platform when absent. */
    platform: Type.Optional(Type.String({ maxLength: 128 })),
    to: Type.String({ maxLength: 1024 }),
    plainHttp: Type.Optional(Type.Boolean()),
    credential: Type.Optional(Credential),
    deadlineMs: Type.Integer({ minimum: 1000, maximum: 86_400_000 }),
    /** Per host. */
    bytesPerSec: Type.Optional(Type.Integer({ minimum: 1024, maximum: 2 ** 40 })),
  },
  { additionalProperties: false },
)
type PreheatRequest = Static<typeof PreheatRequest>

const POLL_MS = 500
const MAX_PLATFORMS = 64

/** The answer is NDJSON: a state a line, the last one no longer `running`; or `{ error }`. */
export function registerPreheatRoutes(
  app: FastifyInstance,
  peer: Peer,
  { clock, schemes }: { clock: Clock; schemes: RegistrySchemes },
): void {
  app.post<{ Body: PreheatRequest }>('/v1/preheat', { schema: { body: PreheatRequest } }, async (request, reply) => {
    const { body } = request
    readSelector(body.to) // before a registry is asked for what nobody would get
    const gone = goneOf(reply.raw)
    const reference = parseReference(body.reference)
    const signal = withDeadline(gone.signal, body.deadlineMs + 30_000)
    const asked = { plainHttp: body.plainHttp === true, signal }
    const { origin, blobs } = await schemes.ask(reference.registry, asked, async (plainHttp) => {
      const origin = originOf(reference, { plainHttp })
      return { origin, blobs: await blobsOf(origin, body, peer, signal) }
    })
    const id = await peer.scheduler.preheat(
      {
        upstream: origin.upstream,
        repository: origin.repository,
        blobs,
        to: body.to,
        deadlineMs: body.deadlineMs,
        ...(body.bytesPerSec === undefined ? {} : { bytesPerSec: body.bytesPerSec }),
        ...(body.credential === undefined ? {} : { credential: body.credential }),
      },
      { signal },
    )
    reply.hijack()
    const { raw } = reply
    raw.writeHead(200, { 'content-type': 'application/x-ndjson' })
    try {
      for (;;) {
        const state = await peer.scheduler.preheatState(id, { signal })
        raw.write(`${JSON.stringify(state)}\n`)
        if (state.state !== 'running') break
        await clock.sleep(POLL_MS, { signal })
      }
    } catch (error) {
      raw.write(`${JSON.stringify(errorBody(asDarnerError(error, `preheat ${body.reference}`)))}\n`)
    }
    raw.end()
    return reply
  })
}

/** Config and layers of the platforms wanted, each once. */
async function blobsOf(
  origin: Omit<RegistryOrigin, 'collection'>,
  body: PreheatRequest,
  peer: Peer,
  signal: AbortSignal,
): Promise<PreheatBlob[]> {
  const rights = body.credential === undefined ? {} : { credential: body.credential }
  const name = body.reference
  const readAt = async (reference: string): Promise<ReadDocument> => {
    const answer = await peer.engine.manifest({ origin, reference, ...rights }, { signal })
    return { parsed: parseManifest(answer.body, answer.mediaType) }
  }
  const read = ({ digest }: { digest: Digest }) => readAt(digest)
  const wanted = body.platform === undefined ? undefined : parsePlatform(body.platform)
  const first = await readAt(manifestReference(parseReference(name)))
  let manifests: Manifest[]
  if (wanted === undefined) manifests = await everyImage(first, { name, read, most: MAX_PLATFORMS })
  else {
    const { manifest, stated } = await findImage(first, wanted, { name, read })
    if (!stated) await checkPlatform({ manifest, wanted, name }, { origin, rights, peer, signal })
    manifests = [manifest]
  }
  const blobs = new Map<string, number>()
  for (const { config, layers } of manifests) {
    for (const { digest, size, mediaType } of [config, ...layers])
      if (!isForeignLayer(mediaType)) blobs.set(digest, size)
  }
  if (blobs.size > MAX_PREHEAT_BLOBS)
    throw new DarnerError('LIMIT_EXCEEDED', `${body.reference}: ${blobs.size} blobs, more than ${MAX_PREHEAT_BLOBS}`)
  return [...blobs].map(([digest, bytes]) => ({ digest, bytes }))
}

/** Where no index says what an image is for, its config does. Throws PLATFORM_MISSING. */
async function checkPlatform(
  { manifest: { config }, wanted, name }: { manifest: Manifest; wanted: Platform; name: string },
  {
    origin,
    rights,
    peer,
    signal,
  }: {
    origin: Omit<RegistryOrigin, 'collection'>
    rights: { credential?: Credential }
    peer: Peer
    signal: AbortSignal
  },
): Promise<void> {
  // what is no image is for no platform
  if (!isImageConfigType(config.mediaType)) return
  const blob = { origin: { ...origin, collection: 'blobs' }, digest: config.digest, bytes: config.size } as const
  const open = () => peer.engine.open({ ...blob, priority: 'interactive', ...rights }, { signal })
  const { body } = await readConfig(config, { name, open, signal })
  const { os, architecture, variant } = parseImageConfig(body)
  const actual = normalisePlatform({ os, architecture, ...(variant ? { variant } : {}) })
  if (suits(actual, wanted)) return
  throw new DarnerError(
    'PLATFORM_MISSING',
    `${name} has no image for ${formatPlatform(wanted)}: it is one for ${formatPlatform(actual)}`,
    { way: 'leave --platform out to bring it all the same' },
  )
}
