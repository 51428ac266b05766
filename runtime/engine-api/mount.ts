/** The Docker Engine API below {@link DOCKER_PREFIX} of the agent's own server, where this program's commands ask it. */
import type { FastifyInstance } from 'fastify'
import { DOCKER_PREFIX } from '../../src/api/docker-prefix.ts'
import type { DockerApi } from './server.ts'

/** Adds it to a server that the caller owns. */
export function mountDockerApi(app: FastifyInstance, docker: DockerApi): void {
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    // the handler reads the body
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null))
    scope.all(`${DOCKER_PREFIX}/*`, (request, reply) => {
      reply.hijack()
      request.raw.url = bare(request.raw.url)
      docker.serve(request.raw, reply.raw)
    })
  })
  app.server.on('upgrade', (request, socket, head) => {
    if (request.url?.startsWith(`${DOCKER_PREFIX}/`) !== true) return
    request.url = bare(request.url)
    docker.upgrade(request, socket, head)
  })
}

function bare(url: string | undefined): string {
  return (url ?? '').slice(DOCKER_PREFIX.length)
}
