/** The engine's routes on the agent's unix socket: src/api/containers-api.ts has the shapes, stream-api.ts what takes a connection over. */
import { Readable } from 'node:stream'
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import {
  ContainerList,
  ContainerView,
  CreateReply,
  CreateRequest,
  ExecReply,
  ExecRequest,
  ExecView,
  ExitReply,
  KillRequest,
  LogsQuery,
  RenameRequest,
  STREAM_CONTENT_TYPE,
  StopRequest,
  TerminalSize,
} from '../src/api/containers-api.ts'
import { ServiceList, StorageRequest, StorageView } from '../src/api/rich-api.ts'
import { CHANNEL, encodeFrame } from '../src/api/stream-frame.ts'
import { DarnerError } from '../src/core/errors.ts'
import { anySignal, goneOf } from '../src/core/signals.ts'
import { errorReply } from './api-error.ts'
import type { Runtime } from './runtime.ts'
import { serveStreams } from './stream-api.ts'
import { upgradeRoutes } from './upgrade/upgrade-routes.ts'

const Id = Type.Object({ id: Type.String({ maxLength: 256 }) })

/**
 * Adds `/v1/containers…` and `/v1/exec…` to a server that the caller owns. `signal` is aborted when the agent ends: requests
 * that wait are let go then. A request that ends early never leaves a stop or a start half done.
 */
export function registerEngineRoutes(app: FastifyInstance, runtime: Runtime, options: { signal: AbortSignal }): void {
  serveStreams(app.server, runtime, options)
  app.register(async (plain) => {
    const scope = plain.withTypeProvider<TypeBoxTypeProvider>()
    scope.setValidatorCompiler(TypeBoxValidatorCompiler)
    scope.setErrorHandler(async (error, request, reply) => {
      const { status, body } = errorReply(error, `${request.method} ${request.url}`)
      if (status >= 500) request.log.warn({ error, url: request.url }, 'request failed')
      return reply.code(status).send(body)
    })
    containerRoutes(scope, runtime, options)
    execRoutes(scope, runtime)
    upgradeRoutes(scope, runtime.upgrades)
    scope.get('/v1/storage', { schema: { response: { 200: StorageView } } }, async () => runtime.quotas.view())
    scope.post('/v1/storage', { schema: { body: StorageRequest, response: { 200: StorageView } } }, async (request) =>
      runtime.quotas.initPool(request.body.bytes, options),
    )
    scope.get('/v1/metrics', async (_request, reply) => {
      const { quotaMetrics } = await import('./quota/metrics.ts') // the first request loads its library
      const running = runtime.containers.list({ all: false })
      const { contentType, text } = await quotaMetrics(
        running.map(({ id, name }) => ({ name, uses: () => runtime.diskUse(id) })),
      )
      return reply.type(contentType).send(text)
    })
    scope.get('/v1/services', { schema: { response: { 200: ServiceList } } }, async () => ({
      services: runtime.services.list(),
    }))
  })
}

type App = FastifyInstance & { withTypeProvider: unknown }

function containerRoutes(plain: App, { containers }: Runtime, { signal }: { signal: AbortSignal }): void {
  const app = plain.withTypeProvider<TypeBoxTypeProvider>()
  app.post(
    '/v1/containers',
    { schema: { body: CreateRequest, response: { 201: CreateReply } } },
    async (request, reply) => reply.code(201).send(await containers.create(request.body)),
  )
  app.get(
    '/v1/containers',
    { schema: { querystring: Type.Object({ all: Type.Optional(Type.Boolean()) }), response: { 200: ContainerList } } },
    async (request) => ({ containers: containers.list({ all: request.query.all === true }) }),
  )
  app.get('/v1/containers/:id', { schema: { params: Id, response: { 200: ContainerView } } }, async (request) =>
    containers.inspect(request.params.id),
  )
  app.post('/v1/containers/:id/start', { schema: { params: Id } }, async (request, reply) => {
    await containers.startContainer(request.params.id, { signal })
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/stop', { schema: { params: Id, body: StopRequest } }, async (request, reply) => {
    await containers.stop(request.params.id, { ...request.body, signal })
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/restart', { schema: { params: Id, body: StopRequest } }, async (request, reply) => {
    await containers.restart(request.params.id, { ...request.body, signal })
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/kill', { schema: { params: Id, body: KillRequest } }, async (request, reply) => {
    await containers.kill(request.params.id, request.body.signal ?? 'KILL', { signal })
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/pause', { schema: { params: Id } }, async (request, reply) => {
    await containers.pause(request.params.id, { signal })
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/resume', { schema: { params: Id } }, async (request, reply) => {
    await containers.resume(request.params.id, { signal })
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/rename', { schema: { params: Id, body: RenameRequest } }, async (request, reply) => {
    await containers.rename(request.params.id, request.body.name)
    return reply.code(204).send()
  })
  app.post('/v1/containers/:id/resize', { schema: { params: Id, body: TerminalSize } }, async (request, reply) => {
    await containers.resize(request.params.id, request.body)
    return reply.code(204).send()
  })
  app.post(
    '/v1/containers/:id/wait',
    {
      schema: {
        params: Id,
        querystring: Type.Object({ nextExit: Type.Optional(Type.Boolean()) }),
        response: { 200: ExitReply },
      },
    },
    async (request, reply) => {
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort(new DarnerError('INTERRUPTED', 'the client left')))
      const either = anySignal([signal, gone.signal])
      return containers.wait(request.params.id, { nextExit: request.query.nextExit === true, signal: either })
    },
  )
  app.delete(
    '/v1/containers/:id',
    { schema: { params: Id, querystring: Type.Object({ force: Type.Optional(Type.Boolean()) }) } },
    async (request, reply) => {
      await containers.remove(request.params.id, { force: request.query.force === true, signal })
      return reply.code(204).send()
    },
  )
  app.get('/v1/containers/:id/logs', { schema: { params: Id, querystring: LogsQuery } }, async (request, reply) => {
    const gone = goneOf(reply.raw)
    const entries = containers.logs(request.params.id, request.query, {
      signal: anySignal([signal, gone.signal]),
    })
    const frames = logFrames(entries, request.query.timestamps === true)
    return reply.type(STREAM_CONTENT_TYPE).send(Readable.from(frames, { objectMode: false }))
  })
}

async function* logFrames(
  entries: AsyncIterable<{ time: string; stream: 'stdout' | 'stderr'; bytes: Uint8Array; ends: boolean }>,
  timestamps: boolean,
): AsyncGenerator<Buffer> {
  const midLine = { stdout: false, stderr: false }
  for await (const { time, stream, bytes, ends } of entries) {
    const stamp = timestamps && !midLine[stream] ? Buffer.from(`${time} `) : Buffer.alloc(0)
    midLine[stream] = !ends
    yield encodeFrame(CHANNEL[stream], Buffer.concat([stamp, bytes]))
  }
}

function execRoutes(plain: App, { execs }: Runtime): void {
  const app = plain.withTypeProvider<TypeBoxTypeProvider>()
  app.post(
    '/v1/containers/:id/exec',
    { schema: { params: Id, body: ExecRequest, response: { 201: ExecReply } } },
    async (request, reply) => reply.code(201).send({ execId: execs.create(request.params.id, request.body) }),
  )
  app.get('/v1/exec/:id', { schema: { params: Id, response: { 200: ExecView } } }, async (request) =>
    execs.inspect(request.params.id),
  )
  app.post('/v1/exec/:id/resize', { schema: { params: Id, body: TerminalSize } }, async (request, reply) => {
    await execs.resize(request.params.id, request.body)
    return reply.code(204).send()
  })
}
