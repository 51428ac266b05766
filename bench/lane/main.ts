/**
 * How fast is the bulk lane? One parent process, one child process, over loopback and without shaping; in the same run, round
 * by round: lane (pread, lane, SHA-256 of each piece, pwrite) beside control (the same work by node:tls and nothing else), and
 * bare (the lane from memory into nowhere) beside raw (node:tls alike) and libp2p (noise and yamux alike).
 * Files are in memory (/dev/shm) where there is such a place: the disk is not the question.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Figure } from '../figure.ts'
import { median } from '../median.ts'
import { type BenchOptions, numberOf, readOptions } from '../options.ts'

export const about = 'the bulk lane beside a bare control program, raw node:tls, and noise with yamux'

export const KINDS = ['lane', 'control', 'bare', 'raw', 'libp2p'] as const
export type Kind = (typeof KINDS)[number]

export const options = {
  size: { value: 'SIZE', summary: 'of the file', default: '512M' },
  rounds: { value: 'N', summary: 'of each kind, in turn', default: '5' },
  only: { value: 'KIND,…', summary: 'only these', default: KINDS.join() },
  dir: { value: 'DIR', summary: 'where the files are (default: /dev/shm, else TMPDIR)' },
  prof: { value: 'DIR', summary: "CPU profiles of the lane's processes, there" },
} as const satisfies BenchOptions

/** What the bench tells a worker, and what it hears back. */
export interface WorkerJob {
  readonly kind: Kind
  readonly role: 'parent' | 'child'
  readonly file: string
  readonly bytes: number
  readonly pieceBytes: number
  /** What the parent said of itself, for the child. */
  readonly place?: unknown
}

export interface WorkerReport {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly rssMiB: number
}

const WORKER = new URL('./worker.ts', import.meta.url)

export async function run(args: string[], { signal }: { signal?: AbortSignal } = {}): Promise<Figure[]> {
  const { values } = readOptions(options, args)
  const bytes = sizeOf(values.size)
  const rounds = numberOf('rounds', values.rounds, { least: 1, whole: true })
  const only = values.only.split(',')
  const kinds = KINDS.filter((kind) => only.includes(kind))
  const folder = await mkdtemp(join(values.dir ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir()), 'darner-lane-'))
  try {
    const source = join(folder, 'source')
    await fill(source, bytes)
    const reports = new Map<Kind, WorkerReport[]>(kinds.map((kind) => [kind, []]))
    for (let round = 0; round < rounds; round++) {
      // the order turns, so that no kind always runs on the warmest or the busiest machine
      for (const at of kinds.keys()) {
        signal?.throwIfAborted()
        const kind = kinds[(at + round) % kinds.length] ?? 'lane'
        reports
          .get(kind)
          ?.push(await laneRound(kind, { source, target: join(folder, 'target'), bytes, prof: values.prof }))
      }
    }
    return figures(reports, bytes)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function figures(reports: ReadonlyMap<Kind, WorkerReport[]>, bytes: number): Figure[] {
  const bench = 'lane'
  const unit = 'MiB/s'
  const rate = (kind: Kind) => bytes / 1024 ** 2 / median((reports.get(kind) ?? []).map(({ seconds }) => seconds))
  const lane = rate('lane')
  const all: Figure[] = [
    {
      bench,
      figure: 'lane with files',
      value: lane,
      unit,
      anchor: 'control, same run',
      anchorValue: rate('control'),
      goal: '>=0.85',
    },
    {
      bench,
      figure: 'lane alone',
      value: rate('bare'),
      unit,
      anchor: 'noise and yamux alone, same run',
      anchorValue: rate('libp2p'),
      goal: '>=2.5',
    },
    {
      bench,
      figure: 'lane alone',
      value: rate('bare'),
      unit,
      anchor: 'raw node:tls, same run',
      anchorValue: rate('raw'),
    },
    {
      bench,
      figure: 'lane with files',
      value: lane,
      unit,
      anchor: 'noise and yamux alone, same run',
      anchorValue: rate('libp2p'),
    },
    {
      bench,
      figure: 'child memory',
      value: median((reports.get('lane') ?? []).map(({ rssMiB }) => rssMiB)),
      unit: 'MiB',
    },
  ]
  for (const [kind, some] of reports) {
    const rates = some.map(({ seconds }) => bytes / 1024 ** 2 / seconds)
    all.push({
      bench,
      figure: `${kind} spread`,
      value: Math.max(...rates),
      unit,
      anchor: 'slowest round',
      anchorValue: Math.min(...rates),
    })
    all.push({ bench, figure: `${kind} child cpu`, value: median(some.map(({ cpuSeconds }) => cpuSeconds)), unit: 's' })
  }
  return all.filter(
    ({ value, anchorValue }) => Number.isFinite(value) && (anchorValue === undefined || Number.isFinite(anchorValue)),
  )
}

/** One round of one kind. */
export async function laneRound(
  kind: Kind,
  files: { source: string; target: string; bytes: number; prof: string | undefined },
): Promise<WorkerReport> {
  const execArgv = files.prof === undefined || kind !== 'lane' ? [] : ['--cpu-prof', `--cpu-prof-dir=${files.prof}`]
  const start = () =>
    fork(WORKER, {
      execArgv: ['--disable-warning=ExperimentalWarning', ...execArgv],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
  const job = { kind, bytes: files.bytes, pieceBytes: 4 * 1024 ** 2 }
  const parent = start()
  const child = start()
  try {
    const place = await ask(parent, { ...job, role: 'parent', file: files.source })
    return (await ask(child, { ...job, role: 'child', file: files.target, place })) as WorkerReport
  } finally {
    await Promise.all([parent, child].map(stop))
  }
}

function ask(worker: ChildProcess, job: WorkerJob): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('exit', (code) => reject(new Error(`${job.kind} ${job.role} ended with ${code}`)))
    worker.send(job)
  })
}

function stop(worker: ChildProcess): Promise<void> {
  if (worker.exitCode !== null || !worker.connected) return Promise.resolve()
  return new Promise((resolve) => {
    worker.once('exit', () => resolve())
    worker.disconnect()
  })
}

/** Random bytes: nothing on the way may profit from their pattern. */
async function fill(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'w')
  const block = Buffer.allocUnsafe(4 * 1024 ** 2)
  for (let at = 0; at < bytes; at += block.byteLength) {
    for (let word = 0; word < block.byteLength; word += 65_536)
      crypto.getRandomValues(block.subarray(word, word + 65_536))
    await file.write(block, 0, Math.min(block.byteLength, bytes - at), at)
  }
  await file.close()
}

function sizeOf(text: string): number {
  const match = /^(\d+)([KMG]?)$/.exec(text)
  if (match === null) throw new RangeError(`--size ${text}: expected a number with K, M or G`)
  return Number(match[1]) * 1024 ** ['', 'K', 'M', 'G'].indexOf(match[2] ?? '')
}
