/** Where contestants meet: the bed, the origin that serves on its first host, the blobs, and what each round measures. */
import type { ChildProcess } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { constants, createReadStream, createWriteStream } from 'node:fs'
import { access, mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { abortable } from '../../src/core/signals.ts'
import { type Bed, type BedHost, openBed } from '../network/bed.ts'
import { checkRoom } from '../room.ts'
import { linkRates, type SwarmBenchOptions } from './options.ts'
import type { OriginCounters } from './origin-server.ts'
import type { Stages } from './stages.ts'

export interface Blob {
  /** Its name below the origin's URL. */
  readonly name: string
  readonly path: string
  readonly url: string
  readonly digest: string
  readonly bytes: number
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
    const { hosts, mtu, bitsPerSec, queueMs, congestion } = options
    const rates = new Map(linkRates(options).entries())
    const directory = options.directory ?? (await memoryFolder())
    // of a round everybody has the blob in its store and beside it
    await checkRoom(directory, 2 * hosts * options.bytes)
    const folder = await mkdtemp(join(directory, 'darner-swarm-'))
    const bed = await openBed(
      { hosts, mtu, bitsPerSec, rates, queueMs, ...(congestion !== undefined && { congestion }) },
      { signal },
    )
    const arena = new Arena(options, { bed, folder })
    try {
      await mkdir(join(folder, 'origin'))
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
    return join(this.folder, `host${host.number}`, 'log', `${name}.log`)
  }

  /**
   * Starts a program on a host, its stderr into `name.log` of the contestant's folder, and gives its first line on stdout.
   * Throws when it ends before that.
   */
  async daemon(
    host: BedHost,
    argv: readonly string[],
    { name, signal, env }: { name: string; signal: AbortSignal; env?: Record<string, string> },
  ): Promise<{ process: ChildProcess; line: string; lines: Interface }> {
    const child = this.bed.spawn(host, argv, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...env } })
    await this.place(host, 'log')
    const log = this.log(host, name)
    child.stderr?.pipe(createWriteStream(log))
    if (child.stdout === null) throw new Error(`${name}: no stdout`)
    const lines = createInterface({ input: child.stdout })
    const ended = once(child, 'exit').then(async ([code]) => {
      const errors = await readFile(log, 'utf8')
      throw new Error(`${name} on host ${host.number} ended with ${code}: ${errors.slice(-1000).trim()}`)
    })
    ended.catch(() => {})
    const [line] = await abortable(Promise.race([once(lines, 'line') as Promise<[string]>, ended]), signal)
    return { process: child, line, lines }
  }

  /** Runs one race: `start` begins on every receiver at once and resolves, for each, when that one is done. */
  async race(
    receivers: readonly BedHost[],
    start: (host: BedHost) => Promise<void>,
    options: { cpu: () => Record<string, number>; signal: AbortSignal },
  ): Promise<Round> {
    const { cpu, signal } = options
    await this.counters({ signal })
    const before = await this.bed.traffic()
    const cpuBefore = cpu()
    const beganAtMs = Date.now()
    const beganMs = performance.now()
    const seconds = await Promise.all(
      receivers.map(async (host) => {
        await abortable(start(host), signal)
        return (performance.now() - beganMs) / 1000
      }),
    )
    const cpuAfter = cpu()
    const after = await this.bed.traffic()
    const origin = await this.counters({ signal })
    const gained = (key: 'sentBytes' | 'receivedBytes') =>
      after.map((one, host) => one[key] - (before[host]?.[key] ?? 0))
    return {
      beganAtMs,
      seconds,
      origin,
      sentBytes: gained('sentBytes'),
      receivedBytes: gained('receivedBytes'),
      dropped: after.reduce((sum, { dropped }, host) => sum + dropped - (before[host]?.dropped ?? 0), 0),
      cpuSeconds: Object.fromEntries(
        Object.entries(cpuAfter).map(([what, after]) => [what, after - (cpuBefore[what] ?? 0)]),
      ),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bed[Symbol.asyncDispose]()
    if (!this.options.keep) await rm(this.folder, { recursive: true, force: true })
    else console.error(`kept: ${this.folder}`)
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
export async function verify(path: string, blob: Blob): Promise<void> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  const digest = `sha256:${hash.digest('hex')}`
  if (digest !== blob.digest) throw new Error(`${path}: expected ${blob.digest}, got ${digest}`)
}

/** Resolves when the program is done; throws when it failed. */
export async function exited(child: ChildProcess, what: string): Promise<void> {
  let errors = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    errors = (errors + chunk.toString()).slice(-2000)
  })
  child.stdout?.resume()
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  if (code !== 0) throw new Error(`${what} ended with ${code ?? signal}: ${errors.trim()}`)
}
