/**
 * `npm run bench -- soak --size 10G`: what an agent's memory does while that much goes in and, to another agent, out again. The
 * real daemons on loopback; blob after blob, each gone from every store soon, so that the disk needs room for few of them.
 */
import { readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { readGetStream } from '../src/api/get-frames.ts'
import { AgentClient } from '../src/cli/client.ts'
import type { Figure } from './figure.ts'
import { type LoopbackAgent, type LoopbackBlob, LoopbackSwarm } from './loopback/swarm.ts'
import { type BenchOptions, readOptions } from './options.ts'
import { checkRoom } from './room.ts'
import { parseSize } from './swarm/options.ts'

export const about = 'memory of an agent that moves 10 GB in and out, figure by figure per GB'
export const options = {
  size: { value: 'SIZE', summary: 'bytes that go in and out', default: '10G' },
  blob: { value: 'SIZE', summary: 'of each blob', default: '256M' },
  dir: { value: 'DIR', summary: 'files of everybody (default: TMPDIR)' },
} as const satisfies BenchOptions

const BENCH = 'soak'
const MIB = 1024 ** 2
const GIB = 1024 ** 3

/** The agent whose memory is looked at, and the one that gets everything from it. */
interface Site {
  readonly swarm: LoopbackSwarm
  readonly middle: LoopbackAgent
  readonly last: LoopbackAgent
}

/** `--size 10G`, `--blob 256M` (of each blob), `--dir DIR` (files of everybody; default TMPDIR). */
export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const bytes = parseSize('--size', values.size)
  const blobBytes = Math.min(bytes, parseSize('--blob', values.blob))
  const directory = values.dir ?? tmpdir()
  // three stores of up to three blobs, and one at the origin
  await checkRoom(directory, 10 * blobBytes)
  await using swarm = await LoopbackSwarm.open({ directory, storeQuota: 3 * blobBytes }, { signal })
  const [middle, last] = [await swarm.agent('middle', { signal }), await swarm.agent('last', { signal })]
  // what goes out is to be what came in
  await swarm.keepFromSeed(last, { signal })
  return await measure({ swarm, middle, last }, bytes, blobBytes, signal)
}

async function measure(site: Site, bytes: number, blobBytes: number, signal: AbortSignal): Promise<Figure[]> {
  const { swarm, middle, last } = site
  const figures: Figure[] = []
  const note = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) => {
    figures.push({ bench: BENCH, figure, value, unit, ...rest })
  }
  const idle = await memory(middle.pid)
  note('RSS, idle', idle.rss / MIB, 'MiB')
  const moved = { in: 0, out: 0 }
  let firstRss = 0
  for (let told = 0; Math.min(moved.in, moved.out) < bytes; ) {
    const blob = await swarm.blob(blobBytes)
    moved.in += (await fetched(middle.socket, blob, signal)).all
    moved.out += (await fetched(last.socket, blob, signal)).fromPeers
    await rm(blob.file)
    const gib = Math.floor(moved.in / GIB)
    if (gib === told && Math.min(moved.in, moved.out) < bytes) continue
    told = gib
    const { rss } = await memory(middle.pid)
    firstRss ||= rss
    console.error(
      `${(moved.in / GIB).toFixed(1)} GiB in, ${(moved.out / GIB).toFixed(1)} out: ${Math.round(rss / MIB)} MiB`,
    )
    note(`RSS after ${(moved.in / GIB).toFixed(1)} GiB`, rss / MIB, 'MiB', {
      anchor: 'the first',
      anchorValue: firstRss / MIB,
    })
  }
  const end = await memory(middle.pid)
  note('moved in', moved.in / GIB, 'GiB')
  note('moved out', moved.out / GIB, 'GiB')
  note('most RSS', end.peak / MIB, 'MiB', { goal: '<=200' })
  note('RSS at the end', end.rss / MIB, 'MiB', {
    anchor: 'after the first GiB',
    anchorValue: firstRss / MIB,
    goal: '<=1.05',
  })
  return figures
}

/** Gets a blob through an agent's socket, reading every byte of it, and says where the agent had them from. */
async function fetched(
  socket: string,
  { url, digest }: LoopbackBlob,
  signal: AbortSignal,
): Promise<{ all: number; fromPeers: number }> {
  const body = { origin: { kind: 'url', url }, digest, priority: 'interactive', order: 'landed' }
  const answer = await new AgentClient({ socket }).open('POST', '/v1/get', { body, signal })
  for await (const frame of readGetStream(answer)) {
    if (frame.kind === 'error') throw new Error(frame.body.message)
    if (frame.kind !== 'summary') continue
    const { origin, supernode, peers } = (frame.body as { from: { origin: number; supernode: number; peers: number } })
      .from
    return { all: origin + supernode + peers, fromPeers: peers }
  }
  throw new Error(`${url}: the agent's answer has no summary`)
}

async function memory(pid: number): Promise<{ rss: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? NaN) * 1024
  return { rss: bytes('VmRSS'), peak: bytes('VmHWM') }
}
