/** The network routes on the agent's unix socket: src/api/networks-api.ts has the shapes. */
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import {
  ConnectRequest,
  DisconnectRequest,
  NetworkCreate,
  NetworkList,
  NetworkView,
} from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { errorReply } from '../api-error.ts'
import type { Runtime } from '../runtime.ts'
import type { Networks } from './networks.ts'

const Name = Type.Object({ name: Type.String({ maxLength: 256 }) })

/** Adds `/v1/networks…` to a server that the caller owns. An agent without networks answers UNSUPPORTED. */
export function registerNetworkRoutes(app: FastifyInstance, runtime: Runtime, options: { signal: AbortSignal }): void {
  app.register(async (plain) => {
    const scope = plain.withTypeProvider<TypeBoxTypeProvider>()
    scope.setValidatorCompiler(TypeBoxValidatorCompiler)
    scope.setErrorHandler(async (error, request, reply) => {
      const { status, body } = errorReply(error, `${request.method} ${request.url}`)
      if (status >= 500) request.log.warn({ error, url: request.url }, 'request failed')
      return reply.code(status).send(body)
    })
    scope.get('/v1/networks', { schema: { response: { 200: NetworkList } } }, async () => ({
      networks: await networksOf(runtime).list(),
    }))
    scope.post(
      '/v1/networks',
      { schema: { body: NetworkCreate, response: { 201: NetworkView } } },
      async (request, reply) => reply.code(201).send(await networksOf(runtime).create(request.body)),
    )
    scope.post(
      '/v1/networks/prune',
      { schema: { response: { 200: Type.Object({ removed: Type.Array(Type.String()) }) } } },
      async () => {
        const asked = runtime.containers.list({ all: true }).map((one) => one.request.network ?? '')
        return { removed: await networksOf(runtime).prune(new Set(asked)) }
      },
    )
    scope.get('/v1/networks/:name', { schema: { params: Name, response: { 200: NetworkView } } }, async (request) =>
      networksOf(runtime).inspect(request.params.name),
    )
    scope.delete('/v1/networks/:name', { schema: { params: Name } }, async (request, reply) => {
      await networksOf(runtime).remove(request.params.name)
      return reply.code(204).send()
    })
    scope.post(
      '/v1/networks/:name/connect',
      { schema: { params: Name, body: ConnectRequest } },
      async (request, reply) => {
        const { container, endpoint = {} } = request.body
        const view = runtime.containers.inspect(container)
        await networksOf(runtime).connect(request.params.name, view, endpoint, options)
        return reply.code(204).send()
      },
    )
    scope.post(
      '/v1/networks/:name/disconnect',
      { schema: { params: Name, body: DisconnectRequest } },
      async (request, reply) => {
        const view = runtime.containers.inspect(request.body.container)
        await networksOf(runtime).disconnect(request.params.name, view, options)
        return reply.code(204).send()
      },
    )
  })
}

function networksOf({ networks }: Runtime): Networks {
  if (networks) return networks
  throw new DarnerError('UNSUPPORTED', 'this agent has no networks: only the modes host and none')
}
