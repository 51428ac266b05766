/**
 * Does a background download leave a host's link to others? On a bed of three hosts one downloads in the background what the two
 * others hold, and reads something else from the first of them meanwhile, by curl: with daemons that give way (`uploadYield`), and with
 * daemons that don't.
 */
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import { YIELD_BENCH_TOOLS } from '../deploy/setup.ts'
import type { Figure } from './figure.ts'
import { median } from './median.ts'
import type { BedHost } from './network/bed.ts'
import { type BenchOptions, readOptions } from './options.ts'
import { Arena, exited } from './swarm/arena.ts'
import { DarnerSwarm } from './swarm/darner.ts'
import { BED_OPTIONS, parseSwarmArgs } from './swarm/options.ts'

export const tools = YIELD_BENCH_TOOLS
export const about = 'what a background download leaves of a link to another stream, and what giving way costs it'
export const options = {
  mbit: BED_OPTIONS.mbit,
  size: { ...BED_OPTIONS.size, summary: 'of what curl reads, and of the download alone', default: '50M' },
  rounds: BED_OPTIONS.rounds,
  congestion: BED_OPTIONS.congestion,
} as const satisfies BenchOptions

const BENCH = 'yield'
/** The download that curl runs beside is so many times longer, and has run for so long when curl begins. */
const LONGER = 3
const AHEAD_MS = 1500

interface Round {
  /** The download with the link to itself, in seconds, and how long packets waited meanwhile, in ms. */
  readonly alone: number
  readonly waitMs: number
  /** curl beside a download, in seconds. */
  readonly beside: number
}

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const words = Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))
  await using arena = await Arena.open(parseSwarmArgs([...words, '--hosts', '2']), { signal })
  const { rounds } = arena.options
  const [, receiver] = arena.receivers
  if (receiver === undefined) throw new Error('a bed of three hosts has two receivers')
  const curl: number[] = []
  for (let round = 0; round < rounds; round++) curl.push(await curlSeconds(arena, receiver))
  const figures: Figure[] = [{ bench: BENCH, figure: 'another stream, alone', value: median(curl), unit: 's' }]
  const all = new Map<string, Round[]>()
  for (const how of ['none', 'background']) {
    const swarm = new DarnerSwarm(arena)
    await swarm.start({ settings: ['--upload-yield', how], signal })
    const done: Round[] = []
    for (let round = 0; round < rounds; round++) done.push(await measured(arena, swarm, receiver))
    await swarm.stop()
    all.set(how, done)
  }
  const of = (how: string, what: keyof Round) => median((all.get(how) ?? []).map((round) => round[what]))
  const stream = { anchor: 'alone', anchorValue: median(curl) }
  const download = { anchor: 'not giving way', anchorValue: of('none', 'alone') }
  const add = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) =>
    figures.push({ bench: BENCH, figure, value, unit, ...rest })
  add('another stream, beside a download', of('none', 'beside'), 's', stream)
  add('another stream, beside one that gives way', of('background', 'beside'), 's', { ...stream, goal: '<=1.1' })
  add('download alone', of('none', 'alone'), 's')
  add('download alone that gives way', of('background', 'alone'), 's', { ...download, goal: '<=1.2' })
  add('a packet waits beside a download', of('none', 'waitMs'), 'ms')
  add('a packet waits beside one that gives way', of('background', 'waitMs'), 'ms', { goal: '<=5' })
  return figures
}

async function measured(arena: Arena, swarm: DarnerSwarm, receiver: BedHost): Promise<Round> {
  const [holder = receiver] = arena.receivers
  const get = async (host: BedHost, words: readonly string[]) =>
    await exited(swarm.begin(host, ['get', ...words, '--quiet']), `darner get on host ${host.number}`)
  const blob = await arena.blob()
  const long = await arena.blob(LONGER * arena.options.bytes)
  for (const { url, digest } of [blob, long]) await get(holder, [url, '--digest', digest, '-o', '/dev/null'])
  const last = (one: typeof blob) => [one.url, '--digest', one.digest, '--priority', 'background', '-o', '/dev/null']
  const ping = arena.bed.spawn(arena.seed, ['ping', '-n', '-i', '0.02', receiver.address])
  const waits = pingMs(ping)
  const beganMs = performance.now()
  await get(receiver, last(blob))
  const alone = (performance.now() - beganMs) / 1000
  ping.kill('SIGINT')
  const waitMs = await waits
  const download = swarm.begin(receiver, ['get', ...last(long), '--quiet'])
  const over = once(download, 'exit')
  await pause(AHEAD_MS)
  const beside = await curlSeconds(arena, receiver)
  if (download.exitCode !== null) throw new Error('the download was over before the stream beside it')
  download.kill('SIGINT')
  await over
  return { alone, waitMs, beside }
}

async function curlSeconds(arena: Arena, host: BedHost): Promise<number> {
  const { url } = await arena.blob()
  const beganMs = performance.now()
  await exited(arena.bed.spawn(host, ['curl', '-sS', '--fail', '-o', '/dev/null', url]), 'curl')
  return (performance.now() - beganMs) / 1000
}

/** The median of what each answer took, once ping has ended. */
async function pingMs(ping: ReturnType<Arena['bed']['spawn']>): Promise<number> {
  let text = ''
  ping.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  await once(ping, 'close')
  return median([...text.matchAll(/time=([\d.]+) ms/g)].map(([, ms]) => Number(ms)))
}
