/**
 * `npm run bench -- fixed`: what darner adds to a blob of 1 B, 1 KiB, 1 MiB and 10 MiB, through the agent's socket and as the
 * whole command, cold (nobody has it) and warm (this agent has it), beside curl from the origin; and what a supernode that is away costs.
 * All on loopback, and started as it is installed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { get as httpGet } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { readGetStream } from '../src/api/get-frames.ts'
import { AgentClient } from '../src/cli/client.ts'
import { abortable } from '../src/core/signals.ts'
import { isOnStage } from '../test/fixtures/host/a-stage.ts'
import { type Built, builtDarner } from './built.ts'
import type { Figure } from './figure.ts'
import { supernodeAway } from './fixed/supernode-away.ts'
import { median } from './median.ts'
import { type BenchOptions, numberOf, readOptions } from './options.ts'
import { onAStage } from './stage/on-a-stage.ts'
import { exited } from './swarm/arena.ts'

export const about =
  'fixed cost of small blobs: by the socket, by the command, beside curl; cold and warm; without a supernode (needs root)'
export const parts = ['blobs', 'away']
export const options = {
  rounds: { value: 'N', summary: 'of each size', default: '15' },
} as const satisfies BenchOptions

const SIZES = [
  ['1 B', 1],
  ['1 KiB', 1024],
  ['1 MiB', 1024 ** 2],
  ['10 MiB', 10 * 1024 ** 2],
] as const
const BENCH = 'fixed'
const path = (url: string) => fileURLToPath(new URL(url, import.meta.url))

interface Blob {
  readonly url: string
  readonly digest: string
}

export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values, parts: chosen } = readOptions(options, args, parts)
  const rounds = numberOf('rounds', values.rounds, { least: 1, whole: true })
  const wanted = (part: string) => chosen.length === 0 || chosen.includes(part)
  if (isOnStage()) return await supernodeAway(rounds, signal)
  const figures = wanted('blobs') ? await blobs(rounds, signal) : []
  // its agent runs with an engine, whose mounts end with the stage
  if (wanted('away')) figures.push(...(await onAStage('fixed', ['away', '--rounds', String(rounds)], signal)))
  return figures
}

async function blobs(rounds: number, signal: AbortSignal): Promise<Figure[]> {
  const folder = await mkdtemp(join(tmpdir(), 'darner-fixed-'))
  const children: ChildProcess[] = []
  try {
    const site = await start(folder, await builtDarner(), children, signal)
    const figures: Figure[] = []
    for (const [name, bytes] of SIZES) figures.push(...(await measure(site, name, bytes, rounds, signal)))
    return figures
  } finally {
    for (const child of children) child.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }
}

interface Site {
  readonly folder: string
  readonly built: Built
  readonly url: string
  readonly socket: string
}

async function start(folder: string, built: Built, children: ChildProcess[], signal: AbortSignal): Promise<Site> {
  await mkdir(join(folder, 'origin'))
  const daemon = async (argv: string[]): Promise<string> => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    children.push(child)
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`${argv.slice(1).join(' ')} ended with ${code}`)
    })
    ended.catch(() => {})
    const lines = createInterface({ input: child.stdout })
    const [line] = await abortable(Promise.race([once(lines, 'line') as Promise<[string]>, ended]), signal)
    return line
  }
  const darner = (...words: string[]) => daemon([built.launcher, ...words, '--log-level', 'warn'])
  const url = await daemon([process.execPath, path('swarm/origin-server.ts'), '127.0.0.1', join(folder, 'origin')])
  const seed = ['--open', '--p2p-listen', '127.0.0.1:0', '--lane-listen', '127.0.0.1:0', '--listen', '127.0.0.1:0']
  const supernode = await darner('supernode', ...seed, '--data', join(folder, 'supernode'))
  const socket = join(folder, 'agent.sock')
  const agent = ['--no-engine', '--p2p-listen', '127.0.0.1:0', '--lane-listen', '127.0.0.1:0', '--socket', socket]
  await darner('agent', ...agent, '--supernode', supernode, '--data', join(folder, 'agent'))
  return { folder, built, url, socket }
}

async function measure(
  site: Site,
  name: string,
  bytes: number,
  rounds: number,
  signal: AbortSignal,
): Promise<Figure[]> {
  const times = new Map<string, number[]>()
  const client = new AgentClient({ socket: site.socket })
  const timed = async (what: string, work: () => Promise<void>) => {
    const beganMs = performance.now()
    await work()
    times.set(what, [...(times.get(what) ?? []), performance.now() - beganMs])
  }
  const bySocket = async ({ url, digest }: Blob) => {
    const body = { origin: { kind: 'url', url }, digest, priority: 'interactive', order: 'landed' }
    const answer = await client.open('POST', '/v1/get', { body, signal })
    for await (const frame of readGetStream(answer)) if (frame.kind === 'error') throw new Error(frame.body.message)
  }
  const byCommand = async ({ url, digest }: Blob) => {
    const out = join(site.folder, 'out')
    const words = ['get', url, '--digest', digest, '-o', out, '--no-resume', '--json', '--socket', site.socket]
    await exited(spawn(site.built.launcher, words), 'darner get')
  }
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    const [first, second] = [await blob(site, bytes), await blob(site, bytes)]
    await timed('origin', () => answered(first.url))
    await timed('curl', () => exited(spawn('curl', ['-sS', '--fail', '-o', '/dev/null', first.url]), 'curl'))
    await timed('socket, cold', () => bySocket(first))
    await timed('socket, warm', () => bySocket(first))
    await timed('command, cold', () => byCommand(second))
    await timed('command, warm', () => byCommand(second))
  }
  const middle = (what: string) => median(times.get(what) ?? [])
  const figure = (what: string, rest: Partial<Figure> = {}): Figure => ({
    bench: BENCH,
    figure: `${name}: ${what}`,
    value: middle(what),
    unit: 'ms',
    ...rest,
  })
  const curl = { anchor: 'curl from the origin', anchorValue: middle('curl') }
  const small = bytes <= 1024
  return [
    figure('origin'),
    figure('curl'),
    ...['socket, cold', 'socket, warm', 'command, cold', 'command, warm'].map((what) => figure(what, curl)),
    {
      ...figure('socket, cold'),
      figure: `${name}: socket, cold, over the origin's answer`,
      value: middle('socket, cold') - middle('origin'),
      ...(small && { goal: '<20' }),
    },
    ...(small ? [{ ...figure('command, cold'), figure: `${name}: whole command, cold`, goal: '<120' }] : []),
  ]
}

let made = 0

async function blob(site: Site, bytes: number): Promise<Blob> {
  // a byte alone has few values: what makes each blob another is its URL and, for one byte, the next value
  const body = bytes === 1 ? Buffer.from([made & 0xff]) : randomBytes(bytes)
  const name = `blob-${made++}`
  await writeFile(join(site.folder, 'origin', name), body)
  return { url: `${site.url}/${name}`, digest: `sha256:${createHash('sha256').update(body).digest('hex')}` }
}

/** The origin's own answer, read to its end. */
function answered(url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    httpGet(url, { agent: false }, (response) => response.resume().on('end', resolve).on('error', reject)).on(
      'error',
      reject,
    )
  })
}
