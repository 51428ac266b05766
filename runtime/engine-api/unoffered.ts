/** What docker's API has and darner doesn't: a 501 that says what to use instead. */
import type { DockerApp } from './context.ts'
import { StatusError } from './errors.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

const SWARM = 'swarm mode'
const ROWS: readonly (readonly [methods: readonly Method[], path: string, what: string, instead: string])[] = [
  [['POST'], '/build', 'docker build', 'build with buildah or buildctl, push to a registry, and run from there'],
  [['POST'], '/session', 'docker build', 'build with buildah or buildctl, push to a registry, and run from there'],
  [['POST'], '/grpc', 'docker build', 'build with buildah or buildctl, push to a registry, and run from there'],
  [['GET'], '/images/search', 'docker search', 'search in the web page of the registry'],
  [['GET'], '/distribution/*', 'docker manifest inspect', 'ask the registry with skopeo inspect'],
  [
    ['GET'],
    '/containers/:id/attach/ws',
    'attach by WebSocket',
    'attach by POST /containers/ID/attach with Upgrade: tcp',
  ],
  [['POST'], '/containers/:id/checkpoints', 'docker checkpoint', 'stop and start the container'],
  [['GET'], '/containers/:id/checkpoints', 'docker checkpoint', 'stop and start the container'],
  [['PUT'], '/volumes/:name', 'cluster volumes', 'make the volume on each host'],
  [['POST', 'DELETE'], '/plugins/*', 'docker plugin', 'volumes are local, and networks come from CNI plugins'],
  ...[
    'swarm',
    'swarm/*',
    'nodes',
    'nodes/*',
    'services',
    'services/*',
    'tasks',
    'tasks/*',
    'secrets',
    'secrets/*',
    'configs',
    'configs/*',
  ].map(
    (path) =>
      [
        ['GET', 'POST', 'DELETE'] as Method[],
        `/${path}`,
        SWARM,
        'run an orchestrator such as kubernetes over the agents',
      ] as const,
  ),
]

export function unofferedRoutes(app: DockerApp): void {
  app.get('/plugins', async () => [])
  // there is no build cache: nothing goes, which is what `docker system prune` wants to hear
  app.post('/build/prune', async () => ({ CachesDeleted: null, SpaceReclaimed: 0 }))
  app.get('/plugins/*', async (request) => {
    const name = (request.params as { '*': string })['*'].replace(/\/json$/, '')
    throw new StatusError(404, `plugin "${name.slice(0, 200)}" not found`)
  })
  for (const [methods, path, what, instead] of ROWS) {
    app.route({
      method: [...methods],
      url: path,
      handler: async () => {
        const swarm = what === SWARM ? 'This node is not a swarm manager. ' : '' // clients look for these words
        throw new StatusError(501, `${swarm}${what} is not offered by darner: ${instead}`)
      },
    })
  }
}
