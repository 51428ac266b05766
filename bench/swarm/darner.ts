/** The contestant: a supernode on the origin's host, an agent on every other, and `darner get` on all of those at once. */
import type { ChildProcess } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { abortable } from '../../src/core/signals.ts'
import { type Built, builtDarner } from '../built.ts'
import type { BedHost } from '../network/bed.ts'
import { type Arena, exited, type Round, verify } from './arena.ts'
import { cpuTime } from './cpu.ts'
import { stagesOf } from './stages.ts'

export class DarnerSwarm {
  readonly #arena: Arena
  readonly #agents = new Map<BedHost, { process: ChildProcess; socket: string }>()
  #supernode: ChildProcess | undefined
  #built: Built | undefined

  constructor(arena: Arena) {
    this.#arena = arena
  }

  /** Starts the daemons, all with these settings; they have joined once this resolves. */
  async start({ settings = [], signal }: { settings?: readonly string[]; signal: AbortSignal }): Promise<void> {
    const { seed, receivers, options } = this.#arena
    this.#built = await builtDarner()
    const log = ['--log-level', options.logLevel, '--log-format', 'json', ...settings]
    const p2p = (host: BedHost) => ['--p2p-listen', `${host.address}:7071`]
    const data = await this.#arena.place(seed, 'supernode')
    const argv = ['supernode', '--open', ...p2p(seed), '--listen', '127.0.0.1:7070', '--data', data, ...log]
    const supernode = await this.#arena.daemon(seed, [...this.#darner('supernode'), ...argv], {
      name: 'supernode',
      signal,
    })
    this.#supernode = supernode.process
    for (const host of receivers) {
      const folder = await this.#arena.place(host, 'agent')
      const socket = join(folder, 'agent.sock')
      const args = ['agent', '--no-engine', '--supernode', supernode.line, ...p2p(host), '--socket', socket, ...log]
      const agent = await this.#arena.daemon(
        host,
        [...this.#darner(`agent${host.number}`), ...args, '--data', join(folder, 'data')],
        { name: 'agent', signal },
      )
      this.#agents.set(host, { process: agent.process, socket })
    }
  }

  /** One blob that nobody has yet. */
  async round({ signal }: { signal: AbortSignal }): Promise<Round> {
    const { receivers } = this.#arena
    const blob = await this.#arena.blob()
    const files = new Map<BedHost, string>()
    for (const host of receivers) files.set(host, join(await this.#arena.place(host, 'out'), blob.name))
    const round = await this.#arena.race(
      receivers,
      async (host) => {
        const get = ['get', blob.url, '--digest', blob.digest, '-o', files.get(host) ?? '', '--json']
        await this.#command(host, get)
      },
      { cpu: () => this.#cpu(), signal },
    )
    for (const [host, path] of files) {
      await verify(path, blob)
      await rm(path)
      // what it has of this round goes, too: all hosts share the memory of this machine
      await abortable(this.#command(host, ['gc', '--to', '0']), signal)
    }
    await rm(blob.path)
    if (!this.#arena.options.stages) return round
    const logs = receivers.map((host) => readFile(this.#arena.log(host, 'agent'), 'utf8'))
    return { ...round, stages: stagesOf(await Promise.all(logs), { taskId: blob.digest, beganAtMs: round.beganAtMs }) }
  }

  /** One command of darner's to a host's agent, until it is done. Throws when it failed. */
  async #command(host: BedHost, words: readonly string[]): Promise<void> {
    await exited(this.begin(host, words), `darner ${words[0]} on host ${host.number}`)
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
        if (child === undefined || child.exitCode !== null) return
        const over = new Promise<void>((resolve) => child.once('exit', () => resolve()))
        child.kill('SIGTERM')
        await over
      }),
    )
  }

  /** The installed command; on Node itself where a profile is wanted. */
  #darner(name: string): string[] {
    const { options, folder } = this.#arena
    if (this.#built === undefined) throw new Error('the daemons are not up')
    const { launcher, main, thin } = this.#built
    if (!options.profile || !['supernode', 'agent1', 'agent2', 'get1'].includes(name)) return [launcher]
    const profile = ['--cpu-prof', `--cpu-prof-dir=${folder}`, `--cpu-prof-name=${name}.cpuprofile`]
    return [process.execPath, ...profile, name.startsWith('get') ? thin : main]
  }

  #cpu(): Record<string, number> {
    const agents = [...this.#agents.values()].map(({ process: agent }) => cpuTime(agent.pid).own)
    return {
      supernode: cpuTime(this.#supernode?.pid).own,
      agents: agents.reduce((sum, one) => sum + one, 0),
      gets: cpuTime('self').children,
    }
  }
}
