/** Image configuration + request -> config.json (runtime-spec, config.md): a pure function of what it is given. */
import { DarnerError } from '../../src/base/errors.ts'
import type { CreateRequest } from '../../src/wire/local-api.ts'
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
import { CAPABILITY_NAMES, clampRlimits, type HostLimits, withinBounds } from './host-limits.ts'
import type { ImageRunConfig } from './image-config.ts'
import type { OciCapabilities, OciNamespace, OciProcess, OciSpec } from './oci-spec.ts'
import { resolveSeccomp, type SeccompProfile } from './seccomp.ts'
import type { FoundUser } from './users.ts'

/** What the machine is like, read once at start. */
export interface HostFacts {
  readonly limits: HostLimits
  readonly cgroups: CgroupLayout
  readonly hostname: string
  readonly arch: string
  readonly kernel: string
  readonly seccomp: SeccompProfile | undefined
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
}

/** The bundle's config.json. Throws BAD_ARGUMENT as command.ts does, and HOST_UNABLE for a capability that the host lacks. */
export function buildSpec(input: SpecInput): OciSpec {
  const { id, rootfs, request, host, files } = input
  const capabilities = capabilitiesOf(request, host.limits)
  const network = request.network ?? 'host'
  return {
    ociVersion: OCI_VERSION,
    process: processOf(input, capabilities),
    root: { path: rootfs, readonly: request.readonlyRootfs === true },
    hostname: hostnameOf(id, request, host),
    mounts: [
      ...DEFAULT_MOUNTS,
      bind(files.resolvConf, '/etc/resolv.conf'),
      bind(files.hostname, '/etc/hostname'),
      bind(files.hosts, '/etc/hosts'),
    ],
    annotations: { 'org.opencontainers.image.ref.name': request.image },
    linux: {
      cgroupsPath: input.cgroupPath,
      namespaces: namespacesOf(network, host),
      resources: { devices: DEVICE_RULES },
      maskedPaths: MASKED_PATHS,
      readonlyPaths: READONLY_PATHS,
      ...(network === 'none' ? { sysctl: PRIVATE_NETWORK_SYSCTLS } : {}),
      ...(host.seccomp === undefined || request.seccomp === 'unconfined'
        ? {}
        : { seccomp: resolveSeccomp(host.seccomp, { capabilities, arch: host.arch, kernel: host.kernel }) }),
    },
  }
}

/** On the host's network a container has the host's name, as its hosts file says; else the request's or the start of its id. */
export function hostnameOf(id: string, request: CreateRequest, host: HostFacts): string {
  return request.hostname ?? ((request.network ?? 'host') === 'host' ? host.hostname : id.slice(0, 12))
}

/** Default capabilities plus and minus the request's, inside the host's bounding set. */
export function capabilitiesOf(request: CreateRequest, limits: HostLimits): string[] {
  const add = (request.capAdd ?? []).map(capabilityName)
  const drop = (request.capDrop ?? []).map(capabilityName)
  const all = [...limits.capabilities]
  const named = add.filter((one) => one !== 'CAP_ALL')
  const missing = named.find((one) => !limits.capabilities.has(one))
  if (missing !== undefined) {
    throw new DarnerError('HOST_UNABLE', `capability ${missing}: this host's own bounding set lacks it`)
  }
  const base = drop.includes('CAP_ALL') ? [] : DEFAULT_CAPABILITIES.filter((one) => !drop.includes(one))
  const wanted = add.includes('CAP_ALL') ? all.filter((one) => !drop.includes(one)) : [...new Set([...base, ...named])]
  return withinBounds(wanted, limits)
}

function capabilityName(text: string): string {
  const upper = text.toUpperCase()
  const name = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (name !== 'CAP_ALL' && !CAPABILITY_NAMES.includes(name)) {
    throw new DarnerError('BAD_ARGUMENT', `capability ${JSON.stringify(text.slice(0, 60))} is not known`)
  }
  return name
}

function processOf(input: SpecInput, capabilities: readonly string[]): OciProcess {
  const { id, image, request, user, host, consoleSize } = input
  const tty = request.tty === true
  return {
    terminal: tty,
    ...(tty && consoleSize ? { consoleSize: { height: consoleSize.rows, width: consoleSize.columns } } : {}),
    user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
    args: argumentsOf(image, request, request.image),
    env: environmentOf(image.env, request.env ?? [], { hostname: hostnameOf(id, request, host), home: user.home, tty }),
    cwd: workdirOf(image, request),
    capabilities: grant(capabilities, user.uid),
    rlimits: clampRlimits([], host.limits),
    noNewPrivileges: request.noNewPrivileges === true,
  }
}

/** A user other than root starts without effective capabilities: it gets them only by set-uid or file capabilities. */
function grant(names: readonly string[], uid: number): OciCapabilities {
  const own = uid === 0 ? names : []
  return { bounding: names, effective: own, permitted: own }
}

function namespacesOf(network: string, host: HostFacts): OciNamespace[] {
  const types: OciNamespace['type'][] = ['pid', 'mount', 'ipc', 'uts']
  if (network === 'none') types.push('network')
  if (host.cgroups.kind === 'v2') types.push('cgroup')
  return types.map((type) => ({ type }))
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
  readonly tty: boolean
  readonly consoleSize?: { readonly rows: number; readonly columns: number }
}

/** A further process in a running container, confined as its first one is. Throws BAD_ARGUMENT. */
export function execProcess(main: OciProcess, request: ExecRequestFacts): OciProcess {
  if (request.command.length === 0 || request.command[0] === '' || request.command.some((one) => one.includes('\0'))) {
    throw new DarnerError('BAD_ARGUMENT', 'exec: no command was given, or an argument has a NUL byte')
  }
  if (request.workdir !== undefined && !request.workdir.startsWith('/')) {
    throw new DarnerError('BAD_ARGUMENT', `exec: working directory ${request.workdir} is not absolute`)
  }
  const { user } = request
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
          capabilities: grant(main.capabilities.bounding, user.uid),
        }
      : {}),
    args: request.command,
    env: environmentOf(inherited, request.env, { hostname: '', home, tty: request.tty }),
    cwd: request.workdir ?? main.cwd,
  }
}
