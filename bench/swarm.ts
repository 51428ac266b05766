/**
 * `npm run bench -- swarm --hosts 8 --mbit 100 --size 100M`: one blob to all hosts of a bed of network namespaces, by darner, by
 * BitTorrent and by plain HTTP, beside the least time it could take. `--set cold` plays the beds that the project is judged by; see
 * docs/benchmarks.md.
 */
import { join } from 'node:path'
import { SWARM_BENCH_TOOLS } from '../deploy/setup.ts'
import type { Figure } from './figure.ts'
import { type BenchOptions, oneOf, readOptions } from './options.ts'
import { Arena, type Round } from './swarm/arena.ts'
import { aria2Round } from './swarm/aria2.ts'
import { curlRound } from './swarm/curl.ts'
import { DarnerSwarm } from './swarm/darner.ts'
import { details, fastBound, judged, type Played, progressLine, USUAL_GOALS } from './swarm/figures.ts'
import { BED_OPTIONS, bedName, type SwarmBenchOptions, swarmOptionsOf } from './swarm/options.ts'
import { type Row, SETS, variantsOf } from './swarm/sets.ts'

export const tools = SWARM_BENCH_TOOLS
export const about = 'one blob to all hosts of a bed of network namespaces: darner, BitTorrent, HTTP, and the bound'

export const options = {
  ...BED_OPTIONS,
  set: { value: 'NAME', summary: `plays darner on a set of beds instead: ${Object.keys(SETS).join(', ')}` },
  rows: { value: 'NAME,…', summary: 'only these of the set' },
} as const satisfies BenchOptions

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  if (values.set === undefined) return await playOne(swarmOptionsOf(values), { signal })
  const set = SETS[oneOf('set', values.set, Object.keys(SETS))] ?? []
  const names = values.rows?.split(',').map((name) =>
    oneOf(
      'rows',
      name,
      set.map((row) => row.name),
    ),
  )
  const figures: Figure[] = []
  for (const row of set.filter(({ name }) => names === undefined || names.includes(name)))
    figures.push(...(await playRow(row, { values, signal })))
  return figures
}

type Values = ReturnType<typeof readOptions<typeof options>>['values']

async function playRow(row: Row, { values, signal }: { values: Values; signal: AbortSignal }): Promise<Figure[]> {
  const worst = new Map<string, Figure>()
  for (const variant of variantsOf(row, values)) {
    const keepLogs = values['keep-logs']
    const place = `${row.name}-${variant.congestion}-${variant.burst}`
    const bed = swarmOptionsOf({
      ...values,
      ...variant,
      ...(keepLogs !== undefined && { 'keep-logs': join(keepLogs, place) }),
    })
    await using arena = await Arena.open(bed, { signal })
    const played = await playDarner(arena, { signal })
    for (const figure of judged(bed, played, row.goals, row.name)) {
      const before = worst.get(figure.figure)
      if (before === undefined || figure.value > before.value) worst.set(figure.figure, figure)
    }
  }
  return [...worst.values()]
}

async function playOne(options: SwarmBenchOptions, { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const figures: Figure[] = [{ bench: 'swarm', figure: 'bound', value: fastBound(options), unit: 's' }]
  await using arena = await Arena.open(options, { signal })
  if (options.only.has('link')) {
    const first = arena.receivers.slice(0, 1)
    const rounds = await repeat(options, 'one link', () => curlRound(arena, first, { signal }))
    const linkSeconds = Math.min(...rounds.map(({ seconds }) => seconds[0] ?? NaN))
    const anchor = { anchor: 'bound of one link', anchorValue: (options.bytes * 8) / options.bitsPerSec }
    figures.push({
      bench: 'swarm',
      figure: 'one link, one TCP stream (curl)',
      value: linkSeconds,
      unit: 's',
      ...anchor,
    })
  }
  if (options.only.has('darner')) {
    const played = await playDarner(arena, { signal })
    figures.push(...judged(options, played, USUAL_GOALS))
    const firsts = played.flatMap(({ rounds }) => rounds.slice(0, 1))
    const warm = played.flatMap(({ rounds }) => rounds.slice(1))
    figures.push(...details(options, 'darner', firsts, 'darner, first rounds'))
    if (warm.length > 0) figures.push(...details(options, 'darner', warm, 'darner, warm'))
  }
  if (options.only.has('aria2')) {
    const rounds = await repeat(options, 'aria2', () => aria2Round(arena, { signal }))
    figures.push(...details(options, 'aria2', rounds, 'aria2'))
  }
  if (options.only.has('curl')) {
    const round = await curlRound(arena, arena.receivers, { signal })
    console.error(progressLine(options, 'curl', round))
    figures.push(...details(options, 'curl', [round], 'curl'))
  }
  return figures
}

async function playDarner(arena: Arena, { signal }: { signal: AbortSignal }): Promise<Played[]> {
  const { options } = arena
  const played: Played[] = []
  for (let start = 0; start < options.fresh; start++) {
    const swarm = new DarnerSwarm(arena)
    await swarm.start({ signal })
    const { secondTries } = swarm
    if (secondTries > 0) console.error(`${bedName(options)}: ${secondTries} agents joined at a second try`)
    const rounds: Round[] = []
    for (let number = 0; number < options.rounds; number++) {
      if (number > 0) await swarm.clear({ signal })
      const round = await swarm.round({ signal })
      console.error(progressLine(options, number === 0 ? 'first round' : 'warm', round))
      rounds.push(round)
    }
    await swarm.stop()
    played.push({ rounds, secondTries })
  }
  return played
}

async function repeat(options: SwarmBenchOptions, what: string, once: () => Promise<Round>): Promise<Round[]> {
  const rounds: Round[] = []
  for (let time = 0; time < options.rounds; time++) {
    const round = await once()
    console.error(progressLine(options, what, round))
    rounds.push(round)
  }
  return rounds
}
