/** Containers as docker's clients read them: the short form of lists and the long one of inspect. */

import type { JoinedNetwork, NetworkingView } from '../../src/api/networks-api.ts'
import type { Entry } from '../containers/entry.ts'
import type { HealthResult } from '../containers/health.ts'
import { checkOf } from '../containers/health.ts'
import { parseLink } from '../containers/links.ts'
import { cgroupnsOf } from '../spec/cgroup-namespace.ts'
import { argumentsOf } from '../spec/command.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { type HostFacts, hostnameOf } from '../spec/spec.ts'
import { endpointView } from './endpoint.ts'
import { saidOf } from './said.ts'

export const NO_TIME = '0001-01-01T00:00:00Z'

export function iso(ms: number | undefined): string {
  if (ms === undefined) return NO_TIME
  const whole = new Date(Math.floor(ms)).toISOString()
  const nanos = Math.round((ms % 1) * 1e6)
  return nanos === 0 ? whole : whole.replace('Z', `${String(nanos).padStart(6, '0')}Z`)
}

/** docker has no state between created and running, or between running and exited. */
export function stateOf({ record }: Entry): string {
  const { status } = record
  if (status === 'starting') return 'created'
  return status === 'stopping' ? 'running' : status
}

/** `Up 2 minutes`, `Exited (0) 3 hours ago`. */
export function statusText(entry: Entry, now: number): string {
  const { startedAt = now, finishedAt = now, exitCode = 0, health } = entry.record
  const state = stateOf(entry)
  const check = health === undefined ? '' : ` (${health.status === 'starting' ? 'health: starting' : health.status})`
  switch (state) {
    case 'running':
      return `Up ${span(now - startedAt)}${check}`
    case 'paused':
      return `Up ${span(now - startedAt)} (Paused)`
    case 'restarting':
      return `Restarting (${exitCode}) ${span(now - finishedAt)} ago`
    case 'exited':
      return `Exited (${exitCode}) ${span(now - finishedAt)} ago`
    case 'removing':
      return 'Removal In Progress'
    default:
      return 'Created'
  }
}

/** As docker's units package says it. */
export function span(ms: number): string {
  const seconds = Math.floor(Math.max(0, ms) / 1000)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < 60) return `${seconds} seconds`
  const minutes = Math.floor(seconds / 60)
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  const hours = Math.round(minutes / 60)
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`
  return `${Math.floor(hours / 24 / 365)} years`
}

function commandOf({ record }: Entry): {
  path: string
  args: string[]
  entrypoint: string[] | null
  cmd: string[] | null
} {
  const { request, imageConfig, imageReference } = record
  const image = readImageConfig(imageConfig, imageReference)
  const argv = argumentsOf(image, request, imageReference)
  const given = request.command !== undefined && request.command.length > 0
  const entrypoint = [...(request.entrypoint ?? image.entrypoint)]
  const cmd = given ? [...(request.command ?? [])] : request.entrypoint === undefined ? [...image.command] : []
  return {
    path: argv[0] ?? '',
    args: argv.slice(1),
    entrypoint: entrypoint.length > 0 ? entrypoint : null,
    cmd: cmd.length > 0 ? cmd : null,
  }
}

/** The labels of image and request together. */
export function labelsOf({ record }: Entry): Record<string, string> {
  return { ...readImageConfig(record.imageConfig, record.imageReference).labels, ...record.request.labels }
}

export function mountPoints(entry: Entry, volumePath: (name: string) => string) {
  return (entry.record.request.mounts ?? []).map((one) => ({
    Type: one.type,
    ...(one.type === 'volume' ? { Name: one.source ?? '' } : {}),
    Source: one.type === 'volume' ? volumePath(one.source ?? '') : (one.source ?? ''),
    Destination: one.target,
    ...(one.type === 'volume' ? { Driver: 'local' } : {}),
    Mode: one.type === 'tmpfs' ? (one.options ?? []).join(',') : '',
    RW: one.readonly !== true,
    Propagation: one.type === 'bind' ? (one.propagation ?? 'rprivate') : '',
  }))
}

/** What a container has of networks: how it asked for them, and what came of it while it runs. */
export interface NetworkFacts {
  readonly networking?: NetworkingView | undefined
  readonly joined?: readonly JoinedNetwork[] | undefined
}

/** What is written after `Networks`. */
export function networksOf({ id, record }: Entry, { networking, joined }: NetworkFacts): Record<string, unknown> {
  const mode = record.request.network ?? 'host'
  if (joined === undefined)
    return mode.startsWith('container:') ? {} : { [mode]: endpointView(id, undefined, undefined) }
  const now = (networkId: string) => networking?.endpoints.find((one) => one.networkId === networkId)
  return Object.fromEntries(joined.map((one) => [one.network, endpointView(id, one, now(one.networkId))]))
}

function portList(entry: Entry, networking: NetworkingView | undefined) {
  const published = (networking?.ports ?? []).map(({ containerPort, hostPort, hostIp, protocol }) => ({
    IP: hostIp === '' ? '0.0.0.0' : hostIp,
    PrivatePort: containerPort,
    PublicPort: hostPort,
    Type: protocol,
  }))
  const exposed = exposedPorts(entry)
    .map((key) => ({ PrivatePort: Number(key.split('/')[0]), Type: key.split('/')[1] ?? 'tcp' }))
    .filter(({ PrivatePort, Type }) => !published.some((one) => one.PrivatePort === PrivatePort && one.Type === Type))
  return [...published, ...exposed]
}

function exposedPorts({ record }: Entry): string[] {
  const image = readImageConfig(record.imageConfig, record.imageReference)
  const asked = Object.keys((record.request.docker?.exposedPorts as object | undefined) ?? {})
  const publish = (record.request.publish ?? []).map(({ containerPort, protocol }) => `${containerPort}/${protocol}`)
  return [
    ...new Set([...image.exposedPorts, ...asked, ...publish].map((key) => (key.includes('/') ? key : `${key}/tcp`))),
  ]
}

export function listView(
  entry: Entry,
  facts: NetworkFacts & { now: number; image: string; volumePath: (name: string) => string },
) {
  const { record } = entry
  const { path, args } = commandOf(entry)
  return {
    Id: entry.id,
    Names: [`/${record.name}`],
    Image: facts.image,
    ImageID: record.imageId,
    Command: [path, ...args].join(' '),
    Created: Math.floor(record.createdAt / 1000),
    Ports: portList(entry, facts.networking),
    Labels: labelsOf(entry),
    State: stateOf(entry),
    Status: statusText(entry, facts.now),
    HostConfig: { NetworkMode: record.request.network ?? 'host' },
    NetworkSettings: { Networks: networksOf(entry, facts) },
    Mounts: mountPoints(entry, facts.volumePath),
  }
}

export function inspectView(
  entry: Entry,
  facts: NetworkFacts & {
    host: HostFacts
    volumePath: (name: string) => string
    health: readonly HealthResult[]
    driver: string
    upper?: string
    execIds: readonly string[]
    sizes?: { rw: number; root: number }
  },
) {
  const { record, bundle } = entry
  const { request } = record
  const image = readImageConfig(record.imageConfig, record.imageReference)
  const { path, args, entrypoint, cmd } = commandOf(entry)
  const state = stateOf(entry)
  const check = checkOf(entry)
  const exposed = exposedPorts(entry)
  return {
    Id: entry.id,
    Created: iso(record.createdAt),
    Path: path,
    Args: args,
    State: {
      Status: state,
      Running: state === 'running' || state === 'paused' || state === 'restarting',
      Paused: state === 'paused',
      Restarting: state === 'restarting',
      OOMKilled: record.oomKilled === true,
      Dead: false,
      Pid: record.pid ?? 0,
      ExitCode: record.exitCode ?? 0,
      Error: record.error ?? '',
      StartedAt: iso(record.startedAt),
      FinishedAt: iso(record.finishedAt),
      ...(check === undefined
        ? {}
        : {
            Health: {
              Status: record.health?.status ?? 'starting',
              FailingStreak: record.health?.failingStreak ?? 0,
              Log: facts.health.map((one) => ({
                Start: iso(one.startedAt),
                End: iso(one.endedAt),
                ExitCode: one.exitCode,
                Output: one.output,
              })),
            },
          }),
    },
    Image: record.imageId,
    ResolvConfPath: bundle.resolvConf,
    HostnamePath: bundle.hostname,
    HostsPath: bundle.hosts,
    LogPath: request.log?.driver === 'none' ? '' : bundle.log,
    Name: `/${record.name}`,
    RestartCount: record.restartCount ?? 0,
    Driver: facts.driver,
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: record.apparmor ?? '',
    ExecIDs: facts.execIds.length > 0 ? facts.execIds : null,
    HostConfig: {
      ...HOST_DEFAULTS,
      ...saidOf(request),
      Links: request.links?.length ? request.links.map((one) => shownLink(one, record.name)) : null,
      NetworkMode: request.network ?? 'host',
      Runtime: record.runtime,
      RestartPolicy: { Name: request.restart?.name ?? 'no', MaximumRetryCount: request.restart?.maximumRetries ?? 0 },
      AutoRemove: request.autoRemove === true,
      CgroupnsMode: cgroupnsOf(request, facts.host.cgroups),
      LogConfig: {
        Type: request.log?.driver ?? 'json-file',
        Config: {
          ...(request.log?.maxBytes === undefined ? {} : { 'max-size': String(request.log.maxBytes) }),
          ...(request.log?.maxFiles === undefined ? {} : { 'max-file': String(request.log.maxFiles) }),
        },
      },
      Memory: request.resources?.memoryBytes ?? 0,
      MemorySwap: request.resources?.memorySwapBytes ?? (request.resources?.memoryBytes ?? 0) * 2,
      MemoryReservation: request.resources?.memoryReservationBytes ?? 0,
      NanoCpus: request.resources?.nanoCpus ?? 0,
      CpuShares: request.resources?.cpuShares ?? 0,
      CpuQuota: request.resources?.cpuQuotaUs ?? 0,
      CpuPeriod: request.resources?.cpuPeriodUs ?? 0,
      CpusetCpus: request.resources?.cpusetCpus ?? '',
      CpusetMems: request.resources?.cpusetMems ?? '',
      PidsLimit: request.resources?.pidsLimit ?? null,
      BlkioWeight: request.resources?.blkioWeight ?? 0,
    },
    GraphDriver: { Name: facts.driver, Data: facts.upper === undefined ? {} : { UpperDir: facts.upper } },
    ...(facts.sizes === undefined ? {} : { SizeRw: facts.sizes.rw, SizeRootFs: facts.sizes.root }),
    Mounts: mountPoints(entry, facts.volumePath),
    Config: {
      Hostname: hostnameOf(entry.id, request, facts.host),
      Domainname: request.domainname ?? '',
      User: request.user ?? image.user,
      AttachStdin: false,
      AttachStdout: true,
      AttachStderr: true,
      ...(exposed.length > 0 ? { ExposedPorts: Object.fromEntries(exposed.map((key) => [key, {}])) } : {}),
      Tty: request.tty === true,
      OpenStdin: request.openStdin === true,
      StdinOnce: request.stdinOnce === true,
      Env: mergedEnv(image.env, request.env ?? []),
      Cmd: cmd,
      ...(check === undefined
        ? {}
        : {
            Healthcheck: {
              Test: check.test,
              Interval: Math.round((check.intervalMs ?? 0) * 1e6),
              Timeout: Math.round((check.timeoutMs ?? 0) * 1e6),
              StartPeriod: Math.round((check.startPeriodMs ?? 0) * 1e6),
              ...(check.startIntervalMs === undefined
                ? {}
                : { StartInterval: Math.round(check.startIntervalMs * 1e6) }),
              Retries: check.retries ?? 0,
            },
          }),
      Image: request.image,
      Volumes: image.volumes.length > 0 ? Object.fromEntries(image.volumes.map((key) => [key, {}])) : null,
      WorkingDir: request.workdir ?? image.workdir,
      Entrypoint: entrypoint,
      OnBuild: null,
      Labels: labelsOf(entry),
      ...((request.stopSignal ?? image.stopSignal) ? { StopSignal: request.stopSignal ?? image.stopSignal } : {}),
      ...(request.stopTimeoutSec === undefined ? {} : { StopTimeout: request.stopTimeoutSec }),
    },
    NetworkSettings: networkSettings(entry, facts),
  }
}

function shownLink(link: string, owner: string): string {
  const { name, alias } = parseLink(link)
  return `/${name}:/${owner}/${alias}`
}

function networkSettings(entry: Entry, facts: NetworkFacts): Record<string, unknown> {
  const { networking } = facts
  const first = networking?.endpoints.find((one) => one.network === 'bridge') ?? networking?.endpoints[0]
  const ports: Record<string, { HostIp: string; HostPort: string }[] | null> = {}
  for (const key of exposedPorts(entry)) ports[key] = null
  for (const { containerPort, protocol, hostIp, hostPort } of networking?.ports ?? []) {
    const key = `${containerPort}/${protocol}`
    ports[key] = [...(ports[key] ?? []), { HostIp: hostIp === '' ? '0.0.0.0' : hostIp, HostPort: String(hostPort) }]
  }
  return {
    Bridge: '',
    SandboxID: '',
    SandboxKey: networking?.netnsPath ?? '',
    Ports: entry.record.pid === undefined ? {} : ports,
    Gateway: first?.gateway ?? '',
    IPAddress: first?.ipv4 ?? '',
    IPPrefixLen: first?.ipv4Bits ?? 0,
    IPv6Gateway: first?.gateway6 ?? '',
    GlobalIPv6Address: first?.ipv6 ?? '',
    GlobalIPv6PrefixLen: first?.ipv6Bits ?? 0,
    MacAddress: first?.mac ?? '',
    Networks: networksOf(entry, facts),
  }
}

/** The image's and then the request's, a later one over an earlier one; `NAME` alone is shown, and takes the variable away at the start. */
function mergedEnv(image: readonly string[], request: readonly string[]): string[] {
  const found = new Map<string, string>()
  for (const one of [...image, ...request]) {
    const at = one.indexOf('=')
    found.set(at < 0 ? one : one.slice(0, at), one)
  }
  return [...found.values()]
}

const HOST_DEFAULTS = {
  Binds: null,
  ContainerIDFile: '',
  PortBindings: {},
  VolumeDriver: '',
  VolumesFrom: null,
  CapAdd: null,
  CapDrop: null,
  Dns: [],
  DnsOptions: [],
  DnsSearch: [],
  ExtraHosts: null,
  GroupAdd: null,
  IpcMode: 'private',
  Links: null,
  OomScoreAdj: 0,
  PidMode: '',
  Privileged: false,
  PublishAllPorts: false,
  ReadonlyRootfs: false,
  SecurityOpt: null,
  UTSMode: '',
  UsernsMode: '',
  ShmSize: 67_108_864,
  Devices: [],
  Ulimits: null,
} as const
