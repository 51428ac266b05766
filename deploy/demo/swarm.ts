/** One supernode and its agents as processes of their own. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentClient } from '../../src/cli/client.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { Daemon } from './command.ts'
import { darner } from './places.ts'

export interface Agent {
  readonly name: string
  readonly daemon: Daemon
  readonly client: AgentClient
  readonly socket: string
}

export interface Swarm {
  /** `http://IP:PORT` of the supernode. */
  readonly http: string
  readonly supernode: Daemon
  readonly agents: readonly Agent[]
}

export interface Place {
  readonly name: string
  readonly address: string
}

export interface SwarmOptions {
  /** Data directories are made in it. */
  readonly folder: string
  /** Their logs go there. */
  readonly logs: string
  readonly supernode: Place
  readonly agents: readonly Place[]
  /** The ports are free ones where several share an address. */
  readonly ports: 'fixed' | 'any'
  readonly engine: boolean
  /** The argument vector that runs a command at a place. */
  readonly at: (place: Place, command: readonly string[]) => readonly string[]
  /** Takes each process as it starts, and ends it in the end. */
  readonly own: (daemon: Daemon) => Daemon
  readonly signal: AbortSignal
}

/** Starts them; they have all joined once this resolves. Throws what the first of them that failed said. */
export async function startSwarm(options: SwarmOptions): Promise<Swarm> {
  const { folder, supernode, agents, engine, at, signal } = options
  const port = (fixed: number) => (options.ports === 'fixed' ? fixed : 0)
  const start = (place: Place, ...args: string[]) =>
    options.own(
      new Daemon({
        name: place.name,
        argv: at(place, darner(...args, '--json', '--log-format', 'json')),
        logFile: join(options.logs, `${place.name}.log`),
        signal,
      }),
    )
  const data = (place: Place) => join(folder, place.name)
  const [seed, ready] = await readyLine(
    start(
      supernode,
      ...['supernode', '--open', '--data', data(supernode)],
      ...['--listen', `${supernode.address}:${port(7070)}`, '--p2p-listen', `${supernode.address}:${port(7071)}`],
    ),
    signal,
  )
  const multiaddr = Array.isArray(ready.multiaddrs) ? String(ready.multiaddrs[0]) : ''
  const startAgent = async (place: Place): Promise<Agent> => {
    await mkdir(data(place), { recursive: true, mode: 0o700 })
    const socket = join(data(place), 'agent.sock')
    const [daemon] = await readyLine(
      start(
        place,
        ...['agent', '--supernode', multiaddr, '--data', data(place), '--socket', socket],
        ...['--p2p-listen', `${place.address}:${port(7072)}`, ...(engine ? [] : ['--no-engine', '--mirror', 'off'])],
      ),
      signal,
    )
    return { name: place.name, daemon, socket, client: new AgentClient({ socket }) }
  }
  const joined = await Promise.all(agents.map(startAgent))
  const http = String(ready.http)
  return { http: http.startsWith('http') ? http : `http://${http}`, supernode: seed, agents: joined }
}

async function readyLine(daemon: Daemon, signal: AbortSignal): Promise<[Daemon, Record<string, unknown>]> {
  const line = await daemon.firstLine({ signal })
  try {
    return [daemon, JSON.parse(line) as Record<string, unknown>]
  } catch (error) {
    throw new DarnerError('INTERNAL', `${daemon.name} said ${JSON.stringify(line)} when it was ready`, { cause: error })
  }
}

/** What the supernode read, what hosts read for it, and what it gave, in bytes. */
export interface SupernodeBytes {
  readonly fromOrigins: number
  readonly fromHosts: number
  readonly seeded: number
}

/** What an agent gave to other agents, and what the supernode read and gave, in bytes. */
export async function servedBy(agent: Agent, { signal }: { signal: AbortSignal }): Promise<number> {
  const status = await agent.client.json<{ bytes: { sent: number } }>('GET', '/v1/peer', { signal })
  return status.bytes.sent
}

export async function supernodeBytes(swarm: Swarm, { signal }: { signal: AbortSignal }): Promise<SupernodeBytes> {
  const answer = await fetch(`${swarm.http}/v1/status`, { signal })
  const status = (await answer.json()) as { bytes: SupernodeBytes }
  return status.bytes
}

/** Asks every daemon to end, and waits for that. Returns the names of those that did not within `ms`. */
export async function endSwarm(swarm: Swarm, ms: number): Promise<string[]> {
  const late = AbortSignal.timeout(ms)
  const all = [...swarm.agents.map((agent) => agent.daemon), swarm.supernode]
  const done = await Promise.all(all.map((daemon) => daemon.end({ signal: late })))
  return all.filter((_, at) => done[at] === false).map((daemon) => daemon.name)
}
