/** `npm run bench -- sim`: the real scheduler, plan and handout over a simulated network; see docs/scheduling.md. */
import type { Figure } from './figure.ts'
import { readOptions } from './options.ts'
import { parseSimArgs, SIM_OPTIONS, type SimOptions } from './sim/options.ts'
import { type SimResult, Swarm } from './sim/swarm.ts'
import { validate } from './sim/validate.ts'

export const about = 'a swarm of thousands over a fluid network model: percentiles beside Kraken’s published'

export const options = SIM_OPTIONS

/** Published for 3 GB to 2,600 hosts at 300 MB/s each. */
const KRAKEN: Record<string, number> = { p50: 10, p99: 18, 'p99.9': 22 }

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  if (readOptions(options, args).values.validate) return await validate({ signal })
  const world = parseSimArgs(args)
  const before = process.cpuUsage()
  const result = new Swarm(world).run(600_000)
  const used = process.cpuUsage(before)
  const seconds = (used.user + used.system) / 1e6
  return figures(world, result, seconds)
}

function figures(options: SimOptions, result: SimResult, seconds: number): Figure[] {
  const bench = 'sim'
  const { fast, slow } = result
  const bound = boundSeconds(options)
  const cut = Math.max(0, options.cutToMs - options.cutFromMs) / 1000
  // hosts that are cut off from the origin can't have what isn't in their zone yet
  const anchor =
    cut > 0 ? { anchor: 'bound and the cut', anchorValue: bound + cut } : { anchor: 'bound', anchorValue: bound }
  const asKraken = options.rate === 300_000 && options.bytes === 3e9
  const lines: Figure[] = [{ bench, figure: 'bound', value: bound, unit: 's' }]
  for (const [name, part] of [
    ['p50', 0.5],
    ['p99', 0.99],
    ['p99.9', 0.999],
    ['max', 1],
  ] as const) {
    const value = percentile(fast, part) / 1000
    lines.push({ bench, figure: name, value, unit: 's', ...anchor, ...goalOf(options, name) })
    const kraken = KRAKEN[name]
    if (asKraken && kraken)
      lines.push({
        bench,
        figure: `${name} beside Kraken`,
        value,
        unit: 's',
        anchor: 'Kraken, published',
        anchorValue: kraken,
      })
  }
  if (slow.length > 0) {
    const slowBound = options.bytes / (options.rate * 100)
    for (const [name, part] of [
      ['p50', 0.5],
      ['max', 1],
    ] as const) {
      lines.push({
        bench,
        figure: `slow hosts ${name}`,
        value: percentile(slow, part) / 1000,
        unit: 's',
        anchor: 'their bound',
        anchorValue: slowBound,
      })
    }
  }
  lines.push({ bench, figure: 'unfinished', value: result.stuck, unit: 'hosts', goal: '<=0' })
  lines.push({ bench, figure: 'copies out of the seed', value: result.seedBytes / options.bytes, unit: 'copies' })
  lines.push({
    bench,
    figure: 'wasted',
    value: (100 * result.wastedBytes) / (options.bytes * Math.max(1, fast.length + slow.length)),
    unit: '%',
    goal: '<=1',
  })
  const pieces = Math.ceil(options.bytes / options.pieceBytes)
  lines.push({
    bench,
    figure: 'control messages per peer',
    value: result.controlMessages,
    unit: 'messages',
    anchor: 'one per 16 pieces',
    anchorValue: pieces / 16,
  })
  if (options.zones > 1) {
    lines.push({
      bench,
      figure: 'bytes across zones per zone',
      value: result.crossZoneBytes / options.zones / options.bytes,
      unit: 'copies',
    })
  }
  lines.push(
    { bench, figure: 'most parents', value: result.maxParents, unit: 'peers' },
    { bench, figure: 'most children', value: result.maxChildren, unit: 'peers' },
  )
  lines.push(
    { bench, figure: 'events', value: result.events, unit: 'events' },
    { bench, figure: 'processor time', value: seconds, unit: 's' },
  )
  lines.push({ bench, figure: 'memory', value: process.memoryUsage().rss / 2 ** 20, unit: 'MiB' })
  return lines
}

/** max{ F/u_s, F/d_min, N·F/(u_s + Σu_i) } over hosts at full rate, in seconds. */
function boundSeconds({ bytes, rate, seedRate, originRate, hosts, slow }: SimOptions): number {
  const uplinks = seedRate + hosts * rate * (1 - 0.9 * slow)
  return Math.max(bytes / seedRate, bytes / originRate, bytes / rate, (hosts * bytes) / uplinks) / 1000
}

function goalOf(options: SimOptions, name: string): { goal?: string } {
  if (name === 'p99.9' && options.bytes === 3e9 && options.slow === 0)
    return { goal: options.churn > 0 ? '<=1.15' : '<=1.08' }
  if (name === 'max' && options.hosts <= 16 && options.slow === 0)
    return { goal: options.bytes >= 400e6 ? '<=1.05' : '<=1.10' }
  return {}
}

function percentile(sorted: readonly number[], part: number): number {
  if (sorted.length === 0) return Number.NaN
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(part * sorted.length) - 1))] ?? Number.NaN
}
