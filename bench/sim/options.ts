/** What a simulated swarm is made of, and how it is said on the command line. */
import { pieceBytesFor } from '../../src/core/task/task.ts'
import { type BenchOptions, readOptions } from '../options.ts'

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
  /** Whether hosts know nothing of each other yet; else they have kept up with each other before. */
  fresh: boolean
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
    throw new RangeError(`--size, --piece: expected a number with k, M, G, Ki, Mi or Gi, got '${text}'`)
  return Number(found[1]) * unit
}

/** What the command line can say. Rates are in 10^6 bytes per second where they end in `mbyte`; times are milliseconds. */
export const SIM_OPTIONS = {
  hosts: { value: 'N', summary: 'hosts beside the seed', default: '2600' },
  size: { value: 'SIZE', summary: 'of the blob; 3G is 3e9 bytes, 3Gi is 3 × 2^30', default: '3G' },
  mbyte: { value: 'N', summary: "each host's link, both ways, in MB/s", default: '300' },
  mbit: { value: 'N', summary: 'the same in Mbit/s' },
  'seed-mbyte': { value: 'N', summary: "the seed's uplink (default: as each host's)" },
  'origin-mbyte': { value: 'N', summary: "the origin, as the seed reads it (default: as each host's)" },
  piece: { value: 'SIZE', summary: "length of a piece (default: the program's own choice)" },
  latency: { value: 'MS', summary: 'one way', default: '0.25' },
  jitter: { value: 'MS', summary: 'mean of what is added at random', default: '0.1' },
  'zone-latency': { value: 'MS', summary: 'added between zones', default: '0.5' },
  fresh: { summary: 'hosts know nothing of each other yet, as in a first round' },
  start: { value: 'MS', summary: 'the hosts start within this time', default: '100' },
  hash: { value: 'N', summary: 'MB/s at which a piece is verified', default: '1500' },
  zones: { value: 'N', summary: 'zones, each host in one of them', default: '1' },
  racks: { value: 'N', summary: 'racks', default: '0' },
  churn: { value: 'PERCENT', summary: 'hosts that leave each second, each replaced', default: '0' },
  slow: { value: 'PERCENT', summary: 'hosts at a tenth of the rate', default: '0' },
  cut: { value: 'FROM-TO', summary: 'cut the last zone off between these seconds: 3-6' },
  seed: { value: 'N', summary: 'of all random choices', default: '1' },
  announce: { value: 'MS', summary: 'how long news of pieces wait for more', default: '50' },
  open: { value: 'MS', summary: 'time to open a channel, beside the way there and back', default: '3' },
  slots: { value: 'N', summary: 'pieces that a parent offers ahead', default: '2' },
  'per-parent': { value: 'N', summary: "questions at one parent (default: the plan's own)" },
  named: { value: 'N', summary: "pieces asked for by name (default: the plan's own)" },
  'join-degree': { value: 'N', summary: "parents at first (default: the scheduler's own)" },
  degree: { value: 'N', summary: "parents (default: the scheduler's own)" },
  'seed-degree': { value: 'N', summary: "children of the seed (default: the scheduler's own)" },
  'zone-share': { value: 'SHARE', summary: "of parents from other zones (default: the scheduler's own)" },
  trace: { value: 'MS', summary: 'a line on stderr each so often' },
  validate: { summary: 'plays eight beds of real hosts, too, and says by how much model and bed differ; needs root' },
} as const satisfies BenchOptions

/** Throws BAD_ARGUMENT, RangeError. */
export function parseSimArgs(args: readonly string[]): SimOptions {
  const { fresh, validate: _, ...given } = readOptions(SIM_OPTIONS, args).values
  const number = (name: keyof typeof given, otherwise = 0): number => {
    const value = given[name]
    if (value === undefined) return otherwise
    const read = Number(value)
    if (!Number.isFinite(read)) throw new RangeError(`--${name}: expected a number, got '${value}'`)
    return read
  }
  const maybe = (name: keyof typeof given) => (given[name] === undefined ? undefined : number(name))
  const bytes = parseBytes(given.size)
  const rate = given.mbit === undefined ? number('mbyte') * 1000 : number('mbit') * 125
  const cut = given.cut?.split('-').map((one) => Number(one) * 1000) ?? []
  return {
    hosts: number('hosts'),
    bytes,
    pieceBytes: given.piece === undefined ? pieceBytesFor(bytes) : parseBytes(given.piece),
    rate,
    seedRate: number('seed-mbyte', rate / 1000) * 1000,
    originRate: number('origin-mbyte', rate / 1000) * 1000,
    latencyMs: number('latency'),
    jitterMs: number('jitter'),
    zoneLatencyMs: number('zone-latency'),
    fresh,
    startMs: number('start'),
    hashRate: number('hash') * 1000,
    zones: number('zones'),
    racks: number('racks'),
    churn: number('churn') / 100,
    slow: number('slow') / 100,
    cutFromMs: cut[0] ?? 0,
    cutToMs: cut[1] ?? 0,
    seed: number('seed'),
    announceMs: number('announce'),
    tickMs: 100,
    openMs: number('open'),
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
    slots: number('slots'),
    traceMs: number('trace', 0),
  }
}

function defined<T extends Record<string, number | undefined>>(values: T): { [K in keyof T]?: number } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: number
  }
}
