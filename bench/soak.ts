/**
 * `npm run bench -- soak --size 10G`: what an agent's memory does while that much goes in and, to another agent, out again. The
 * real daemons on loopback; blob after blob, each gone from every store soon, so that the disk needs room for few of them.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { LimitRequest } from '../src/api/care-api.ts'
import { readGetStream } from '../src/api/get-frames.ts'
import { AgentClient } from '../src/cli/client.ts'
import { abortable } from '../src/core/signals.ts'
import { builtDarner } from './built.ts'
import type { Figure } from './figure.ts'
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
const SEED_BYTES_PER_SEC = 256 * 1024

interface Site {
  readonly folder: string
  readonly url: string
  /** The agent whose memory is looked at. */
  readonly middle: { readonly pid: number; readonly socket: string }
  /** The one that gets everything from it. */
  readonly last: { readonly socket: string }
}

/** `--size 10G`, `--blob 256M` (of each blob), `--dir DIR` (files of everybody; default TMPDIR). */
export async function run(args: string[], { signal }: { signal: AbortSignal }): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const bytes = parseSize('--size', values.size)
  const blobBytes = Math.min(bytes, parseSize('--blob', values.blob))
  const directory = values.dir ?? tmpdir()
  // three stores of up to three blobs, and one at the origin
  await checkRoom(directory, 10 * blobBytes)
  const folder = await mkdtemp(join(directory, 'darner-soak-'))
  const children: ChildProcess[] = []
  try {
    const site = await start({ folder, blobBytes, launcher: (await builtDarner()).launcher }, children, signal)
    return await measure(site, bytes, blobBytes, signal)
  } finally {
    await Promise.all(children.map(ended))
    await rm(folder, { recursive: true, force: true })
  }
}

async function measure(site: Site, bytes: number, blobBytes: number, signal: AbortSignal): Promise<Figure[]> {
  const { middle, last } = site
  const figures: Figure[] = []
  const note = (figure: string, value: number, unit: string, rest: Partial<Figure> = {}) => {
    figures.push({ bench: BENCH, figure, value, unit, ...rest })
  }
  const idle = await memory(middle.pid)
  note('RSS, idle', idle.rss / MIB, 'MiB')
  const moved = { in: 0, out: 0 }
  let firstRss = 0
  for (let at = 0, told = 0; Math.min(moved.in, moved.out) < bytes; at++) {
    const blob = await nextBlob(site, at, blobBytes)
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

interface Blob {
  readonly file: string
  readonly url: string
  readonly digest: string
}

async function nextBlob({ folder, url }: Site, number: number, bytes: number): Promise<Blob> {
  const name = `blob-${number}`
  const file = join(folder, 'origin', name)
  const hash = createHash('sha256')
  await using handle = await open(file, 'wx')
  const buffer = Buffer.allocUnsafe(4 * MIB)
  for (let left = bytes; left > 0; left -= buffer.byteLength) {
    const part = randomFillSync(buffer).subarray(0, left)
    hash.update(part)
    await handle.write(part)
  }
  return { file, url: `${url}/${name}`, digest: `sha256:${hash.digest('hex')}` }
}

/** Gets a blob through an agent's socket, reading every byte of it, and says where the agent had them from. */
async function fetched(
  socket: string,
  { url, digest }: Blob,
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

async function start(
  { folder, blobBytes, launcher }: { folder: string; blobBytes: number; launcher: string },
  children: ChildProcess[],
  signal: AbortSignal,
): Promise<Site> {
  await mkdir(join(folder, 'origin'))
  const program = async (argv: string[]): Promise<{ line: string; pid: number }> => {
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    children.push(child)
    const over = once(child, 'exit').then(([code]) => {
      throw new Error(`${argv.slice(1).join(' ')} ended with ${code}`)
    })
    over.catch(() => {})
    const lines = createInterface({ input: child.stdout })
    const [line] = await abortable(Promise.race([once(lines, 'line') as Promise<[string]>, over]), signal)
    return { line, pid: child.pid ?? 0 }
  }
  const loopback = ['--p2p-listen', '127.0.0.1:0', '--lane-listen', '127.0.0.1:0', '--log-level', 'warn']
  const quota = ['--store-quota', String(3 * blobBytes)]
  const darner = (...words: string[]) => program([launcher, ...words, ...loopback, ...quota])
  const { line: url } = await program([
    process.execPath,
    fileURLToPath(new URL('swarm/origin-server.ts', import.meta.url)),
    '127.0.0.1',
    join(folder, 'origin'),
  ])
  const seed = await darner('supernode', '--open', '--listen', '127.0.0.1:0', '--data', join(folder, 'supernode'))
  const agent = async (name: string) => {
    const socket = join(folder, `${name}.sock`)
    const words = ['agent', '--no-engine', '--mirror', 'off', '--supernode', seed.line, '--socket', socket]
    const { pid } = await darner(...words, '--data', join(folder, name))
    return { pid, socket }
  }
  const [middle, last] = [await agent('middle'), await agent('last')]
  // what goes out is to be what came in: the last one takes next to nothing from the seed
  const scope = { on: 'peer', peer: seed.line.split('/').at(-1) ?? '', direction: 'in' } as const
  const body: LimitRequest = { scope, limit: { bytesPerSec: SEED_BYTES_PER_SEC } }
  await new AgentClient(last).json('PUT', '/v1/limits', { body, signal })
  return { folder, url, middle, last }
}

async function memory(pid: number): Promise<{ rss: number; peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const bytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? NaN) * 1024
  return { rss: bytes('VmRSS'), peak: bytes('VmHWM') }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const over = once(child, 'exit')
  child.kill('SIGKILL')
  await over
}
