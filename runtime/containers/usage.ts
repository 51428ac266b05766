/** What a running container uses: read from its cgroups, wherever each controller is, and from its network namespace. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProcessFolder } from '../linux/process-folder.ts'
import { type CgroupLayout, parsePlaces } from '../spec/cgroups.ts'

export interface Usage {
  /** Epoch milliseconds of the reading. */
  readonly readAt: number
  readonly cpuNs: number
  /** CPU time of the whole host, for shares of it. */
  readonly systemNs: number
  readonly memoryBytes: number
  readonly memoryPeakBytes: number | undefined
  /** Infinity when not limited. */
  readonly memoryLimitBytes: number
  /** Of `memoryBytes`, file pages that would go first. */
  readonly inactiveFileBytes: number
  readonly pids: number
  readonly pidsLimit: number | undefined
  readonly readBytes: number
  readonly writtenBytes: number
  readonly throttled: { readonly periods: number; readonly throttledPeriods: number; readonly ns: number }
  readonly networks: Readonly<
    Record<
      string,
      { rxBytes: number; rxPackets: number; txBytes: number; txPackets: number; rxErrors: number; txErrors: number }
    >
  >
}

/** Beyond it, a v1 limit means none. */
const UNLIMITED_BYTES = 2 ** 60

/** Zeros for what no controller counts. `first` is the container's first process. */
export async function readUsage(layout: CgroupLayout, first: ProcessFolder, now: number): Promise<Usage> {
  const places = parsePlaces(await text(`${first.path}/cgroup`))
  const v1 = (controller: string, file: string) => {
    const root = layout.v1.get(controller)
    const place = places.get(controller)
    return root === undefined || place === undefined ? Promise.resolve('') : text(join(root, place, file))
  }
  const v2 = (file: string) => {
    const place = places.get('')
    return layout.v2 === undefined || place === undefined
      ? Promise.resolve('')
      : text(join(layout.v2.path, place, file))
  }
  const [
    cpu1,
    cpu2,
    memory1,
    memory2,
    limit1,
    limit2,
    peak1,
    peak2,
    stat1,
    stat2,
    pids1,
    pids2,
    most1,
    most2,
    io1,
    io2,
    cfs1,
  ] = await Promise.all([
    v1('cpuacct', 'cpuacct.usage'),
    v2('cpu.stat'),
    v1('memory', 'memory.usage_in_bytes'),
    v2('memory.current'),
    v1('memory', 'memory.limit_in_bytes'),
    v2('memory.max'),
    v1('memory', 'memory.max_usage_in_bytes'),
    v2('memory.peak'),
    v1('memory', 'memory.stat'),
    v2('memory.stat'),
    v1('pids', 'pids.current'),
    v2('pids.current'),
    v1('pids', 'pids.max'),
    v2('pids.max'),
    v1('blkio', 'blkio.throttle.io_service_bytes'),
    v2('io.stat'),
    v1('cpu', 'cpu.stat'),
  ])
  const limit = numberOf(limit1 || limit2)
  const most = numberOf(most1 || most2)
  const peak = numberOf(peak1 || peak2)
  const throttle = cfs1 || cpu2
  return {
    readAt: now,
    cpuNs: cpu1 === '' ? field(cpu2, 'usage_usec') * 1000 : Number(cpu1),
    systemNs: systemNs(await text('/proc/stat')),
    memoryBytes: numberOf(memory1 || memory2) ?? 0,
    memoryPeakBytes: peak,
    memoryLimitBytes: limit === undefined || limit > UNLIMITED_BYTES ? Number.POSITIVE_INFINITY : limit,
    inactiveFileBytes: stat1 === '' ? field(stat2, 'inactive_file') : field(stat1, 'total_inactive_file'),
    pids: numberOf(pids1 || pids2) ?? 0,
    pidsLimit: most,
    readBytes: io1 === '' ? sumOf(io2, /rbytes=(\d+)/g) : sumOf(io1, / Read (\d+)/g),
    writtenBytes: io1 === '' ? sumOf(io2, /wbytes=(\d+)/g) : sumOf(io1, / Write (\d+)/g),
    throttled: {
      periods: field(throttle, 'nr_periods'),
      throttledPeriods: field(throttle, 'nr_throttled'),
      ns: field(throttle, 'throttled_time') || field(throttle, 'throttled_usec') * 1000,
    },
    networks: parseNetDev(await text(`${first.path}/net/dev`)),
  }
}

/** Pids of all processes in a container, from the controller that holds them. */
export async function pidsOf(layout: CgroupLayout, first: ProcessFolder): Promise<number[]> {
  const places = parsePlaces(await text(`${first.path}/cgroup`))
  const controller = ['pids', 'memory', 'cpu', 'name=systemd'].find((name) => layout.v1.has(name) && places.has(name))
  const root = controller === undefined ? layout.v2?.path : layout.v1.get(controller)
  const place = places.get(controller ?? '')
  if (root === undefined || place === undefined) return [first.pid]
  const procs = await text(join(root, place, 'cgroup.procs'))
  return procs.split('\n').filter(Boolean).map(Number)
}

/** Interfaces but loopback, out of `/proc/PID/net/dev`. */
export function parseNetDev(net: string): Usage['networks'] {
  const found: Record<string, Usage['networks'][string]> = {}
  for (const line of net.split('\n')) {
    const [, name, rest] = /^\s*([^:\s]+):\s*(.*)$/.exec(line) ?? []
    if (name === undefined || rest === undefined || name === 'lo') continue
    const of = rest.split(/\s+/).map(Number)
    found[name] = {
      rxBytes: of[0] ?? 0,
      rxPackets: of[1] ?? 0,
      rxErrors: of[2] ?? 0,
      txBytes: of[8] ?? 0,
      txPackets: of[9] ?? 0,
      txErrors: of[10] ?? 0,
    }
  }
  return found
}

async function text(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim() // no such controller here, or the container just ended
}

function numberOf(value: string): number | undefined {
  return /^\d+$/.test(value) ? Number(value) : undefined
}

function field(stat: string, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0)
}

function sumOf(value: string, each: RegExp): number {
  return [...value.matchAll(each)].reduce((sum, [, one]) => sum + Number(one), 0)
}

/** User, nice, system, idle and so on, in ticks of 10 ms. */
function systemNs(stat: string): number {
  const [, ...ticks] = (stat.split('\n')[0] ?? '').split(/\s+/)
  return ticks.slice(0, 8).reduce((sum, one) => sum + Number(one), 0) * 1e7
}
