/** An origin, a supernode and agents on this machine's loopback, started as they are installed, for benches that shape nothing. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { LimitRequest } from '../../src/api/care-api.ts'
import { AgentClient } from '../../src/cli/client.ts'
import { abortable } from '../../src/core/signals.ts'
import { builtDarner } from '../built.ts'

const MIB = 1024 ** 2
/** What an agent takes from a seed that it is kept away from. */
const AWAY_BYTES_PER_SEC = 256 * 1024

export interface LoopbackBlob {
  readonly file: string
  readonly url: string
  readonly digest: string
}

export interface LoopbackAgent {
  readonly name: string
  readonly pid: number
  readonly socket: string
}

export interface LoopbackOptions {
  /** A folder below it is made, and removed at the end. */
  readonly directory: string
  readonly storeQuota: number
  /** CPU profiles of all daemons are written there as they end. */
  readonly profiles?: string | undefined
}

export class LoopbackSwarm implements AsyncDisposable {
  readonly folder: string
  readonly launcher: string
  readonly #options: LoopbackOptions
  readonly #main: string
  readonly #children: ChildProcess[] = []
  #originUrl = ''
  #seed = { line: '', pid: 0 }
  #blobs = 0

  private constructor(
    options: LoopbackOptions,
    folder: string,
    { launcher, main }: { launcher: string; main: string },
  ) {
    this.#options = options
    this.folder = folder
    this.launcher = launcher
    this.#main = main
  }

  static async open(options: LoopbackOptions, { signal }: { signal: AbortSignal }): Promise<LoopbackSwarm> {
    const folder = await mkdtemp(join(options.directory, 'darner-loopback-'))
    const swarm = new LoopbackSwarm(options, folder, await builtDarner())
    try {
      await swarm.#start(signal)
      return swarm
    } catch (error) {
      await swarm[Symbol.asyncDispose]()
      throw error
    }
  }

  get supernodePid(): number {
    return this.#seed.pid
  }

  /** An agent that has joined. */
  async agent(name: string, { signal }: { signal: AbortSignal }): Promise<LoopbackAgent> {
    const socket = join(this.folder, `${name}.sock`)
    const words = ['agent', '--no-engine', '--mirror', 'off', '--supernode', this.#seed.line, '--socket', socket]
    const { pid } = await this.#darner([...words, '--data', join(this.folder, name)], name, signal)
    return { name, pid, socket }
  }

  /** From now on this agent takes next to nothing from the seed. */
  async keepFromSeed({ socket }: LoopbackAgent, { signal }: { signal: AbortSignal }): Promise<void> {
    const scope = { on: 'peer', peer: this.#seed.line.split('/').at(-1) ?? '', direction: 'in' } as const
    const body: LimitRequest = { scope, limit: { bytesPerSec: AWAY_BYTES_PER_SEC } }
    await new AgentClient({ socket }).json('PUT', '/v1/limits', { body, signal })
  }

  /** A fresh blob of random bytes at the origin. */
  async blob(bytes: number): Promise<LoopbackBlob> {
    const name = `blob-${this.#blobs++}`
    const file = join(this.folder, 'origin', name)
    const hash = createHash('sha256')
    await using handle = await open(file, 'wx')
    const buffer = Buffer.allocUnsafe(4 * MIB)
    for (let left = bytes; left > 0; left -= buffer.byteLength) {
      const part = randomFillSync(buffer).subarray(0, left)
      hash.update(part)
      await handle.write(part)
    }
    return { file, url: `${this.#originUrl}/${name}`, digest: `sha256:${hash.digest('hex')}` }
  }

  /** Ends all daemons; in good order where they write profiles. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return
        const over = once(child, 'exit')
        child.kill(this.#options.profiles === undefined ? 'SIGKILL' : 'SIGTERM')
        await over
      }),
    )
    await rm(this.folder, { recursive: true, force: true })
  }

  async #start(signal: AbortSignal): Promise<void> {
    const origin = join(this.folder, 'origin')
    await mkdir(origin)
    const script = fileURLToPath(new URL('../swarm/origin-server.ts', import.meta.url))
    this.#originUrl = (await this.#program([process.execPath, script, '127.0.0.1', origin], signal)).line
    const words = ['supernode', '--open', '--listen', '127.0.0.1:0', '--data', join(this.folder, 'supernode')]
    this.#seed = await this.#darner(words, 'supernode', signal)
  }

  async #darner(words: string[], name: string, signal: AbortSignal): Promise<{ line: string; pid: number }> {
    const { profiles, storeQuota } = this.#options
    const profile = ['--cpu-prof', `--cpu-prof-dir=${profiles}`, `--cpu-prof-name=${name}.cpuprofile`]
    const program = profiles === undefined ? [this.launcher] : [process.execPath, ...profile, this.#main]
    const rest = ['--p2p-listen', '127.0.0.1:0', '--lane-listen', '127.0.0.1:0', '--log-level', 'warn']
    return await this.#program([...program, ...words, ...rest, '--store-quota', String(storeQuota)], signal)
  }

  async #program(argv: string[], signal: AbortSignal): Promise<{ line: string; pid: number }> {
    const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#children.push(child)
    const over = once(child, 'exit').then(([code]) => {
      throw new Error(`${argv.slice(1).join(' ')} ended with ${code}`)
    })
    over.catch(() => {})
    const lines = createInterface({ input: child.stdout })
    const [line] = await abortable(Promise.race([once(lines, 'line') as Promise<[string]>, over]), signal)
    return { line, pid: child.pid ?? 0 }
  }
}
