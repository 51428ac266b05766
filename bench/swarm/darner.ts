/** The contestant: a supernode on the origin's host, an agent on every other, and `darner get` on all of those at once. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { abortable, withDeadline } from '../../src/core/signals.ts'
import { type Built, builtDarner } from '../built.ts'
import type { BedHost } from '../network/bed.ts'
import { type Arena, exited, type Round, verifyDigest } from './arena.ts'
import { type CpuTime, cpuTime, sumOf } from './cpu.ts'
import { boundSeconds, linkRates } from './options.ts'
import { stagesOf } from './stages.ts'

/** All have joined after that, or the bench fails. */
const JOIN_MS = 240_000
/** Daemons count as at rest when all of them together take less of a core than this, and then wait so long. */
const REST_CORES = 0.25
const REST_MS = 3000
/** They may keep a machine busy for so long before that. */
const REST_LIMIT_MS = 120_000
/** A round that takes so many times its bound, and this at least, stands still as far as the bench is concerned. */
const LIMIT_BOUNDS = 12
const LEAST_LIMIT_SECONDS = 120

export class DarnerSwarm {
  readonly #arena: Arena
  readonly #agents = new Map<BedHost, { process: ChildProcess; socket: string; logged: () => string }>()
  #supernode: ChildProcess | undefined
  #built: Built | undefined
  #rounds = 0

  constructor(arena: Arena) {
    this.#arena = arena
  }

  /** Starts the daemons, all agents at once, all with these settings. Resolves some seconds after they have joined and are at rest. */
  async start({ settings = [], signal }: { settings?: readonly string[]; signal: AbortSignal }): Promise<void> {
    const { seed, receivers, options } = this.#arena
    this.#built = await builtDarner()
    const log = ['--log-level', options.logLevel, '--log-format', 'json', ...settings]
    const p2p = (host: BedHost) => ['--p2p-listen', `${host.address}:7071`]
    const data = await this.#arena.place(seed, 'supernode')
    await rm(data, { recursive: true })
    const argv = ['supernode', '--open', ...p2p(seed), '--listen', '127.0.0.1:7070', '--data', data, ...log]
    const supernode = await this.#arena.daemon(seed, [...this.#darner('supernode'), ...argv], {
      name: 'supernode',
      signal,
    })
    this.#supernode = supernode.process
    await Promise.all(
      receivers.map(async (host) => {
        const folder = await this.#arena.place(host, 'agent')
        await rm(join(folder, 'data'), { recursive: true, force: true })
        const socket = join(folder, 'agent.sock')
        const args = ['agent', '--no-engine', '--supernode', supernode.line, ...p2p(host), '--socket', socket, ...log]
        const agent = this.#arena.begin(
          host,
          [...this.#darner(`agent${host.number}`), ...args, '--data', join(folder, 'data')],
          'agent',
        )
        this.#agents.set(host, { ...agent, socket })
        await agent.says('joined the supernode', { signal: withDeadline(signal, JOIN_MS) })
      }),
    )
    await this.#rest(signal)
  }

  /** How many agents had to try again before they had joined. */
  get secondTries(): number {
    return [...this.#agents.values()].filter(({ logged }) => logged().includes('supernode not reached')).length
  }

  /** One blob that nobody has yet. */
  async round({ signal }: { signal: AbortSignal }): Promise<Round> {
    const { receivers, options } = this.#arena
    const blob = await this.#arena.blob()
    const files = new Map<BedHost, string>()
    for (const host of receivers) files.set(host, join(await this.#arena.place(host, 'out'), blob.name))
    const [seedBits = NaN, ...rates] = linkRates(options)
    const digest = options.digest ? ['--digest', blob.digest] : []
    const over = new AbortController()
    const killed = this.#rounds++ === 0 ? this.#killSupernode(AbortSignal.any([signal, over.signal])) : undefined
    const round = await this.#arena.race(
      receivers,
      async (host, { signal }) => {
        await this.#command(host, ['get', blob.url, ...digest, '-o', files.get(host) ?? '', '--json'], signal)
      },
      {
        cpu: () => this.#cpu(),
        limitSeconds: Math.max(LEAST_LIMIT_SECONDS, LIMIT_BOUNDS * boundSeconds(options.bytes, seedBits, rates)),
        signal,
      },
    )
    over.abort()
    await killed
    for (const [host, path] of files) {
      if (round.done.has(host)) await verifyDigest(path, blob.digest)
      await rm(path, { force: true })
    }
    await rm(blob.path)
    if (!options.stages) return round
    const logs = receivers.map((host) => readFile(this.#arena.log(host, 'agent'), 'utf8'))
    return { ...round, stages: stagesOf(await Promise.all(logs), { taskId: blob.digest, beganAtMs: round.beganAtMs }) }
  }

  /** Has every host drop what it holds, as all hosts share the memory of this machine; resolves some seconds later. */
  async clear({ signal }: { signal: AbortSignal }): Promise<void> {
    await Promise.all(this.#arena.receivers.map((host) => this.#command(host, ['gc', '--force', '--to', '0'], signal)))
    await this.#rest(signal)
  }

  /** One command of darner's to a host's agent, until it is done. Throws when it failed. */
  async #command(host: BedHost, words: readonly string[], signal: AbortSignal): Promise<void> {
    await exited(this.begin(host, words), `darner ${words[0]} on host ${host.number}`, signal)
  }

  /** The same, begun. */
  begin(host: BedHost, words: readonly string[]): ChildProcess {
    const env = { ...process.env, DARNER_SOCKET: this.#agents.get(host)?.socket ?? '' }
    return this.#arena.bed.spawn(host, [...this.#darner(`${words[0]}${host.number}`), ...words], { env })
  }

  /** Stops the daemons in good order, so that profiles are written. */
  async stop(): Promise<void> {
    const all = [...[...this.#agents.values()].map((agent) => agent.process), this.#supernode]
    await Promise.all(
      all.map(async (child) => {
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
        const over = once(child, 'exit')
        child.kill('SIGTERM')
        await over
      }),
    )
  }

  async #killSupernode(signal: AbortSignal): Promise<void> {
    const { killSupernodeAtMs } = this.#arena.options
    if (killSupernodeAtMs === undefined) return
    await pause(killSupernodeAtMs, undefined, { signal }).then(
      () => this.#supernode?.kill('SIGKILL'),
      () => undefined,
    )
  }

  /** Waits until the daemons have nothing to do. Throws when they go on working. */
  async #rest(signal: AbortSignal): Promise<void> {
    const deadline = withDeadline(signal, REST_LIMIT_MS)
    for (let before = this.#daemonSeconds(); ; ) {
      await abortable(pause(1000), deadline)
      const now = this.#daemonSeconds()
      if (now - before < REST_CORES) break
      before = now
    }
    await abortable(pause(REST_MS), signal)
  }

  #daemonSeconds(): number {
    return this.#cpu().agents.all + this.#cpu().supernode.all
  }

  /** The installed command; on Node itself where a profile is wanted. */
  #darner(name: string): string[] {
    const { options, logs } = this.#arena
    if (this.#built === undefined) throw new Error('the daemons are not up')
    const { launcher, main, thin } = this.#built
    if (!options.profile || !['supernode', 'agent1', 'agent2', 'get1'].includes(name)) return [launcher]
    const profile = ['--cpu-prof', `--cpu-prof-dir=${logs}`, `--cpu-prof-name=${name}.cpuprofile`]
    return [process.execPath, ...profile, name.startsWith('get') ? thin : main]
  }

  #cpu(): { supernode: CpuTime; agents: CpuTime; gets: CpuTime } {
    return {
      supernode: cpuTime(this.#supernode?.pid).own,
      agents: sumOf([...this.#agents.values()].map(({ process: agent }) => cpuTime(agent.pid).own)),
      gets: cpuTime('self').children,
    }
  }
}
