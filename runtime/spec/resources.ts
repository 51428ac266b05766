/** Limits as a request states them -> what the runtime enforces (runtime-spec, config-linux.md, "Control groups"), or why it can't. */
import { statSync } from 'node:fs'
import type { Resources, Ulimit } from '../../src/api/container-options.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { CgroupLayout } from './cgroups.ts'
import type { HostLimits } from './host-limits.ts'
import type { OciResources, OciRlimit } from './oci-spec.ts'

/** The least memory that a container starts with, as the docker family has it. */
export const LEAST_MEMORY_BYTES = 6 << 20
const CPU_PERIOD_US = 100_000
const RLIMIT_NAMES: Readonly<Record<string, string>> = Object.fromEntries(
  'as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack'
    .split(' ')
    .map((name) => [name, `RLIMIT_${name.toUpperCase()}`]),
)
/** `unlimited` as far as a JSON number can say it; both runtimes take it as such. */
const UNLIMITED = 2 ** 63

/** Throws BAD_ARGUMENT for limits that contradict each other, HOST_UNABLE for those that no controller of this host enforces. */
export function resourcesOf(asked: Resources, cgroups: CgroupLayout, cpus: number): Omit<OciResources, 'devices'> {
  checkResources(asked, cgroups, cpus)
  const memory = memoryOf(asked, cgroups)
  const cpu = cpuOf(asked)
  return {
    ...(Object.keys(memory).length > 0 ? { memory } : {}),
    ...(Object.keys(cpu).length > 0 ? { cpu } : {}),
    ...(asked.pidsLimit === undefined ? {} : { pids: { limit: asked.pidsLimit <= 0 ? -1 : asked.pidsLimit } }),
    ...(asked.blkioWeight || asked.blkioRates ? { blockIO: blockIoOf(asked) } : {}),
  }
}

const THROTTLES = {
  readBps: 'throttleReadBpsDevice',
  writeBps: 'throttleWriteBpsDevice',
  readIops: 'throttleReadIOPSDevice',
  writeIops: 'throttleWriteIOPSDevice',
} as const

/** Device numbers are looked up at each start: they change over boots. */
function blockIoOf({ blkioWeight, blkioRates = [] }: Resources): NonNullable<OciResources['blockIO']> {
  const rates = blkioRates.map(({ path, what, rate }) => ({ key: THROTTLES[what], ...blockDevice(path), rate }))
  const of = (key: (typeof rates)[number]['key']) =>
    rates.filter((one) => one.key === key).map(({ key: _k, ...one }) => one)
  const lists = Object.values(THROTTLES).flatMap((key) => (of(key).length > 0 ? [[key, of(key)] as const] : []))
  return { ...(blkioWeight ? { weight: blkioWeight } : {}), ...Object.fromEntries(lists) }
}

/** Throws BAD_ARGUMENT for what is no block device. */
function blockDevice(path: string): { major: number; minor: number } {
  const facts = statSync(path, { throwIfNoEntry: false })
  if (facts === undefined || !facts.isBlockDevice())
    throw new DarnerError('BAD_ARGUMENT', `limit on ${path}: it is not a block device of this host`)
  const { rdev } = facts
  return { major: (rdev >> 8) & 0xfff, minor: (rdev & 0xff) | ((rdev >> 12) & 0xfff00) }
}

function memoryOf(asked: Resources, cgroups: CgroupLayout) {
  const { memoryBytes, memorySwapBytes, memoryReservationBytes, memorySwappiness } = asked
  // as docker: swap as large as the memory, when only the memory is limited
  const swap = memorySwapBytes || (memoryBytes ? memoryBytes * 2 : memoryBytes === 0 ? -1 : undefined)
  return {
    ...(memoryBytes === undefined ? {} : { limit: memoryBytes === 0 ? -1 : memoryBytes }),
    ...(swap === undefined ? {} : { swap }),
    ...(memoryReservationBytes ? { reservation: memoryReservationBytes } : {}),
    // cgroup2 has none, which is warned of
    ...(memorySwappiness !== undefined && hasSwappiness(cgroups) ? { swappiness: memorySwappiness } : {}),
  }
}

function cpuOf({ nanoCpus, cpuQuotaUs, cpuPeriodUs, cpuShares, cpusetCpus, cpusetMems }: Resources) {
  const period = cpuPeriodUs || (nanoCpus || cpuQuotaUs ? CPU_PERIOD_US : undefined)
  const quota = nanoCpus ? Math.round((nanoCpus * CPU_PERIOD_US) / 1e9) : cpuQuotaUs || undefined
  return {
    ...(cpuShares ? { shares: cpuShares } : {}),
    ...(period === undefined ? {} : { period }),
    ...(quota === undefined ? {} : { quota }),
    ...(cpusetCpus ? { cpus: cpusetCpus } : {}),
    ...(cpusetMems ? { mems: cpusetMems } : {}),
  }
}

function checkResources(asked: Resources, cgroups: CgroupLayout, cpus: number): void {
  const refuse = (why: string): never => {
    throw new DarnerError('BAD_ARGUMENT', why)
  }
  const { memoryBytes = 0, memorySwapBytes = 0, nanoCpus = 0 } = asked
  if (memoryBytes > 0 && memoryBytes < LEAST_MEMORY_BYTES) refuse('Minimum memory limit allowed is 6MB')
  if (memorySwapBytes > 0 && memoryBytes === 0)
    refuse('You should always set the Memory limit when using Memoryswap limit, see usage')
  if (memorySwapBytes > 0 && memorySwapBytes < memoryBytes)
    refuse('Minimum memoryswap limit should be larger than memory limit, see usage')
  if ((asked.memoryReservationBytes ?? 0) > memoryBytes && memoryBytes > 0)
    refuse('Minimum memory limit can not be less than memory reservation limit, see usage')
  if (nanoCpus > 0 && (asked.cpuQuotaUs || asked.cpuPeriodUs))
    refuse('Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set')
  if (nanoCpus > cpus * 1e9)
    refuse(`Range of CPUs is from 0.01 to ${cpus}.00, as there are only ${cpus} CPUs available`)
  if (nanoCpus > 0 && nanoCpus < 1e7) refuse(`Range of CPUs is from 0.01 to ${cpus}.00`)
  if (asked.cpuPeriodUs && asked.cpuPeriodUs < 1000)
    refuse('CPU cfs period cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)')
  if (asked.cpuQuotaUs && asked.cpuQuotaUs > 0 && asked.cpuQuotaUs < 1000)
    refuse('CPU cfs quota cannot be less than 1ms (i.e. 1000)')
  if (asked.cpuShares === 1) refuse('The minimum allowed cpu-shares is 2')
  if (asked.blkioWeight && asked.blkioWeight < 10) refuse('Range of blkio weight is from 10 to 1000')
  for (const [name, limits] of Object.entries(CONTROLLED)) {
    if (limits.some((one) => asksFor(asked, one)) && !hasController(cgroups, name))
      throw new DarnerError('HOST_UNABLE', `limit on ${name}: this host has no ${name} controller to enforce it`)
  }
  const highest = Math.max(-1, ...(asked.cpusetCpus ?? '').split(/[,-]/).filter(Boolean).map(Number))
  if (highest >= cpus)
    refuse(
      `Requested CPUs are not available - requested ${asked.cpusetCpus}, available: ${cpus > 1 ? `0-${cpus - 1}` : '0'}`,
    )
}

/** What of the limits each controller enforces; those of one are checked together. */
export const CONTROLLED: Readonly<Record<string, readonly (keyof Resources)[]>> = {
  memory: ['memoryBytes', 'memorySwapBytes', 'memoryReservationBytes'],
  cpu: ['nanoCpus', 'cpuShares', 'cpuQuotaUs', 'cpuPeriodUs'],
  cpuset: ['cpusetCpus', 'cpusetMems'],
  pids: ['pidsLimit'],
  blkio: ['blkioWeight', 'blkioRates'],
}

/** Nothing and zero ask for no limit, nor does -1 of processes. */
function asksFor(asked: Resources, name: keyof Resources): boolean {
  const value = asked[name]
  if (name === 'pidsLimit') return Number(value ?? 0) > 0
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}

/** Only the memory controller of v1 has it. */
export function hasSwappiness({ v1 }: CgroupLayout): boolean {
  return v1.has('memory')
}

/** True when a v1 hierarchy or cgroup2 enforces it; cgroup2 calls blkio `io`. */
export function hasController({ v1, v2 }: CgroupLayout, name: string): boolean {
  return v1.has(name) || (v2?.controllers.includes(name === 'blkio' ? 'io' : name) ?? false)
}

/** Throws BAD_ARGUMENT for an unknown name, HOST_UNABLE for more than this process may hand on: a limit is never lowered silently. */
export function rlimitsOf(asked: readonly Ulimit[], host: HostLimits): OciRlimit[] {
  return asked.map(({ name, soft, hard }) => {
    const type = RLIMIT_NAMES[name]
    if (type === undefined) throw new DarnerError('BAD_ARGUMENT', `invalid ulimit type: ${name}`)
    const [low, high] = [soft, hard].map((one) => (one === -1 ? UNLIMITED : one)) as [number, number]
    if (low > high)
      throw new DarnerError(
        'BAD_ARGUMENT',
        `ulimit soft limit must be less than or equal to hard limit: ${soft} > ${hard}`,
      )
    const most = host.hard.get(type) ?? Number.POSITIVE_INFINITY
    if (high > most && !host.capabilities.has('CAP_SYS_RESOURCE')) {
      throw new DarnerError('HOST_UNABLE', `ulimit ${name}=${soft}:${hard}: this host hands on at most ${most}`)
    }
    return { type, soft: low, hard: high }
  })
}

/** Lower than its own value takes CAP_SYS_RESOURCE. Throws HOST_UNABLE. */
export function checkOomScore(asked: number | undefined, host: HostLimits): void {
  if (asked !== undefined && asked < 0 && !host.capabilities.has('CAP_SYS_RESOURCE'))
    throw new DarnerError(
      'HOST_UNABLE',
      `oom score ${asked}: lowering it needs CAP_SYS_RESOURCE, which this host lacks`,
    )
}
