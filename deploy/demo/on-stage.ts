/**
 * The whole demo, on a stage: namespaces, registry, supernode, agents, pulls, containers. It runs in a process of its own, the
 * first of its process namespace but one, so that when it ends for whatever reason, all that it started ends with it.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { PullLine, PullSummary } from '../../src/api/images-api.ts'
import { EngineClient } from '../../src/cli/engine-client.ts'
import { formatBytes } from '../../src/core/config/units.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { abortable } from '../../src/core/signals.ts'
import { Daemon, run } from './command.ts'
import { type Hosts, hostsOf, makeFabric, onHost } from './fabric.ts'
import { firstWords } from './first-words.ts'
import { type LayoutImage, readLayout } from './oci-layout.ts'
import { darner } from './places.ts'
import { completeLog, countAccesses, pushImage, registryCommand, untilAnswering } from './registry.ts'
import { Bars, began, block, say, summary } from './story.ts'
import { type Agent, endSwarm, type Swarm, servedBy, startSwarm, supernodeBytes } from './swarm.ts'
import { accessTable, type BlobName, bytesTable, type HostBytes, notReadOnce } from './tables.ts'

/** What the demo tells its part on the stage. */
export interface StageOrder {
  /** Everything that is made lies in it. */
  readonly folder: string
  /** Folder of the daemons' logs. */
  readonly logs: string
  /** The OCI layout of the image. */
  readonly layout: string
  readonly title: string
  /** The image is the demo's own, whose service says `ready`. */
  readonly ours: boolean
  readonly agents: number
  readonly keep: boolean
  /** When the demo began, epoch milliseconds. */
  readonly beganMs: number
}

const REPOSITORY = 'demo/image'
const TAG = 'latest'
const CONTAINER = 'hello'
const END_MS = 4000

/** Resolves when all is told; with `keep` when the signal says stop. Throws what failed first. */
export async function demoOnStage(order: StageOrder, { signal }: { signal: AbortSignal }): Promise<void> {
  began(order.beganMs)
  await using owned = new AsyncDisposableStack()
  const own = (daemon: Daemon) => owned.use(daemon)
  const hosts = hostsOf(order.agents)
  await makeFabric([hosts.origin, hosts.supernode, ...hosts.agents], { signal })
  say(
    `${hosts.agents.length + 2} network namespaces on one bridge: ${hosts.origin.address} to ${hosts.agents.at(-1)?.address}`,
  )
  const image = await readLayout(order.layout)
  const [registry, swarm] = await Promise.all([
    startRegistry(order, hosts, image, own, signal),
    startSwarm({
      folder: order.folder,
      logs: order.logs,
      supernode: hosts.supernode,
      agents: hosts.agents,
      ports: 'fixed',
      engine: true,
      at: onHost,
      own,
      signal,
    }),
  ])
  say(`supernode on ${hosts.supernode.address}; ${swarm.agents.length} agents joined it`)
  const reference = `${registry.host}/${REPOSITORY}:${TAG}`
  const got = await pullEverywhere(swarm.agents, reference, signal)
  say(`pulled ${reference} on all ${got.length} hosts at once`)
  const said = await Promise.all(swarm.agents.map((agent) => runOn(agent, reference, order.ours, signal)))
  say(`started it on all ${got.length} hosts`)
  const whole = await report(registry, swarm, image, got, signal)
  block(
    'What the containers printed',
    swarm.agents.flatMap(({ name }, at) => (said[at] ?? []).map((line) => `${name} | ${line}`)),
  )
  if (whole !== undefined) throw whole
  block('Try next', order.keep ? onThisSwarm(swarm.agents) : onANewSwarm())
  if (order.keep) {
    process.stdout.write('\nAll of it stays up until Ctrl-C.\n')
    await abortable(new Promise<never>(() => {}), signal)
  }
  process.stdout.write('\n')
  const late = await endSwarm(swarm, END_MS)
  if (late.length > 0) say(`${late.join(', ')} did not end within ${END_MS / 1000} s of being told to: killed`)
}

interface RunningRegistry {
  readonly url: string
  readonly host: string
  readonly daemon: Daemon
}

async function startRegistry(
  order: StageOrder,
  { origin }: Hosts,
  image: LayoutImage,
  own: (daemon: Daemon) => Daemon,
  signal: AbortSignal,
): Promise<RunningRegistry> {
  const host = `${origin.address}:5000`
  const url = `http://${host}`
  const folder = join(order.folder, origin.name)
  await mkdir(folder, { recursive: true })
  const daemon = own(
    new Daemon({
      name: 'docker-registry',
      argv: onHost(origin, await registryCommand(folder, host)),
      logFile: join(order.logs, 'docker-registry.log'),
      env: { ...process.env, OTEL_TRACES_EXPORTER: 'none' },
      signal,
    }),
  )
  await Promise.race([untilAnswering(url, { signal }), daemon.died()])
  await pushImage(url, REPOSITORY, TAG, image, { signal })
  const { config, layers } = image.manifest
  const bytes = [config, ...layers].reduce((sum, { size }) => sum + size, 0)
  say(`docker-registry on ${host}; pushed ${order.title}: ${layers.length} layers, ${formatBytes(bytes)}`)
  return { url, host, daemon }
}

async function pullEverywhere(
  agents: readonly Agent[],
  reference: string,
  signal: AbortSignal,
): Promise<PullSummary[]> {
  using bars = new Bars(agents.map(({ name }) => name))
  return await Promise.all(agents.map((agent) => pullOn(agent, reference, bars, signal)))
}

/** What `darner pull --plain-http` does, with a bar for the whole image. */
async function pullOn(
  { name, client }: Agent,
  reference: string,
  bars: Bars,
  signal: AbortSignal,
): Promise<PullSummary> {
  const layers = new Map<string, Extract<PullLine, { kind: 'layer' }>>()
  let total: number | undefined
  const body = { reference, plainHttp: true }
  for await (const line of client.lines<PullLine>('POST', '/v1/images/pull', { body, signal })) {
    if (line.kind === 'pulled') {
      const { bytes, from } = line.summary
      bars.show(name, { have: bytes, total: bytes, from, note: 'done' })
      return line.summary
    }
    if (line.kind === 'resolved') total = line.layers.reduce((sum, layer) => sum + layer.bytes, 0)
    else layers.set(line.digest, line)
    const all = [...layers.values()]
    const sum = (pick: (layer: (typeof all)[number]) => number) => all.reduce((before, one) => before + pick(one), 0)
    bars.show(name, {
      have: sum((layer) => (layer.state === 'done' || layer.state === 'present' ? layer.bytes : layer.have)),
      total,
      from: {
        origin: sum((layer) => layer.from.origin),
        supernode: sum((layer) => layer.from.supernode),
        peers: sum((layer) => layer.from.peers),
      },
      ...(all.length > 0 && all.every((layer) => layer.state !== 'downloading') ? { note: 'unpacking' } : {}),
    })
  }
  throw new DarnerError('AGENT_UNREACHABLE', `${name}: the agent broke off its answer to the pull`)
}

/** Starts a container by `darner run`; returns the first lines that it printed. */
async function runOn(agent: Agent, reference: string, ours: boolean, signal: AbortSignal): Promise<string[]> {
  const options = ['--socket', agent.socket, '-d', '--name', CONTAINER, '--network', 'host', '-e', `HOST=${agent.name}`]
  await run(darner('run', ...options, reference), { signal })
  const engine = new EngineClient({ socket: agent.socket })
  const lines = await firstWords(engine, CONTAINER, { ...(ours ? { last: 'ready' } : {}), signal })
  return lines.length > 0 ? lines : ['(nothing yet)']
}

/** Prints both tables; returns what is wrong with them. */
async function report(
  registry: RunningRegistry,
  swarm: Swarm,
  image: LayoutImage,
  got: readonly PullSummary[],
  signal: AbortSignal,
): Promise<DarnerError | undefined> {
  const rows = await Promise.all(
    swarm.agents.map(async (agent, at): Promise<HostBytes> => {
      const { from, seconds } = got[at] ?? { from: { origin: 0, supernode: 0, peers: 0 }, seconds: 0 }
      return { name: agent.name, from, seconds, served: await servedBy(agent, { signal }) }
    }),
  )
  const { fromOrigins, fromHosts, seeded } = await supernodeBytes(swarm, { signal })
  block('Who got how many bytes from whom', [
    ...bytesTable(rows),
    '',
    `The supernode read ${formatBytes(fromOrigins)} at the registry and gave ${formatBytes(seeded)} to hosts.`,
    ...summary(
      { fromOrigin: fromOrigins + rows.reduce((sum, row) => sum + row.from.origin, 0), fromHosts, seeded },
      rows,
    ),
  ])
  const lines = await completeLog(registry.url, () => registry.daemon.lines, { signal })
  const counts = countAccesses(lines)
  const blobs = blobsOf(image)
  block("What the registry's access log counted", accessTable(blobs, counts))
  const wrong = notReadOnce(blobs, counts)
  if (wrong.length === 0) return undefined
  return new DarnerError('INTERNAL', `the registry was not asked once for each blob: ${wrong.join('; ')}`)
}

function blobsOf({ manifest }: LayoutImage): BlobName[] {
  const layers = manifest.layers.map(({ digest, size }, at) => ({ digest, bytes: size, what: `layer ${at + 1}` }))
  const all = [...layers, { digest: manifest.config.digest, bytes: manifest.config.size, what: 'config' }]
  return [...new Map(all.map((blob) => [blob.digest, blob])).values()]
}

function onThisSwarm(agents: readonly Agent[]): string[] {
  const socket = (at: number) => agents[Math.min(at, agents.length - 1)]?.socket ?? ''
  return [
    `npm run -s darner -- ps --socket ${socket(0)}`,
    `npm run -s darner -- exec -it --socket ${socket(1)} ${CONTAINER} sh`,
    `npm run -s darner -- status --socket ${socket(2)}`,
  ]
}

function onANewSwarm(): string[] {
  return [
    'npm run demo -- --keep                      # leaves the swarm up, with commands to try on it',
    'npm run demo -- --image docker.io/library/nginx:latest --agents 8',
    'npm run -s darner -- supernode --open       # then, on any host: npm run -s darner -- agent --supernode …',
  ]
}
