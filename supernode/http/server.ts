/**
 * The supernode's HTTP side, for everybody who reaches it: health, metrics, its addresses. It changes nothing and names no host and no
 * blob.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { type FastifyInstance, fastify } from 'fastify'
import { Type } from 'typebox'
import { errorBody } from '../../src/api/error-body.ts'
import { cannotListen } from '../../src/core/cannot-listen.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { parseHostPort } from '../../src/core/host-port.ts'
import type { Log } from '../../src/core/log.ts'
import type { Metrics } from '../../src/core/metrics.ts'
import { NONCE, supernodeProof } from '../../src/protocol/supernode-proof.ts'
import type { Supernode } from '../supernode.ts'
import { declareMetrics } from './metrics.ts'

export interface HttpParts {
  readonly supernode: Supernode
  readonly metrics: Metrics
  readonly log: Log
  readonly version: string
  /** What it proves itself with to an agent that asks for its address; never sent. */
  readonly joinToken: string
}

/** Listens at `IP:PORT`. Throws HOST_UNABLE when it can't. Dispose to stop. */
export async function supernodeHttp(
  listen: string,
  parts: HttpParts,
): Promise<AsyncDisposable & { readonly address: string; readonly routes: readonly string[] }> {
  const { log, metrics, supernode, version } = parts
  declareMetrics(metrics, supernode)
  const app = fastify({
    loggerInstance: log.child({}, { level: 'warn' }),
    forceCloseConnections: true,
  }).withTypeProvider<TypeBoxTypeProvider>()
  answerErrors(app)
  app.addHook('onRequest', async (request) => {
    if (request.method === 'GET' || request.method === 'HEAD') return
    throw new DarnerError(
      'ADMISSION_REFUSED',
      `${request.method} ${request.url.slice(0, 200)}: this address answers GET only`,
      {
        way: 'use the command on the host of the supernode, which goes through its admin socket',
      },
    )
  })
  const routes: string[] = []
  app.addHook('onRoute', ({ method, url }) => void routes.push(...[method].flat().map((one) => `${one} ${url}`)))
  app.get('/healthz', async () => ({ status: 'ok' }))
  app.get('/readyz', async () => ({ status: 'ready', hosts: supernode.control.hosts.size }))
  app.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await metrics.expose()
    return reply.type(contentType).send(text)
  })
  app.get('/v1/status', async () => ({
    version,
    peer: supernode.peer,
    multiaddrs: supernode.multiaddrs,
    hosts: supernode.control.hosts.size,
    tasks: [...supernode.seed.tasks()].length,
    bytes: {
      fromOrigins: supernode.traffic.origin,
      fromHosts: supernode.traffic.fromHosts,
      seeded: supernode.traffic.seeded,
    },
  }))
  const query = Type.Object({ nonce: Type.String({ pattern: NONCE.source }) })
  app.get('/v1/address', { schema: { querystring: query } }, async (request) => {
    const { multiaddrs } = supernode
    return { multiaddrs, proof: supernodeProof(parts.joinToken, request.query.nonce, multiaddrs) }
  })
  const { host, port } = parseHostPort(listen)
  try {
    const address = await app.listen({ host, port })
    return { address, routes, [Symbol.asyncDispose]: async () => void (await app.close()) }
  } catch (error) {
    throw cannotListen('serve HTTP', listen, error, 'name another address with --listen IP:PORT')
  }
}

/** Errors leave as `{ error: { code, message, way } }` with the status of their code. */
export function answerErrors(app: FastifyInstance | ReturnType<typeof fastify>): void {
  const any = app as FastifyInstance
  any.setErrorHandler(async (error, _request, reply) => {
    const invalid = error instanceof Error && 'validation' in error && error.validation !== undefined
    const known = invalid ? new DarnerError('BAD_ARGUMENT', error.message) : asDarnerError(error, 'request')
    return reply.status(known.facts.http).send(errorBody(known))
  })
  any.setNotFoundHandler(async (request, reply) => {
    const what = `${request.method} ${request.url.slice(0, 200)}: the supernode has no such route`
    return reply.status(404).send(errorBody(new DarnerError('NOT_FOUND', what)))
  })
}
