/** A registry, a supernode and agents with mirrors, and containerd's pull of an image through one of them or past it. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DarnerError } from '../../src/core/errors.ts'
import { criPull, criReady } from '../../test/fixtures/clients/cri-client.ts'
import { aDir } from '../../test/fixtures/host/a-dir.ts'
import { builtDarner } from '../built.ts'
import { cpuTime } from '../swarm/cpu.ts'
import type { CrowdAnswer, CrowdAsk } from './crowd-host.ts'
import type { Pushed, RegistryAsk } from './registry-host.ts'
import { CLIENT, FIRST_OTHER, finished, type Program, REGISTRY, type Stand, SUPERNODE, start, stop } from './stand.ts'

const NODE = [process.execPath, '--disable-warning=ExperimentalWarning']
const REGISTRY_HOST = fileURLToPath(new URL('registry-host.ts', import.meta.url))
const CROWD_HOST = fileURLToPath(new URL('crowd-host.ts', import.meta.url))
const FORWARD = fileURLToPath(new URL('forward.ts', import.meta.url))
const MIB = 1024 * 1024
const WARM_BYTES = 64 * MIB
const LAYERS = 4
const CONTAINERD_MS = 30_000

/** An agent with its mirror's `IP:PORT`, in reach of its own host only. */
export interface Mirror {
  readonly host: number
  readonly program: Program
  readonly address: string
}

/** What the daemons log, and the folder that it is kept in, if it is. */
export interface Logs {
  readonly level: string
  readonly directory: string | undefined
}

/** What a pull took, and containerd's own processor time in it, in seconds. */
export interface PullTime {
  readonly seconds: number
  readonly processor: number
}

/** One that has nothing, with what to pull. */
interface Containerd {
  readonly ref: string
  /** As `hosts.toml` lies below. */
  readonly hosts: string
  readonly socket: string
}

export class Rig implements AsyncDisposable {
  readonly #stand: Stand
  readonly #directory: string
  readonly #owned: AsyncDisposable
  readonly #signal: AbortSignal
  readonly #registry: Program
  readonly #supernode: Program
  /** The client's first, then the others'. */
  readonly mirrors: readonly Mirror[]
  #images = 0
  #pulls = 0

  private constructor(parts: {
    stand: Stand
    directory: string
    owned: AsyncDisposable
    signal: AbortSignal
    registry: Program
    supernode: Program
    mirrors: readonly Mirror[]
  }) {
    this.#stand = parts.stand
    this.#directory = parts.directory
    this.#owned = parts.owned
    this.#signal = parts.signal
    this.#registry = parts.registry
    this.#supernode = parts.supernode
    this.mirrors = parts.mirrors
  }

  /** Daemons on a host run for long: their code is warm once this resolves, and nothing that is pulled later is there. */
  static async open(
    stand: Stand,
    { others = 0, logs }: { others?: number; logs?: Logs },
    { signal }: { signal: AbortSignal },
  ): Promise<Rig> {
    const stack = new AsyncDisposableStack()
    const { launcher } = await builtDarner()
    try {
      const { path: directory } = stack.use(await aDir())
      if (logs?.directory !== undefined) await mkdir(logs.directory, { recursive: true })
      const own = (name: string) => ({ signal, log: logs?.directory && join(logs.directory, `${name}.log`) })
      const level = logs === undefined ? [] : ['--log-level', logs.level]
      const registry = stack.use(
        await start(stand, REGISTRY, [...NODE, REGISTRY_HOST, stand.address(REGISTRY)], own('registry')),
      )
      const p2p = (host: number) => [
        ...['--p2p-listen', `${stand.address(host)}:0`, '--lane-listen', `${stand.address(host)}:0`],
      ]
      const supernode = stack.use(
        await start(
          stand,
          SUPERNODE,
          [
            ...[launcher, 'supernode', '--open', '--listen', '127.0.0.1:0', ...p2p(SUPERNODE)],
            ...['--data', join(directory, 'supernode'), ...level],
          ],
          own('supernode'),
        ),
      )
      const mirrors: Mirror[] = []
      for (const host of [CLIENT, ...Array.from({ length: others }, (_, at) => FIRST_OTHER + at)]) {
        const socket = join(directory, `${host}.sock`)
        const program = stack.use(
          await start(
            stand,
            host,
            [
              ...[launcher, 'agent', '--no-engine', '--supernode', supernode.line, ...p2p(host)],
              ...['--data', join(directory, `agent${host}`), '--socket', socket, '--mirror', '127.0.0.1:0'],
              ...['--upstream', `${registry.line}=http://${registry.line}`, ...level],
            ],
            own(`agent${host}`),
          ),
        )
        const said = await finished(stand, host, [launcher, 'mirror', '--json', '--socket', socket])
        const { address } = JSON.parse(said.stdout) as { address: string }
        mirrors.push({ host, program, address })
      }
      const rig = new Rig({ stand, directory, owned: stack, signal, registry, supernode, mirrors })
      const warm = await rig.push(WARM_BYTES)
      for (const mirror of mirrors) await rig.hold(mirror, warm)
      return rig
    } catch (error) {
      await stack.disposeAsync()
      throw error
    }
  }

  /** `HOST:PORT`. */
  get registryHost(): string {
    return this.#registry.line
  }

  /** The mirror of the host on which the client is. */
  get mirror(): Mirror {
    const [mirror] = this.mirrors
    if (mirror === undefined) throw new DarnerError('INTERNAL', 'a rig without an agent')
    return mirror
  }

  /** A fresh image in the registry, in four layers. */
  async push(bytes: number): Promise<Pushed> {
    const seed = ++this.#images
    const push = { repository: `bench/app${seed}`, seed, bytes, layers: LAYERS }
    return (await this.#ask({ push })) as Pushed
  }

  /** A Debian image that nobody has, in so many layers. */
  async pushDebian(layers: number): Promise<Pushed> {
    const number = ++this.#images
    return (await this.#ask({ debian: { repository: `bench/debian${number}`, number, layers } })) as Pushed
  }

  /** How often the registry was asked for a blob of the image, of the one asked for most. */
  async copies(image: Pushed): Promise<number> {
    return (await this.#ask({ gets: image.blobs.slice(1) })) as number
  }

  /** Brings an image to the host of a mirror. */
  async hold({ host, address }: Mirror, { repository, blobs }: Pushed): Promise<void> {
    const url = (path: string) => `http://${address}/v2/${repository}/${path}?ns=${this.registryHost}`
    for (const path of ['manifests/v1', ...blobs.map((digest) => `blobs/${digest}`)]) {
      const curl = ['curl', '-sS', '--fail', '-o', '/dev/null', url(path)]
      const { code, stderr } = await finished(this.#stand, host, curl)
      if (code !== 0) throw new DarnerError('COMMAND_FAILED', `curl ${url(path)}: ${stderr.trim()}`)
    }
  }

  /** A control's address; see forward.ts. */
  async forwarder(mode: 'forward' | 'store'): Promise<Program & { readonly address: string }> {
    const folder = join(this.#directory, 'forward')
    await mkdir(folder, { recursive: true })
    const argv = [...NODE, FORWARD, `http://${this.registryHost}`, mode, folder]
    const program = await start(this.#stand, CLIENT, argv, { signal: this.#signal })
    return { ...program, address: program.line }
  }

  /** Seconds for so many pulls at once through the mirror of the client's host. Throws what was wrong with the first bad answer. */
  async crowd({ repository, blobs }: Pushed, pulls: number): Promise<number> {
    await using program = await start(this.#stand, CLIENT, [...NODE, CROWD_HOST], { signal: this.#signal })
    const { hostname: host, port } = new URL(`http://${this.mirror.address}`)
    const path = (rest: string) => `/v2/${repository}/${rest}?ns=${this.registryHost}`
    const ask: CrowdAsk = {
      ...{ host, port: Number(port), pulls },
      manifest: path('manifests/v1'),
      blobs: blobs.map((digest) => path(`blobs/${digest}`)),
    }
    const answer = JSON.parse(await program.ask(JSON.stringify(ask))) as CrowdAnswer
    if ('failed' in answer) throw new DarnerError('COMMAND_FAILED', answer.failed)
    return answer.seconds
  }

  /** User and system seconds of the agent of the client's host and of the supernode, so far. */
  cpuSeconds(): { agent: number; supernode: number } {
    return { agent: cpuTime(this.mirror.program.pid).own.all, supernode: cpuTime(this.#supernode.pid).own.all }
  }

  /** The most resident memory of the agent of the client's host. */
  async peakBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.mirror.program.pid}/status`, 'utf8')
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024
  }

  /**
   * Seconds that `ctr content fetch` takes with an empty containerd; by `mirror` (`IP:PORT`), or straight. It would draw its progress, and
   * ends only when that was drawn next, which is every 100 ms; with `--debug` it draws none.
   */
  async fetch(image: Pushed, mirror?: string): Promise<number> {
    const { seconds, base } = await this.#timed(image, mirror, {
      cri: false,
      work: async ({ ref, hosts, socket }) => {
        const argv = ['ctr', '--debug', '-a', socket, 'content', 'fetch', '--hosts-dir', hosts, ref]
        const { code, stderr } = await finished(this.#stand, CLIENT, argv)
        if (code !== 0) throw new DarnerError('COMMAND_FAILED', `${argv.join(' ')}: ${stderr.trim().slice(-1000)}`)
      },
    })
    await rm(base, { recursive: true, force: true })
    return seconds
  }

  /**
   * As {@link fetch}, of the PullImage by which kubelet asks: what is fetched is unpacked by overlayfs, too. Needs a stage. The files stay
   * until the rig is closed: for minutes, ext4 searches long for inodes that weren't freed lately, and makes files at half the rate.
   */
  async pull(image: Pushed, mirror?: string): Promise<PullTime> {
    const work = async ({ ref, socket }: Containerd) => {
      await criPull(socket, ref)
    }
    return await this.#timed(image, mirror, { cri: true, work })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]()
  }

  /** With a containerd that has nothing, below a folder of its own. */
  async #timed(
    { repository }: Pushed,
    mirror: string | undefined,
    { cri, work }: { cri: boolean; work: (containerd: Containerd) => Promise<void> },
  ): Promise<PullTime & { base: string }> {
    const base = join(this.#directory, `pull${this.#pulls++}`)
    const hosts = join(base, 'hosts')
    await mkdir(join(hosts, this.registryHost), { recursive: true })
    await writeFile(
      join(hosts, this.registryHost, 'hosts.toml'),
      [
        `server = "http://${this.registryHost}"`,
        `[host."http://${mirror ?? this.registryHost}"]`,
        '  capabilities = ["pull", "resolve"]',
        '',
      ].join('\n'),
    )
    const config = join(base, 'config.toml')
    const socket = join(base, 'c.sock')
    await writeFile(
      config,
      [
        ...['version = 2', `root = "${base}/root"`, `state = "${base}/state"`],
        ...(cri ? [] : ['disabled_plugins = ["io.containerd.grpc.v1.cri"]']),
        ...['[grpc]', `  address = "${socket}"`],
        ...(cri ? ['[plugins."io.containerd.grpc.v1.cri".registry]', `  config_path = "${hosts}"`] : []),
        '',
      ].join('\n'),
    )
    const daemon = this.#stand.spawn(CLIENT, ['containerd', '-c', config], { stdio: 'ignore' })
    try {
      const up = async () => (await finished(this.#stand, CLIENT, ['ctr', '-a', socket, 'version'])).code === 0
      const late = AbortSignal.timeout(CONTAINERD_MS)
      while (!(await up())) late.throwIfAborted()
      if (cri) await criReady(socket)
      const before = cpuTime(daemon.pid).own.all
      const began = performance.now()
      await work({ ref: `${this.registryHost}/${repository}:v1`, hosts, socket })
      const seconds = (performance.now() - began) / 1000
      return { seconds, processor: cpuTime(daemon.pid).own.all - before, base }
    } finally {
      await stop(daemon)
    }
  }

  async #ask(ask: RegistryAsk): Promise<unknown> {
    return JSON.parse(await this.#registry.ask(JSON.stringify(ask)))
  }
}
