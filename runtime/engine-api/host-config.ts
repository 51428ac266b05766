/** docker's HostConfig -> what a container asks of darner. Whatever is set and can't be had is an error that says what to use. */
import { isAbsolute } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { BlkioRate, Resources, RestartPolicy, Ulimit } from '../../src/api/container-options.ts'
import { DEVICE_RULE } from '../../src/api/container-options.ts'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import { DiskQuota } from '../../src/api/rich-api.ts'
import { parseBytes } from '../../src/core/config/units.ts'
import { StatusError } from './errors.ts'
import { readLogConfig } from './host-log.ts'
import { MountBody, readMounts, readVolumeQuotas } from './host-mounts.ts'
import { PortBody, readPorts } from './host-ports.ts'
import { readSecurity } from './host-security.ts'
import { OptFlag, OptMap, OptNumber, OptText, OptTexts } from './optional.ts'

const OptRates = () =>
  Type.Optional(
    Type.Union([
      Type.Array(Type.Object({ Path: Type.String({ maxLength: 4096 }), Rate: Type.Integer({ minimum: 1 }) }), {
        maxItems: 256,
      }),
      Type.Null(),
    ]),
  )
const UlimitBody = Type.Object({ Name: Type.String(), Soft: Type.Integer(), Hard: Type.Integer() })

/** The members that are understood; further ones are looked at by unusable.ts. */
export const HostConfig = Type.Object({
  Binds: OptTexts(),
  Mounts: Type.Optional(Type.Union([Type.Array(MountBody, { maxItems: 1000 }), Type.Null()])),
  Tmpfs: OptMap(),
  LogConfig: Type.Optional(Type.Union([Type.Object({ Type: OptText(), Config: OptMap() }), Type.Null()])),
  NetworkMode: OptText(),
  PortBindings: Type.Optional(
    Type.Union([Type.Record(Type.String(), Type.Union([Type.Array(PortBody), Type.Null()])), Type.Null()]),
  ),
  RestartPolicy: Type.Optional(
    Type.Union([Type.Object({ Name: OptText(), MaximumRetryCount: OptNumber() }), Type.Null()]),
  ),
  AutoRemove: OptFlag(),
  CapAdd: OptTexts(),
  CapDrop: OptTexts(),
  Dns: OptTexts(),
  DnsOptions: OptTexts(),
  DnsSearch: OptTexts(),
  ExtraHosts: OptTexts(),
  GroupAdd: OptTexts(),
  IpcMode: OptText(),
  PidMode: OptText(),
  UTSMode: OptText(),
  CgroupnsMode: OptText(),
  UsernsMode: OptText(),
  OomScoreAdj: OptNumber(),
  Privileged: OptFlag(),
  ReadonlyRootfs: OptFlag(),
  SecurityOpt: OptTexts(),
  ShmSize: OptNumber(),
  Sysctls: OptMap(),
  Runtime: OptText(),
  Init: OptFlag(),
  Memory: OptNumber(),
  MemorySwap: OptNumber(),
  MemoryReservation: OptNumber(),
  NanoCpus: OptNumber(),
  CpuShares: OptNumber(),
  CpuQuota: OptNumber(),
  CpuPeriod: OptNumber(),
  CpusetCpus: OptText(),
  CpusetMems: OptText(),
  PidsLimit: OptNumber(),
  BlkioWeight: OptNumber(),
  BlkioDeviceReadBps: OptRates(),
  BlkioDeviceWriteBps: OptRates(),
  BlkioDeviceReadIOps: OptRates(),
  BlkioDeviceWriteIOps: OptRates(),
  StorageOpt: OptMap(),
  Annotations: OptMap(),
  VolumesFrom: OptTexts(),
  VolumeDriver: OptText(),
  Links: OptTexts(),
  DeviceCgroupRules: OptTexts(),
  MemorySwappiness: OptNumber(),
  PublishAllPorts: OptFlag(),
  /** Rows and columns that the terminal has at the start. */
  ConsoleSize: Type.Optional(Type.Union([Type.Array(Type.Integer({ minimum: 0, maximum: 65_535 })), Type.Null()])),
  Ulimits: Type.Optional(Type.Union([Type.Array(UlimitBody), Type.Null()])),
  Devices: Type.Optional(
    Type.Union([
      Type.Array(Type.Object({ PathOnHost: Type.String(), PathInContainer: OptText(), CgroupPermissions: OptText() })),
      Type.Null(),
    ]),
  ),
})
export type HostConfig = Static<typeof HostConfig>

/** What an update changes. */
export const CHANGEABLE = Type.Pick(HostConfig, [
  'Memory',
  'MemorySwap',
  'MemoryReservation',
  'NanoCpus',
  'CpuShares',
  'CpuQuota',
  'CpuPeriod',
  'CpusetCpus',
  'CpusetMems',
  'PidsLimit',
  'BlkioWeight',
  'BlkioDeviceReadBps',
  'BlkioDeviceWriteBps',
  'BlkioDeviceReadIOps',
  'BlkioDeviceWriteIOps',
  'RestartPolicy',
  'StorageOpt',
])

/** The part of the request that HostConfig states. `bridge` is the default network, undefined when there is none. */
export function readHostConfig(
  config: HostConfig,
  facts: { hasBridge: boolean; declared: readonly string[] },
): Partial<CreateRequest> {
  const security = readSecurity(config.SecurityOpt)
  const resources = readResources(config)
  const mounts = readMounts(config, facts.declared)
  const volumeQuotas = readVolumeQuotas(config)
  const restart = readRestart(config)
  const log = readLogConfig(config.LogConfig)
  const publish = readPorts(config.PortBindings)
  if (config.VolumeDriver && config.VolumeDriver !== 'local' && mounts.some((one) => one.type === 'volume'))
    throw new StatusError(501, `volume driver ${config.VolumeDriver} is not offered: only local is`)
  const dns = readDns(config)
  return {
    network: readNetwork(config.NetworkMode ?? '', facts.hasBridge),
    ...security,
    ...readStorage(config.StorageOpt),
    ...(config.Annotations && Object.keys(config.Annotations).length > 0 ? { annotations: config.Annotations } : {}),
    ...(Object.keys(resources).length > 0 ? { resources } : {}),
    ...(mounts.length > 0 ? { mounts } : {}),
    ...(volumeQuotas === undefined ? {} : { volumeQuotas }),
    ...(restart === undefined ? {} : { restart }),
    ...(log === undefined ? {} : { log }),
    ...(publish.length > 0 ? { publish } : {}),
    ...(Object.keys(dns).length > 0 ? { dns } : {}),
    ...(config.AutoRemove ? { autoRemove: true } : {}),
    ...(config.CapAdd?.length ? { capAdd: config.CapAdd } : {}),
    ...(config.CapDrop?.length ? { capDrop: config.CapDrop } : {}),
    ...(config.ExtraHosts?.length ? { extraHosts: config.ExtraHosts.map(extraHost) } : {}),
    ...(config.GroupAdd?.length ? { groupAdd: config.GroupAdd } : {}),
    ...namespaces(config),
    ...(config.OomScoreAdj ? { oomScoreAdj: oomScore(config.OomScoreAdj) } : {}),
    ...(config.Privileged ? { privileged: true } : {}),
    ...(config.ReadonlyRootfs ? { readonlyRootfs: true } : {}),
    ...(config.ShmSize ? { shmBytes: config.ShmSize } : {}),
    ...(config.Sysctls && Object.keys(config.Sysctls).length > 0 ? { sysctls: config.Sysctls } : {}),
    ...(config.Runtime ? { runtime: config.Runtime } : {}),
    ...(config.Init ? { init: true } : {}),
    ...(config.Ulimits?.length ? { ulimits: config.Ulimits.map(ulimit) } : {}),
    ...(config.Devices?.length ? { devices: config.Devices.map(device) } : {}),
    ...(config.DeviceCgroupRules?.length ? { deviceRules: config.DeviceCgroupRules.map(deviceRule) } : {}),
  }
}

function readNetwork(mode: string, hasBridge: boolean): string {
  if (mode !== '' && mode !== 'default' && mode !== 'bridge') return mode
  if (hasBridge) return 'bridge'
  throw new StatusError(501, 'network bridge is not offered by this agent: use --network host or --network none')
}

function blkioRates(config: HostConfig): BlkioRate[] | undefined {
  const of = (what: BlkioRate['what'], list: HostConfig['BlkioDeviceReadBps']) =>
    (list ?? []).map(({ Path: path, Rate: rate }) => ({ path, what, rate }))
  const all = [
    ...of('readBps', config.BlkioDeviceReadBps),
    ...of('writeBps', config.BlkioDeviceWriteBps),
    ...of('readIops', config.BlkioDeviceReadIOps),
    ...of('writeIops', config.BlkioDeviceWriteIOps),
  ]
  return all.length > 0 ? all : undefined
}

/** `size`, and `inodes` beside it, of the writable layer. Throws 400. */
export function readStorage(options: HostConfig['StorageOpt']): Pick<CreateRequest, 'diskQuota'> {
  const { size, inodes, ...unknown } = options ?? {}
  const [other] = Object.keys(unknown)
  if (other !== undefined) throw new StatusError(400, `unknown option ${other} in --storage-opt`)
  if (size === undefined && inodes === undefined) return {}
  const bytes = parseBytes(size ?? '')
  if (bytes === undefined) throw new StatusError(400, `invalid size: '${size ?? ''}'`)
  if (inodes !== undefined && !/^\d{1,15}$/.test(inodes)) throw new StatusError(400, `invalid inodes: '${inodes}'`)
  const diskQuota = { bytes, ...(inodes === undefined ? {} : { inodes: Number(inodes) }) }
  if (!Value.Check(DiskQuota, diskQuota))
    throw new StatusError(400, `invalid size: '${size}', inodes: '${inodes ?? ''}'`)
  return { diskQuota }
}

/** The members that limits can be changed by, for create and update alike. */
export function readResources(config: HostConfig): Resources {
  const limits: Record<string, unknown> = {
    memoryBytes: config.Memory || undefined,
    memorySwapBytes: config.MemorySwap || undefined,
    memoryReservationBytes: config.MemoryReservation || undefined,
    nanoCpus: config.NanoCpus || undefined,
    cpuShares: config.CpuShares || undefined,
    cpuQuotaUs: config.CpuQuota || undefined,
    cpuPeriodUs: config.CpuPeriod || undefined,
    cpusetCpus: config.CpusetCpus || undefined,
    cpusetMems: config.CpusetMems || undefined,
    pidsLimit: config.PidsLimit || undefined,
    blkioWeight: config.BlkioWeight || undefined,
    blkioRates: blkioRates(config),
    memorySwappiness: swappiness(config.MemorySwappiness),
  }
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)) as Resources
}

/** Throws 400 for a name that is no policy. */
export function readRestart({ RestartPolicy: policy, AutoRemove }: HostConfig): RestartPolicy | undefined {
  const name = policy?.Name ?? ''
  if (name === '' || name === 'no') return name === 'no' && !AutoRemove ? { name: 'no' } : undefined
  if (name !== 'always' && name !== 'unless-stopped' && name !== 'on-failure')
    throw new StatusError(
      400,
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    )
  const most = policy?.MaximumRetryCount ?? 0
  if (most < 0) throw new StatusError(400, 'invalid restart policy: maximum retry count cannot be negative')
  if (most > 0 && name !== 'on-failure')
    throw new StatusError(400, "invalid restart policy: maximum retry count can only be used with 'on-failure'")
  return most > 0 ? { name, maximumRetries: most } : { name }
}

function namespaces({ PidMode, IpcMode, UTSMode, UsernsMode, CgroupnsMode }: HostConfig): Partial<CreateRequest> {
  const refuse = (name: string, value: string) =>
    new StatusError(501, `${name}=${value} is not offered: only host and private are`)
  if (PidMode && PidMode !== 'host') throw refuse('pid', PidMode)
  if (IpcMode && !['host', 'private', 'shareable'].includes(IpcMode)) throw refuse('ipc', IpcMode)
  if (UTSMode && UTSMode !== 'host') throw refuse('uts', UTSMode)
  if (UsernsMode && UsernsMode !== 'host' && UsernsMode !== 'auto')
    throw new StatusError(501, `userns=${UsernsMode} is not offered: only host and auto are`)
  if (CgroupnsMode && CgroupnsMode !== 'host' && CgroupnsMode !== 'private')
    throw new StatusError(400, `invalid cgroup namespace mode: ${CgroupnsMode.slice(0, 200)}`)
  return {
    ...(PidMode === 'host' ? { hostPid: true } : {}),
    ...(IpcMode === 'host' ? { hostIpc: true } : {}),
    ...(UTSMode === 'host' ? { hostUts: true } : {}),
    ...(UsernsMode === 'host' || UsernsMode === 'auto' ? { userns: UsernsMode } : {}),
    ...(CgroupnsMode === 'host' || CgroupnsMode === 'private' ? { cgroupns: CgroupnsMode } : {}),
  }
}

/** Throws 400. */
function oomScore(asked: number): number {
  if (asked >= -1000 && asked <= 1000) return asked
  throw new StatusError(400, `Invalid value ${asked}, range for oom score adj is [-1000, 1000]`)
}

function readDns({ Dns, DnsSearch, DnsOptions }: HostConfig): NonNullable<CreateRequest['dns']> {
  return {
    ...(Dns?.length ? { servers: Dns } : {}),
    ...(DnsSearch?.length ? { search: DnsSearch } : {}),
    ...(DnsOptions?.length ? { options: DnsOptions } : {}),
  }
}

function extraHost(text: string): string {
  if (!/^[^:=\s]+[:=].+$/.test(text)) throw new StatusError(400, `bad format for add-host: "${text.slice(0, 200)}"`)
  return text
}

function ulimit({ Name, Soft, Hard }: Static<typeof UlimitBody>): Ulimit {
  return { name: Name.toLowerCase().replace(/^rlimit_/, ''), soft: Soft, hard: Hard }
}

/** Undefined for -1, docker's word for the host's own. Throws 400. */
function swappiness(asked: number | null | undefined): number | undefined {
  if (asked === null || asked === undefined || asked === -1) return undefined
  if (Number.isInteger(asked) && asked >= 0 && asked <= 100) return asked
  throw new StatusError(400, `Invalid value: ${asked}, valid memory swappiness range is 0-100`)
}

/** Throws 400. */
function deviceRule(text: string): string {
  if (DEVICE_RULE.test(text)) return text
  throw new StatusError(400, `invalid device cgroup rule format: '${text.slice(0, 200)}'`)
}

function device(one: { PathOnHost: string; PathInContainer?: string | null; CgroupPermissions?: string | null }) {
  const access = one.CgroupPermissions || 'rwm'
  if (!/^[rwm]{1,3}$/.test(access)) throw new StatusError(400, `invalid device mode: ${access}`)
  if (!isAbsolute(one.PathOnHost)) throw new StatusError(400, `${one.PathOnHost} is not an absolute path`)
  return { host: one.PathOnHost, target: one.PathInContainer || one.PathOnHost, access }
}
