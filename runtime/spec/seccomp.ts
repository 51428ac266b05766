/** Seccomp profiles: the agent's, a container's own, and what of them holds for a machine and a container's capabilities. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import { asDarnerError, DarnerError, systemCode } from '../../src/core/errors.ts'
import type { OciSeccomp, OciSyscallArgument } from './oci-spec.ts'
import { DEFAULT_SECCOMP } from './seccomp-default.ts'
import type { ConditionalSyscall, SeccompCondition, SeccompProfile } from './seccomp-profile.ts'

const ARCHES: Readonly<Record<string, { seccomp: string; names: readonly string[] }>> = {
  x64: { seccomp: 'SCMP_ARCH_X86_64', names: ['amd64', 'x32', 'x86'] },
  arm64: { seccomp: 'SCMP_ARCH_AARCH64', names: ['arm64', 'arm'] },
  riscv64: { seccomp: 'SCMP_ARCH_RISCV64', names: ['riscv64'] },
  s390x: { seccomp: 'SCMP_ARCH_S390X', names: ['s390x', 's390'] },
  ppc64: { seccomp: 'SCMP_ARCH_PPC64LE', names: ['ppc64le'] },
}

/** What containers of a host have that bring no profile of their own. */
export interface HostSeccomp {
  /** `builtin`, or the path that it was read from. */
  readonly name: string
  readonly profile: SeccompProfile
}

/** There where the kernel filters system calls (CONFIG_SECCOMP_FILTER). */
const FILTER_ACTIONS = '/proc/sys/kernel/seccomp/actions_avail'

/** The one that comes with darner, or the one at the path `wanted`; undefined where the kernel filters no calls. Throws CONFIG_INVALID. */
export async function hostSeccomp(
  wanted = 'builtin',
  filters = existsSync(FILTER_ACTIONS),
): Promise<HostSeccomp | undefined> {
  const profile = wanted === 'builtin' ? DEFAULT_SECCOMP : await readSeccompProfile(wanted)
  return filters ? { name: wanted, profile } : undefined
}

async function readSeccompProfile(path: string): Promise<SeccompProfile> {
  try {
    return parseSeccompProfile(JSON.parse(await readFile(path, 'utf8')), path)
  } catch (error) {
    if (error instanceof DarnerError) throw error
    throw new DarnerError(
      'CONFIG_INVALID',
      `seccomp profile ${path}: ${systemCode(error) ?? asDarnerError(error, 'reading it').message}`,
      {
        cause: error,
        way: 'name a profile as docker and podman have them with seccompProfile, or `builtin`',
      },
    )
  }
}

/**
 * The profile of one container: its own, the host's, or none where that was asked for. Throws CONFIG_INVALID for an own one that is
 * malformed, HOST_UNABLE where there is none to have.
 */
export function seccompOf(
  { seccomp, seccompProfile: own, privileged }: Pick<CreateRequest, 'seccomp' | 'seccompProfile' | 'privileged'>,
  host: HostSeccomp | undefined,
): HostSeccomp | undefined {
  if (own === undefined && (seccomp === 'unconfined' || (privileged === true && seccomp === undefined)))
    return undefined
  if (host === undefined)
    throw new DarnerError('HOST_UNABLE', 'seccomp: the kernel of this host filters no system calls', {
      way: 'use --security-opt seccomp=unconfined to run without a filter',
    })
  if (own === undefined) return host
  return { name: 'its own', profile: parseSeccompProfile(JSON.parse(own), 'of the container') }
}

/** The syscall rules that hold for these capabilities on this machine, as the runtime takes them. */
export function resolveSeccomp(
  profile: SeccompProfile,
  facts: { capabilities: readonly string[]; arch: string; kernel: string },
): OciSeccomp {
  const arch = ARCHES[facts.arch]
  const mapped = profile.archMap.find((one) => one.architecture === arch?.seccomp)
  const applies = ({ includes, excludes }: ConditionalSyscall) =>
    (includes.caps.length === 0 || includes.caps.some((one) => facts.capabilities.includes(one))) &&
    (includes.arches.length === 0 || includes.arches.some((one) => arch?.names.includes(one))) &&
    (includes.minKernel === undefined || !olderThan(facts.kernel, includes.minKernel)) &&
    !excludes.caps.some((one) => facts.capabilities.includes(one)) &&
    !excludes.arches.some((one) => arch?.names.includes(one)) &&
    (excludes.minKernel === undefined || olderThan(facts.kernel, excludes.minKernel))
  return {
    defaultAction: profile.defaultAction,
    ...(profile.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: profile.defaultErrnoRet }),
    ...(arch === undefined ? {} : { architectures: [arch.seccomp, ...(mapped?.subArchitectures ?? [])] }),
    syscalls: profile.syscalls
      .filter(applies)
      .map(({ includes: _includes, excludes: _excludes, ...syscall }) => syscall),
  }
}

/** Checks the shape of a profile. Throws CONFIG_INVALID. */
export function parseSeccompProfile(json: unknown, path: string): SeccompProfile {
  const whole = record(json)
  if (typeof whole.defaultAction !== 'string' || !Array.isArray(whole.syscalls)) {
    throw new DarnerError('CONFIG_INVALID', `seccomp profile ${path}: defaultAction or syscalls is missing`)
  }
  return {
    defaultAction: whole.defaultAction,
    ...(typeof whole.defaultErrnoRet === 'number' ? { defaultErrnoRet: whole.defaultErrnoRet } : {}),
    archMap: list(whole.archMap).map((one) => ({
      architecture: String(record(one).architecture),
      subArchitectures: strings(record(one).subArchitectures),
    })),
    syscalls: whole.syscalls.map((one: unknown) => {
      const row = record(one)
      const args = list(row.args).map(argument)
      return {
        names: row.name === undefined ? strings(row.names) : [String(row.name)],
        action: String(row.action),
        ...(typeof row.errnoRet === 'number' ? { errnoRet: row.errnoRet } : {}),
        ...(args.length === 0 ? {} : { args }),
        includes: condition(row.includes),
        excludes: condition(row.excludes),
      }
    }),
  }
}

function argument(json: unknown): OciSyscallArgument {
  const row = record(json)
  return {
    index: Number(row.index),
    value: Number(row.value),
    valueTwo: Number(row.valueTwo ?? 0),
    op: String(row.op),
  }
}

function condition(json: unknown): SeccompCondition {
  const row = record(json)
  const minKernel = row.minKernel
  return {
    caps: strings(row.caps),
    arches: strings(row.arches),
    minKernel: typeof minKernel === 'string' ? minKernel : undefined,
  }
}

const record = (json: unknown): Record<string, unknown> =>
  typeof json === 'object' && json !== null && !Array.isArray(json) ? (json as Record<string, unknown>) : {}
const list = (json: unknown): unknown[] => (Array.isArray(json) ? json : [])
const strings = (json: unknown): string[] => list(json).filter((one) => typeof one === 'string')

function olderThan(kernel: string, least: string): boolean {
  const [a = 0, b = 0] = kernel.split('.').map((one) => Number.parseInt(one, 10))
  const [c = 0, d = 0] = least.split('.').map((one) => Number.parseInt(one, 10))
  return a < c || (a === c && b < d)
}
