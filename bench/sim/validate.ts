/**
 * Does the model agree with real hosts? Plays the same swarms in both, first rounds of fresh daemons and warm ones. The model is given
 * what a bed of two cores adds to links: frames, what waits in their queues, commands that start at once, and processor time.
 */
import { availableParallelism } from 'node:os'
import type { Figure } from '../figure.ts'
import { payloadShare } from '../network/layout.ts'
import { Arena } from '../swarm/arena.ts'
import { DarnerSwarm } from '../swarm/darner.ts'
import { makespan, progressLine } from '../swarm/figures.ts'
import { bedName, parseSwarmArgs, type SwarmBenchOptions } from '../swarm/options.ts'
import { parseSimArgs, type SimOptions } from './options.ts'
import { Swarm } from './swarm.ts'

/** Eight to forty hosts, 3 to 100 Mbit/s, two MTUs; rounds of half a minute, so that all fit into a quarter of an hour. */
const BEDS = [
  ['8', '100', '100M', '1500'],
  ['8', '100', '100M', '9000'],
  ['8', '25', '50M', '1500'],
  ['16', '10', '25M', '1500'],
  ['16', '10', '25M', '9000'],
  ['28', '3', '8M', '1500'],
  ['28', '5', '16M', '1500'],
  ['40', '3', '8M', '1500'],
] as const
/** A plain queue, of which the model has the length; what BBR and larger bursts do to it is the bed's to say. */
const QUEUE_MS = 100
const PLAIN = [
  '--congestion',
  'cubic',
  '--burst',
  '16K',
  '--queue',
  String(QUEUE_MS),
  '--rounds',
  '2',
  '--only',
  'darner',
]

/** What one host takes of a core, measured on the beds: while it takes part at all, and for each MiB; the kernel's work included. */
const CORES_OF_A_HOST = 0.03
const CORE_MS_PER_MIB = { first: 22, warm: 15 }
/** A command's own start, of one core. */
const COMMAND_MS = 90
/** TCP, TLS and the lane's own words, of each byte of payload. */
const WORDS_SHARE = 0.006
const MIB = 1024 ** 2
const LIMIT_MS = 3_600_000

export async function validate({ signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const [hosts, mbit, size, mtu] of BEDS) {
    const bed = parseSwarmArgs(['--hosts', hosts, '--mbit', mbit, '--size', size, '--mtu', mtu, ...PLAIN])
    await using arena = await Arena.open(bed, { signal })
    const swarm = new DarnerSwarm(arena)
    await swarm.start({ signal })
    for (const what of ['first', 'warm'] as const) {
      if (what === 'warm') await swarm.clear({ signal })
      const round = await swarm.round({ signal })
      const model = modelSeconds(bed, what, availableParallelism())
      const difference = (100 * (model - makespan(round, bed))) / makespan(round, bed)
      console.error(
        `${progressLine(bed, what, round)}; the model says ${model.toFixed(2)} s, ${difference.toFixed(1)} %`,
      )
      const name = `${bedName(bed)}, ${what}`
      const anchor = { anchor: 'bed', anchorValue: makespan(round, bed) }
      figures.push({ bench: 'sim', figure: name, value: model, unit: 's', ...anchor })
      figures.push({
        bench: 'sim',
        figure: `${name}: difference`,
        value: Math.abs(difference),
        unit: '%',
        goal: '<=10',
      })
    }
    await swarm.stop()
  }
  return figures
}

/** The time of the last host from the start of all commands. */
export function modelSeconds(bed: SwarmBenchOptions, what: 'first' | 'warm', cores: number): number {
  const result = new Swarm(modelOf(bed, what, cores)).run(LIMIT_MS)
  if (result.stuck > 0) return Number.POSITIVE_INFINITY
  const last = Math.max(...result.fast) / 1000
  return last + (bed.hosts * COMMAND_MS) / cores / 1000
}

function modelOf(bed: SwarmBenchOptions, what: 'first' | 'warm', cores: number): SimOptions {
  const link = ((bed.bitsPerSec / 8000) * payloadShare(bed.mtu)) / (1 + WORDS_SHARE)
  // all hosts of the bed share its cores
  const free = cores / bed.hosts - CORES_OF_A_HOST
  const processor = (free / CORE_MS_PER_MIB[what]) * MIB
  const rate = Math.max(link / 10, Math.min(link, processor))
  return {
    ...parseSimArgs([
      '--hosts',
      String(bed.hosts),
      '--size',
      String(bed.bytes),
      ...(what === 'first' ? ['--fresh'] : []),
    ]),
    rate,
    seedRate: rate,
    // the origin is on the seed's own host
    originRate: 125_000,
    // a word waits behind what fills a queue half
    latencyMs: QUEUE_MS / 2,
    startMs: 0,
  }
}
