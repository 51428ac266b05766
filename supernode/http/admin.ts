/**
 * Routes that change the supernode or show its hosts and blobs. They are on a unix socket in its data directory, mode 0600, so only the
 * user who may read its identity may use them. The HTTP side that others reach has none of these.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { type FastifyInstance, fastify } from 'fastify'
import { Type } from 'typebox'
import { listenUnix } from '../../src/core/listen-unix.ts'
import type { Log } from '../../src/core/log.ts'
import { parsePeerId } from '../../src/protocol/identity.ts'
import type { Supernode } from '../supernode.ts'
import { answerErrors } from './server.ts'
import { swarmRoutes } from './swarm-routes.ts'

/** The socket's name in the data directory. */
export const ADMIN_SOCKET = 'admin.sock'

/** Listens on `path`. Throws CONFLICT, HOST_UNABLE. Dispose to stop. */
export async function adminSocket(
  path: string,
  { supernode, log }: { supernode: Supernode; log: Log },
): Promise<AsyncDisposable> {
  const app = fastify({
    loggerInstance: log.child({}, { level: 'warn' }),
    forceCloseConnections: true,
  }).withTypeProvider<TypeBoxTypeProvider>()
  answerErrors(app)
  swarmRoutes(app as unknown as FastifyInstance, supernode)
  const params = Type.Object({ peer: Type.String({ minLength: 1, maxLength: 128 }) })
  const body = Type.Object({ why: Type.String({ maxLength: 512 }) }, { additionalProperties: false })
  app.post('/v1/peers/:peer/revoke', { schema: { params, body } }, async (request) => {
    const peer = parsePeerId(request.params.peer)
    await supernode.control.revoke(peer, request.body.why)
    return { peer, was: supernode.control.hosts.has(peer) }
  })
  app.post('/v1/peers/:peer/allow', { schema: { params } }, async (request) => {
    const peer = parsePeerId(request.params.peer)
    await supernode.control.allow(peer)
    return { peer }
  })
  const name = await listenUnix(path, (place) => app.listen({ path: place }), {
    who: 'supernode',
    flag: '--data',
    mode: 0o600,
  })
  return {
    async [Symbol.asyncDispose]() {
      await name[Symbol.asyncDispose]()
      await app.close()
    },
  }
}
