/** What docker's API has and darner doesn't: a 501 that says what to use instead, or what docker answers outside of a swarm. */
import type { DockerApp } from './context.ts'
import { StatusError } from './errors.ts'

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

const NO_SWARM = 'swarm mode is not offered by darner: run an orchestrator such as kubernetes over the agents'
/** What asks for a manager, of which there is none. */
const MANAGERS = ['swarm', 'nodes', 'services', 'tasks', 'secrets', 'configs'].flatMap((one) => [
  `/${one}`,
  `/${one}/*`,
])
const ROWS: readonly (readonly [methods: readonly Method[], path: string, what: string, instead: string])[] = [
  [['POST'], '/build', 'docker build', 'build with buildah or buildctl, push to a registry, and run from there'],
  [['POST'], '/session', 'docker build', 'build with buildah or buildctl, push to a registry, and run from there'],
  [['POST'], '/grpc', 'docker build', 'build with buildah or buildctl, push to a registry, and run from there'],
  [['GET'], '/images/search', 'docker search', 'search in the web page of the registry'],
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
        throw new StatusError(501, `${what} is not offered by darner: ${instead}`)
      },
    })
  }
  outsideOfSwarm(app)
}

/** Docker's statuses: clients take them for those of a node that has no swarm yet, and go on. */
function outsideOfSwarm(app: DockerApp): void {
  app.post('/swarm/leave', async () => {
    throw new StatusError(503, 'This node is not part of a swarm')
  })
  for (const path of ['/swarm/init', '/swarm/join']) {
    app.post(path, async () => {
      throw new StatusError(400, NO_SWARM)
    })
  }
  for (const url of MANAGERS) {
    app.route({
      method: ['GET', 'POST', 'DELETE'],
      url,
      handler: async () => {
        throw new StatusError(503, `This node is not a swarm manager. ${NO_SWARM}`) // clients look for these words
      },
    })
  }
}
