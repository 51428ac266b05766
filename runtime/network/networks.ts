/**
 * The networks of this host: the engine's own bridges and whatever CNI configurations the folders hold, by name; who is on which;
 * published ports; names. Containers come by {@link ContainerNetworks}, users and the front doors by the other methods.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Clock } from '../../src/base/clock.ts'
import { DarnerError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import { Scope } from '../../src/base/scope.ts'
import type { CreateRequest } from '../../src/wire/local-api.ts'
import type {
  EndpointRequest,
  EndpointView,
  NetworkCreate,
  NetworkingView,
  NetworkView,
  PortBinding,
} from '../../src/wire/networks-api.ts'
import { Locks } from '../containers/locks.ts'
import type { ContainerNetworks, GuestNetwork, NetworkGuest, RecordSpace } from '../containers/ports.ts'
import { Bridges, gatewayOf, linkExists } from './bridges.ts'
import { Cni, type RuntimeConfig } from './cni.ts'
import { type ConfList, readConfLists } from './conflist.ts'
import { endpointView } from './endpoint-view.ts'
import { hostsText, parseExtraHost, resolvText } from './guest-files.ts'
import { HostPorts } from './host-ports.ts'
import { removeIdlePortmap } from './host-rules.ts'
import { NetnsFolder } from './netns.ts'
import { type MembershipRecord, type NetworkRecord, NetworkRecords, type SandboxRecord } from './records.ts'
import { endPlugins, recoverNetworks } from './recover.ts'
import { type EndpointPlan, Sandboxes } from './sandboxes.ts'
import {
  addressAt,
  checkSubnet,
  contains,
  freeSubnet,
  hostRoutes,
  isV6,
  overlaps,
  parseAddress,
  parseSubnet,
  textOf,
  uniqueLocalSubnet,
} from './subnets.ts'

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

/** What networks need to know of a container that is connected by hand. */
export type ConnectedContainer = Pick<NetworkGuest, 'id' | 'name' | 'request'>

/** The default network. */
export const DEFAULT_NETWORK = 'bridge'
const BRIDGE_PREFIX = 'darner'
const MOST_NETWORKS = 1000
const MOST_ENDPOINTS = 64

/** True for the modes that are no network of the engine's: the container is not attached to anything. */
export function isUnattached(mode: string): boolean {
  return mode === 'host' || mode === 'none' || mode.startsWith('container:')
}

type Target =
  | { readonly kind: 'bridge'; readonly id: string; readonly name: string; readonly record: NetworkRecord }
  | { readonly kind: 'cni'; readonly id: string; readonly name: string; readonly list: ConfList }

type Waits = { readonly signal: AbortSignal }
type Membership = { readonly networkId: string; readonly request: EndpointRequest }

/** Hold it with `await using`: disposing takes down what no container uses, and leaves the rest to the containers. */
export class Networks implements ContainerNetworks, AsyncDisposable {
  readonly #options: Required<NetworksOptions>
  readonly #parts: NetworksParts
  readonly #records: NetworkRecords
  readonly #networks = new Map<string, NetworkRecord>()
  readonly #memberships = new Map<string, MembershipRecord>()
  readonly #cni: Cni
  readonly #folder: NetnsFolder
  readonly #sandboxes: Sandboxes
  readonly #bridges: Bridges
  readonly #ports = new HostPorts()
  readonly #locks = new Locks()
  readonly #scope = new Scope()
  readonly #attaching = new Map<string, number>()
  #lists: ReadonlyMap<string, ConfList> = new Map()
  #filling = false

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
    for (const one of found.network) this.#networks.set(one.id, one)
    for (const one of found.membership) this.#memberships.set(one.containerId, one)
    for (const one of found.sandbox) this.#sandboxes.restore(one as SandboxRecord)
    this.#attached = found.sandbox.length > 0
    if (found.sandbox.length > 0)
      await endPlugins(new Set(found.sandbox.map((one) => one.id)), this.#options.pluginDirs)
    if (![...this.#networks.values()].some((one) => one.builtIn)) await this.#makeDefault()
    await this.#readLists()
  }

  async #makeDefault(): Promise<void> {
    const id = randomBytes(32).toString('hex')
    await this.#keep({
      version: 1,
      id,
      name: DEFAULT_NETWORK,
      bridge: `${BRIDGE_PREFIX}0`,
      builtIn: true,
      internal: false,
      subnets: [await this.#freeSubnet()],
      labels: {},
      createdAt: this.#parts.clock.now(),
      up: false,
    })
  }

  /** Ends resolvers and takes away what no container needs; containers keep their networks. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.close()
    const { signal } = new AbortController()
    for (const one of this.#sandboxes.all()) if (one.owner === '') await this.#sandboxes.abandon(one.id)
    await this.#sandboxes.idle()
    for (const network of this.#networks.values()) {
      const used = this.#sandboxes.all().some((one) => one.endpoints.some((end) => end.networkId === network.id))
      if (!network.up || used) continue
      try {
        await this.#bridges.lower(network, { signal })
      } catch (error) {
        this.#parts.log.warn({ network: network.name, error }, 'an idle network stays')
      }
    }
    await this.#bridges[Symbol.asyncDispose]()
    if (!this.#attached) return
    await removeIdlePortmap('ipv4', { signal })
    await removeIdlePortmap('ipv6', { signal })
  }

  /** Something was on a network in this agent's time, or before. */
  #attached = false

  // what users do

  /** Networks by age, the engine's own first; then configurations of the folders, then host and none. */
  async list(): Promise<NetworkView[]> {
    await this.#readLists()
    const own = [...this.#networks.values()].filter((one) => !one.removing)
    own.sort((a, b) => a.createdAt - b.createdAt)
    const lists = [...this.#lists.values()].filter((list) => !own.some((one) => one.name === list.name))
    return [
      ...own.map((one) => this.#viewOf({ kind: 'bridge', id: one.id, name: one.name, record: one })),
      ...lists.map((list) => this.#viewOf({ kind: 'cni', id: listId(list.name), name: list.name, list })),
      bare('host'),
      bare('none'),
    ]
  }

  /** By name, id or the start of an id. Throws NOT_FOUND. */
  async inspect(reference: string): Promise<NetworkView> {
    if (reference === 'host' || reference === 'none') return bare(reference)
    const special = [bare('host'), bare('none')].find((one) => one.id === reference)
    if (special) return special
    await this.#readLists()
    return this.#viewOf(this.#find(reference))
  }

  /** Throws CONFLICT for a taken name or subnet, BAD_ARGUMENT for a subnet that is none. */
  async create(request: NetworkCreate): Promise<NetworkView> {
    return this.#locks.hold('networks', async () => {
      await this.#readLists()
      const { name } = request
      const reserved = ['host', 'none', 'default', 'container'].includes(name)
      if (reserved || this.#byName(name) !== undefined || this.#lists.has(name))
        throw new DarnerError('CONFLICT', `network with name ${name} already exists`)
      if (this.#networks.size >= MOST_NETWORKS)
        throw new DarnerError('LIMIT_EXCEEDED', `network ${name}: there are ${MOST_NETWORKS} already`)
      const id = randomBytes(32).toString('hex')
      const record: NetworkRecord = {
        version: 1,
        id,
        name,
        bridge: `dn${id.slice(0, 10)}`,
        builtIn: false,
        internal: request.internal === true,
        subnets: await this.#subnetsOf(request),
        labels: request.labels ?? {},
        createdAt: this.#parts.clock.now(),
        up: false,
      }
      await this.#keep(record)
      return this.#viewOf({ kind: 'bridge', id, name, record })
    })
  }

  /** Throws NOT_FOUND, CONFLICT while a container is on it, BAD_ARGUMENT for one that users didn't make. */
  async remove(reference: string): Promise<void> {
    if (reference === 'host' || reference === 'none') throw predefined(reference)
    await this.#locks.hold('networks', async () => {
      const target = this.#find(reference)
      if (target.kind === 'cni' || target.record.builtIn) throw predefined(target.name)
      const users = this.#sandboxes.all().filter((one) => !one.gone && isOn(one, target.id))
      if (users.length > 0 || (this.#attaching.get(target.id) ?? 0) > 0)
        throw new DarnerError('CONFLICT', `network ${target.name} has active endpoints`, {
          details: { containers: users.map((one) => one.name).join(', ') },
          way: 'disconnect or stop its containers first',
        })
      const record = { ...target.record, removing: true }
      await this.#keep(record)
      await this.#finishRemoval(record)
    })
  }

  /** Networks that no container is on or will be on when it starts; `used` are names or ids that stopped containers ask for. */
  async prune(used: ReadonlySet<string>): Promise<string[]> {
    const removed: string[] = []
    for (const { id, name, builtIn } of [...this.#networks.values()]) {
      const wanted = used.has(id) || used.has(name)
      const member = [...this.#memberships.values()].some((one) => one.networks.some((at) => at.networkId === id))
      if (builtIn || wanted || member || this.#sandboxes.all().some((one) => !one.gone && isOn(one, id))) continue
      await this.remove(id)
      removed.push(name)
    }
    return removed
  }

  /** At once when it runs, and at each start. Throws NOT_FOUND, CONFLICT when it is on it already or on `host` or `none`. */
  async connect(
    reference: string,
    container: ConnectedContainer,
    request: EndpointRequest,
    { signal }: Waits,
  ): Promise<void> {
    await this.#locks.hold(container.id, async () => {
      const target = this.#find(reference)
      const before = this.#membershipsOf(container)
      const { name } = container
      if (before === undefined)
        throw new DarnerError('CONFLICT', `container ${name} cannot be connected to networks beside its own mode`)
      if (before.some((one) => one.networkId === target.id))
        throw new DarnerError('CONFLICT', `container ${name} is already on network ${target.name}`)
      if (before.length >= MOST_ENDPOINTS)
        throw new DarnerError('LIMIT_EXCEEDED', `container ${name}: it is on ${MOST_ENDPOINTS} networks already`)
      checkEndpoint(target, request)
      const sandbox = this.#sandboxes.of(container.id)
      if (sandbox) await this.#connectLive(sandbox, target, request, { signal })
      await this.#setMemberships(container.id, [...before, { networkId: target.id, request }])
    })
  }

  /** Throws NOT_FOUND, CONFLICT when it isn't on it. */
  async disconnect(reference: string, container: ConnectedContainer, { signal }: Waits): Promise<void> {
    await this.#locks.hold(container.id, async () => {
      const target = this.#find(reference)
      const before = this.#membershipsOf(container) ?? []
      if (!before.some((one) => one.networkId === target.id))
        throw new DarnerError('CONFLICT', `container ${container.name} is not connected to network ${target.name}`)
      const sandbox = this.#sandboxes.of(container.id)
      const endpoint = sandbox?.endpoints.find((one) => one.networkId === target.id)
      if (sandbox && endpoint) {
        this.#bridges.namesOn(target.id)?.remove(container.id)
        await this.#sandboxes.drop(sandbox.id, endpoint.ifName, { signal })
      }
      await this.#setMemberships(
        container.id,
        before.filter((one) => one.networkId !== target.id),
      )
    })
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
    await this.#readLists()
    const target = this.#find(mode)
    checkEndpoint(target, request.endpoint ?? {})
    for (const { type } of target.kind === 'cni' ? target.list.plugins : [{ type: 'bridge' }])
      await this.#cni.find(type)
    if ((request.publish ?? []).length > 0) mustPublish(target)
  }

  async attach(guest: NetworkGuest, { signal }: Waits): Promise<GuestNetwork> {
    return this.#locks.hold(guest.id, async () => {
      const left = this.#sandboxes.of(guest.id)
      if (left) await this.#abandon(left)
      const memberships = this.#membershipsOf(guest) ?? []
      const targets = memberships.map((one) => ({ ...one, target: this.#find(one.networkId) }))
      for (const { target } of targets) this.#count(target.id, 1)
      this.#attached = true
      try {
        const ports = await this.#ports.claim(guest.id, guest.request.publish ?? [])
        try {
          const plans = await this.#plansOf(targets, ports, { signal })
          const sandbox = await this.#sandboxFor(guest, plans, ports, { signal })
          await this.#settle(sandbox)
          return await this.#guestNetwork(guest, sandbox)
        } catch (error) {
          const made = this.#sandboxes.of(guest.id)
          if (made) await this.#abandon(made)
          this.#ports.release(guest.id)
          throw error
        }
      } finally {
        for (const { target } of targets) this.#count(target.id, -1)
      }
    })
  }

  async detach(id: string): Promise<void> {
    await this.#locks.hold(id, async () => {
      const sandbox = this.#sandboxes.of(id)
      if (sandbox) await this.#abandon(sandbox)
    })
  }

  async forget(id: string): Promise<void> {
    await this.detach(id)
    if (this.#memberships.delete(id)) await this.#records.remove('membership', id)
  }

  async renamed(id: string, name: string): Promise<void> {
    await this.#locks.hold(id, async () => {
      const sandbox = this.#sandboxes.of(id)
      if (!sandbox) return
      await this.#sandboxes.rename(sandbox.id, name)
      const now = this.#sandboxes.of(id)
      if (now) this.#nameAll(now)
    })
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
        networks: () => [...this.#networks.values()],
        log: this.#parts.log,
        settle: (sandbox) => this.#settle(sandbox),
        restorePorts: (owner, ports) => this.#ports.restore(owner, ports),
        finishRemoval: (network) => this.#finishRemoval(network),
        gc: (network, valid) =>
          this.#cni.gc(this.#bridges.chainOf(network, { first: true, ports: true }), valid, { signal }),
        delPortmap: (network, id) => this.#delPortmap(network, id),
      },
      live,
      { signal },
    )
    for (const id of [...this.#memberships.keys()]) if (!all.has(id)) await this.forget(id)
    return mended
  }

  // how

  async #sandboxFor(
    guest: NetworkGuest,
    plans: readonly EndpointPlan[],
    ports: readonly PortBinding[],
    { signal }: Waits,
  ): Promise<SandboxRecord> {
    const facts = { owner: guest.id, name: guest.name, hostname: guest.hostname }
    const [plan, ...more] = plans
    // an address that was asked for may still be with a sandbox that is being taken apart: the last run of the same container
    if (plans.some((one) => asksAddress(one.request))) await this.#sandboxes.idle()
    const plain = plan !== undefined && more.length === 0 && !asksAddress(plan.request)
    const ready = plain ? this.#takeReady(plan.networkId) : undefined
    const sandbox =
      ready && plan
        ? await this.#sandboxes.adopt(ready, facts, plan, ports, { signal })
        : await this.#sandboxes.make(facts, plans, ports, { signal })
    if (plan && this.#networks.get(plan.networkId)?.builtIn) this.#fill(plan.networkId)
    return sandbox
  }

  /** A sandbox that waits on the network, from now on this caller's: no two get the same. */
  #takeReady(networkId: string): SandboxRecord | undefined {
    const found = this.#sandboxes
      .all()
      .find((one) => one.owner === '' && !one.gone && !this.#taken.has(one.id) && isReady(one, networkId))
    if (found) this.#taken.add(found.id)
    return found
  }

  readonly #taken = new Set<string>()

  /** Makes ready-made sandboxes in the background, one after the other. */
  #fill(networkId: string): void {
    if (this.#filling || this.#options.ready === 0) return
    this.#filling = true
    this.#scope.run(async (signal) => {
      try {
        for (;;) {
          const waiting = this.#sandboxes
            .all()
            .filter((one) => one.owner === '' && !one.gone && !this.#taken.has(one.id) && isReady(one, networkId))
          const network = this.#networks.get(networkId)
          if (!network || waiting.length >= this.#options.ready || signal.aborted) return
          const plan = this.#planFor(network, 0, {}, [])
          await this.#sandboxes.make({ owner: '', name: '', hostname: '' }, [plan], [], { signal })
        }
      } catch (error) {
        if (!signal.aborted) this.#parts.log.warn({ error }, 'no sandbox could be made ready')
      } finally {
        this.#filling = false
      }
    })
  }

  async #abandon(sandbox: SandboxRecord): Promise<void> {
    for (const { networkId } of sandbox.endpoints) this.#bridges.namesOn(networkId)?.remove(sandbox.owner)
    this.#taken.delete(sandbox.id)
    await this.#sandboxes.abandon(sandbox.id)
    this.#ports.release(sandbox.owner)
  }

  async #plansOf(
    targets: readonly { readonly target: Target; readonly request: EndpointRequest }[],
    ports: readonly PortBinding[],
    { signal }: Waits,
  ): Promise<EndpointPlan[]> {
    const gateway = targets.findIndex(({ target }) => target.kind === 'cni' || !target.record.internal)
    const plans: EndpointPlan[] = []
    for (const [at, { target, request }] of targets.entries()) {
      const mine = at === Math.max(gateway, 0)
      if (mine && ports.length > 0) mustPublish(target)
      plans.push(await this.#raiseAndPlan(target, at, request, { first: mine, ports: mine ? ports : [] }, { signal }))
    }
    return plans
  }

  async #raiseAndPlan(
    target: Target,
    at: number,
    request: EndpointRequest,
    { first, ports }: { first: boolean; ports: readonly PortBinding[] },
    { signal }: Waits,
  ): Promise<EndpointPlan> {
    if (target.kind === 'cni') {
      await this.#cni.status(target.list, { signal })
      const { id: networkId, name: network, list } = target
      return {
        networkId,
        network,
        ifName: `eth${at}`,
        request,
        list,
        runtimeConfig: runtimeConfigOf(request, ports, []),
      }
    }
    const record = await this.#fresh(target.record)
    await this.#bridges.raise(record, { signal })
    return this.#planFor(record, at, request, ports, first)
  }

  #planFor(
    network: NetworkRecord,
    at: number,
    request: EndpointRequest,
    ports: readonly PortBinding[],
    first = true,
  ): EndpointPlan {
    const list = this.#bridges.chainOf(network, { first, ports: ports.length > 0 })
    const subnets = network.subnets.map((one) => parseSubnet(one.subnet, network.name))
    const runtimeConfig = runtimeConfigOf(request, ports, subnets)
    return { networkId: network.id, network: network.name, ifName: `eth${at}`, request, list, runtimeConfig }
  }

  /** The default network, before its bridge is made: name and subnet are chosen again if the host has taken them meanwhile. */
  async #fresh(network: NetworkRecord): Promise<NetworkRecord> {
    return this.#locks.hold('networks', async () => {
      const now = this.#networks.get(network.id) ?? network
      if (!now.builtIn || now.up) return now
      const own = parseSubnet(now.subnets[0]?.subnet ?? '0.0.0.0/0', now.name)
      const routes = await hostRoutes(new Set())
      const free = !linkExists(now.bridge) && !routes.some((one) => overlaps(one, own))
      if (free) return now
      let at = 0
      while (linkExists(`${BRIDGE_PREFIX}${at}`)) at++
      const fresh = { ...now, bridge: `${BRIDGE_PREFIX}${at}`, subnets: [await this.#freeSubnet()] }
      await this.#keep(fresh)
      return fresh
    })
  }

  async #connectLive(
    sandbox: SandboxRecord,
    target: Target,
    request: EndpointRequest,
    { signal }: Waits,
  ): Promise<void> {
    const used = new Set(sandbox.endpoints.map((one) => one.ifName))
    let at = 0
    while (used.has(`eth${at}`)) at++
    this.#count(target.id, 1)
    try {
      if (asksAddress(request)) await this.#sandboxes.idle()
      const options = { first: sandbox.endpoints.length === 0, ports: [] }
      const plan = await this.#raiseAndPlan(target, at, request, options, { signal })
      await this.#settle(await this.#sandboxes.add(sandbox.id, plan, { signal }))
    } finally {
      this.#count(target.id, -1)
    }
  }

  /** After the endpoints are there: resolvers listen, names are known. */
  async #settle(sandbox: SandboxRecord): Promise<void> {
    for (const { networkId } of sandbox.endpoints) {
      const network = this.#networks.get(networkId)
      if (!network) continue
      if (!this.#bridges.isUp(networkId)) await this.#bridges.raise(network, { signal: this.#scope.signal })
      await this.#bridges.serve(network)
    }
    this.#nameAll(sandbox)
  }

  #nameAll(sandbox: SandboxRecord): void {
    for (const { networkId, aliases, ipv4, ipv6 } of endpointsOf(sandbox)) {
      if (this.#networks.get(networkId)?.builtIn) continue // as docker: names are for networks that users made
      const names = [sandbox.name, ...aliases, sandbox.hostname, sandbox.owner.slice(0, 12)]
      this.#bridges.namesOn(networkId)?.put({ containerId: sandbox.owner, names, ipv4, ipv6 })
    }
  }

  async #guestNetwork(guest: NetworkGuest, sandbox: SandboxRecord): Promise<GuestNetwork> {
    const endpoints = endpointsOf(sandbox)
    const own = sandbox.endpoints.flatMap(({ networkId }) => this.#networks.get(networkId) ?? [])
    const named = sandbox.endpoints.flatMap((one) => one.result?.dns?.nameservers ?? [])
    const facts = {
      hostname: guest.hostname,
      endpoints,
      extraHosts: guest.request.extraHosts ?? [],
      dns: guest.request.dns ?? {},
      resolvers: [...own.filter((one) => !one.builtIn).map(gatewayOf), ...named],
      forwarders: own.map(gatewayOf),
    }
    return {
      netnsPath: this.#sandboxes.pathOf(sandbox),
      hosts: hostsText(facts),
      resolvConf: await resolvText(facts),
    }
  }

  async #finishRemoval(network: NetworkRecord): Promise<void> {
    const fault = this.#parts.fault ?? (() => {})
    fault('network:removing')
    for (const one of this.#sandboxes.all())
      if (one.gone && isOn(one, network.id)) await this.#sandboxes.release(one.id, { signal: this.#scope.signal })
    if (network.up) await this.#bridges.lower(network, { signal: this.#scope.signal })
    fault('network:lowered')
    this.#networks.delete(network.id)
    await this.#records.remove('network', network.id)
  }

  async #delPortmap(network: NetworkRecord, containerId: string): Promise<void> {
    const { plugins, ...list } = this.#bridges.chainOf(network, { first: true, ports: true })
    const only = { ...list, plugins: plugins.filter((one) => one.type === 'portmap') }
    const portMappings = [{ hostPort: 1, containerPort: 1, protocol: 'tcp' }] // the chain goes by the id; one must be named
    const target = { containerId, netns: '', ifName: 'eth0', runtimeConfig: { portMappings } }
    await this.#cni.del(only, target, undefined, { signal: this.#scope.signal })
  }

  async #setUp(network: NetworkRecord, up: boolean): Promise<void> {
    const now = this.#networks.get(network.id)
    if (now && now.up !== up) await this.#keep({ ...now, up })
  }

  async #keep(record: NetworkRecord): Promise<void> {
    await this.#records.put('network', record.id, record, true)
    this.#networks.set(record.id, record)
  }

  async #freeSubnet(): Promise<{ subnet: string; gateway: string }> {
    const own = [...this.#networks.values()].flatMap((one) =>
      one.subnets.map(({ subnet }) => parseSubnet(subnet, one.name)),
    )
    const pool = parseSubnet(this.#options.pool, 'the networkPool setting')
    const subnet = freeSubnet(pool, [...own, ...(await hostRoutes(new Set()))])
    return { subnet: textOf(subnet), gateway: addressAt(subnet, 1) }
  }

  async #subnetsOf({ name, subnets = [], ipv6 }: NetworkCreate): Promise<NetworkRecord['subnets']> {
    const what = `network ${name}`
    const given = subnets.map((one) => checkSubnet(one, what))
    const v4 = given.filter((one) => !one.subnet.includes(':'))
    const v6 = given.filter((one) => one.subnet.includes(':'))
    if (v4.length > 1 || v6.length > 1)
      throw new DarnerError('BAD_ARGUMENT', `${what}: one IPv4 and one IPv6 subnet at most`)
    if (v6.length > 0 && ipv6 === false) throw new DarnerError('BAD_ARGUMENT', `${what}: an IPv6 subnet without IPv6`)
    const bridges = new Set([...this.#networks.values()].map((one) => one.bridge))
    const routes = await hostRoutes(bridges)
    for (const { subnet } of given) {
      const range = parseSubnet(subnet, what)
      const clash = [...this.#networks.values()].find((one) =>
        one.subnets.some((other) => overlaps(parseSubnet(other.subnet, one.name), range)),
      )
      if (clash) throw new DarnerError('CONFLICT', `${what}: pool overlaps with network ${clash.name}`)
      const route = routes.find((one) => overlaps(one, range))
      if (route) throw new DarnerError('CONFLICT', `${what}: ${subnet} overlaps the host's route to ${textOf(route)}`)
    }
    if (v4.length === 0) v4.push(await this.#freeSubnet())
    if (v6.length === 0 && ipv6 === true) {
      const subnet = uniqueLocalSubnet()
      v6.push({ subnet: textOf(subnet), gateway: addressAt(subnet, 1) })
    }
    return [...v4, ...v6]
  }

  /** Undefined for the modes that have no networks. */
  #membershipsOf({ id, request }: Pick<NetworkGuest, 'id' | 'request'>): readonly Membership[] | undefined {
    const mode = request.network ?? DEFAULT_NETWORK
    if (isUnattached(mode)) return undefined
    const kept = this.#memberships.get(id)
    return kept ? kept.networks : [{ networkId: this.#find(mode).id, request: request.endpoint ?? {} }]
  }

  async #setMemberships(containerId: string, networks: readonly Membership[]): Promise<void> {
    const record: MembershipRecord = { version: 1, containerId, networks: [...networks] }
    await this.#records.put('membership', containerId, record, true)
    this.#memberships.set(containerId, record)
  }

  async #readLists(): Promise<void> {
    this.#lists = await readConfLists(this.#options.confDirs, (path, error) =>
      this.#parts.log.warn({ path, error }, 'network configuration skipped'),
    )
  }

  #byName(name: string): NetworkRecord | undefined {
    return [...this.#networks.values()].find((one) => one.name === name)
  }

  /** By name, id or the start of an id; `default` is the default network. */
  #find(reference: string): Target {
    const wanted = reference === 'default' ? DEFAULT_NETWORK : reference
    const own = [...this.#networks.values()].filter((one) => one.removing !== true)
    const records = own.find((one) => one.name === wanted) ?? own.find((one) => one.id === wanted)
    if (records) return { kind: 'bridge', id: records.id, name: records.name, record: records }
    const list = [...this.#lists.values()].find((one) => one.name === wanted || listId(one.name) === wanted)
    if (list) return { kind: 'cni', id: listId(list.name), name: list.name, list }
    const short = /^[0-9a-f]{4,63}$/.test(wanted) ? own.filter((one) => one.id.startsWith(wanted)) : []
    const [only, second] = short
    if (only && !second) return { kind: 'bridge', id: only.id, name: only.name, record: only }
    throw new DarnerError('NOT_FOUND', `network ${reference} not found`, { details: { network: reference } })
  }

  #viewOf(target: Target): NetworkView {
    const record = target.kind === 'bridge' ? target.record : undefined
    const on = this.#sandboxes.all().filter((one) => one.owner !== '' && !one.gone && isOn(one, target.id))
    return {
      id: target.id,
      name: target.name,
      kind: target.kind,
      builtIn: target.kind === 'cni' || target.record.builtIn,
      internal: record?.internal ?? false,
      ipv6: record?.subnets.some((one) => isV6(parseSubnet(one.subnet, target.name))) ?? false,
      bridge: record?.bridge ?? '',
      subnets: record?.subnets ?? [],
      labels: record?.labels ?? {},
      createdAt: record?.createdAt ?? 0,
      containers: Object.fromEntries(
        on.flatMap((one) =>
          endpointsOf(one)
            .filter((end) => end.networkId === target.id)
            .map((end) => [one.owner, { ...end, name: one.name }]),
        ),
      ),
    }
  }

  #count(networkId: string, by: number): void {
    this.#attaching.set(networkId, (this.#attaching.get(networkId) ?? 0) + by)
  }
}

function endpointsOf(sandbox: SandboxRecord): EndpointView[] {
  return sandbox.endpoints.flatMap((one) => endpointView(one) ?? [])
}

function isOn(sandbox: SandboxRecord, networkId: string): boolean {
  return sandbox.endpoints.some((one) => one.networkId === networkId)
}

function isReady(sandbox: SandboxRecord, networkId: string): boolean {
  const [only] = sandbox.endpoints
  return only?.networkId === networkId && only.result !== undefined
}

/** An address or MAC was asked for: a ready-made sandbox hasn't it. */
function asksAddress({ ipv4, ipv6, mac }: EndpointRequest): boolean {
  return [ipv4, ipv6, mac].some((one) => one !== undefined && one !== '')
}

function runtimeConfigOf(
  { ipv4, ipv6, mac, aliases }: EndpointRequest,
  ports: readonly PortBinding[],
  subnets: readonly { readonly base: { kind(): string }; readonly bits: number }[],
): RuntimeConfig {
  const bits = (kind: string) => subnets.find((one) => one.base.kind() === kind)?.bits
  const ips = [...(ipv4 ? [`${ipv4}/${bits('ipv4') ?? 32}`] : []), ...(ipv6 ? [`${ipv6}/${bits('ipv6') ?? 128}`] : [])]
  // neighbours remember who had an address: the same one comes with the same MAC again
  const settledMac = mac ?? (ipv4 ? macOf(ipv4) : undefined)
  return {
    ...(ips.length > 0 ? { ips } : {}),
    ...(settledMac ? { mac: settledMac } : {}),
    ...(aliases && aliases.length > 0 ? { aliases } : {}),
    ...(ports.length > 0
      ? {
          portMappings: ports.map(({ hostIp, ...one }) => ({ ...one, ...(hostIp === '' ? {} : { hostIP: hostIp }) })),
        }
      : {}),
  }
}

/** A locally administered MAC that goes with an IPv4 address. */
function macOf(ipv4: string): string {
  const bytes = [0x02, 0xda, ...ipv4.split('.').map(Number)]
  return bytes.map((one) => one.toString(16).padStart(2, '0')).join(':')
}

function checkEndpoint(target: Target, { ipv4, ipv6 }: EndpointRequest): void {
  for (const address of [ipv4, ipv6]) {
    if (address === undefined || address === '') continue
    const parsed = parseAddress(address, `network ${target.name}`)
    if (target.kind === 'cni') continue
    if (target.record.builtIn)
      throw new DarnerError('BAD_ARGUMENT', `address ${address}: only networks that users made give one by request`)
    if (!target.record.subnets.some(({ subnet }) => contains(parseSubnet(subnet, target.name), parsed)))
      throw new DarnerError('BAD_ARGUMENT', `address ${address} is in no subnet of network ${target.name}`)
  }
}

function mustPublish(target: Target): void {
  const able = target.kind === 'bridge' || target.list.plugins.some((one) => one.capabilities?.portMappings === true)
  if (!able)
    throw new DarnerError('UNSUPPORTED', `network ${target.name} has no plugin that publishes ports`, {
      way: 'add portmap with the capability portMappings to its configuration',
    })
}

function listId(name: string): string {
  return createHash('sha256').update(`cni:${name}`).digest('hex')
}

function bare(kind: 'host' | 'none'): NetworkView {
  return {
    id: createHash('sha256').update(kind).digest('hex'),
    name: kind,
    kind,
    builtIn: true,
    internal: false,
    ipv6: false,
    bridge: '',
    subnets: [],
    labels: {},
    createdAt: 0,
    containers: {},
  }
}

function predefined(name: string): DarnerError {
  return new DarnerError('CAPABILITY_REFUSED', `${name} is a pre-defined network and cannot be removed`)
}
