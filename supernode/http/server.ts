/** The supernode's HTTP side, for people and tools: health, metrics, and what the swarm does now. It changes nothing. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { type FastifyInstance, fastify } from 'fastify'
import { Type } from 'typebox'
import { errorBody } from '../../src/api/error-body.ts'
import { cannotListen } from '../../src/core/cannot-listen.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import { parseHostPort } from '../../src/core/host-port.ts'
import type { Log } from '../../src/core/log.ts'
import type { Metrics } from '../../src/core/metrics.ts'
import { isTaskId, pieceCount, type TaskId } from '../../src/core/task/task.ts'
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
      `${request.method} ${request.url.slice(0, 200)}: nothing is changed here`,
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
    bytes: { fromOrigins: supernode.traffic.origin, seeded: supernode.traffic.seeded },
  }))
  const query = Type.Object({ nonce: Type.String({ pattern: NONCE.source }) })
  app.get('/v1/address', { schema: { querystring: query } }, async (request) => {
    const { multiaddrs } = supernode
    return { multiaddrs, proof: supernodeProof(parts.joinToken, request.query.nonce, multiaddrs) }
  })
  app.get('/v1/peers', async () => ({
    peers: [...supernode.control.hosts.values()].map((host) => ({
      peer: host.peer,
      host: host.name,
      software: host.software,
      lanes: host.lanes,
      multiaddrs: host.multiaddrs,
      zone: host.zone,
      rack: host.rack,
      sinceMs: host.sinceMs,
      seededBytes: supernode.traffic.to(host.peer),
    })),
    expelled: [...supernode.admission.expelled].map(([peer, one]) => ({ peer, ...one })),
  }))
  app.get('/v1/tasks', async () => ({
    tasks: [...supernode.seed.tasks()].map((one) => summary(supernode, one.task.id)),
  }))
  const params = Type.Object({ task: Type.String({ maxLength: 160 }) })
  app.get('/v1/tasks/:task', { schema: { params } }, async (request) => {
    const id = taskId(request.params.task)
    const followers = [...supernode.followers.of(id)].map(({ peer, have }) => ({
      peer,
      have: have.count,
      complete: have.full,
    }))
    return { ...summary(supernode, id), followers }
  })
  app.get('/v1/why/:task', { schema: { params } }, async (request) => {
    const id = taskId(request.params.task)
    return { task: id, reads: await supernode.why.of(id) }
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
    const what = `${request.method} ${request.url.slice(0, 200)}: no such thing here`
    return reply.status(404).send(errorBody(new DarnerError('NOT_FOUND', what)))
  })
}

function taskId(text: string): TaskId {
  if (isTaskId(text)) return text
  throw new DarnerError(
    'BAD_ARGUMENT',
    `${JSON.stringify(text.slice(0, 160))} is no task id: expected sha256:<64 hex> or url:<64 hex>`,
  )
}

function summary(supernode: Supernode, id: TaskId) {
  const found = supernode.seed.find(id)
  if (found === undefined) throw new DarnerError('NOT_FOUND', `${id}: the seed doesn't hold it`)
  const { task } = found
  return {
    task: id,
    digest: found.stored.digest ?? task.digest,
    bytes: task.bytes,
    pieceBytes: task.pieceBytes,
    pieces: pieceCount(task),
    known: found.known,
    complete: found.stored.complete,
    followers: supernode.followers.count(id),
    error: found.error?.message,
  }
}
