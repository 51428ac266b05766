/**
 * A bed of hosts in network namespaces of their own, on a bridge in one more; nothing of it is seen on this machine's network.
 * The namespaces have no names: each lives as long as a process in it, and every process dies with the bench, so that nothing
 * is left behind however it ends.
 */
import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import {
  addressOf,
  type BedOptions,
  HOST_DEVICE,
  hostCommands,
  hubCommands,
  lossRules,
  MAX_HOSTS,
  portOf,
  shapeCommand,
  shapeOf,
} from './layout.ts'

export interface BedHost {
  readonly number: number
  readonly address: string
  /** Keeps the namespace. */
  readonly pid: number
}

/** What passed a host's link, as the shapers count it: whole Ethernet frames. */
export interface LinkTraffic {
  readonly sentBytes: number
  readonly receivedBytes: number
  readonly dropped: number
}

const ALLOWED_CONGESTION = '/proc/sys/net/ipv4/tcp_allowed_congestion_control'
/** Ends with this process, whatever ends it. */
const BOUND = ['--pdeathsig', 'KILL', '--']

/** Makes the bed; needs root, `ip`, `tc`, `unshare`, `nsenter` and `setpriv`. Dispose it to take it down with all that runs in it. */
export async function openBed(options: BedOptions, { signal }: { signal: AbortSignal }): Promise<Bed> {
  if (process.geteuid?.() !== 0) throw new Error('the bed needs root: it makes network namespaces')
  if (!Number.isInteger(options.hosts) || options.hosts < 1 || options.hosts > MAX_HOSTS)
    throw new RangeError(`hosts: expected 1 to ${MAX_HOSTS}, got ${options.hosts}`)
  const bed = new Bed(options)
  try {
    await bed.start(signal)
    return bed
  } catch (error) {
    await bed[Symbol.asyncDispose]()
    throw error
  }
}

export class Bed implements AsyncDisposable {
  readonly #options: BedOptions
  readonly #children = new Set<ChildProcess>()
  readonly hosts: BedHost[] = []
  #hub = 0

  constructor(options: BedOptions) {
    this.#options = options
  }

  async start(signal: AbortSignal): Promise<void> {
    const { lossPercent = 0, congestion } = this.#options
    this.#hub = await this.#anchor('hub', signal)
    for (let number = 0; number < this.#options.hosts; number++) {
      this.hosts.push({ number, address: addressOf(number), pid: await this.#anchor(`host${number}`, signal) })
    }
    const pids = this.hosts.map(({ pid }) => pid)
    await batch('ip', this.#hub, hubCommands(this.#options, pids), signal)
    const ports = this.hosts.map(({ number }) => shapeCommand(portOf(number), shapeOf(this.#options, number)))
    await batch('tc', this.#hub, ports.join(''), signal)
    for (const { number, pid } of this.hosts) {
      await batch('ip', pid, hostCommands(this.#options, number), signal)
      await batch('tc', pid, shapeCommand(HOST_DEVICE, shapeOf(this.#options, number)), signal)
      if (lossPercent > 0) await inside(pid, ['nft', '-f', '-'], lossRules(lossPercent), signal)
    }
    if (congestion !== undefined) await this.#chooseCongestion(congestion, pids, signal)
  }

  host(number: number): BedHost {
    const host = this.hosts[number]
    if (host === undefined) throw new RangeError(`no host ${number} in a bed of ${this.hosts.length}`)
    return host
  }

  /** Starts a program on a host. It ends with the bed. */
  spawn(host: BedHost, [program = '', ...args]: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const inside = ['nsenter', '-t', String(host.pid), '--net', '--uts', '--', program, ...args]
    // all that a host of the bed can reach is on the bed, whatever proxy this machine is behind
    const env = { ...(options.env ?? process.env), NO_PROXY: '*', no_proxy: '*' }
    return this.#keep(spawn('setpriv', [...BOUND, ...inside], { stdio: ['ignore', 'pipe', 'pipe'], ...options, env }))
  }

  /** What each host's link carried since the bed was made. */
  async traffic(): Promise<LinkTraffic[]> {
    const ports = await qdiscs(this.#hub)
    return await Promise.all(
      this.hosts.map(async ({ number, pid }) => {
        const sent = (await qdiscs(pid)).get(HOST_DEVICE)
        const received = ports.get(portOf(number))
        return {
          sentBytes: sent?.bytes ?? 0,
          receivedBytes: received?.bytes ?? 0,
          dropped: (sent?.drops ?? 0) + (received?.drops ?? 0),
        }
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = [...this.#children].map((child) => {
      const over = child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : once(child, 'exit')
      child.kill('SIGKILL')
      return over
    })
    await Promise.all(ended)
  }

  /** As a kernel with another default: what a program chooses itself still counts. */
  async #chooseCongestion(name: string, pids: readonly number[], signal: AbortSignal): Promise<void> {
    // a namespace may choose only what the first one allows
    const before = await readFile(ALLOWED_CONGESTION, 'utf8')
    const choose = ['sh', '-c', 'cat > /proc/sys/net/ipv4/tcp_congestion_control']
    try {
      await writeFile(ALLOWED_CONGESTION, `${before.trim()} ${name}`)
      for (const pid of pids) await inside(pid, choose, name, signal)
    } finally {
      await writeFile(ALLOWED_CONGESTION, before)
    }
  }

  /** A process that holds a fresh network namespace with a host name of its own. */
  async #anchor(name: string, signal: AbortSignal): Promise<number> {
    const hold = `hostname ${name} && echo up && exec sleep infinity`
    const child = this.#keep(
      spawn('setpriv', [...BOUND, 'unshare', '--net', '--uts', '--', 'sh', '-c', hold], {
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
    )
    if (child.stdout === null || child.pid === undefined) throw new Error(`${name}: no namespace was made`)
    const failed = once(child, 'exit', { signal }).then(([code]) => {
      throw new Error(`${name}: unshare ended with ${code}`)
    })
    await Promise.race([once(child.stdout, 'data', { signal }), failed])
    failed.catch(() => {})
    return child.pid
  }

  #keep(child: ChildProcess): ChildProcess {
    this.#children.add(child)
    child.once('exit', () => this.#children.delete(child))
    return child
  }
}

async function batch(program: 'ip' | 'tc', pid: number, commands: string, signal: AbortSignal): Promise<void> {
  await inside(pid, [program, '-batch', '-'], commands, signal)
}

async function qdiscs(pid: number): Promise<Map<string, { bytes: number; drops: number }>> {
  const text = await inside(pid, ['tc', '-j', '-s', 'qdisc', 'show'], '')
  const rows = JSON.parse(text) as { kind: string; dev: string; bytes: number; drops: number }[]
  return new Map(rows.filter(({ kind }) => kind === 'tbf').map(({ dev, bytes, drops }) => [dev, { bytes, drops }]))
}

/** Runs a tool in the network namespace of a process; what it prints. */
function inside(pid: number, argv: readonly string[], input: string, signal?: AbortSignal): Promise<string> {
  const args = ['-t', String(pid), '--net', '--', ...argv]
  return new Promise((resolve, reject) => {
    const child = execFile('nsenter', args, { ...(signal && { signal }) }, (error, stdout, stderr) => {
      if (error) reject(new Error(`nsenter ${args.join(' ')}: ${stderr.trim() || error.message}`, { cause: error }))
      else resolve(stdout)
    })
    // a tool that ended early says why by its exit
    child.stdin?.on('error', () => {}).end(input)
  })
}
