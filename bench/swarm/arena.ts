/** Where contestants meet: the bed, the origin that serves on its first host, the blobs, and what each round measures. */
import type { ChildProcess } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { constants, createReadStream, createWriteStream, existsSync } from 'node:fs'
import { access, mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { abortable } from '../../src/core/signals.ts'
import { type Bed, type BedHost, openBed } from '../network/bed.ts'
import { checkRoom } from '../room.ts'
import { type CpuTime, machineTime } from './cpu.ts'
import { linkRates, type SwarmBenchOptions } from './options.ts'
import type { OriginCounters } from './origin-server.ts'
import type { Stages } from './stages.ts'

/** Of a bench's folder; its process follows. */
const FOLDER = 'darner-swarm-'

export interface Blob {
  /** Its name below the origin's URL. */
  readonly name: string
  readonly path: string
  readonly url: string
  readonly digest: string
  readonly bytes: number
}

/** A program on a host. */
export interface Running {
  readonly process: ChildProcess
  /** Rejects when it ends. */
  readonly ended: Promise<never>
  /** What it said on stderr so far. */
  readonly logged: () => string
  /** Waits until it has said this there. Throws when it ends before that. */
  readonly says: (words: string, options: { signal: AbortSignal }) => Promise<void>
}

/** One race: everybody starts at once. */
export interface Round {
  /** From the start of all to the end of each receiver, in the order of the receivers. */
  readonly seconds: readonly number[]
  readonly origin: OriginCounters
  /** Wire bytes of each host, the seed first. */
  readonly sentBytes: readonly number[]
  readonly receivedBytes: readonly number[]
  readonly dropped: number
  /** User and system seconds of all that ran, by what it was. */
  readonly cpuSeconds: Readonly<Record<string, number>>
  /** What the rest of the machine took of its processors meanwhile, as a share of all of them: another's work makes a round say nothing. */
  readonly othersShare: number
  /** Receivers that failed or were not done when the round's time was over, each with the reason. Their `seconds` are what had passed. */
  readonly failures: ReadonlyMap<BedHost, string>
  readonly done: ReadonlySet<BedHost>
  /** When all started, as logs tell the time. */
  readonly beganAtMs: number
  /** Where the time went, when that was asked. */
  readonly stages?: Stages
}

export class Arena implements AsyncDisposable {
  readonly options: SwarmBenchOptions
  readonly bed: Bed
  readonly folder: string
  readonly seed: BedHost
  readonly receivers: readonly BedHost[]
  #origin: { process: ChildProcess; lines: Interface; url: string } | undefined
  #blobs = 0

  constructor(options: SwarmBenchOptions, parts: { bed: Bed; folder: string }) {
    this.options = options
    this.bed = parts.bed
    this.folder = parts.folder
    this.seed = parts.bed.host(0)
    this.receivers = parts.bed.hosts.slice(1)
  }

  static async open(options: SwarmBenchOptions, { signal }: { signal: AbortSignal }): Promise<Arena> {
    const { hosts, mtu, bitsPerSec, queueMs, burstBytes, lossPercent, congestion } = options
    const rates = new Map(linkRates(options).entries())
    const directory = options.directory ?? (await memoryFolder())
    // of a round everybody has the blob in its store and beside it
    await checkRoom(directory, 2 * hosts * options.bytes)
    await sweep(directory)
    const folder = await mkdtemp(join(directory, `${FOLDER}${process.pid}-`))
    const shape = { mtu, bitsPerSec, rates, queueMs, burstBytes, lossPercent }
    const bed = await openBed(
      { hosts: hosts + 1, ...shape, ...(congestion !== undefined && { congestion }) },
      { signal },
    ).catch(async (error: unknown) => {
      await rm(folder, { recursive: true })
      throw error
    })
    const arena = new Arena(options, { bed, folder })
    try {
      await mkdir(join(folder, 'origin'))
      await mkdir(arena.logs, { recursive: true })
      await arena.#startOrigin(signal)
      return arena
    } catch (error) {
      await arena[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A fresh blob at the origin, of random bytes. */
  async blob(bytes = this.options.bytes): Promise<Blob> {
    const name = `blob-${this.#blobs++}`
    const path = join(this.folder, 'origin', name)
    const hash = createHash('sha256')
    const file = await open(path, 'wx')
    try {
      const buffer = Buffer.allocUnsafe(4 * 1024 * 1024)
      for (let left = bytes; left > 0; left -= buffer.byteLength) {
        const part = randomFillSync(buffer).subarray(0, left)
        hash.update(part)
        await file.write(part)
      }
      // on disk before anybody is timed
      await file.sync()
    } finally {
      await file.close()
    }
    return { name, path, url: `${this.originUrl}/${name}`, digest: `sha256:${hash.digest('hex')}`, bytes }
  }

  get originUrl(): string {
    if (this.#origin === undefined) throw new Error('the origin is not up')
    return this.#origin.url
  }

  /** What was read at the origin since this was last asked. */
  async counters({ signal }: { signal: AbortSignal }): Promise<OriginCounters> {
    if (this.#origin === undefined) throw new Error('the origin is not up')
    const { process: origin, lines } = this.#origin
    const answer = once(lines, 'line', { signal }) as Promise<[string]>
    origin.stdin?.write('\n')
    return JSON.parse((await answer)[0]) as OriginCounters
  }

  /** A folder of one host for one contestant. */
  async place(host: BedHost, contestant: string): Promise<string> {
    const path = join(this.folder, `host${host.number}`, contestant)
    await mkdir(path, { recursive: true })
    return path
  }

  /** What a program on a host says on stderr. */
  log(host: BedHost, name: string): string {
    return join(this.logs, `${name}${host.number}.log`)
  }

  /** Where logs and profiles are. */
  get logs(): string {
    return this.options.keepLogs ?? join(this.folder, 'logs')
  }

  /** Starts a program on a host and gives its first line on stdout. Throws when it ends before that. */
  async daemon(
    host: BedHost,
    argv: readonly string[],
    { name, signal }: { name: string; signal: AbortSignal },
  ): Promise<{ process: ChildProcess; line: string; lines: Interface }> {
    const { process: child, ended } = this.begin(host, argv, name)
    if (child.stdout === null) throw new Error(`${name}: no stdout`)
    const lines = createInterface({ input: child.stdout })
    const [line] = await abortable(Promise.race([once(lines, 'line') as Promise<[string]>, ended]), signal)
    return { process: child, line, lines }
  }

  /** Starts a program on a host, its stderr into its log. */
  begin(host: BedHost, argv: readonly string[], name: string): Running {
    const child = this.bed.spawn(host, argv, { stdio: ['pipe', 'pipe', 'pipe'] })
    const file = createWriteStream(this.log(host, name))
    let logged = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      file.write(text)
      logged += text
    })
    const ended = once(child, 'exit').then(([code, ending]) => {
      throw new Error(`${name} on host ${host.number} ended with ${code ?? ending}: ${logged.slice(-1000).trim()}`)
    })
    ended.catch(() => {})
    return {
      process: child,
      ended,
      logged: () => logged,
      says: async (words, { signal }) => {
        while (!logged.includes(words))
          await abortable(Promise.race([once(child.stderr ?? child, 'data'), ended]), signal)
      },
    }
  }

  /**
   * Runs one race: `start` begins on every receiver at once and resolves, for each, when that one is done. After `limitSeconds` its signal
   * ends those that aren't.
   */
  async race(
    receivers: readonly BedHost[],
    start: (host: BedHost, options: { signal: AbortSignal }) => Promise<void>,
    options: { cpu: () => Record<string, CpuTime>; limitSeconds?: number; signal: AbortSignal },
  ): Promise<Round> {
    const { cpu, limitSeconds, signal } = options
    await this.counters({ signal })
    const before = await this.bed.traffic()
    const cpuBefore = cpu()
    const machine = machineTime()
    const beganAtMs = Date.now()
    const beganMs = performance.now()
    const failures = new Map<BedHost, string>()
    const done = new Set<BedHost>()
    const [, ...rates] = linkRates(this.options)
    const slow = (at: number) => this.options.leaveSlow && rates[at] !== this.options.bitsPerSec
    const left = new AbortController()
    let waiting = receivers.filter((_, at) => !slow(at)).length
    const over = limitSeconds === undefined ? undefined : AbortSignal.timeout(Math.ceil(1000 * limitSeconds))
    const seconds = await Promise.all(
      receivers.map(async (host, at) => {
        const ends = [signal, ...(over ? [over] : []), ...(slow(at) ? [left.signal] : [])]
        try {
          await start(host, { signal: AbortSignal.any(ends) })
          done.add(host)
        } catch (error) {
          signal.throwIfAborted()
          if (!(slow(at) && left.signal.aborted))
            failures.set(host, over?.aborted ? 'not done' : (error as Error).message)
        }
        if (!slow(at) && --waiting === 0) left.abort()
        return (performance.now() - beganMs) / 1000
      }),
    )
    const cpuAfter = cpu()
    const machineAfter = machineTime()
    const after = await this.bed.traffic()
    const origin = await this.counters({ signal })
    const gained = (key: 'sentBytes' | 'receivedBytes') =>
      after.map((one, host) => one[key] - (before[host]?.[key] ?? 0))
    const spent = (key: keyof CpuTime) =>
      Object.entries(cpuAfter).map(([what, time]) => [what, time[key] - (cpuBefore[what]?.[key] ?? 0)] as const)
    const ourUser = spent('user').reduce((sum, [, user]) => sum + user, 0)
    return {
      beganAtMs,
      seconds,
      origin,
      failures,
      done,
      sentBytes: gained('sentBytes'),
      receivedBytes: gained('receivedBytes'),
      dropped: after.reduce((sum, { dropped }, host) => sum + dropped - (before[host]?.dropped ?? 0), 0),
      cpuSeconds: Object.fromEntries(spent('all')),
      othersShare: Math.max(0, machineAfter.user - machine.user - ourUser) / (machineAfter.all - machine.all),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bed[Symbol.asyncDispose]()
    await rm(this.folder, { recursive: true, force: true })
  }

  async #startOrigin(signal: AbortSignal): Promise<void> {
    const script = fileURLToPath(new URL('origin-server.ts', import.meta.url))
    const argv = [process.execPath, script, this.seed.address, join(this.folder, 'origin')]
    const { process: origin, line, lines } = await this.daemon(this.seed, argv, { name: 'origin', signal })
    this.#origin = { process: origin, lines, url: line }
  }
}

/** Memory, where there is such a file system: one disk of this machine can't stand for the disks of all hosts. */
async function memoryFolder(): Promise<string> {
  return await access('/dev/shm', constants.W_OK).then(
    () => '/dev/shm',
    () => tmpdir(),
  )
}

/** Throws when a file is not the blob. */
export async function verifyDigest(path: string, digest: string): Promise<void> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  const seen = `sha256:${hash.digest('hex')}`
  if (seen !== digest) throw new Error(`${path}: expected ${digest}, got ${seen}`)
}

/** Throws the first failure of a round in which nobody may fail. */
export function throwFailures({ failures }: Round): void {
  for (const [host, why] of failures) throw new Error(`host ${host.number}: ${why}`)
}

/** Removes the folders of benches that were killed. */
async function sweep(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const pid = name.startsWith(FOLDER) ? Number.parseInt(name.slice(FOLDER.length), 10) : NaN
    if (Number.isNaN(pid) || existsSync(`/proc/${pid}`)) continue
    await rm(join(directory, name), { recursive: true, force: true })
  }
}

/** Resolves when the program is done; throws when it failed. The signal kills it. */
export async function exited(child: ChildProcess, what: string, signal?: AbortSignal): Promise<void> {
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2000)
  })
  child.stdout?.resume()
  const kill = () => child.kill('SIGKILL')
  signal?.addEventListener('abort', kill)
  const [code, ending] = (await once(child, 'exit')) as [number | null, string | null]
  signal?.removeEventListener('abort', kill)
  if (code !== 0) throw new Error(`${what} ended with ${code ?? ending}: ${errors.trim()}`)
}
