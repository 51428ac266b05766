/** What a simulated swarm is made of, and how it is said on the command line. */
import { parseArgs } from 'node:util'
import { pieceBytesFor } from '../../src/task/task.ts'

export interface SimOptions {
  hosts: number
  bytes: number
  pieceBytes: number
  /** Bytes per millisecond, each direction: of a host, of the seed's uplink, and of the origin that the seed reads. */
  rate: number
  seedRate: number
  originRate: number
  /** One way, mean of an added exponential jitter, and what crossing zones adds. */
  latencyMs: number
  jitterMs: number
  zoneLatencyMs: number
  /** Hosts start within this time. */
  startMs: number
  /** Bytes per millisecond at which a piece is verified after it arrived. */
  hashRate: number
  zones: number
  racks: number
  /** Share of hosts that leave per second, each replaced by a fresh one, in [0, 1]. */
  churn: number
  /** Share of hosts at a tenth of the rate, in [0, 1]. */
  slow: number
  /** The last zone is cut off from the others between these instants; equal for never. */
  cutFromMs: number
  cutToMs: number
  seed: number
  /** Coalescing of announcements, period of the plan's tick, time to open a channel. */
  announceMs: number
  tickMs: number
  openMs: number
  plan: { perParent?: number; maxNamed?: number }
  scheduler: { joinDegree?: number; degree?: number; seedDegree?: number; zoneShare?: number }
  slots: number
  traceMs: number
}

const UNITS: Record<string, number> = { '': 1, k: 1e3, m: 1e6, g: 1e9, ki: 1024, mi: 1024 ** 2, gi: 1024 ** 3 }

/** Reads `3G` (3e9) and `100Mi` (100 × 2^20). */
export function parseBytes(text: string): number {
  const found = /^(\d+(?:\.\d+)?)(|[kmg]i?)b?$/i.exec(text.trim())
  const unit = UNITS[(found?.[2] ?? '?').toLowerCase()]
  if (!found || unit === undefined)
    throw new RangeError(`size: expected a number with k, M, G, Ki, Mi or Gi, got '${text}'`)
  return Number(found[1]) * unit
}

export function parseSimArgs(args: string[]): SimOptions {
  const text = { type: 'string' } as const
  const names = [
    'hosts',
    'size',
    'mbyte',
    'mbit',
    'seed-mbyte',
    'origin-mbyte',
    'piece',
    'latency',
    'jitter',
    'zone-latency',
    'start',
    'hash',
  ] as const
  const more = ['zones', 'racks', 'churn', 'slow', 'cut', 'seed', 'announce', 'per-parent', 'named'] as const
  const last = ['join-degree', 'degree', 'seed-degree', 'zone-share', 'slots', 'open'] as const
  const options = Object.fromEntries([...names, ...more, ...last].map((name) => [name, text]))
  const { values } = parseArgs({ args, options: { ...options, trace: { type: 'string' } } })
  const given = values as Record<string, string | boolean | undefined>
  const number = (name: string, otherwise: number): number => {
    const value = given[name]
    if (typeof value !== 'string') return otherwise
    const read = Number(value)
    if (!Number.isFinite(read)) throw new RangeError(`--${name}: expected a number, got '${value}'`)
    return read
  }
  const maybe = (name: string): number | undefined => (given[name] === undefined ? undefined : number(name, 0))
  const bytes = parseBytes(typeof given.size === 'string' ? given.size : '3G')
  const rate = given.mbit === undefined ? number('mbyte', 300) * 1000 : number('mbit', 0) * 125
  const cut = typeof given.cut === 'string' ? given.cut.split('-').map((one) => Number(one) * 1000) : []
  return {
    hosts: number('hosts', 2600),
    bytes,
    pieceBytes: typeof given.piece === 'string' ? parseBytes(given.piece) : pieceBytesFor(bytes),
    rate,
    seedRate: number('seed-mbyte', rate / 1000) * 1000,
    originRate: number('origin-mbyte', rate / 1000) * 1000,
    latencyMs: number('latency', 0.25),
    jitterMs: number('jitter', 0.1),
    zoneLatencyMs: number('zone-latency', 0.5),
    startMs: number('start', 100),
    hashRate: number('hash', 1500) * 1000,
    zones: number('zones', 1),
    racks: number('racks', 0),
    churn: number('churn', 0) / 100,
    slow: number('slow', 0) / 100,
    cutFromMs: cut[0] ?? 0,
    cutToMs: cut[1] ?? 0,
    seed: number('seed', 1),
    announceMs: number('announce', 50),
    tickMs: 100,
    openMs: number('open', 3),
    plan: defined({
      perParent: maybe('per-parent'),
      maxNamed: maybe('named'),
    }),
    scheduler: defined({
      joinDegree: maybe('join-degree'),
      degree: maybe('degree'),
      seedDegree: maybe('seed-degree'),
      zoneShare: maybe('zone-share'),
    }),
    slots: number('slots', 2),
    traceMs: number('trace', 0),
  }
}

function defined<T extends Record<string, number | undefined>>(values: T): { [K in keyof T]?: number } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: number
  }
}
