/**
 * From `pull` to an image that can be started: darner beside containerd from a registry on loopback, where unpacking rules; and
 * beside the bytes alone where the registry is slower than unpacking.
 */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { aDir } from '../../test/fixtures/host/a-dir.ts'
import { aRegistry, type Registry } from '../../test/fixtures/origin/a-registry.ts'
import { anAgentProcess, aSupernodeProcess } from '../../test/fixtures/swarm/a-daemon.ts'
import type { Figure } from '../figure.ts'
import { ask } from './client.ts'
import { aContainerd } from './containerd.ts'
import { type BigLayer, bigLayers, LAYER_NAMES, type LayerName } from './layers.ts'
import { pushVariant } from './push-variant.ts'

const BENCH = 'engine'
const REPOSITORY = 'bench/ready'
/** What the slow registry gives: 200 Mbit/s. */
const SLOW_BYTES_PER_SEC = 25e6
export const FORMATS = ['erofs', 'directory'] as const
const SLICE_MS = 10

export interface ReadyOptions {
  readonly rounds: number
  readonly layers: readonly LayerName[]
  readonly formats: readonly Format[]
}

export type Format = (typeof FORMATS)[number]

interface Site {
  readonly directory: string
  readonly registry: Registry
  readonly next: () => number
}

/** Needs a stage with a network. `rounds` of each, in turns with containerd; the middle one counts. */
export async function ready(signal: AbortSignal, { rounds, layers: names, formats }: ReadyOptions): Promise<Figure[]> {
  await using dir = await aDir()
  await using registry = await aRegistry()
  let number = 0
  const site: Site = { directory: dir.path, registry, next: () => ++number }
  const layers = await bigLayers(names, { signal })
  await using containerd = await aContainerd(dir.path)
  const figures: Figure[] = []
  // told as they come: it takes minutes
  const note = (one: Figure) => {
    console.error(
      `${one.figure}: ${one.value.toFixed(0)} ${one.unit}${one.anchorValue ? `, ${one.anchor} ${one.anchorValue.toFixed(0)}` : ''}`,
    )
    figures.push(one)
  }
  for (const format of formats) {
    const folder = join(dir.path, format)
    await mkdir(folder)
    await using supernode = await aSupernodeProcess(folder, ['--open', '--allow-private-origins'])
    const socket = join(folder, 'docker.sock')
    const flags = ['--engine', '--snapshotter', format, '--docker-socket', socket, '--allow-private-origins']
    await using _agent = await anAgentProcess(folder, 'agent', supernode.line, [...flags, '--network-ready', '0'])
    for (const layer of layers) {
      signal.throwIfAborted()
      const rivals: number[] = []
      const value = await middle(rounds, async () => {
        const theirs = await fresh(site, layer)
        rivals.push(await timed(() => containerd.pull(theirs)))
        const ours = await fresh(site, layer)
        return await timed(() => pull(socket, ours))
      })
      note({
        bench: BENCH,
        figure: `image ready, ${layer.name}, ${format}`,
        value,
        unit: 'ms',
        anchor: 'containerd, overlayfs',
        anchorValue: middleOf(rivals),
        goal: '<=0.5',
      })
      // in a pull of its own: nobody asks containerd anything either
      const asked = await fresh(site, layer)
      const pings = await pinging(socket, () => pull(socket, asked))
      pings.sort((a, b) => a - b)
      const p99 = pings[Math.floor(pings.length * 0.99)] ?? 0
      const figure = `answer to a question meanwhile, p99, ${layer.name}, ${format}`
      note({ bench: BENCH, figure, value: p99, unit: 'ms', goal: '<50' })
    }
    const usual = layers.find(({ name }) => name === LAYER_NAMES.gzip)
    if (usual) note(await beyondDownload(site, usual, { socket, format, rounds }))
  }
  return figures
}

/** The registry behind a slow line: the image beside the same number of bytes by one plain GET through that line. */
async function beyondDownload(
  site: Site,
  layer: BigLayer,
  { socket, format, rounds }: { socket: string; format: string; rounds: number },
): Promise<Figure> {
  await using line = await slowLine(Number(new URL(site.registry.url).port), SLOW_BYTES_PER_SEC)
  const alone = await middle(rounds, async () => {
    const { digest } = await push(site, layer)
    await promisify(execFile)('sync')
    return await timed(async () => {
      const answer = await fetch(`http://${line.host}/v2/${REPOSITORY}/blobs/${digest}`)
      for await (const _ of answer.body ?? []);
    })
  })
  const value = await middle(rounds, async () => {
    const reference = await fresh(site, layer)
    return await timed(() => pull(socket, reference.replace(site.registry.host, line.host)))
  })
  return {
    bench: BENCH,
    figure: `image ready, ${layer.name}, ${format}, registry at 200 Mbit/s`,
    value,
    unit: 'ms',
    anchor: 'its bytes by a plain GET',
    anchorValue: alone,
    goal: '<=1.05',
  }
}

/** Puts the layer, with a few bytes that no other one has, into the registry as an image. */
async function push({ registry, next }: Site, layer: BigLayer): Promise<{ reference: string; digest: string }> {
  const number = next()
  const { blobs } = await pushVariant(registry, { repository: REPOSITORY, tag: String(number) }, [layer], number)
  return { reference: `${registry.host}/${REPOSITORY}:${number}`, digest: blobs[1] ?? '' }
}

/** A reference that nobody has pulled; what was written before is on the disk, so that no pull waits for another's bytes. */
async function fresh(site: Site, layer: BigLayer): Promise<string> {
  const { reference } = await push(site, layer)
  await promisify(execFile)('sync')
  return reference
}

const pull = (socket: string, reference: string) =>
  ask(socket, 'POST', `/images/create?fromImage=${encodeURIComponent(reference)}`)

async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now()
  await work()
  return performance.now() - from
}

/** The middle of `rounds`, after one that isn't counted. */
async function middle(rounds: number, work: () => Promise<number>): Promise<number> {
  const times: number[] = []
  for (let at = 0; at <= rounds; at++) times.push(await work())
  return middleOf(times)
}

/** The middle of all but the first. */
function middleOf([, ...times]: readonly number[]): number {
  return times.sort((a, b) => a - b)[times.length >> 1] ?? 0
}

/** Asks for what costs nothing, again and again, while `work` goes on: the milliseconds of each answer. */
async function pinging(socket: string, work: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = []
  let over = false
  const asking = (async () => {
    while (!over) {
      const from = performance.now()
      await ask(socket, 'GET', '/version')
      times.push(performance.now() - from)
      await new Promise((resolve) => setTimeout(resolve, SLICE_MS))
    }
  })()
  asking.catch(() => {}) // told below
  try {
    await work()
  } finally {
    over = true
    await asking
  }
  return times
}

/** A port of loopback whose answers from `port` come at `bytesPerSec` in all. */
async function slowLine(port: number, bytesPerSec: number): Promise<{ host: string } & AsyncDisposable> {
  const open = new Set<Socket>()
  let free = performance.now()
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1')
    for (const socket of [near, far]) {
      open.add(socket)
      socket.on('error', () => near.destroy()).on('close', () => open.delete(socket))
    }
    near.pipe(far)
    far.on('data', (chunk: Buffer) => {
      near.write(chunk)
      free = Math.max(free, performance.now() - SLICE_MS) + (chunk.byteLength / bytesPerSec) * 1000
      const wait = free - performance.now()
      if (wait <= 0) return
      far.pause()
      setTimeout(() => far.resume(), wait)
    })
    far.on('end', () => near.end())
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const address = server.address()
  const own = typeof address === 'object' && address !== null ? address.port : 0
  return {
    host: `127.0.0.1:${own}`,
    [Symbol.asyncDispose]: async () => {
      for (const socket of open) socket.destroy()
      server.close()
    },
  }
}
