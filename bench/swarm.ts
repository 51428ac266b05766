/**
 * `npm run bench -- swarm --hosts 8 --mbit 100 --size 100M`: one blob to all hosts of a bed of network namespaces, by darner, by
 * BitTorrent and by plain HTTP, beside the least time it could take; see docs/benchmarks.md.
 */
import { SWARM_BENCH_TOOLS } from '../deploy/setup.ts'
import type { Figure } from './figure.ts'
import { median } from './median.ts'
import { Arena, type Round } from './swarm/arena.ts'
import { aria2Round } from './swarm/aria2.ts'
import { curlRound } from './swarm/curl.ts'
import { DarnerSwarm } from './swarm/darner.ts'
import {
  boundSeconds,
  linkRates,
  parseSwarmArgs,
  type Rival,
  SWARM_OPTIONS,
  type SwarmBenchOptions,
} from './swarm/options.ts'
import type { Stages } from './swarm/stages.ts'

export const tools = SWARM_BENCH_TOOLS
export const about = 'one blob to all hosts of a bed of network namespaces: darner, BitTorrent, HTTP, and the bound'

export const options = SWARM_OPTIONS

const BENCH = 'swarm'

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const options = parseSwarmArgs(args)
  await using arena = await Arena.open(options, { signal })
  const rounds = new Map<Rival, Round[]>()
  const wanted = (rival: Rival) => options.only.has(rival)
  if (wanted('link')) {
    const first = arena.receivers.slice(0, 1)
    rounds.set('link', await repeat(options.rounds, () => curlRound(arena, first, { signal })))
  }
  if (wanted('darner')) {
    const swarm = new DarnerSwarm(arena)
    await swarm.start({ signal })
    rounds.set('darner', await repeat(options.rounds, () => swarm.round({ signal })))
    await swarm.stop()
  }
  if (wanted('aria2')) rounds.set('aria2', await repeat(options.rounds, () => aria2Round(arena, { signal })))
  if (wanted('curl')) rounds.set('curl', [await curlRound(arena, arena.receivers, { signal })])
  return figuresOf(options, rounds)
}

async function repeat(times: number, once: () => Promise<Round>): Promise<Round[]> {
  const rounds: Round[] = []
  for (let time = 0; time < times; time++) rounds.push(await once())
  return rounds
}

/** What the rounds say: medians over them. */
export function figuresOf(options: SwarmBenchOptions, rounds: ReadonlyMap<Rival, readonly Round[]>): Figure[] {
  const rates = linkRates(options)
  const [seedBits = NaN, ...receivers] = rates
  const fast = receivers.filter((rate) => rate === options.bitsPerSec)
  const whole = boundSeconds(options.bytes, seedBits, receivers)
  const fastBound = boundSeconds(options.bytes, seedBits, fast)
  const figures: Figure[] = [{ bench: BENCH, figure: 'bound', value: whole, unit: 's' }]
  const link = rounds.get('link')
  const linkSeconds = link && median(link.map(({ seconds }) => seconds[0] ?? NaN))
  if (linkSeconds !== undefined)
    figures.push({
      bench: BENCH,
      figure: 'one link, one TCP stream (curl)',
      value: linkSeconds,
      unit: 's',
      anchor: 'bound of one link',
      anchorValue: (options.bytes * 8) / options.bitsPerSec,
    })
  for (const rival of ['darner', 'aria2', 'curl'] as const) {
    const all = rounds.get(rival)
    if (all === undefined) continue
    const add = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) =>
      figures.push({ bench: BENCH, figure: `${rival} ${figure}`, value, unit, ...rest })
    const over = (of: (round: Round) => number) => median(all.map(of))
    const bound = { anchor: 'bound', anchorValue: fastBound }
    const fastEnds = ({ seconds }: Round) => seconds.filter((_, at) => receivers[at] === options.bitsPerSec)
    const makespan = over((round) => Math.max(...fastEnds(round)))
    const who = options.slow > 0 ? ' of the fast hosts' : ''
    add(`makespan${who}`, makespan, 's', { ...bound, ...(rival === 'darner' && goalOf(options)) })
    if (all.length > 1) {
      const spans = all.map((round) => Math.max(...fastEnds(round)))
      add(`makespan${who}, best round`, Math.min(...spans), 's', bound)
      add(`makespan${who}, worst round`, Math.max(...spans), 's', bound)
      add(`makespan${who}, first round`, spans[0] ?? NaN, 's', bound)
    }
    add(
      `median host${who}`,
      over((round) => median(fastEnds(round))),
      's',
      bound,
    )
    if (rival === 'darner' && linkSeconds !== undefined)
      add('makespan against the link', makespan, 's', { anchor: 'one TCP stream', anchorValue: linkSeconds })
    if (options.slow > 0) {
      const slowest = over(({ seconds }) => Math.max(...seconds))
      add('makespan of all hosts', slowest, 's', { anchor: 'bound', anchorValue: whole })
    }
    add(
      'copies read at the origin',
      over((round) => copiesAtOrigin(rival, round, options)),
      'copies',
      {
        ...(rival === 'darner' && { goal: '=1' }),
      },
    )
    if (rival !== 'aria2')
      add(
        'GETs at the origin',
        over(({ origin }) => origin.gets),
        'requests',
        { ...(rival === 'darner' && { goal: '=1' }) },
      )
    add(
      'sent by the first host',
      over((round) => (round.sentBytes[0] ?? 0) / options.bytes),
      'copies',
    )
    add(
      'sent per receiver',
      over(({ sentBytes }) => mean(sentBytes.slice(1)) / options.bytes),
      'copies',
    )
    add(
      'most sent by a receiver',
      over(({ sentBytes }) => Math.max(...sentBytes.slice(1)) / options.bytes),
      'copies',
    )
    add(
      'least sent by a receiver',
      over(({ sentBytes }) => Math.min(...sentBytes.slice(1)) / options.bytes),
      'copies',
    )
    add(
      'received per receiver',
      over(({ receivedBytes }) => mean(receivedBytes.slice(1)) / options.bytes),
      'copies',
    )
    add(
      'packets dropped',
      over(({ dropped }) => dropped),
      'packets',
    )
    if (all[0]?.stages !== undefined) {
      const stage = (of: (stages: Stages) => number) => over(({ stages }) => (stages ? of(stages) : NaN))
      const first = stage(({ firstSeconds }) => firstSeconds)
      const spread = stage(({ firstSeconds, spreadSeconds }) => spreadSeconds - firstSeconds)
      add('start: until the first piece is at a host', first, 's')
      add('until the last piece is at its first host', spread, 's', bound)
      const tail = stage(({ spreadSeconds, lastSeconds }) => lastSeconds - spreadSeconds)
      add('tail: until it is everywhere', tail, 's')
      add(
        'a piece: offer taken to first bytes, median',
        stage(({ waitMs }) => waitMs),
        'ms',
      )
      add(
        'a piece: first bytes to last, median',
        stage(({ bodyMs }) => bodyMs),
        'ms',
      )
    }
    for (const what of Object.keys(all[0]?.cpuSeconds ?? {})) {
      const mib = (options.bytes / 1024 ** 2) * (what === 'supernode' ? 1 : receivers.length)
      add(
        `CPU of ${what}`,
        over(({ cpuSeconds }) => ((cpuSeconds[what] ?? 0) * 1000) / mib),
        'ms/MiB',
      )
    }
  }
  return figures
}

/** BitTorrent's seeder reads the origin's file for each block that it sends; the others ask the origin over HTTP. */
function copiesAtOrigin(rival: Rival, { origin, sentBytes }: Round, { bytes, mtu }: SwarmBenchOptions): number {
  if (rival !== 'aria2') return origin.sentBytes / bytes
  return ((sentBytes[0] ?? 0) * (mtu - 52)) / (mtu + 14) / bytes
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Issue figures: what was asked of which run. */
function goalOf({ hosts, bytes, slow }: SwarmBenchOptions): { goal?: string } {
  if (slow > 0) return { goal: '<=1.15' }
  if (hosts > 16) return {}
  return { goal: bytes >= 400 * 1024 ** 2 ? '<=1.05' : '<=1.1' }
}
