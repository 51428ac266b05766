/**
 * The networks of this host, by name: the engine's own bridges and the CNI configurations of the folders. Also their containers, published
 * ports and names. Containers come by {@link ContainerNetworks}, users and the front doors by the other methods.
 */
import { createHash } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { CreateRequest } from '../../src/api/containers-api.ts'
import type {
  EndpointRequest,
  JoinedNetwork,
  NetworkCreate,
  NetworkingView,
  NetworkView,
} from '../../src/api/networks-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { DarnerError, isDarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Scope } from '../../src/core/scope.ts'
import type { ContainerNetworks, GuestNetwork, NetworkGuest, RecordSpace } from '../containers/dependencies.ts'
import { Attachments, type ConnectedContainer } from './attachments.ts'
import { Bridges } from './bridges.ts'
import { DEFAULT_NETWORK, NetworkCatalog } from './catalog.ts'
import { Cni } from './cni.ts'
import { EndpointPlanner } from './endpoint-plans.ts'
import { parseExtraHost } from './guest-files.ts'
import { removeIdlePortmap } from './host-rules.ts'
import { Memberships } from './memberships.ts'
import { NetnsFolder } from './netns.ts'
import { endpointsOf, isOn, networkView } from './network-view.ts'
import { ReadySandboxes } from './ready-sandboxes.ts'
import { type NetworkRecord, NetworkRecords, type SandboxRecord } from './records.ts'
import { endPlugins, recoverNetworks } from './recover.ts'
import { Sandboxes } from './sandboxes.ts'
import { parseAddress } from './subnets.ts'
import { checkEndpoint, isUnattached, mustPublish, predefined, unattached } from './targets.ts'

export interface NetworksOptions {
  /** Folder of namespaces and address leases. */
  readonly runDir: string
  /** Folders with CNI plugins; default `/usr/lib/cni`, `/opt/cni/bin`. */
  readonly pluginDirs?: readonly string[]
  /** Folders with CNI configurations, usable by name; default `/etc/cni/net.d`. */
  readonly confDirs?: readonly string[]
  /** Range that subnets of the engine's networks are taken from; default 10.91.0.0/16. */
  readonly pool?: string
  /** Ready-made sandboxes on the default network; default 2. */
  readonly ready?: number
  /** No plugin takes longer; default 60,000. */
  readonly pluginMs?: number
}

export interface NetworksParts {
  readonly records: RecordSpace
  readonly clock: Clock
  readonly log: Log
  readonly fault?: (point: string) => void
}

type Waits = { readonly signal: AbortSignal }

/** Hold it with `await using`: disposing takes down what no container uses, and leaves the rest to the containers. */
export class Networks implements ContainerNetworks, AsyncDisposable {
  readonly #options: Required<NetworksOptions>
  readonly #parts: NetworksParts
  readonly #records: NetworkRecords
  readonly #catalog: NetworkCatalog
  readonly #memberships: Memberships
  readonly #cni: Cni
  readonly #folder: NetnsFolder
  readonly #sandboxes: Sandboxes
  readonly #bridges: Bridges
  readonly #planner: EndpointPlanner
  readonly #ready: ReadySandboxes
  readonly #attachments: Attachments
  readonly #scope = new Scope()
  /** An earlier agent left containers on networks. */
  #found = false

  private constructor(options: NetworksOptions, parts: NetworksParts) {
    this.#options = {
      pluginDirs: ['/usr/lib/cni', '/opt/cni/bin'],
      confDirs: ['/etc/cni/net.d'],
      pool: '10.91.0.0/16',
      ready: 2,
      pluginMs: 60_000,
      ...options,
      runDir: resolve(options.runDir), // plugins and runtimes have working directories of their own
    }
    this.#parts = parts
    this.#records = new NetworkRecords(parts.records)
    this.#catalog = new NetworkCatalog(this.#options, { ...parts, records: this.#records })
    this.#memberships = new Memberships(this.#records, this.#catalog)
    this.#cni = new Cni(this.#options)
    this.#folder = new NetnsFolder(join(this.#options.runDir, 'netns'))
    this.#sandboxes = new Sandboxes({
      folder: this.#folder,
      cni: this.#cni,
      records: this.#records,
      log: parts.log,
      fault: parts.fault ?? (() => {}),
    })
    this.#bridges = new Bridges(
      {
        leases: join(this.#options.runDir, 'leases'),
        tag: createHash('sha256').update(this.#options.runDir).digest('hex').slice(0, 8),
      },
      { log: parts.log, setUp: (network, up) => this.#setUp(network, up) },
    )
    this.#planner = new EndpointPlanner({ catalog: this.#catalog, cni: this.#cni, bridges: this.#bridges })
    this.#ready = new ReadySandboxes(this.#options.ready, {
      sandboxes: this.#sandboxes,
      scope: this.#scope,
      log: parts.log,
      planOf: (networkId) => {
        const network = this.#catalog.get(networkId)
        return network && this.#planner.on(network, 0, {}, { first: true, ports: [] })
      },
    })
    this.#attachments = new Attachments({
      catalog: this.#catalog,
      memberships: this.#memberships,
      folder: this.#folder,
      sandboxes: this.#sandboxes,
      bridges: this.#bridges,
      planner: this.#planner,
      ready: this.#ready,
      signal: this.#scope.signal,
    })
  }

  /** Reads records and configurations. Nothing is made on the host before the first container needs it. */
  static async open(options: NetworksOptions, parts: NetworksParts): Promise<Networks> {
    const networks = new Networks(options, parts)
    await networks.#load()
    return networks
  }

  async #load(): Promise<void> {
    const { runDir } = this.#options
    await Promise.all([this.#folder.prepare(), mkdir(join(runDir, 'leases'), { recursive: true, mode: 0o700 })])
    const found = await this.#records.all((key, error) =>
      this.#parts.log.error({ key, error }, 'network record skipped'),
    )
    this.#memberships.restore(found.membership)
    for (const one of found.sandbox) this.#sandboxes.restore(one as SandboxRecord)
    this.#found = found.sandbox.length > 0
    if (found.sandbox.length > 0)
      await endPlugins(new Set(found.sandbox.map((one) => one.id)), this.#options.pluginDirs)
    await this.#catalog.start(found.network)
  }

  /** Ends resolvers and takes away what no container needs; containers keep their networks. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.close()
    const { signal } = new AbortController()
    for (const one of this.#sandboxes.all()) if (one.owner === '') await this.#sandboxes.abandon(one.id)
    await this.#sandboxes.idle()
    for (const network of this.#catalog.own()) {
      const used = this.#sandboxes.all().some((one) => one.endpoints.some((end) => end.networkId === network.id))
      if (!network.up || used) continue
      try {
        await this.#bridges.lower(network, { signal })
      } catch (error) {
        this.#parts.log.warn({ network: network.name, error }, 'an idle network stays')
      }
    }
    await this.#bridges[Symbol.asyncDispose]()
    await this.#catalog[Symbol.asyncDispose]()
    if (!this.#found && !this.#attachments.used) return
    await removeIdlePortmap('ipv4', { signal })
    await removeIdlePortmap('ipv6', { signal })
  }

  // what users do

  /** Networks by age, the engine's own first; then configurations of the folders, then host and none. */
  async list(): Promise<NetworkView[]> {
    const targets = await this.#catalog.targets()
    return [...targets.map((one) => networkView(one, this.#sandboxes.all())), unattached('host'), unattached('none')]
  }

  /** By name, id or the start of an id. Throws NOT_FOUND. */
  async inspect(reference: string): Promise<NetworkView> {
    if (reference === 'host' || reference === 'none') return unattached(reference)
    const special = [unattached('host'), unattached('none')].find((one) => one.id === reference)
    if (special) return special
    await this.#catalog.readLists()
    return networkView(this.#catalog.find(reference), this.#sandboxes.all())
  }

  /** Throws CONFLICT for a taken name or subnet, BAD_ARGUMENT for a subnet that is none. */
  async create(request: NetworkCreate): Promise<NetworkView> {
    const record = await this.#catalog.create(request)
    return networkView({ kind: 'bridge', id: record.id, name: record.name, record }, [])
  }

  /** Throws NOT_FOUND, CONFLICT while a container is on it, BAD_ARGUMENT for one that users didn't make. */
  async remove(reference: string): Promise<void> {
    if (reference === 'host' || reference === 'none') throw predefined(reference)
    await this.#catalog.inTurn(async () => {
      const target = this.#catalog.find(reference)
      if (target.kind === 'cni' || target.record.builtIn) throw predefined(target.name)
      const users = this.#sandboxes.all().filter((one) => !one.gone && isOn(one, target.id))
      if (users.length > 0 || this.#attachments.isAttaching(target.id))
        throw new DarnerError('CONFLICT', `network ${target.name} has active endpoints`, {
          details: { containers: users.map((one) => one.name).join(', ') },
          way: 'disconnect or stop its containers first',
        })
      const record = { ...target.record, removing: true }
      await this.#catalog.keep(record)
      await this.#finishRemoval(record)
    })
  }

  /** Networks that no container is on or will be on when it starts; `used` are names or ids that stopped containers ask for. */
  async prune(used: ReadonlySet<string>): Promise<string[]> {
    const removed: string[] = []
    for (const { id, name, builtIn } of this.#catalog.own()) {
      const wanted = used.has(id) || used.has(name)
      if (
        builtIn ||
        wanted ||
        this.#memberships.uses(id) ||
        this.#sandboxes.all().some((one) => !one.gone && isOn(one, id))
      )
        continue
      await this.remove(id)
      removed.push(name)
    }
    return removed
  }

  /** At once when it runs, and at each start. Throws NOT_FOUND, CONFLICT when it is on it already or on `host` or `none`. */
  async connect(reference: string, to: ConnectedContainer, request: EndpointRequest, waits: Waits): Promise<void> {
    await this.#attachments.connect(reference, to, request, waits)
  }

  /** Throws NOT_FOUND, CONFLICT when it isn't on it. */
  async disconnect(reference: string, container: ConnectedContainer, waits: Waits): Promise<void> {
    await this.#attachments.disconnect(reference, container, waits)
  }

  /** Resolves when nothing is being taken apart in the background. */
  async idle(): Promise<void> {
    await this.#sandboxes.idle()
  }

  // what containers do

  async check(request: CreateRequest): Promise<void> {
    const mode = request.network ?? DEFAULT_NETWORK
    for (const one of request.extraHosts ?? []) parseExtraHost(one)
    for (const one of request.dns?.servers ?? []) parseAddress(one, 'dns server')
    for (const one of request.publish ?? [])
      if (one.hostIp !== undefined) parseAddress(one.hostIp, `publishing port ${one.containerPort}`)
    if (isUnattached(mode)) {
      const asked = Object.keys(request.endpoint ?? {}).length > 0
      if (asked) throw new DarnerError('BAD_ARGUMENT', `network ${mode} has no addresses or aliases to give`)
      if (mode.startsWith('container:') && (request.publish ?? []).length > 0)
        throw new DarnerError('BAD_ARGUMENT', 'ports are published by the container whose network it is')
      return
    }
    await this.#catalog.readLists()
    const target = this.#catalog.find(mode)
    checkEndpoint(target, request.endpoint ?? {})
    for (const { type } of target.kind === 'cni' ? target.list.plugins : [{ type: 'bridge' }])
      await this.#cni.find(type)
    if ((request.publish ?? []).length > 0) mustPublish(target)
  }

  async attach(guest: NetworkGuest, how: Waits & { keep?: boolean }): Promise<GuestNetwork> {
    return this.#attachments.attach(guest, how)
  }

  async detach(id: string): Promise<void> {
    await this.#attachments.detach(id)
  }

  async forget(id: string): Promise<void> {
    await this.detach(id)
    await this.#memberships.forget(id)
  }

  async renamed(id: string, name: string): Promise<void> {
    await this.#attachments.renamed(id, name)
  }

  attached(id: string): { id: string; name: string; type: string }[] {
    const own = new Set(this.#catalog.own().map((one) => one.id))
    return (this.#sandboxes.of(id)?.endpoints ?? []).map(({ networkId, network }) => ({
      id: networkId,
      name: network,
      type: own.has(networkId) ? 'bridge' : 'cni',
    }))
  }

  joined(guest: Pick<NetworkGuest, 'id' | 'request'>): JoinedNetwork[] | undefined {
    try {
      return this.#memberships
        .of(guest)
        ?.map(({ networkId, request }) => ({ networkId, network: this.#catalog.find(networkId).name, request }))
    } catch (error) {
      if (isDarnerError(error, 'NOT_FOUND')) return undefined // its network has gone
      throw error
    }
  }

  view(id: string): NetworkingView | undefined {
    const sandbox = this.#sandboxes.of(id)
    if (!sandbox) return undefined
    return { netnsPath: this.#sandboxes.pathOf(sandbox), endpoints: endpointsOf(sandbox), ports: sandbox.ports }
  }

  async recover(live: ReadonlySet<string>, all: ReadonlySet<string>): Promise<string[]> {
    const { signal } = this.#scope
    const mended = await recoverNetworks(
      {
        sandboxes: this.#sandboxes,
        folder: this.#folder,
        bridges: this.#bridges,
        networks: () => this.#catalog.own(),
        log: this.#parts.log,
        settle: (sandbox) => this.#attachments.settle(sandbox),
        restorePorts: (owner, ports) => this.#attachments.ports.restore(owner, ports),
        finishRemoval: (network) => this.#finishRemoval(network),
        gc: (network, valid) =>
          this.#cni.gc(this.#bridges.chainOf(network, { first: true, ports: true }), valid, { signal }),
        delPortmap: (network, id) => this.#delPortmap(network, id),
      },
      live,
      { signal },
    )
    for (const id of this.#memberships.containers()) if (!all.has(id)) await this.forget(id)
    return mended
  }

  async #finishRemoval(network: NetworkRecord): Promise<void> {
    const fault = this.#parts.fault ?? (() => {})
    fault('network:removing')
    for (const one of this.#sandboxes.all())
      if (one.gone && isOn(one, network.id)) await this.#sandboxes.release(one.id, { signal: this.#scope.signal })
    if (network.up) await this.#bridges.lower(network, { signal: this.#scope.signal })
    fault('network:lowered')
    await this.#catalog.drop(network.id)
  }

  async #delPortmap(network: NetworkRecord, containerId: string): Promise<void> {
    const { plugins, ...list } = this.#bridges.chainOf(network, { first: true, ports: true })
    const only = { ...list, plugins: plugins.filter((one) => one.type === 'portmap') }
    const portMappings = [{ hostPort: 1, containerPort: 1, protocol: 'tcp' }] // the chain goes by the id; one must be named
    const target = { containerId, netns: '', ifName: 'eth0', runtimeConfig: { portMappings } }
    await this.#cni.del(only, target, undefined, { signal: this.#scope.signal })
  }

  async #setUp(network: NetworkRecord, up: boolean): Promise<void> {
    const now = this.#catalog.get(network.id)
    if (now && now.up !== up) await this.#catalog.keep({ ...now, up })
  }
}
