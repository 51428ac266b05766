/**
 * What the registry mirror costs: what containerd fetches and pulls through it beside the same straight from the registry, on
 * loopback and over links; many pulls of one cold image at once; and how soon it answers about a manifest that it knows. Needs root.
 */
import { Agent, request } from 'node:http'
import { SWARM_BENCH_TOOLS, TOOLS } from '../deploy/setup.ts'
import { DarnerError } from '../src/core/errors.ts'
import { isOnStage } from '../test/fixtures/host/a-stage.ts'
import { prepareLayers } from './engine/layers.ts'
import type { Figure } from './figure.ts'
import { median } from './median.ts'
import { quantile } from './mirror/quantile.ts'
import type { Pushed } from './mirror/registry-host.ts'
import { type Logs, Rig } from './mirror/rig.ts'
import { onABed, onLoopback } from './mirror/stand.ts'
import { unpacked } from './mirror/unpack.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'
import { onAStage } from './stage/on-a-stage.ts'

export const tools = [...TOOLS, ...SWARM_BENCH_TOOLS]
export const about =
  "the registry mirror: containerd's pull beside a straight one, many cold pulls at once, latency when warm"

export const options = {
  only: { value: 'PART,…', summary: 'only these', default: 'loopback,unpack,links,crowd' },
  mib: { value: 'N', summary: "the image of containerd's pulls, in MiB", default: '200' },
  rounds: { value: 'N', summary: 'of those pulls', default: '3' },
  'unpack-rounds': { value: 'N', summary: 'of pulls that unpack, after one that is not counted', default: '6' },
  links: { value: 'MBIT,…', summary: 'rates of the links', default: '1000,100' },
  pulls: { value: 'N', summary: 'pulls at once', default: '200' },
  'pull-mib': { value: 'N', summary: 'the image of those, in MiB', default: '200' },
  'per-sec': { value: 'N', summary: 'questions about a warm manifest each second', default: '500' },
  seconds: { value: 'N', summary: 'for so long', default: '5' },
  log: { value: 'LEVEL', summary: 'log level of the daemons while many pull at once', default: 'info' },
  keep: { value: 'DIR', summary: 'leave their logs there' },
} as const satisfies BenchOptions

const BENCH = 'mirror'
const MIB = 1024 * 1024
/**
 * A link as slow as this, or slower, is measured once with half the image, since it takes as long each time; and as often as others with
 * hosts that hold an image which the client's has not.
 */
const SLOW_MBIT = 100
const OTHERS = 3

interface Options {
  readonly mib: number
  readonly rounds: number
  readonly pulls: number
  readonly pullMib: number
  readonly perSec: number
  readonly seconds: number
  readonly only: ReadonlySet<string>
  readonly linksMbit: readonly number[]
  readonly logs: Logs
}

/**
 * On loopback a straight pull keeps two processors busy by itself, so that whatever a mirror does makes it longer: the controls
 * there tell what is the mirror's part in that. Over a link it is the link that is waited for.
 */
export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const count = (name: 'mib' | 'rounds' | 'unpack-rounds' | 'pulls' | 'pull-mib' | 'per-sec' | 'seconds') =>
    numberOf(name, values[name], { least: 1 })
  const order: Options = {
    mib: count('mib'),
    rounds: count('rounds'),
    pulls: count('pulls'),
    pullMib: count('pull-mib'),
    perSec: count('per-sec'),
    seconds: count('seconds'),
    only: new Set(values.only.split(',')),
    linksMbit: values.links.split(',').map((one) => numberOf('links', one, { least: 1 })),
    logs: { level: values.log, directory: values.keep },
  }
  const figures: Figure[] = []
  if (order.only.has('loopback')) figures.push(...(await beside(order, signal)))
  if (order.only.has('unpack')) {
    const rounds = count('unpack-rounds')
    if (isOnStage()) figures.push(...(await unpacked({ rounds }, signal)))
    else {
      await prepareLayers(signal)
      figures.push(...(await onAStage(BENCH, ['--only', 'unpack', '--unpack-rounds', String(rounds)], signal)))
    }
  }
  if (order.only.has('links')) {
    for (const mbit of order.linksMbit) figures.push(...(await overALink(order, mbit, signal)))
  }
  if (order.only.has('crowd')) figures.push(...(await atOnce(order, signal)))
  return figures
}

/** Cold pulls in turn, straight, by the controls, and through a mirror with nothing else in its swarm; medians. */
async function beside({ mib, rounds }: Options, signal: AbortSignal): Promise<Figure[]> {
  await using stand = onLoopback()
  await using rig = await Rig.open(stand, {}, { signal })
  const times = { straight: [] as number[], forward: [] as number[], store: [] as number[], through: [] as number[] }
  const cpu = { agent: [] as number[], supernode: [] as number[] }
  await using forward = await rig.forwarder('forward')
  await using store = await rig.forwarder('store')
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    const image = await rig.push(mib * MIB)
    times.straight.push(await rig.fetch(image))
    times.forward.push(await rig.fetch(image, forward.address))
    times.store.push(await rig.fetch(image, store.address))
    const before = rig.cpuSeconds()
    times.through.push(await rig.fetch(image, rig.mirror.address))
    const after = rig.cpuSeconds()
    cpu.agent.push(after.agent - before.agent)
    cpu.supernode.push(after.supernode - before.supernode)
  }
  const what = `loopback, ${mib} MiB cold`
  const straight = { anchor: 'straight from the registry', anchorValue: median(times.straight) }
  const figure = (name: string, value: number, rest: Partial<Figure> = {}): Figure => ({
    ...{ bench: BENCH, figure: `${what}: ${name}`, value, unit: 's' },
    ...rest,
  })
  return [
    figure('through the mirror', median(times.through), { ...straight, goal: '<=1.05' }),
    figure('through a proxy that only forwards', median(times.forward), straight),
    figure('through a proxy that hashes and writes', median(times.store), straight),
    figure('through the mirror, beside that proxy', median(times.through), {
      anchor: 'a proxy that hashes and writes',
      anchorValue: median(times.store),
    }),
    figure('processor time of the agent', median(cpu.agent)),
    figure('processor time of the supernode', median(cpu.supernode)),
  ]
}

/** The same with the registry behind a link; on the slow one also with hosts that hold the image. */
async function overALink({ mib, rounds }: Options, mbit: number, signal: AbortSignal): Promise<Figure[]> {
  const slow = mbit <= SLOW_MBIT
  const others = slow ? OTHERS : 0
  const image = { bytes: (slow ? mib / 2 : mib) * MIB, rounds: slow ? 1 : rounds }
  await using stand = await onABed({ others, registryBitsPerSec: mbit * 1e6 }, { signal })
  await using rig = await Rig.open(stand, { others }, { signal })
  const straight: number[] = []
  const through: number[] = []
  for (let round = 0; round < image.rounds; round++) {
    signal.throwIfAborted()
    const cold = await rig.push(image.bytes)
    const alone = async () => straight.push(await rig.fetch(cold))
    if (round % 2 === 0) await alone()
    through.push(await rig.fetch(cold, rig.mirror.address))
    if (round % 2 === 1) await alone()
  }
  const what = `registry behind ${mbit} Mbit/s, ${image.bytes / MIB} MiB`
  const anchor = { anchor: 'straight from the registry', anchorValue: median(straight) }
  const figures: Figure[] = [
    {
      ...{ bench: BENCH, figure: `${what} cold: through the mirror`, value: median(through), unit: 's' },
      ...{ ...anchor, goal: '<=1.05' },
    },
  ]
  if (others === 0) return figures
  const held: number[] = []
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    const theirs = await rig.push(image.bytes)
    for (const mirror of rig.mirrors.slice(1)) await rig.hold(mirror, theirs)
    held.push(await rig.fetch(theirs, rig.mirror.address))
  }
  figures.push({
    ...{ bench: BENCH, figure: `${what}, ${others} other hosts hold it: through the mirror`, value: median(held) },
    ...{ unit: 's', ...anchor, goal: '<=0.334' },
  })
  return figures
}

async function atOnce(options: Options, signal: AbortSignal): Promise<Figure[]> {
  const { pulls, pullMib, perSec, seconds, logs } = options
  await using stand = onLoopback()
  await using rig = await Rig.open(stand, { logs }, { signal })
  const image = await rig.push(pullMib * MIB)
  const agent = new Agent({ keepAlive: true, maxSockets: 4096 })
  try {
    const tookSeconds = await rig.crowd(image, pulls)
    const copies = await rig.copies(image)
    const peak = await rig.peakBytes()
    signal.throwIfAborted()
    const latencies = await steady(rig, image, agent, perSec, seconds)
    const what = `${pulls} pulls of a cold ${pullMib} MiB image at once`
    return [
      { bench: BENCH, figure: `${what}: reads of a layer at the registry`, value: copies, unit: 'copies', goal: '<=1' },
      { bench: BENCH, figure: `${what}: most memory of the agent`, value: peak / MIB, unit: 'MiB', goal: '<=300' },
      { bench: BENCH, figure: `${what}: rate to the clients`, value: (pulls * pullMib) / tookSeconds, unit: 'MiB/s' },
      ...(['HEAD', 'GET'] as const).map((method) => ({
        bench: BENCH,
        figure: `${method} of a manifest by digest, warm, ${perSec} a second: p99`,
        value: quantile(latencies[method], 0.99),
        unit: 'ms',
        goal: '<5',
      })),
    ]
  } catch (error) {
    const said = `${(error as Error).message}; the agent's last words:\n${rig.mirror.program.lastWords()}`
    throw new DarnerError('COMMAND_FAILED', said, { cause: error })
  } finally {
    agent.destroy()
  }
}

/** Requests on their times, whether or not earlier ones are answered; milliseconds each. */
async function steady(
  rig: Rig,
  image: Pushed,
  agent: Agent,
  perSec: number,
  seconds: number,
): Promise<Record<'HEAD' | 'GET', number[]>> {
  const took: Record<'HEAD' | 'GET', number[]> = { HEAD: [], GET: [] }
  const running: Promise<void>[] = []
  const began = performance.now()
  for (let at = 0; at < perSec * seconds; ) {
    const due = Math.min(perSec * seconds, Math.floor(((performance.now() - began) / 1000) * perSec))
    for (; at < due; at++) {
      const method = at % 2 === 0 ? 'HEAD' : 'GET'
      const start = performance.now()
      const answered = ask(rig, image, agent, method, `manifests/${image.manifest}`)
      running.push(answered.then(() => void took[method].push(performance.now() - start)))
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(running)
  return took
}

async function ask(rig: Rig, image: Pushed, agent: Agent, method: string, path: string): Promise<void> {
  const url = `http://${rig.mirror.address}/v2/${image.repository}/${path}?ns=${rig.registryHost}`
  const failed = (why: string, cause?: Error) =>
    new DarnerError('COMMAND_FAILED', `${method} ${path}: ${why}`, { cause })
  await new Promise<void>((resolve, reject) => {
    request(url, { method, agent }, (answer) => {
      if (answer.statusCode !== 200) reject(failed(`the mirror answered ${answer.statusCode}`))
      answer.on('error', (error) => reject(failed(error.message, error))).on('end', () => resolve())
      answer.resume()
    })
      .on('error', (error) => reject(failed(error.message, error)))
      .end()
  })
}
