/** docker's HostConfig -> what a container asks of darner. Whatever is set and can't be had is an error that says what to use. */
import { isAbsolute, normalize } from 'node:path'
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { errorLine } from '../../src/base/errors.ts'
import { parseBytes } from '../../src/config/units.ts'
import type {
  BlkioRate,
  LogConfig,
  MountRequest,
  Resources,
  RestartPolicy,
  Ulimit,
} from '../../src/wire/container-options.ts'
import type { CreateRequest } from '../../src/wire/local-api.ts'
import { DiskQuota } from '../../src/wire/rich-api.ts'
import { parseSeccompProfile } from '../spec/seccomp.ts'
import { StatusError } from './errors.ts'

const OptText = () => Type.Optional(Type.Union([Type.String({ maxLength: 4096 }), Type.Null()]))
const OptTexts = () =>
  Type.Optional(Type.Union([Type.Array(Type.String({ maxLength: 8192 }), { maxItems: 1000 }), Type.Null()]))
const OptNumber = () => Type.Optional(Type.Union([Type.Number(), Type.Null()]))
const OptFlag = () => Type.Optional(Type.Union([Type.Boolean(), Type.Null()]))
const OptMap = () => Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()]))

const MountBody = Type.Object(
  {
    Type: Type.String(),
    Source: OptText(),
    Target: Type.String({ maxLength: 4096 }),
    ReadOnly: OptFlag(),
    Consistency: OptText(),
    BindOptions: Type.Optional(
      Type.Union([
        Type.Object(
          {
            Propagation: OptText(),
            NonRecursive: OptFlag(),
            CreateMountpoint: OptFlag(),
            ReadOnlyNonRecursive: OptFlag(),
            ReadOnlyForceRecursive: OptFlag(),
          },
          { additionalProperties: false },
        ),
        Type.Null(),
      ]),
    ),
    VolumeOptions: Type.Optional(
      Type.Union([
        Type.Object(
          {
            NoCopy: OptFlag(),
            Labels: OptMap(),
            Subpath: OptText(),
            DriverConfig: Type.Optional(Type.Union([Type.Object({ Name: OptText(), Options: OptMap() }), Type.Null()])),
          },
          { additionalProperties: false },
        ),
        Type.Null(),
      ]),
    ),
    TmpfsOptions: Type.Optional(
      Type.Union([
        Type.Object({ SizeBytes: OptNumber(), Mode: OptNumber() }, { additionalProperties: false }),
        Type.Null(),
      ]),
    ),
  },
  { additionalProperties: false },
)

const PortBody = Type.Object({ HostIp: OptText(), HostPort: OptText() }, { additionalProperties: false })
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

/** The members that are understood; further ones are looked at by {@link refuseUnusable}. */
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
  VolumesFrom: OptTexts(),
  PublishAllPorts: OptFlag(),
  Ulimits: Type.Optional(Type.Union([Type.Array(UlimitBody), Type.Null()])),
  Devices: Type.Optional(
    Type.Union([
      Type.Array(Type.Object({ PathOnHost: Type.String(), PathInContainer: OptText(), CgroupPermissions: OptText() })),
      Type.Null(),
    ]),
  ),
})
export type HostConfig = Static<typeof HostConfig>

/** Members that have no effect here or can't be had, with what to say; the values that clients send unasked are fine. */
const UNUSABLE: Readonly<Record<string, { fine: readonly unknown[]; way: string }>> = {
  ContainerIDFile: { fine: [], way: '' }, // the client's own business
  ConsoleSize: { fine: [], way: '' }, // the client resizes after the start as well
  VolumeDriver: { fine: ['', 'local'], way: 'only the local volume driver is offered' },
  CgroupnsMode: { fine: ['', 'private', 'host'], way: '' },
  Links: { fine: [], way: 'put both containers on one user-defined network, where names resolve' },
  Cgroup: { fine: [''], way: '' },
  CgroupParent: { fine: [''], way: 'the agent has one cgroup parent for all containers' },
  UsernsMode: { fine: ['', 'host'], way: 'user namespaces are not offered' },
  Isolation: { fine: ['', 'default'], way: '' },
  BlkioWeightDevice: { fine: [], way: 'use --blkio-weight' },
  CpuRealtimePeriod: { fine: [0], way: 'use --cpus' },
  CpuRealtimeRuntime: { fine: [0], way: 'use --cpus' },
  DeviceCgroupRules: { fine: [], way: 'name each device with --device' },
  DeviceRequests: { fine: [], way: 'name each device with --device' },
  KernelMemory: { fine: [0], way: 'use --memory' },
  KernelMemoryTCP: { fine: [0], way: 'use --memory' },
  MemorySwappiness: { fine: [-1, 60], way: 'use --memory-swap' },
  OomKillDisable: { fine: [false], way: 'use --oom-score-adj' },
  CpuCount: { fine: [0], way: 'use --cpus' },
  CpuPercent: { fine: [0], way: 'use --cpus' },
  IOMaximumIOps: { fine: [0], way: 'use --blkio-weight' },
  IOMaximumBandwidth: { fine: [0], way: 'use --blkio-weight' },
  MaskedPaths: { fine: [], way: 'use --privileged' },
  ReadonlyPaths: { fine: [], way: 'use --privileged' },
  Annotations: { fine: [], way: 'use labels' },
}
const UNASKED = new Set(['ContainerIDFile', 'ConsoleSize'])

/** Throws 400 for a member that nobody knows, 501 for one that is known and set but not offered. */
export function refuseUnusable(config: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(config)) {
    if (Object.hasOwn(HostConfig.properties, name) || UNASKED.has(name) || isEmpty(value)) continue
    const row = UNUSABLE[name]
    if (row === undefined) throw new StatusError(400, `HostConfig.${name}: unknown option`)
    if (row.fine.includes(value)) continue
    throw new StatusError(501, `HostConfig.${name} is not offered${row.way === '' ? '' : `: ${row.way}`}`)
  }
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}

/** The part of the request that HostConfig states. `bridge` is the default network, undefined when there is none. */
export function readHostConfig(
  config: HostConfig,
  facts: { hasBridge: boolean; declared: readonly string[] },
): Partial<CreateRequest> {
  const security = readSecurity(config)
  const resources = readResources(config)
  const mounts = readMounts(config, facts.declared)
  const restart = readRestart(config)
  const log = readLogConfig(config)
  const publish = readPorts(config)
  const dns = readDns(config)
  return {
    network: readNetwork(config.NetworkMode ?? '', facts.hasBridge),
    ...security,
    ...readStorage(config.StorageOpt),
    ...(Object.keys(resources).length > 0 ? { resources } : {}),
    ...(mounts.length > 0 ? { mounts } : {}),
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
    ...(config.OomScoreAdj ? { oomScoreAdj: config.OomScoreAdj } : {}),
    ...(config.Privileged ? { privileged: true } : {}),
    ...(config.ReadonlyRootfs ? { readonlyRootfs: true } : {}),
    ...(config.ShmSize ? { shmBytes: config.ShmSize } : {}),
    ...(config.Sysctls && Object.keys(config.Sysctls).length > 0 ? { sysctls: config.Sysctls } : {}),
    ...(config.Runtime ? { runtime: config.Runtime } : {}),
    ...(config.Init ? { init: true } : {}),
    ...(config.Ulimits?.length ? { ulimits: config.Ulimits.map(ulimit) } : {}),
    ...(config.Devices?.length ? { devices: config.Devices.map(device) } : {}),
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

const SIZE = /^(\d+)\s*([kmgt]?)b?$/i
const UNITS: Readonly<Record<string, number>> = { '': 1, k: 1 << 10, m: 1 << 20, g: 1 << 30, t: 2 ** 40 }

function readLogConfig({ LogConfig: asked }: HostConfig): LogConfig | undefined {
  const driver = asked?.Type || 'json-file'
  const options = asked?.Config ?? {}
  if (driver !== 'json-file' && driver !== 'local' && driver !== 'none' && driver !== 'journald')
    throw new StatusError(
      400,
      `logger: no log driver named '${driver}' is registered: use json-file, local, journald or none`,
    )
  const kept = driver === 'local' ? 'json-file' : driver
  const unknown = Object.keys(options).find((one) => kept !== 'json-file' || !['max-size', 'max-file'].includes(one))
  if (unknown !== undefined) throw new StatusError(400, `unknown log opt '${unknown}' for ${driver} log driver`)
  const size = options['max-size']
  const files = options['max-file']
  const [, number, unit = ''] = SIZE.exec(size ?? '') ?? []
  if (size !== undefined && size !== '-1' && number === undefined) throw new StatusError(400, `invalid size: '${size}'`)
  if (files !== undefined && !/^[1-9]\d{0,2}$/.test(files))
    throw new StatusError(400, 'max-file must be a number that is at least 1')
  if (files !== undefined && Number(files) > 1 && size === undefined)
    throw new StatusError(400, "maxFile cannot be used without maxSize: max-size isn't set")
  if (asked?.Type === undefined && size === undefined) return undefined
  if (kept === 'json-file' && number === undefined) return asked?.Type ? { driver: kept } : undefined
  return {
    driver: kept,
    ...(number === undefined ? {} : { maxBytes: Math.max(4096, Number(number) * (UNITS[unit.toLowerCase()] ?? 1)) }),
    ...(files === undefined ? {} : { maxFiles: Number(files) }),
  }
}

function readSecurity({ SecurityOpt }: HostConfig): Partial<CreateRequest> {
  const found: { noNewPrivileges?: boolean; seccomp?: 'unconfined'; seccompProfile?: string } = {}
  for (const option of SecurityOpt ?? []) {
    const [, name = '', value = ''] = /^([^=:]+)(?:[=:](.*))?$/s.exec(option) ?? []
    if (name === 'no-new-privileges') {
      if (value !== '' && value !== 'true' && value !== 'false')
        throw new StatusError(400, `invalid --security-opt 2: "${option}"`)
      if (value !== 'false') found.noNewPrivileges = true
    } else if (name === 'seccomp' && value === 'unconfined') found.seccomp = 'unconfined'
    else if (name === 'seccomp' && value === 'builtin') continue
    else if (name === 'seccomp') found.seccompProfile = ownProfile(value)
    else if (name === 'apparmor' && value === 'unconfined') continue
    else if (name === 'label' && value === 'disable') continue
    else if (name === 'apparmor' || name === 'label')
      throw new StatusError(501, `--security-opt ${name} is not offered on this host`)
    else throw new StatusError(400, `invalid --security-opt 2: "${option.slice(0, 200)}"`)
  }
  return found
}

/** Clients send the profile itself, not its path. Throws 400. */
function ownProfile(text: string): string {
  try {
    parseSeccompProfile(JSON.parse(text), 'of the container')
    return text
  } catch (error) {
    throw new StatusError(400, `opening seccomp profile (${text.slice(0, 60)}) failed: ${errorLine(error)}`)
  }
}

function namespaces({ PidMode, IpcMode, UTSMode }: HostConfig): Partial<CreateRequest> {
  const refuse = (name: string, value: string) =>
    new StatusError(501, `${name}=${value} is not offered: only host and private are`)
  if (PidMode && PidMode !== 'host') throw refuse('pid', PidMode)
  if (IpcMode && !['host', 'private', 'shareable'].includes(IpcMode)) throw refuse('ipc', IpcMode)
  if (UTSMode && UTSMode !== 'host') throw refuse('uts', UTSMode)
  return {
    ...(PidMode === 'host' ? { hostPid: true } : {}),
    ...(IpcMode === 'host' ? { hostIpc: true } : {}),
    ...(UTSMode === 'host' ? { hostUts: true } : {}),
  }
}

/** Binds, Mounts, Tmpfs, and volumes that Config declares, in this order. */
function readMounts(config: HostConfig, declared: readonly string[]): MountRequest[] {
  const mounts = [
    ...(config.Binds ?? []).map(readBind),
    ...(config.Mounts ?? []).map(readMount),
    ...Object.entries(config.Tmpfs ?? {}).map(([target, words]): MountRequest => readTmpfs(target, words)),
  ]
  const targets = new Set<string>()
  for (const { target } of mounts) {
    if (targets.has(target)) throw new StatusError(400, `Duplicate mount point: ${target}`)
    targets.add(target)
  }
  const more = declared.map(targetPath).filter((target) => !targets.has(target))
  return [...mounts, ...more.map((target): MountRequest => ({ type: 'volume', target }))]
}

const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'] as const
type Propagation = (typeof PROPAGATIONS)[number]
const isPropagation = (word: string): word is Propagation => (PROPAGATIONS as readonly string[]).includes(word)

function targetPath(target: string): string {
  if (!isAbsolute(target)) throw new StatusError(400, `invalid mount path: '${target}' mount path must be absolute`)
  const path = normalize(target).replace(/(.)\/$/, '$1')
  if (path === '/') throw new StatusError(400, "invalid specification: destination can't be '/'")
  return path
}

/** `SOURCE:TARGET[:MODE]`. */
function readBind(text: string): MountRequest {
  const [source = '', target, mode = '', ...rest] = text.split(':')
  if (source === '' || target === undefined || rest.length > 0)
    throw new StatusError(400, `invalid volume specification: '${text}'`)
  const words = mode.split(',').filter((word) => word !== '')
  const unknown = words.find(
    (word) =>
      !['ro', 'rw', 'z', 'Z', 'nocopy', 'cached', 'delegated', 'consistent'].includes(word) && !isPropagation(word),
  )
  if (unknown !== undefined) throw new StatusError(400, `invalid mode: ${mode}`)
  const propagation = words.find(isPropagation)
  const shared = {
    target: targetPath(target),
    ...(words.includes('ro') ? { readonly: true } : {}),
    ...(propagation === undefined ? {} : { propagation }),
  }
  if (isAbsolute(source)) return { type: 'bind', source: normalize(source), makeSource: true, ...shared }
  return { type: 'volume', source, ...(words.includes('nocopy') ? { noCopy: true } : {}), ...shared }
}

function readMount(body: Static<typeof MountBody>): MountRequest {
  const target = targetPath(body.Target)
  const readonly = body.ReadOnly ? { readonly: true } : {}
  switch (body.Type) {
    case 'bind': {
      const source = body.Source ?? ''
      if (!isAbsolute(source))
        throw new StatusError(
          400,
          `invalid mount config for type "bind": invalid mount path: '${source}' mount path must be absolute`,
        )
      if (body.BindOptions?.NonRecursive)
        throw new StatusError(501, 'bind-nonrecursive is not offered: binds are recursive')
      const word = body.BindOptions?.Propagation ?? ''
      if (word !== '' && !isPropagation(word))
        throw new StatusError(400, `invalid mount config for type "bind": invalid propagation mode: ${word}`)
      return {
        type: 'bind',
        source: normalize(source),
        target,
        ...readonly,
        ...(isPropagation(word) ? { propagation: word } : {}),
        ...(body.BindOptions?.CreateMountpoint ? { makeSource: true } : {}),
      }
    }
    case 'volume': {
      const { DriverConfig, NoCopy, Labels, Subpath } = body.VolumeOptions ?? {}
      if (DriverConfig?.Name && DriverConfig.Name !== 'local')
        throw new StatusError(501, `volume driver ${DriverConfig.Name} is not offered: only local is`)
      if (Subpath) throw new StatusError(501, 'volume-subpath is not offered: mount the whole volume')
      return {
        type: 'volume',
        ...(body.Source ? { source: body.Source } : {}),
        target,
        ...readonly,
        ...(NoCopy ? { noCopy: true } : {}),
        ...(Labels ? { labels: Labels } : {}),
      }
    }
    case 'tmpfs': {
      const { SizeBytes, Mode } = body.TmpfsOptions ?? {}
      const options = [...(SizeBytes ? [`size=${SizeBytes}`] : []), ...(Mode ? [`mode=${Mode.toString(8)}`] : [])]
      return { type: 'tmpfs', target, ...readonly, ...(options.length > 0 ? { options } : {}) }
    }
    default:
      throw new StatusError(400, `invalid mount config: mount type unknown: "${body.Type.slice(0, 100)}"`)
  }
}

function readTmpfs(target: string, words: string): MountRequest {
  const options = words.split(',').filter((word) => word !== '' && word !== 'rw' && word !== 'ro')
  const bad = options.find(
    (word) =>
      !/^((no)?(exec|suid|dev|atime|diratime)|relatime|(size|mode|uid|gid|nr_inodes|nr_blocks)=[0-9A-Za-z%]+)$/.test(
        word,
      ),
  )
  if (bad !== undefined) throw new StatusError(400, `invalid tmpfs option ["${bad.slice(0, 100)}"]`)
  return {
    type: 'tmpfs',
    target: targetPath(target),
    ...(/(^|,)ro(,|$)/.test(words) ? { readonly: true } : {}),
    ...(options.length > 0 ? { options } : {}),
  }
}

function readPorts({ PortBindings }: HostConfig): NonNullable<CreateRequest['publish']> {
  const found: NonNullable<CreateRequest['publish']> = []
  for (const [key, bindings] of Object.entries(PortBindings ?? {})) {
    const [, port, protocol = 'tcp'] = /^(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(key) ?? []
    if (port === undefined) throw new StatusError(400, `invalid port specification: "${key.slice(0, 100)}"`)
    if (protocol !== 'tcp' && protocol !== 'udp')
      throw new StatusError(501, `publishing ${protocol} ports is not offered`)
    for (const { HostIp, HostPort } of bindings ?? [{}]) {
      if (HostPort && !/^\d{1,5}$/.test(HostPort))
        throw new StatusError(400, `invalid port specification: "${HostPort}"`)
      found.push({
        containerPort: Number(port),
        protocol,
        ...(HostPort && HostPort !== '0' ? { hostPort: Number(HostPort) } : {}),
        ...(HostIp ? { hostIp: HostIp } : {}),
      })
    }
  }
  return found
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
  if (/[:=]host-gateway$/.test(text))
    throw new StatusError(501, 'host-gateway is not offered in --add-host: name the address')
  return text
}

function ulimit({ Name, Soft, Hard }: Static<typeof UlimitBody>): Ulimit {
  return { name: Name.toLowerCase().replace(/^rlimit_/, ''), soft: Soft, hard: Hard }
}

function device(one: { PathOnHost: string; PathInContainer?: string | null; CgroupPermissions?: string | null }) {
  const access = one.CgroupPermissions || 'rwm'
  if (!/^[rwm]{1,3}$/.test(access)) throw new StatusError(400, `invalid device mode: ${access}`)
  if (!isAbsolute(one.PathOnHost)) throw new StatusError(400, `${one.PathOnHost} is not an absolute path`)
  return { host: one.PathOnHost, target: one.PathInContainer || one.PathOnHost, access }
}
