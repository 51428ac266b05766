/** Joins the engine to the peer: images are pulled through the ContentSource, layers unpacked as their pieces arrive. */
import { access, constants } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import type { FastifyInstance } from 'fastify'
import {
  careForLayers,
  Images,
  mountDockerApi,
  Networks,
  OciRuntime,
  OwnBlobs,
  openDockerApi,
  openSnapshotter,
  type RecordSpace,
  Runtime,
  type RuntimeChoice,
  registerEngineRoutes,
  registerImageRoutes,
  registerNetworkRoutes,
  workingRuntime,
} from '../../runtime/index.ts'
import { systemClock } from '../core/clock.ts'
import type { AgentSettings } from '../core/config/schema.ts'
import type { ContentSource } from '../core/contracts/content.ts'
import { digestOf, hexOf } from '../core/digest.ts'
import { DarnerError } from '../core/errors.ts'
import { type Log, roomLog } from '../core/log.ts'
import { ownVersion } from '../core/own-version.ts'
import type { Scope } from '../core/scope.ts'
import type { OriginClientOptions } from '../origin/registry-client.ts'
import { RegistryPusher } from '../origin/registry-push.ts'
import type { RegistrySchemes } from '../origin/registry-schemes.ts'
import { Database } from '../store/database.ts'

/** Most that one runtime may take to create a container that does nothing. */
const TRIAL_MS = 60_000

export interface EngineParts {
  readonly scope: Scope
  readonly log: Log
  readonly app: FastifyInstance
  readonly content: ContentSource
  /** How registries are spoken to. */
  readonly originOptions: OriginClientOptions
  readonly schemes: RegistrySchemes
}

/** Opens the engine and registers its routes; the scope closes it, containers run on. Throws RUNTIME_MISSING, HOST_UNABLE. */
export async function composeEngine(
  settings: AgentSettings,
  { scope, log, app, content, originOptions, schemes }: EngineParts,
): Promise<void> {
  const clock = systemClock
  const runtimes = await installed(settings)
  const choice = await defaultRuntimeOf(settings, runtimes, scope.signal)
  for (const [name, trouble] of choice.troubles)
    log.warn({ runtime: name, trouble, instead: choice.name }, 'an OCI runtime can start no container on this host')
  const conmon = await onPath('conmon')
  if (conmon === undefined) {
    throw new DarnerError('RUNTIME_MISSING', 'the engine needs conmon, which is not on the PATH', {
      way: 'apt install conmon, or start the agent with --no-engine',
    })
  }
  const database = new Database(join(settings.data, 'engine', 'records'))
  await database.open()
  scope.defer(() => database.close())
  const space = (name: string): RecordSpace => database.sublevel(name)
  const snapshotter = await openSnapshotter(
    { directory: join(settings.data, 'layers'), kind: settings.snapshotter },
    { log: roomLog(log, 'runtime/snapshots') },
  )
  const images = new Images({ space: space('images') })
  const networks = scope.own(
    await Networks.open(
      {
        runDir: join(settings.data, 'engine', 'run'),
        pluginDirs: settings.cniPlugins,
        confDirs: settings.cniConfig,
        pool: settings.networkPool,
        ready: settings.networkReady,
      },
      { records: space('networks'), clock, log: roomLog(log, 'runtime/network') },
    ),
  )
  const runtime = scope.own(
    await Runtime.open(
      {
        dir: join(settings.data, 'engine', 'containers'),
        runDir: join(settings.data, 'engine', 'run'),
        runtimes: Object.fromEntries(runtimes),
        defaultRuntime: choice.name,
        conmon,
        lxcfs: settings.lxcfs,
        defaultNetwork: settings.defaultNetwork,
        defaultUserns: settings.userns,
        seccompProfile: settings.seccompProfile,
        richImages: settings.richImages,
      },
      {
        images,
        rootfs: snapshotter,
        records: space('containers'),
        networks,
        clock,
        log: roomLog(log, 'runtime/containers'),
      },
    ),
  )
  registerEngineRoutes(app, runtime, { signal: scope.signal })
  registerNetworkRoutes(app, runtime, { signal: scope.signal })
  registerImageRoutes(
    app,
    { content, snapshotter, images, schemes, clock, layersInUse: () => runtime.containers.layersInUse() },
    { signal: scope.signal },
  )
  const own = new OwnBlobs(join(settings.data, 'engine', 'blobs'))
  await own.recover()
  scope.run((signal) =>
    careForLayers(
      { everyMs: settings.scrubInterval, bytesPerSec: settings.scrubRate },
      { own, content, images, snapshotter, clock, log: roomLog(log, 'runtime/images') },
      { signal },
    ),
  )
  const docker = scope.own(
    await openDockerApi({
      runtime,
      content,
      snapshotter,
      images,
      own,
      schemes,
      pusher: scope.own(new RegistryPusher(originOptions, { log: roomLog(log, 'origin'), clock })),
      clock,
      log: roomLog(log, 'runtime/engine-api'),
      signal: scope.signal,
      about: {
        version: await ownVersion(),
        dataDir: settings.data,
        defaultRuntime: choice.name,
        runtimes,
        troubles: choice.troubles,
        id: hexOf(digestOf(`${hostname()} ${settings.data}`)),
        startedAt: clock.now(),
      },
    }),
  )
  mountDockerApi(app, docker)
  if (settings.dockerSocket !== 'off') scope.own(await docker.listen(dockerSocketOf(settings)))
  if (settings.dockerTcp !== 'off') scope.own(await docker.listenTcp(settings.dockerTcp, settings.dockerTls))
}

function dockerSocketOf({ dockerSocket, socket }: AgentSettings): string {
  if (dockerSocket !== 'auto') return dockerSocket
  const name = basename(socket)
  return join(dirname(socket), name === 'agent.sock' ? 'docker.sock' : `docker-${name}`)
}

/** The configured runtimes that are here. Throws RUNTIME_MISSING when none is. */
async function installed(settings: AgentSettings): Promise<Map<string, string>> {
  const here = new Map<string, string>()
  for (const [name, path] of Object.entries(settings.runtime)) if (await runs(path)) here.set(name, path)
  if (here.size > 0) return here
  throw new DarnerError('RUNTIME_MISSING', `no OCI runtime is at ${Object.values(settings.runtime).join(' or ')}`, {
    way: 'apt install crun or runc, name one with --runtime NAME=PATH, or start the agent with --no-engine',
  })
}

/** The one that is set or, with `auto`, the first that can start a container. */
async function defaultRuntimeOf(
  { defaultRuntime, data }: AgentSettings,
  runtimes: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<RuntimeChoice> {
  if (defaultRuntime !== 'auto') return { name: defaultRuntime, troubles: new Map() }
  const runDir = resolve(data, 'engine', 'run')
  const all = [...runtimes].map(
    ([name, path]) => new OciRuntime({ name, path, root: join(runDir, name), verbMs: TRIAL_MS }),
  )
  return await workingRuntime(all, join(runDir, 'trial'), { signal })
}

async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '/usr/bin:/bin').split(delimiter)) {
    const path = join(folder, name)
    if (folder !== '' && (await runs(path))) return path
  }
  return undefined
}

async function runs(path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
