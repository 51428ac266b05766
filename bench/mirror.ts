/**
 * What the registry mirror costs: containerd's pull through it beside its pull straight from the registry, many pulls of one cold
 * image at once, and how soon it answers about a manifest that it knows. Needs root, containerd and docker-registry.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { TOOLS } from '../deploy/setup.ts'
import { DarnerError } from '../src/base/errors.ts'
import {
  type AgentProcess,
  anAgentProcess,
  aSupernodeProcess,
  type Daemon,
  runDarner,
} from '../test/fixtures/a-daemon.ts'
import { aDir } from '../test/fixtures/a-dir.ts'
import { aRegistry, type Registry } from '../test/fixtures/a-registry.ts'
import { anImage, type Image, pushImage } from '../test/fixtures/an-image.ts'
import type { Figure } from './figure.ts'

export const tools = TOOLS
export const about =
  "the registry mirror: containerd's pull beside a straight one, many cold pulls at once, latency when warm"

const BENCH = 'mirror'
const MIB = 1024 * 1024
const LAYERS = 4
const WARM_BYTES = 64 * MIB
const REPOSITORY = 'bench/app'
/** Linux counts so, on every machine that matters (proc(5), sysconf(_SC_CLK_TCK)). */
const TICKS_PER_SECOND = 100

interface Options {
  readonly mib: number
  readonly rounds: number
  readonly pulls: number
  readonly pullMib: number
  readonly perSec: number
  readonly seconds: number
}

/**
 * `--mib 200` image of the containerd pulls, `--rounds 3`, `--pulls 200` at once of `--pull-mib 200`, `--per-sec 500`, `--seconds 5`.
 * The registry is on loopback, so that a pull is bound by this machine's processors: the figure of processor time says what the
 * mirror adds on a host whose link is the limit.
 */
export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const number = (name: string, otherwise: number) => {
    const at = args.indexOf(`--${name}`)
    return at < 0 ? otherwise : Number(args[at + 1])
  }
  const options: Options = {
    mib: number('mib', 200),
    rounds: number('rounds', 3),
    pulls: number('pulls', 200),
    pullMib: number('pull-mib', 200),
    perSec: number('per-sec', 500),
    seconds: number('seconds', 5),
  }
  const figures: Figure[] = []
  figures.push(...(await beside(options, signal)))
  figures.push(...(await atOnce(options, signal)))
  return figures
}

interface Rig extends AsyncDisposable {
  readonly directory: string
  readonly registry: Registry
  readonly supernode: Daemon
  readonly agent: AgentProcess
  readonly mirror: string
  readonly image: Image
}

async function aRig(mib: number): Promise<Rig> {
  const stack = new AsyncDisposableStack()
  try {
    const { path: directory } = stack.use(await aDir())
    const registry = stack.use(await aRegistry())
    const layer = { compression: 'none' as const, bytes: Math.floor((mib * MIB) / LAYERS) }
    const image = anImage({ layers: Array.from({ length: LAYERS }, () => layer) })
    await pushImage(registry, REPOSITORY, 'v1', image)
    const supernode = stack.use(await aSupernodeProcess(directory))
    const agent = stack.use(
      await anAgentProcess(directory, 'agent', supernode.line, [
        ...['--mirror', '127.0.0.1:0', '--upstream', `${registry.host}=${registry.url}`],
      ]),
    )
    // daemons on a host run for long: their code is warm, the image isn't
    const other = anImage({ seed: 9, layers: [{ compression: 'none', bytes: WARM_BYTES }] })
    await pushImage(registry, `${REPOSITORY}-other`, 'v1', other)
    const state = JSON.parse((await runDarner(['mirror', '--json', '--socket', agent.socket])).stdout) as {
      address: string
    }
    const http = new Agent({ keepAlive: false })
    const rig = { mirror: state.address, registry, image: other }
    await ask(rig, http, 'GET', 'manifests/v1', `${REPOSITORY}-other`)
    for (const { digest } of other.layers) await ask(rig, http, 'GET', `blobs/${digest}`, `${REPOSITORY}-other`)
    const owned = stack.move()
    return {
      directory,
      registry,
      supernode,
      agent,
      mirror: state.address,
      image,
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}

/** Cold pulls in turn, straight and through a mirror with nothing else in its swarm; medians. */
async function beside({ mib, rounds }: Options, signal: AbortSignal): Promise<Figure[]> {
  const straight: number[] = []
  const through: number[] = []
  const added: number[] = []
  for (let round = 0; round < rounds; round++) {
    signal.throwIfAborted()
    await using rig = await aRig(mib)
    straight.push(await fetched(rig, 'straight', false))
    const before = await cpuSeconds(rig)
    through.push(await fetched(rig, 'through', true))
    added.push((await cpuSeconds(rig)) - before)
  }
  const what = `containerd fetches ${mib} MiB in ${LAYERS} layers through the mirror, cold`
  return [
    {
      ...{ bench: BENCH, figure: what, value: median(through), unit: 's', goal: '<=1.05' },
      ...{ anchor: 'straight from the registry', anchorValue: median(straight) },
    },
    { bench: BENCH, figure: `${what}: processor time of agent and supernode`, value: median(added), unit: 's' },
  ]
}

/** What the two daemons have used so far. */
async function cpuSeconds({ supernode, agent }: Rig): Promise<number> {
  let ticks = 0
  for (const { pid } of [supernode, agent]) {
    const facts = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? []
    ticks += Number(facts[11]) + Number(facts[12])
  }
  return ticks / TICKS_PER_SECOND
}

/** Seconds that `ctr content fetch` takes with an empty containerd. */
async function fetched(rig: Rig, name: string, mirrored: boolean): Promise<number> {
  const base = join(rig.directory, name)
  const hosts = join(base, 'hosts', rig.registry.host)
  await mkdir(hosts, { recursive: true })
  if (mirrored) {
    const table = `[host."http://${rig.mirror}"]\n  capabilities = ["pull", "resolve"]\n`
    await writeFile(join(hosts, 'hosts.toml'), `server = "${rig.registry.url}"\n\n${table}`)
  } else await writeFile(join(hosts, 'hosts.toml'), `server = "${rig.registry.url}"\n`)
  const config = join(base, 'config.toml')
  const socket = join(base, 'c.sock')
  await writeFile(
    config,
    `version = 2\nroot = "${base}/root"\nstate = "${base}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "${socket}"\n`,
  )
  const daemon = spawn('containerd', ['-c', config], { stdio: 'ignore' })
  try {
    const ctr = async (...args: string[]) => {
      const child = spawn('ctr', ['-a', socket, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
      let said = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text
      })
      const [code] = (await once(child, 'close')) as [number]
      return { code, said }
    }
    const late = AbortSignal.timeout(30_000)
    while ((await ctr('version')).code !== 0) late.throwIfAborted()
    const began = performance.now()
    const ref = `${rig.registry.host}/${REPOSITORY}:v1`
    const { code, said } = await ctr('content', 'fetch', '--plain-http', '--hosts-dir', join(base, 'hosts'), ref)
    if (code !== 0) throw new DarnerError('COMMAND_FAILED', `ctr content fetch ${ref}: ${said.trim()}`)
    return (performance.now() - began) / 1000
  } finally {
    const gone = once(daemon, 'exit')
    daemon.kill('SIGTERM')
    await gone
  }
}

async function atOnce(options: Options, signal: AbortSignal): Promise<Figure[]> {
  const { pulls, pullMib, perSec, seconds } = options
  await using rig = await aRig(pullMib)
  const agent = new Agent({ keepAlive: true, maxSockets: 4096 })
  try {
    const began = performance.now()
    await Promise.all(Array.from({ length: pulls }, () => pullAll(rig, agent)))
    const tookSeconds = (performance.now() - began) / 1000
    let copies = 0
    for (const { digest } of rig.image.layers) copies = Math.max(copies, await rig.registry.blobGets(digest))
    const { peak } = await rig.agent.memory()
    signal.throwIfAborted()
    const latencies = await steady(rig, agent, perSec, seconds)
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
  } finally {
    agent.destroy()
  }
}

async function pullAll(rig: Rig, agent: Agent): Promise<void> {
  await ask(rig, agent, 'GET', 'manifests/v1')
  await Promise.all(
    [rig.image.config, ...rig.image.layers].map(({ digest }) => ask(rig, agent, 'GET', `blobs/${digest}`)),
  )
}

/** Requests on their times, whether or not earlier ones are answered; milliseconds each. */
async function steady(
  rig: Rig,
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
      const answered = ask(rig, agent, method, `manifests/${rig.image.manifest.digest}`)
      running.push(answered.then(() => void took[method].push(performance.now() - start)))
    }
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(running)
  return took
}

async function ask(
  { mirror, registry }: Pick<Rig, 'mirror' | 'registry'>,
  agent: Agent,
  method: string,
  path: string,
  repository = REPOSITORY,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    request(`http://${mirror}/v2/${repository}/${path}?ns=${registry.host}`, { method, agent }, (answer) => {
      if (answer.statusCode !== 200)
        reject(new DarnerError('COMMAND_FAILED', `${method} ${path}: the mirror answered ${answer.statusCode}`))
      answer.on('error', reject).on('end', () => resolve())
      answer.resume()
    })
      .on('error', reject)
      .end()
  })
}

function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
