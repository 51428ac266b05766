/** What the rounds of one bed say, as figures and as a line of progress. Pure. */
import type { Figure } from '../figure.ts'
import { median } from '../median.ts'
import type { Round } from './arena.ts'
import { bedName, boundSeconds, linkRates, type Rival, type SwarmBenchOptions } from './options.ts'
import type { Stages } from './stages.ts'

/** One start of all daemons, and the rounds that they played. */
export interface Played {
  readonly rounds: readonly Round[]
  /** Agents that had to try again before they had joined. */
  readonly secondTries: number
}

/** What was asked of a bed. Ratios are of the makespan to the bound. */
export interface Goals {
  readonly first: number
  readonly warm: number
  readonly originCopies: number
  readonly gets?: number
  readonly seedCopies?: number
}

const BENCH = 'swarm'
export const USUAL_GOALS: Goals = { first: 1.2, warm: 1.12, originCopies: 1, gets: 1, seedCopies: 1.1 }

/** The time of the last host and the least that it could be, in seconds: of the fast hosts, where one is slow. */
export function makespan({ seconds }: Round, options: SwarmBenchOptions): number {
  const [, ...rates] = linkRates(options)
  return Math.max(...seconds.filter((_, at) => rates[at] === options.bitsPerSec))
}

export function fastBound(options: SwarmBenchOptions): number {
  const [seedBits = NaN, ...rates] = linkRates(options)
  const fast = rates.filter((rate) => rate === options.bitsPerSec)
  return boundSeconds(options.bytes, seedBits, fast)
}

/** One line for a round that is over. */
export function progressLine(options: SwarmBenchOptions, what: string, round: Round): string {
  const { bytes, hosts } = options
  const seconds = makespan(round, options)
  const cpu = ((round.cpuSeconds.agents ?? 0) * 1000) / ((hosts * bytes) / 1024 ** 2)
  const failures = [...round.failures].map(([host, why]) => `host ${host.number}: ${why.slice(-160)}`)
  return [
    `${bedName(options)}, ${what}: ${seconds.toFixed(2)} s, ${(seconds / fastBound(options)).toFixed(3)} of the bound`,
    `origin ${originCopies(options, round).toFixed(2)} copies in ${round.origin.gets} GETs`,
    `seed's link ${copies(options, round.sentBytes[0]).toFixed(2)} copies`,
    `received ${copies(options, mean(round.receivedBytes.slice(1))).toFixed(2)}`,
    `dropped ${round.dropped}`,
    ...('agents' in round.cpuSeconds ? [`${cpu.toFixed(0)} ms/MiB of an agent`] : []),
    `others ${(100 * round.othersShare).toFixed(0)} %`,
    ...(failures.length === 0
      ? []
      : [`${failures.length} of ${hosts} hosts failed (${failures.slice(0, 3).join('; ')})`]),
  ].join('; ')
}

/** What is asked of darner on one bed, its worst over all fresh starts; `name` begins each figure's. */
export function judged(options: SwarmBenchOptions, played: readonly Played[], goals: Goals, name = 'darner'): Figure[] {
  const firsts = played.flatMap(({ rounds }) => rounds.slice(0, 1))
  const warm = played.flatMap(({ rounds }) => rounds.slice(1))
  const all = [...firsts, ...warm]
  const bound = { anchor: 'bound', anchorValue: fastBound(options) }
  const figures: Figure[] = []
  const add = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) =>
    figures.push({ bench: BENCH, figure: `${name}: ${figure}`, value, unit, ...rest })
  const worst = (rounds: readonly Round[], of: (round: Round) => number) => Math.max(...rounds.map(of))
  const most = (figure: string, of: (round: Round) => number, unit: string, goal: number | undefined) =>
    add(figure, worst(all, of), unit, goal === undefined ? {} : { goal: `<=${goal}` })
  const span = (round: Round) => makespan(round, options)
  add('first round of fresh daemons', worst(firsts, span), 's', { ...bound, goal: `<=${goals.first}` })
  if (warm.length > 0) add('warm', worst(warm, span), 's', { ...bound, goal: `<=${goals.warm}` })
  most('copies read at the origin', (round) => originCopies(options, round), 'copies', goals.originCopies)
  most('GETs at the origin', ({ origin }) => origin.gets, 'requests', goals.gets)
  most("copies that left the seed's link", ({ sentBytes }) => copies(options, sentBytes[0]), 'copies', goals.seedCopies)
  most('hosts that failed', ({ failures }) => failures.size, 'hosts', 0)
  const tries = Math.max(...played.map(({ secondTries }) => secondTries))
  add('agents that joined at a second try', tries, 'hosts', { goal: '<=0' })
  return figures
}

/** What else rounds say: medians over them. */
export function details(options: SwarmBenchOptions, rival: Rival, rounds: readonly Round[], name: string): Figure[] {
  const { bytes, hosts } = options
  const figures: Figure[] = []
  const add = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) =>
    figures.push({ bench: BENCH, figure: `${name}: ${figure}`, value, unit, ...rest })
  const over = (of: (round: Round) => number) => median(rounds.map(of))
  const bound = { anchor: 'bound', anchorValue: fastBound(options) }
  const span = (round: Round) => makespan(round, options)
  add('makespan', over(span), 's', bound)
  add(
    'median host',
    over(({ seconds }) => median(seconds)),
    's',
    bound,
  )
  if (options.slowHost !== undefined) {
    const [seedBits = NaN, ...rates] = linkRates(options)
    const whole = { anchor: 'bound', anchorValue: boundSeconds(bytes, seedBits, rates) }
    add(
      'makespan with the slow host',
      over(({ seconds }) => Math.max(...seconds)),
      's',
      whole,
    )
  }
  if (rival !== 'darner') {
    add(
      'copies read at the origin',
      over((round) => copiesOfRival(rival, round, options)),
      'copies',
    )
    add(
      "copies that left the seed's link",
      over(({ sentBytes }) => copies(options, sentBytes[0])),
      'copies',
    )
  }
  add(
    'sent per receiver',
    over(({ sentBytes }) => copies(options, mean(sentBytes.slice(1)))),
    'copies',
  )
  add(
    'most sent by a receiver',
    over(({ sentBytes }) => copies(options, Math.max(...sentBytes.slice(1)))),
    'copies',
  )
  add(
    'least sent by a receiver',
    over(({ sentBytes }) => copies(options, Math.min(...sentBytes.slice(1)))),
    'copies',
  )
  add(
    'received per receiver',
    over(({ receivedBytes }) => copies(options, mean(receivedBytes.slice(1)))),
    'copies',
  )
  add(
    'packets dropped',
    over(({ dropped }) => dropped),
    'packets',
  )
  if (rounds[0]?.stages !== undefined) {
    const stage = (of: (stages: Stages) => number) => over(({ stages }) => (stages ? of(stages) : NaN))
    const spread = stage(({ firstSeconds, spreadSeconds }) => spreadSeconds - firstSeconds)
    add(
      'start: until the first piece is at a host',
      stage(({ firstSeconds }) => firstSeconds),
      's',
    )
    add('until the last piece is at its first host', spread, 's', bound)
    add(
      'tail: until it is everywhere',
      stage(({ spreadSeconds, lastSeconds }) => lastSeconds - spreadSeconds),
      's',
    )
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
  for (const what of Object.keys(rounds[0]?.cpuSeconds ?? {})) {
    const mib = (bytes / 1024 ** 2) * (what === 'supernode' ? 1 : hosts)
    add(
      `CPU of ${what}`,
      over(({ cpuSeconds }) => ((cpuSeconds[what] ?? 0) * 1000) / mib),
      'ms/MiB',
    )
  }
  add('processors taken by others', 100 * over(({ othersShare }) => othersShare), '%')
  return figures
}

/** BitTorrent's seeder reads the origin's file for each block that it sends; the others ask the origin over HTTP. */
function copiesOfRival(rival: Rival, round: Round, options: SwarmBenchOptions): number {
  if (rival !== 'aria2') return originCopies(options, round)
  const { mtu } = options
  return (copies(options, round.sentBytes[0]) * (mtu - 52)) / (mtu + 14)
}

function originCopies(options: SwarmBenchOptions, { origin }: Round): number {
  return copies(options, origin.sentBytes)
}

function copies({ bytes }: SwarmBenchOptions, sent = 0): number {
  return sent / bytes
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}
