/** The peer's half of the agent's local API: what `get`, `put` and `status` ask. Composition registers it on the agent's app. */
import type { Readable } from 'node:stream'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { type GetManifestReply, GetManifestRequest, GetRequest, type PutReply } from '../src/api/get-stream.ts'
import type { ContentRequest } from '../src/core/contracts/content.ts'
import { parseDigest } from '../src/core/digest.ts'
import { asDarnerError, DarnerError } from '../src/core/errors.ts'
import { goneOf } from '../src/core/signals.ts'
import { originName } from '../src/core/task/origin.ts'
import { partOf } from '../src/core/task/part.ts'
import { registerCareRoutes } from './care-routes.ts'
import { answerGet } from './get-answer.ts'
import { GetRates } from './get-rates.ts'
import type { Peer } from './peer.ts'

/** What a file comes as: its bytes, nothing else. */
const BYTES_TYPE = 'application/octet-stream'

/** Registers the routes; errors are mapped by the app that they are registered on. */
export function registerPeerRoutes(app: FastifyInstance, peer: Peer): void {
  const typed = app.withTypeProvider<TypeBoxTypeProvider>()
  const rates = new GetRates(peer.limits)
  registerCareRoutes(app, peer)
  typed.get('/v1/peer', async () => await peer.status())

  typed.post('/v1/get', { schema: { body: GetRequest } }, async (request, reply) => {
    const { order, byFile, range, rateBytesPerSec } = request.body
    const gone = goneOf(reply.raw)
    await using content = await peer.engine.openStored(contentRequest(request.body), { signal: gone.signal })
    using _rate = rates.wish(content.stored.task.id, rateBytesPerSec)
    const part = range === undefined ? undefined : partOf(range, content.bytes, originName(request.body.origin))
    reply.hijack()
    const way = { order, part, ...(byFile === undefined ? {} : { byFile }) }
    await answerGet(reply.raw, content, way, gone.signal)
    return reply
  })

  typed.post(
    '/v1/manifest',
    { schema: { body: GetManifestRequest } },
    async (request, reply): Promise<GetManifestReply> => {
      const { origin, reference, credential } = request.body
      const { signal } = goneOf(reply.raw)
      const ask = { origin, reference, ...(credential === undefined ? {} : { credential }) }
      const { digest, mediaType, body } = await peer.engine.manifest(ask, { signal })
      return { digest, mediaType, body: Buffer.from(body).toString('base64') }
    },
  )

  app.register(async (bytes) => registerPut(bytes, peer))
}

/** The bytes of a file, which the caller has opened: nothing is read here by its path. */
function registerPut(app: FastifyInstance, peer: Peer): void {
  app.addContentTypeParser(BYTES_TYPE, (_request, payload, done) => done(null, payload))
  app.post('/v1/put', async (request, reply): Promise<PutReply> => {
    const { signal } = goneOf(reply.raw)
    if (!(request.headers['content-type'] ?? '').startsWith(BYTES_TYPE))
      throw new DarnerError('BAD_ARGUMENT', `put: the body must be ${BYTES_TYPE}`)
    const stored = await peer.store.ingest(request.body as Readable, { signal })
    const { digest, task } = stored
    if (digest === undefined) throw new DarnerError('CLOSED', 'put: the blob was removed at once')
    using _lease = peer.store.lease(task.id, 'put')
    try {
      peer.engine.puts(task.id)
      await peer.scheduler.put(digest, task.bytes, { signal })
    } catch (error) {
      signal.throwIfAborted()
      throw asDarnerError(error, `put ${digest}`)
    }
    return { digest, bytes: task.bytes }
  })
}

function contentRequest({ origin, digest, bytes, credential, priority, fromOrigin }: GetRequest): ContentRequest {
  return {
    origin,
    priority,
    ...(digest === undefined ? {} : { digest: parseDigest(digest) }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(credential === undefined ? {} : { credential }),
    ...(fromOrigin === undefined ? {} : { fromOrigin }),
  }
}
