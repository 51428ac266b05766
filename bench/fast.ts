/**
 * How fast is one host where no link is in the way? On loopback, all files in memory: `darner get` of a fresh blob from the origin by the
 * seed, from one parent, and from four, beside curl from the same origin and the control program of `bench lane`, in the same run.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AgentClient } from '../src/cli/client.ts'
import type { Figure } from './figure.ts'
import { laneRound } from './lane/main.ts'
import { type LoopbackAgent, type LoopbackBlob, LoopbackSwarm } from './loopback/swarm.ts'
import { median } from './median.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'
import { checkRoom } from './room.ts'
import { exited, verifyDigest } from './swarm/arena.ts'
import { cpuTime } from './swarm/cpu.ts'
import { parseSize } from './swarm/options.ts'

export const tools = [{ debian: 'curl', program: 'curl', why: 'plain HTTP, to compare with' }] as const
export const about =
  'one host without a link in its way: get from the origin, one parent, four; beside curl and a control'
export const options = {
  size: { value: 'SIZE', summary: 'of the blob', default: '1G' },
  rounds: { value: 'N', summary: 'the first is of fresh daemons', default: '4' },
  dir: { value: 'DIR', summary: 'where all files are (default: /dev/shm, else TMPDIR)' },
  prof: { value: 'DIR', summary: 'CPU profiles of the daemons, there' },
} as const satisfies BenchOptions

const BENCH = 'fast'
const MIB = 1024 ** 2

/** Seconds, and processor seconds of daemons. */
interface Round {
  readonly curl: number
  readonly control: number
  readonly fromOrigin: number
  readonly fromOne: number
  readonly fromFour: number
  /** Of the seed and of the host that it gave to, while it read the origin. */
  readonly reads: number
  readonly receivesRead: number
  /** Of the host that received from one parent, and of that parent. */
  readonly receives: number
  readonly serves: number
  /** Of the host that received from four. */
  readonly receivesFour: number
  /** What parents sent over what was got from them, less one. */
  readonly forNothing: number
}

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const bytes = parseSize('--size', values.size)
  const rounds = numberOf('rounds', values.rounds, { least: 1, whole: true })
  const directory = values.dir ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir())
  // the origin's, the stores of the seed and of five agents, one output, and what is touched before
  await checkRoom(directory, 10 * bytes)
  await using swarm = await LoopbackSwarm.open({ directory, storeQuota: 2 * bytes, profiles: values.prof }, { signal })
  const agents: LoopbackAgent[] = []
  for (const name of ['first', 'second', 'third', 'fourth', 'last']) agents.push(await swarm.agent(name, { signal }))
  for (const agent of agents.slice(1)) await swarm.keepFromSeed(agent, { signal })
  const done: Round[] = []
  for (let number = 0; number < rounds; number++) {
    const round = await play(swarm, agents, bytes, signal)
    console.error(lineOf(number === 0 ? 'first round' : 'warm', round, bytes))
    done.push(round)
  }
  return [...figuresOf('first round', done.slice(0, 1), bytes), ...figuresOf('warm', done.slice(1), bytes)]
}

async function play(
  swarm: LoopbackSwarm,
  agents: readonly LoopbackAgent[],
  bytes: number,
  signal: AbortSignal,
): Promise<Round> {
  const [first, second, third, fourth, last] = agents
  if (!(first && second && third && fourth && last)) throw new Error('five agents')
  const blob = await swarm.blob(bytes)
  const output = join(swarm.folder, 'output')
  const touch = (copies: number) => touchMemory(swarm.folder, copies * bytes)
  const get = (agent: LoopbackAgent) => timedGet(swarm, agent, blob, output, signal)
  await touch(1)
  const curlBeganMs = performance.now()
  await exited(spawn('curl', ['-sS', '--fail', '--noproxy', '*', '-o', output, blob.url]), 'curl', signal)
  const curl = (performance.now() - curlBeganMs) / 1000
  await rm(output)
  await touch(1)
  const { seconds: control } = await laneRound('control', { source: blob.file, target: output, bytes, prof: undefined })
  await rm(output)
  await touch(3)
  const readsBefore = cpuTime(swarm.supernodePid).own.all
  const receivesReadBefore = cpuTime(first.pid).own.all
  const fromOrigin = await get(first)
  const reads = cpuTime(swarm.supernodePid).own.all - readsBefore
  const receivesRead = cpuTime(first.pid).own.all - receivesReadBefore
  await touch(2)
  const servesBefore = cpuTime(first.pid).own.all
  const receivesBefore = cpuTime(second.pid).own.all
  const sentBefore = await sentBy([first], signal)
  const fromOne = await get(second)
  const serves = cpuTime(first.pid).own.all - servesBefore
  const receives = cpuTime(second.pid).own.all - receivesBefore
  const sentOne = (await sentBy([first], signal)) - sentBefore
  await get(third)
  await get(fourth)
  const parents = [first, second, third, fourth]
  await touch(2)
  const sentFourBefore = await sentBy(parents, signal)
  const fourBefore = cpuTime(last.pid).own.all
  const fromFour = await get(last)
  const receivesFour = cpuTime(last.pid).own.all - fourBefore
  const sentFour = (await sentBy(parents, signal)) - sentFourBefore
  await rm(blob.file)
  for (const agent of agents) await command(swarm, agent, ['gc', '--force', '--to', '0'], signal)
  const forNothing = Math.max(sentOne, sentFour) / bytes - 1
  return {
    ...{ curl, control, fromOrigin, fromOne, fromFour },
    ...{ reads, receivesRead, receives, serves, receivesFour, forNothing },
  }
}

/**
 * Writes a file and removes it. A virtual machine takes memory that it gave back from its host page by page, at 5 ms/MiB: without this the steps that
 * come last, with the most copies there are, pay for it.
 */
async function touchMemory(folder: string, bytes: number): Promise<void> {
  const path = join(folder, 'touched')
  const block = Buffer.alloc(4 * MIB)
  {
    await using file = await open(path, 'wx')
    for (let left = bytes; left > 0; left -= block.byteLength) await file.write(block)
  }
  await rm(path)
}

/** The whole command, from its start to its end; the file is checked and removed afterwards. */
async function timedGet(
  swarm: LoopbackSwarm,
  agent: LoopbackAgent,
  { url, digest }: LoopbackBlob,
  output: string,
  signal: AbortSignal,
): Promise<number> {
  const beganMs = performance.now()
  await command(swarm, agent, ['get', url, '--digest', digest, '-o', output, '--quiet'], signal)
  const seconds = (performance.now() - beganMs) / 1000
  await verifyDigest(output, digest)
  await rm(output)
  return seconds
}

async function command(
  swarm: LoopbackSwarm,
  agent: LoopbackAgent,
  words: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const env = { ...process.env, DARNER_SOCKET: agent.socket }
  await exited(spawn(swarm.launcher, words, { env }), `darner ${words[0]} on ${agent.name}`, signal)
}

/** Bytes of pieces that agents gave to others so far. */
async function sentBy(agents: readonly LoopbackAgent[], signal: AbortSignal): Promise<number> {
  const all = agents.map(({ socket }) =>
    new AgentClient({ socket }).json<{ bytes: { sent: number } }>('GET', '/v1/peer', { signal }),
  )
  return (await Promise.all(all)).reduce((sum, { bytes }) => sum + bytes.sent, 0)
}

function lineOf(what: string, round: Round, bytes: number): string {
  const msPerMiB = (seconds: number) => ((1000 * seconds * MIB) / bytes).toFixed(1)
  return [
    `${what}: curl ${round.curl.toFixed(2)} s, control ${round.control.toFixed(2)} s`,
    `get from the origin ${round.fromOrigin.toFixed(2)} s, from one ${round.fromOne.toFixed(2)} s, from four ${round.fromFour.toFixed(2)} s`,
    `seed ${msPerMiB(round.reads)} ms/MiB, receiving ${msPerMiB(round.receives)} (from four ${msPerMiB(round.receivesFour)}), serving ${msPerMiB(round.serves)}`,
    `for nothing ${(100 * round.forNothing).toFixed(1)} %`,
  ].join('; ')
}

function figuresOf(what: string, rounds: readonly Round[], bytes: number): Figure[] {
  if (rounds.length === 0) return []
  const figures: Figure[] = []
  const of = (key: keyof Round) => median(rounds.map((round) => round[key]))
  const add = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) =>
    figures.push({ bench: BENCH, figure: `${what}: ${figure}`, value, unit, ...rest })
  const rate = (key: keyof Round) => bytes / MIB / of(key)
  const perMiB = (key: keyof Round) => (1000 * of(key) * MIB) / bytes
  const goal = what === 'warm' ? { goal: '>=0.8' } : {}
  const control = { anchor: 'control, same run', anchorValue: rate('control') }
  add('curl from the origin', rate('curl'), 'MiB/s')
  add('get from the origin by the seed', rate('fromOrigin'), 'MiB/s', {
    anchor: 'curl, same run',
    anchorValue: rate('curl'),
  })
  add('get from one parent', rate('fromOne'), 'MiB/s', { ...control, ...goal })
  add('get from four parents', rate('fromFour'), 'MiB/s', { ...control, ...goal })
  const once = perMiB('receives') + perMiB('serves')
  add('an agent that receives and serves once', once, 'ms/MiB', what === 'warm' ? { goal: '<=6' } : {})
  add('the seed, which reads the origin and serves one', perMiB('reads'), 'ms/MiB')
  add('receiving from the seed meanwhile', perMiB('receivesRead'), 'ms/MiB')
  add('receiving from one', perMiB('receives'), 'ms/MiB')
  add('receiving from four', perMiB('receivesFour'), 'ms/MiB')
  add('serving one', perMiB('serves'), 'ms/MiB')
  const most = 100 * Math.max(...rounds.map(({ forNothing }) => forNothing))
  add('sent for nothing', most, '%', { goal: '<=3' })
  return figures
}
