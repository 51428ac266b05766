/** Image configuration + request -> config.json (runtime-spec, config.md): a pure function of what it is given. */

import { DEVICE_RULE } from '../../src/api/container-options.ts'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { IdMap } from '../../src/core/contracts/snapshots.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { type AppArmor, appArmorOf } from './apparmor.ts'
import { cgroupnsOf } from './cgroup-namespace.ts'
import type { CgroupLayout } from './cgroups.ts'
import { argumentsOf, environmentOf, workdirOf } from './command.ts'
import {
  DEFAULT_CAPABILITIES,
  DEFAULT_MOUNTS,
  DEVICE_RULES,
  MASKED_PATHS,
  OCI_VERSION,
  PRIVATE_NETWORK_SYSCTLS,
  READONLY_PATHS,
} from './defaults.ts'
import { CAPABILITY_NAMES, type HostLimits, withinBounds } from './host-limits.ts'
import type { ImageRunConfig } from './image-config.ts'
import type {
  OciCapabilities,
  OciDevice,
  OciDeviceRule,
  OciMount,
  OciNamespace,
  OciProcess,
  OciSpec,
} from './oci-spec.ts'
import { checkOomScore, resourcesOf, rlimitsOf } from './resources.ts'
import { type HostSeccomp, resolveSeccomp, seccompOf } from './seccomp.ts'
import type { FoundUser } from './users.ts'

/** What the machine is like, read once at start. */
export interface HostFacts {
  readonly limits: HostLimits
  readonly cgroups: CgroupLayout
  /** The kernel has them. */
  readonly cgroupNamespaces: boolean
  readonly hostname: string
  readonly arch: string
  readonly kernel: string
  /** Absent: the kernel filters no system calls. */
  readonly seccomp: HostSeccomp | undefined
  /** Absent: the kernel has none. */
  readonly appArmor?: AppArmor
  /** CPUs that this host has online. */
  readonly cpus: number
  /** Path of a static init that is put into containers that ask for one; absent when there is none. */
  readonly init?: string
}

export interface SpecInput {
  readonly id: string
  /** Absolute path of the mounted root file system. */
  readonly rootfs: string
  readonly image: ImageRunConfig
  readonly request: CreateRequest
  readonly user: FoundUser
  readonly host: HostFacts
  /** Below the hierarchy roots: `/darner/<id>`. */
  readonly cgroupPath: string
  /** Absolute paths of the files that host-files.ts describes, bound into /etc. */
  readonly files: { readonly hostname: string; readonly hosts: string; readonly resolvConf: string }
  readonly consoleSize?: { readonly rows: number; readonly columns: number }
  /** Volumes, binds and tmpfs of the request, already looked up; they win over the default mounts. */
  readonly mounts?: readonly OciMount[]
  readonly devices?: readonly { readonly device: OciDevice; readonly access: string }[]
  /** Ids of a user namespace of its own; absent: the host's. */
  readonly idmap?: IdMap
  /** Bound to /sys where the container's root may not mount one. */
  readonly sysfs?: string
  /** Path of the network namespace to be in; absent, the host's or, with `none`, a new one. */
  readonly netnsPath?: string
}

/** The bundle's config.json. Throws BAD_ARGUMENT as command.ts does, and HOST_UNABLE for a capability, seccomp or an AppArmor profile that the host lacks. */
export function buildSpec(input: SpecInput): OciSpec {
  const { id, rootfs, request, host } = input
  const capabilities = capabilitiesOf(request, host.limits)
  const network = request.network ?? 'host'
  const privileged = request.privileged === true
  const seccomp = seccompOf(request, host.seccomp)
  return {
    ociVersion: OCI_VERSION,
    process: processOf(input, capabilities),
    root: { path: rootfs, readonly: request.readonlyRootfs === true },
    ...(request.hostUts === true ? {} : { hostname: hostnameOf(id, request, host) }),
    ...(request.domainname ? { domainname: request.domainname } : {}),
    mounts: mountsOf(input),
    annotations: { ...request.annotations, 'org.opencontainers.image.ref.name': request.image },
    linux: {
      cgroupsPath: input.cgroupPath,
      namespaces: namespacesOf(input, network),
      ...mappingsOf(input.idmap),
      resources: {
        ...resourcesOf(request.resources ?? {}, host.cgroups, host.cpus),
        devices: deviceRules(input),
      },
      ...(input.devices?.length ? { devices: input.devices.map((one) => one.device) } : {}),
      maskedPaths: privileged ? [] : MASKED_PATHS,
      readonlyPaths: privileged ? [] : READONLY_PATHS,
      ...sharedRoot(input),
      ...sysctlOf(input, network),
      ...(seccomp === undefined
        ? {}
        : { seccomp: resolveSeccomp(seccomp.profile, { capabilities, arch: host.arch, kernel: host.kernel }) }),
    },
  }
}

/** On the host's network a container has the host's name, as its hosts file says; else the request's or the start of its id. */
export function hostnameOf(id: string, request: CreateRequest, host: HostFacts): string {
  return request.hostname ?? ((request.network ?? 'host') === 'host' ? host.hostname : id.slice(0, 12))
}

/** Default capabilities (all, when privileged) plus and minus the request's, inside the host's bounding set. */
export function capabilitiesOf(request: CreateRequest, limits: HostLimits): string[] {
  checkOomScore(request.oomScoreAdj, limits)
  const add = (request.capAdd ?? []).map(capabilityName)
  const drop = (request.capDrop ?? []).map(capabilityName)
  const all = [...limits.capabilities]
  const named = add.filter((one) => one !== 'CAP_ALL')
  const missing = named.find((one) => !limits.capabilities.has(one))
  if (missing !== undefined) {
    throw new DarnerError('HOST_UNABLE', `capability ${missing}: this host's own bounding set lacks it`)
  }
  const base = drop.includes('CAP_ALL') ? [] : DEFAULT_CAPABILITIES.filter((one) => !drop.includes(one))
  const wanted =
    add.includes('CAP_ALL') || request.privileged === true
      ? all.filter((one) => !drop.includes(one))
      : [...new Set([...base, ...named])]
  return withinBounds(wanted, limits)
}

/** As the kernel's headers have it, or CAP_ALL. Throws BAD_ARGUMENT for one that isn't known. */
export function capabilityName(text: string): string {
  const upper = text.toUpperCase()
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (name !== 'CAP_ALL' && !CAPABILITY_NAMES.includes(name)) {
    throw new DarnerError('BAD_ARGUMENT', `capability ${JSON.stringify(text.slice(0, 60))} is not known`)
  }
  return name
}

function processOf(input: SpecInput, capabilities: readonly string[]): OciProcess {
  const { id, image, request, user, host, consoleSize } = input
  const apparmorProfile = appArmorOf(request, host.appArmor)
  const tty = request.tty === true
  return {
    terminal: tty,
    ...(tty && consoleSize ? { consoleSize: { height: consoleSize.rows, width: consoleSize.columns } } : {}),
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: [...(request.init === true ? [INIT_PATH, '--'] : []), ...argumentsOf(image, request, request.image)],
    env: environmentOf(image.env, request.env ?? [], { hostname: hostnameOf(id, request, host), home: user.home, tty }),
    cwd: workdirOf(image, request),
    capabilities: grant(capabilities, user.uid),
    rlimits: rlimitsOf(request.ulimits ?? [], host.limits),
    ...(request.oomScoreAdj === undefined ? {} : { oomScoreAdj: request.oomScoreAdj }),
    noNewPrivileges: request.noNewPrivileges === true,
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
  }
}

/** A user other than root starts without effective capabilities: it gets them only by set-uid or file capabilities. */
function grant(names: readonly string[], uid: number): OciCapabilities {
  const own = uid === 0 ? names : []
  return { bounding: names, effective: own, permitted: own }
}

function mappingsOf(idmap: IdMap | undefined): Pick<OciSpec['linux'], 'uidMappings' | 'gidMappings'> {
  if (idmap === undefined) return {}
  const all = [{ containerID: 0, hostID: idmap.base, size: idmap.size }]
  return { uidMappings: all, gidMappings: all }
}

function namespacesOf({ request, host, netnsPath, idmap }: SpecInput, network: string): OciNamespace[] {
  const types: OciNamespace['type'][] = idmap ? ['user', 'mount'] : ['mount']
  if (request.hostPid !== true) types.push('pid')
  if (request.hostIpc !== true) types.push('ipc')
  if (request.hostUts !== true) types.push('uts')
  if (network === 'none') types.push('network')
  if (cgroupnsOf(request, host.cgroups) === 'private') types.push('cgroup')
  const made = types.map((type): OciNamespace => ({ type }))
  return netnsPath === undefined ? made : [...made, { type: 'network', path: netnsPath }]
}

/** Where the init of `init: true` lies in a container. */
export const INIT_PATH = '/sbin/docker-init'

function mountsOf({ request, host, files, mounts: asked = [], sysfs }: SpecInput): OciMount[] {
  const privileged = request.privileged === true
  const own = DEFAULT_MOUNTS.map((one): OciMount => {
    if (one.destination === '/dev/shm' && request.shmBytes)
      return {
        ...one,
        options: (one.options ?? []).map((word) => (word.startsWith('size=') ? `size=${request.shmBytes}` : word)),
      }
    if (sysfs !== undefined && one.destination === '/sys')
      return { destination: '/sys', type: 'bind', source: sysfs, options: ['rbind', ...(one.options ?? [])] }
    if (privileged && one.options?.includes('ro'))
      return { ...one, options: one.options.map((word) => (word === 'ro' ? 'rw' : word)) }
    return one
  })
  if (request.hostIpc === true) {
    const at = own.findIndex((one) => one.destination === '/dev/shm')
    if (at >= 0) own[at] = bind('/dev/shm', '/dev/shm')
  }
  const taken = new Set(asked.map((one) => one.destination))
  const further = [
    ...asked,
    bind(files.resolvConf, '/etc/resolv.conf'),
    bind(files.hostname, '/etc/hostname'),
    bind(files.hosts, '/etc/hosts'),
    ...(request.init === true && host.init !== undefined
      ? [{ ...bind(host.init, INIT_PATH), options: ['bind', 'ro'] }]
      : []),
  ]
  const distinct = further.filter((one, at) => at < asked.length || !taken.has(one.destination))
  // a later mount may lie below an earlier one, never the other way round
  distinct.sort((a, b) => a.destination.split('/').length - b.destination.split('/').length)
  return [...own.filter((one) => !taken.has(one.destination)), ...distinct]
}

function deviceRules({ request, devices = [] }: SpecInput): OciDeviceRule[] {
  if (request.privileged === true) return [{ allow: true, access: 'rwm' }]
  return [
    ...DEVICE_RULES,
    ...devices.map(({ device: { type, major, minor }, access }) => ({ allow: true, type, major, minor, access })),
    ...(request.deviceRules ?? []).flatMap(ruleOf),
  ]
}

/** `a` is every device, and stands for both types; absent numbers are any. */
function ruleOf(text: string): OciDeviceRule[] {
  const [, type = '', major = '', minor = '', access = ''] = DEVICE_RULE.exec(text) ?? []
  const numbers = {
    ...(major === '*' ? {} : { major: Number(major) }),
    ...(minor === '*' ? {} : { minor: Number(minor) }),
  }
  const types = type === 'a' ? ['b', 'c'] : [type]
  return types.map((one) => ({ allow: true, type: one as 'b' | 'c', ...numbers, access }))
}

/** A bind that shares mounts with this host needs a root that does. */
function sharedRoot({ mounts = [] }: SpecInput): { rootfsPropagation?: string } {
  const words = mounts.flatMap((one) => one.options ?? [])
  if (words.some((one) => one === 'shared' || one === 'rshared')) return { rootfsPropagation: 'shared' }
  if (words.some((one) => one === 'slave' || one === 'rslave')) return { rootfsPropagation: 'rslave' }
  return {}
}

/** Throws BAD_ARGUMENT for a setting that is not the container's own but the host's. */
function sysctlOf({ request, sysfs, idmap }: SpecInput, network: string): { sysctl?: Record<string, string> } {
  const asked = request.sysctls ?? {}
  for (const name of Object.keys(asked)) {
    const ipc = /^(kernel\.(msg|sem|shm)|fs\.mqueue\.)/.test(name)
    if (name.startsWith('net.') ? network === 'host' : !(ipc && request.hostIpc !== true)) {
      throw new DarnerError('BAD_ARGUMENT', `sysctl ${name}: it is not separate from the host's here, and not set`)
    }
  }
  // with a /sys given, the network isn't the container's own, and its settings are made from outside
  const others = Object.entries(asked).filter(([name]) => !name.startsWith('net.'))
  const all =
    sysfs === undefined
      ? { ...(network === 'host' ? {} : PRIVATE_NETWORK_SYSCTLS), ...pingersOf(idmap), ...asked }
      : Object.fromEntries(others)
  return Object.keys(all).length > 0 ? { sysctl: all } : {}
}

/** A namespace knows no groups but its own. */
function pingersOf(idmap: IdMap | undefined): Record<string, string> {
  return idmap === undefined ? {} : { 'net.ipv4.ping_group_range': `0 ${idmap.size - 1}` }
}

/** The settings of a network namespace that isn't the host's. */
export function networkSysctlsOf({ sysctls }: CreateRequest): Record<string, string> {
  const asked = Object.entries(sysctls ?? {}).filter(([name]) => name.startsWith('net.'))
  return { ...PRIVATE_NETWORK_SYSCTLS, ...Object.fromEntries(asked) }
}

const bind = (source: string, destination: string) => ({
  destination,
  type: 'bind',
  source,
  options: ['rbind', 'rprivate', 'rw'],
})

export interface ExecRequestFacts {
  readonly command: readonly string[]
  readonly env: readonly string[]
  readonly workdir?: string
  readonly user?: FoundUser
  /** Instead of the first process's. */
  readonly capabilities?: readonly string[]
  readonly tty: boolean
  readonly consoleSize?: { readonly rows: number; readonly columns: number }
}

/** A further process in a running container, confined as its first one is but for capabilities that are named. Throws BAD_ARGUMENT. */
export function execProcess(main: OciProcess, request: ExecRequestFacts): OciProcess {
  if (request.command.length === 0 || request.command[0] === '' || request.command.some((one) => one.includes('\0'))) {
    throw new DarnerError('BAD_ARGUMENT', 'exec: no command was given, or an argument has a NUL byte')
  }
  if (request.workdir !== undefined && !request.workdir.startsWith('/')) {
    throw new DarnerError('BAD_ARGUMENT', `exec: working directory ${request.workdir} is not absolute`)
  }
  const { user, capabilities = main.capabilities.bounding } = request
  const inherited = user ? main.env.filter((one) => !one.startsWith('HOME=')) : main.env
  const home = user?.home ?? main.env.find((one) => one.startsWith('HOME='))?.slice(5) ?? '/'
  const { consoleSize: _size, ...kept } = main
  return {
    ...kept,
    terminal: request.tty,
    ...(request.tty && request.consoleSize
      ? { consoleSize: { height: request.consoleSize.rows, width: request.consoleSize.columns } }
      : {}),
    ...(user
      ? {
          user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
        }
      : {}),
    ...(user || request.capabilities ? { capabilities: grant(capabilities, (user ?? main.user).uid) } : {}),
    ...(request.capabilities ? { noNewPrivileges: false } : {}),
    ...(request.capabilities && main.apparmorProfile !== undefined ? { apparmorProfile: 'unconfined' } : {}),
    args: request.command,
    env: environmentOf(inherited, request.env, { hostname: '', home, tty: request.tty }),
    cwd: request.workdir ?? main.cwd,
  }
}
