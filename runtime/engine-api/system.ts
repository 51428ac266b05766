/** What is asked of the engine as a whole: ping, version, info, events, df. */

import { readFile } from 'node:fs/promises'
import { arch, availableParallelism, version as kernelVersion, release, totalmem } from 'node:os'
import type { EngineEvent } from '../containers/events.ts'
import { hasController } from '../spec/resources.ts'
import { Query } from './containers.ts'
import { type DockerApp, type DockerParts, streamNow, whileThere } from './context.ts'
import { type Filters, labelsFit, oneOf, readFilters, timeMs } from './filters.ts'
import { imageView } from './image-view.ts'
import { folderBytes, imageBytes, usedBytes } from './sizes.ts'
import { API_VERSION, LEAST_API_VERSION } from './version-path.ts'
import { listView, stateOf } from './view.ts'
import { volumeView } from './volumes.ts'

const ARCHS: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64', arm: 'arm', ia32: '386' }
const MACHINES: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }
const EVENT_FILTERS = [
  'config',
  'container',
  'daemon',
  'event',
  'image',
  'label',
  'network',
  'node',
  'plugin',
  'scope',
  'secret',
  'service',
  'type',
  'volume',
] as const

export function systemRoutes(app: DockerApp, parts: DockerParts): void {
  const ping = {
    'api-version': API_VERSION,
    'docker-experimental': 'false',
    'builder-version': '1',
    ostype: 'linux',
    'cache-control': 'no-cache, no-store, must-revalidate',
    pragma: 'no-cache',
  }
  app.get('/_ping', async (_request, reply) => reply.headers(ping).type('text/plain; charset=utf-8').send('OK'))
  app.head('/_ping', async (_request, reply) => reply.headers(ping).type('text/plain; charset=utf-8').send())
  app.get('/version', async () => versionView(parts))
  app.get('/info', async () => infoView(parts))
  app.get('/events', { schema: { querystring: Query('since', 'until', 'filters') } }, async (request, reply) => {
    const filters = readFilters(request.query.filters, EVENT_FILTERS)
    const [sinceMs, untilMs] = [timeMs(request.query.since), timeMs(request.query.until)]
    const signal = whileThere(reply.raw, parts.signal)
    const found = parts.runtime.events.read({
      ...(sinceMs === undefined ? (untilMs === undefined ? {} : { sinceMs: 0 }) : { sinceMs }),
      ...(untilMs === undefined ? {} : { untilMs }),
      signal,
    })
    const lines = async function* () {
      for await (const event of found) if (eventFits(event, filters)) yield `${JSON.stringify(eventView(event))}\n`
    }
    streamNow(reply, 'application/json', lines())
  })
  app.get('/system/df', { schema: { querystring: Query('type') } }, async () => diskView(parts))
}

function eventFits(event: EngineEvent, filters: Filters): boolean {
  const name = event.attributes.name ?? ''
  const about = (type: string) => (text: string) => event.type === type && (event.id.startsWith(text) || name === text)
  return (
    oneOf(filters, 'type', (text) => text === event.type) &&
    oneOf(filters, 'event', (text) => event.action === text || event.action.startsWith(`${text}:`)) &&
    oneOf(filters, 'scope', (text) => text === 'local') &&
    oneOf(filters, 'container', about('container')) &&
    oneOf(filters, 'volume', about('volume')) &&
    oneOf(filters, 'network', about('network')) &&
    oneOf(filters, 'image', (text) => event.attributes.image === text || about('image')(text)) &&
    labelsFit(filters, event.attributes)
  )
}

function eventView({ type, action, id, attributes, timeMs: at }: EngineEvent): Record<string, unknown> {
  const old =
    type === 'container'
      ? { status: action, id, from: attributes.image ?? '' }
      : type === 'image'
        ? { status: action, id }
        : {}
  return {
    ...old,
    Type: type,
    Action: action,
    Actor: { ID: id, Attributes: attributes },
    scope: 'local',
    time: Math.floor(at / 1000),
    timeNano: Math.floor(at) * 1e6 + Math.round((at % 1) * 1e6),
  }
}

async function versionView({ about, runtime: { containers } }: DockerParts): Promise<Record<string, unknown>> {
  const [name, program] = [...containers.runtimes][0] ?? ['', undefined]
  const said = (await program?.version({ signal: AbortSignal.timeout(5000) })) ?? ''
  const runtime = /version:? (\S+)/.exec(said)?.[1] ?? ''
  return {
    Platform: { Name: 'darner' },
    Components: [
      {
        Name: 'Engine',
        Version: about.version,
        Details: {
          ApiVersion: API_VERSION,
          MinAPIVersion: LEAST_API_VERSION,
          Os: 'linux',
          Arch: ARCHS[arch()] ?? arch(),
          KernelVersion: release(),
        },
      },
      ...(name === '' ? [] : [{ Name: name, Version: runtime, Details: {} }]),
    ],
    Version: about.version,
    ApiVersion: API_VERSION,
    MinAPIVersion: LEAST_API_VERSION,
    GitCommit: '',
    GoVersion: '',
    Os: 'linux',
    Arch: ARCHS[arch()] ?? arch(),
    KernelVersion: release(),
    BuildTime: '',
  }
}

async function infoView(parts: DockerParts): Promise<Record<string, unknown>> {
  const { about, runtime, images, snapshotter } = parts
  const { host } = runtime.containers
  const entries = runtime.containers.entries()
  const count = (...states: string[]) => entries.filter((entry) => states.includes(stateOf(entry))).length
  const has = (name: string) => hasController(host.cgroups, name)
  const release_ = await readFile('/etc/os-release', 'utf8').catch(() => '')
  const osField = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(release_)?.[1] ?? ''
  const warnings = [
    ...(has('memory') ? [] : ['WARNING: No memory limit support']),
    ...(runtime.coresUntold === undefined ? [] : [`WARNING: core dumps are not told of: ${runtime.coresUntold}`]),
  ]
  const networks = runtime.networks ? ['bridge', 'host', 'none'] : ['host', 'none']
  return {
    ID: about.id,
    Containers: entries.length,
    ContainersRunning: count('running', 'restarting'),
    ContainersPaused: count('paused'),
    ContainersStopped: count('exited', 'created'),
    Images: (await images.list()).length,
    Driver: `darner-${snapshotter.kind}`,
    DriverStatus: [['Layers', snapshotter.kind === 'erofs' ? 'one EROFS image each' : 'directories']],
    Plugins: {
      Volume: ['local'],
      Network: networks,
      Authorization: null,
      Log: ['journald', 'json-file', 'local', 'none'],
    },
    MemoryLimit: has('memory'),
    SwapLimit: has('memory'),
    CpuCfsPeriod: has('cpu'),
    CpuCfsQuota: has('cpu'),
    CPUShares: has('cpu'),
    CPUSet: has('cpuset'),
    PidsLimit: has('pids'),
    IPv4Forwarding: (await readFile('/proc/sys/net/ipv4/ip_forward', 'utf8').catch(() => '0')).trim() === '1',
    BridgeNfIptables:
      (await readFile('/proc/sys/net/bridge/bridge-nf-call-iptables', 'utf8').catch(() => '0')).trim() === '1',
    BridgeNfIp6tables:
      (await readFile('/proc/sys/net/bridge/bridge-nf-call-ip6tables', 'utf8').catch(() => '0')).trim() === '1',
    Debug: false,
    NFd: 0,
    OomKillDisable: false,
    NGoroutines: 0,
    SystemTime: new Date(parts.clock.now()).toISOString(),
    LoggingDriver: 'json-file',
    CgroupDriver: 'cgroupfs',
    CgroupVersion: host.cgroups.kind === 'v2' ? '2' : '1',
    NEventsListener: 0,
    KernelVersion: release(),
    OperatingSystem: osField('PRETTY_NAME') || kernelVersion(),
    OSVersion: osField('VERSION_ID'),
    OSType: 'linux',
    Architecture: MACHINES[arch()] ?? arch(),
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: { InsecureRegistryCIDRs: ['127.0.0.0/8'], IndexConfigs: {}, Mirrors: [] },
    NCPU: availableParallelism(),
    MemTotal: totalmem(),
    GenericResources: null,
    DockerRootDir: about.dataDir,
    HttpProxy: '',
    HttpsProxy: '',
    NoProxy: '',
    Name: host.hostname,
    Labels: [],
    ExperimentalBuild: false,
    ServerVersion: about.version,
    Runtimes: Object.fromEntries(
      [...about.runtimes].map(([name, path]) => [name, runtimeView(path, about.troubles.get(name))]),
    ),
    DefaultRuntime: about.defaultRuntime,
    Swarm: {
      NodeID: '',
      NodeAddr: '',
      LocalNodeState: 'inactive',
      ControlAvailable: false,
      Error: '',
      RemoteManagers: null,
    },
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: host.init ?? '',
    ContainerdCommit: { ID: '', Expected: '' },
    RuncCommit: { ID: '', Expected: '' },
    InitCommit: { ID: '', Expected: '' },
    SecurityOptions: [
      ...(host.seccomp === undefined ? [] : [`name=seccomp,profile=${host.seccomp.name}`]),
      ...(host.appArmor === undefined ? [] : ['name=apparmor']),
      ...(runtime.containers.mapsUsers ? ['name=userns'] : []),
    ],
    Warnings: warnings.length > 0 ? warnings : null,
  }
}

/** `status` is docker's place for what isn't docker's. */
function runtimeView(path: string, trouble: string | undefined): Record<string, unknown> {
  return trouble === undefined ? { path } : { path, status: { 'darner.trouble': trouble } }
}

async function diskView(parts: DockerParts): Promise<Record<string, unknown>> {
  const { containers } = parts.runtime
  const entries = containers.entries()
  const now = parts.clock.now()
  const used = containers.volumesInUse()
  const layers = await parts.snapshotter.layers()
  const listed = await parts.images.list()
  return {
    LayersSize: layers.reduce((sum, layer) => sum + layer.bytes, 0),
    Images: await Promise.all(
      listed.map(async (one) => ({
        ...imageView(one, await imageBytes(one.image, parts)),
        Containers: entries.filter((entry) => entry.record.imageId === one.image.config).length,
        SharedSize: 0,
      })),
    ),
    Containers: await Promise.all(
      entries.map(async (entry) => {
        const sizes = await usedBytes(entry, parts)
        const view = listView(entry, {
          now,
          image: entry.record.request.image,
          volumePath: (name) => containers.volumes.pathOf(name),
        })
        return { ...view, SizeRw: sizes.rw, SizeRootFs: sizes.root }
      }),
    ),
    Volumes: await Promise.all(
      (await containers.volumes.list()).map(async (one) => ({
        ...volumeView(one),
        UsageData: { Size: await folderBytes(one.path), RefCount: used.get(one.name)?.length ?? 0 },
      })),
    ),
    BuildCache: [],
    BuilderSize: 0,
  }
}
