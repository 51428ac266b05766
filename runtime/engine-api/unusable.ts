/** Members of docker's HostConfig that are known and not offered, with what to use instead. */
import { StatusError } from './errors.ts'

/** Members that have no effect here or can't be had, with what to say; the values that clients send unasked are fine. */
const UNUSABLE: Readonly<Record<string, { fine: readonly unknown[]; way: string }>> = {
  ContainerIDFile: { fine: [], way: '' }, // the client's own business
  Cgroup: { fine: [''], way: '' },
  CgroupParent: { fine: [''], way: 'the agent has one cgroup parent for all containers' },
  Isolation: { fine: ['', 'default'], way: '' },
  BlkioWeightDevice: { fine: [], way: 'use --blkio-weight' },
  CpuRealtimePeriod: { fine: [0], way: 'use --cpus' },
  CpuRealtimeRuntime: { fine: [0], way: 'use --cpus' },
  DeviceRequests: { fine: [], way: 'name each device with --device' },
  KernelMemory: { fine: [0], way: 'use --memory' },
  KernelMemoryTCP: { fine: [0], way: 'use --memory' },
  OomKillDisable: { fine: [false], way: 'use --oom-score-adj' },
  CpuCount: { fine: [0], way: 'use --cpus' },
  CpuPercent: { fine: [0], way: 'use --cpus' },
  IOMaximumIOps: { fine: [0], way: 'use --blkio-weight' },
  IOMaximumBandwidth: { fine: [0], way: 'use --blkio-weight' },
  MaskedPaths: { fine: [], way: 'use --privileged' },
  ReadonlyPaths: { fine: [], way: 'use --privileged' },
}
/** An empty list of these asks for something, too: for none. */
const SAID_BY_NONE = new Set(['MaskedPaths', 'ReadonlyPaths'])
const UNASKED = new Set(['ContainerIDFile'])

/** Throws 400 for a member of a body that is not in `known` and says something: clients also send null and empty ones. */
export function refuseUnknown(body: object, known: ReadonlySet<string>): void {
  const strange = Object.entries(body).find(([name, value]) => !known.has(name) && value !== '' && !isEmpty(value))
  if (strange) throw new StatusError(400, `${strange[0].slice(0, 200)}: unknown option`)
}

/** `offered` has the members that are read. Throws 400 for a member that nobody knows, 501 for one that is known and set but not offered. */
export function refuseUnusable(config: Readonly<Record<string, unknown>>, offered: object): void {
  for (const [name, value] of Object.entries(config)) {
    if (Object.hasOwn(offered, name) || UNASKED.has(name)) continue
    if (SAID_BY_NONE.has(name) ? value === null : isEmpty(value)) continue
    const row = UNUSABLE[name]
    if (row === undefined) throw new StatusError(400, `HostConfig.${name}: unknown option`)
    if (row.fine.includes(value)) continue
    throw new StatusError(501, `HostConfig.${name} is not offered${row.way === '' ? '' : `: ${row.way}`}`)
  }
}

/**
 * Of the body of an update: `offered` has what can be changed. Throws as {@link refuseUnusable}, and 400 for another member of
 * `known` that says something.
 */
export function refuseUnchangeable(body: Readonly<Record<string, unknown>>, known: object, offered: object): void {
  refuseUnusable(body, known)
  for (const [name, value] of Object.entries(body)) {
    if (!Object.hasOwn(known, name) || Object.hasOwn(offered, name) || isEmpty(value) || !value) continue
    throw new StatusError(400, `HostConfig.${name} can't be changed: make the container anew`)
  }
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === undefined) return true
  return typeof value === 'object' && Object.keys(value).length === 0
}
