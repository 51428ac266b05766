/** The agent's HTTP server on its unix socket: one error shape for all routes, and no second agent on the same socket. */
import { type FastifyInstance, fastify } from 'fastify'
import { errorBody } from '../api/error-body.ts'
import { asDarnerError, DarnerError } from '../core/errors.ts'
import { listenUnix } from '../core/listen-unix.ts'
import type { Log } from '../core/log.ts'

/** Longest request body; image archives have routes of their own. */
const BODY_BYTES = 4 * 1024 * 1024

/** A server with no routes yet; `engine` says whether it will have those of images and containers. Errors leave it as `{ error: { code, message, way } }` with the status of their code. */
export function localServer(parts: { log: Log; engine: boolean }): FastifyInstance {
  const app = fastify({
    loggerInstance: parts.log.child({}, { level: 'warn' }),
    forceCloseConnections: true,
    bodyLimit: BODY_BYTES,
  }) as unknown as FastifyInstance
  app.setErrorHandler(async (error, request, reply) => {
    const failure = error as Error & { validation?: unknown; statusCode?: number }
    const ours = error instanceof DarnerError || failure.validation !== undefined || (failure.statusCode ?? 500) < 500
    const known =
      ours && !(error instanceof DarnerError)
        ? new DarnerError('BAD_ARGUMENT', failure.message)
        : asDarnerError(error, `${request.method} ${request.url}`)
    if (known.code === 'INTERNAL') parts.log.error({ error, url: request.url }, 'request failed')
    return reply.status(known.facts.http).send(errorBody(known))
  })
  app.setNotFoundHandler(async (request, reply) => {
    const asked = `${request.method} ${request.url.slice(0, 200)}`
    const missing = new DarnerError('NOT_FOUND', `${asked}: the agent has no such route`, {
      ...(parts.engine ? {} : { way: 'images and containers need an agent that runs without --no-engine' }),
    })
    return reply.status(404).send(errorBody(missing))
  })
  return app
}

/** Listens on `path`, mode 0660. A socket that nobody serves any more is taken over. Throws CONFLICT, HOST_UNABLE. Dispose it before the server is closed. */
export async function listenLocal(app: FastifyInstance, path: string): Promise<AsyncDisposable> {
  return await listenUnix(path, (place) => app.listen({ path: place }), { who: 'agent', flag: '--socket' })
}
