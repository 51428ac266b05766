/** Containers on their networks: a sandbox with all its interfaces, ports, resolvers and names, from the start of a run to its end. */
import type { EndpointRequest, PortBinding } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { GuestNetwork, NetworkGuest } from '../containers/dependencies.ts'
import { Locks } from '../containers/locks.ts'
import { type Bridges, gatewayOf } from './bridges.ts'
import type { NetworkCatalog } from './catalog.ts'
import type { EndpointPlanner } from './endpoint-plans.ts'
import { hostsText, resolvText } from './guest-files.ts'
import { HostPorts } from './host-ports.ts'
import type { Memberships } from './memberships.ts'
import type { NetnsFolder } from './netns.ts'
import { endpointsOf } from './network-view.ts'
import type { ReadySandboxes } from './ready-sandboxes.ts'
import type { SandboxRecord } from './records.ts'
import { asksAddress } from './runtime-config.ts'
import type { EndpointPlan, Sandboxes } from './sandboxes.ts'
import type { Target } from './targets.ts'

export interface AttachmentsParts {
  readonly catalog: NetworkCatalog
  readonly memberships: Memberships
  readonly folder: NetnsFolder
  readonly sandboxes: Sandboxes
  readonly bridges: Bridges
  readonly planner: EndpointPlanner
  readonly ready: ReadySandboxes
  /** Ends what is begun for no container in particular. */
  readonly signal: AbortSignal
}

/** Names by alias, in lower case, as names are compared. */
function linksOf({ links = [] }: EndpointRequest = {}): ReadonlyMap<string, string> {
  return new Map(
    links
      .map((one) => one.toLowerCase().replace(/^\//, '').split(':'))
      .map(([name = '', alias = name]) => [alias, name]),
  )
}

/** What networks need to know of a container that is connected by hand. */
export type ConnectedContainer = Pick<NetworkGuest, 'id' | 'name' | 'request'>

type Waits = { readonly signal: AbortSignal }

export class Attachments {
  readonly #parts: AttachmentsParts
  readonly ports: HostPorts = new HostPorts()
  readonly #locks = new Locks()
  readonly #attaching = new Map<string, number>()
  #used = false

  constructor(parts: AttachmentsParts) {
    this.#parts = parts
  }

  /** Whether a container was attached in this agent's time. */
  get used(): boolean {
    return this.#used
  }

  /** Whether a container is being attached to this network now. */
  isAttaching(networkId: string): boolean {
    return (this.#attaching.get(networkId) ?? 0) > 0
  }

  /** As `ContainerNetworks.attach` has it. */
  async attach(guest: NetworkGuest, { keep = false, signal }: Waits & { keep?: boolean }): Promise<GuestNetwork> {
    return this.#locks.hold(guest.id, async () => {
      const left = this.#parts.sandboxes.of(guest.id)
      if (keep && left && this.#parts.folder.has(left.id) && left.endpoints.every((one) => one.result !== undefined)) {
        await this.settle(left)
        return this.#guestNetwork(guest, left)
      }
      if (left) await this.#abandon(left)
      const memberships = this.#parts.memberships.of(guest) ?? []
      const targets = memberships.map((one) => ({ ...one, target: this.#parts.catalog.find(one.networkId) }))
      for (const { target } of targets) this.#count(target.id, 1)
      this.#used = true
      try {
        const ports = await this.ports.claim(guest.id, guest.request.publish ?? [])
        try {
          const plans = await this.#parts.planner.all(targets, ports, { signal })
          const sandbox = await this.#sandboxFor(guest, plans, ports, { signal })
          await this.settle(sandbox)
          return await this.#guestNetwork(guest, sandbox)
        } catch (error) {
          const made = this.#parts.sandboxes.of(guest.id)
          if (made) await this.#abandon(made)
          this.ports.release(guest.id)
          throw error
        }
      } finally {
        for (const { target } of targets) this.#count(target.id, -1)
      }
    })
  }

  /** The run is over. Fine for one that isn't attached. */
  async detach(id: string): Promise<void> {
    await this.#locks.hold(id, async () => {
      const sandbox = this.#parts.sandboxes.of(id)
      if (sandbox) await this.#abandon(sandbox)
    })
  }

  /** At once when it runs, and at each start. Throws NOT_FOUND, CONFLICT when it is on it already or on `host` or `none`. */
  async connect(
    reference: string,
    container: ConnectedContainer,
    request: EndpointRequest,
    { signal }: Waits,
  ): Promise<void> {
    await this.#locks.hold(container.id, async () => {
      const target = this.#parts.catalog.find(reference)
      const joined = this.#parts.memberships.joined(container, target, request)
      const sandbox = this.#parts.sandboxes.of(container.id)
      if (sandbox) await this.#connectLive(sandbox, target, request, { signal })
      await this.#parts.memberships.set(container.id, joined)
    })
  }

  /** Throws NOT_FOUND, CONFLICT when it isn't on it. */
  async disconnect(reference: string, container: ConnectedContainer, { signal }: Waits): Promise<void> {
    await this.#locks.hold(container.id, async () => {
      const target = this.#parts.catalog.find(reference)
      const before = this.#parts.memberships.of(container) ?? []
      if (!before.some((one) => one.networkId === target.id))
        throw new DarnerError('CONFLICT', `container ${container.name} is not connected to network ${target.name}`)
      const sandbox = this.#parts.sandboxes.of(container.id)
      const endpoint = sandbox?.endpoints.find((one) => one.networkId === target.id)
      if (sandbox && endpoint) {
        this.#parts.bridges.namesOn(target.id)?.remove(container.id)
        await this.#parts.sandboxes.drop(sandbox.id, endpoint.ifName, { signal })
      }
      await this.#parts.memberships.set(
        container.id,
        before.filter((one) => one.networkId !== target.id),
      )
    })
  }

  /** Resolvers know the container by its new name. */
  async renamed(id: string, name: string): Promise<void> {
    await this.#locks.hold(id, async () => {
      const sandbox = this.#parts.sandboxes.of(id)
      if (!sandbox) return
      await this.#parts.sandboxes.rename(sandbox.id, name)
      const now = this.#parts.sandboxes.of(id)
      if (now) this.#nameAll(now)
    })
  }

  async #sandboxFor(
    guest: NetworkGuest,
    plans: readonly EndpointPlan[],
    ports: readonly PortBinding[],
    { signal }: Waits,
  ): Promise<SandboxRecord> {
    const facts = { owner: guest.id, name: guest.name, hostname: guest.hostname }
    const [plan, ...more] = plans
    // an address that was asked for may still be with a sandbox that is being taken apart: the last run of the same container
    if (plans.some((one) => asksAddress(one.request))) await this.#parts.sandboxes.idle()
    const plain = plan !== undefined && more.length === 0 && !asksAddress(plan.request)
    const ready = plain ? this.#parts.ready.take(plan.networkId) : undefined
    const sandbox =
      ready && plan
        ? await this.#parts.sandboxes.adopt(ready, facts, plan, ports, { signal })
        : await this.#parts.sandboxes.make(facts, plans, ports, { signal })
    if (plan && this.#parts.catalog.get(plan.networkId)?.builtIn) this.#parts.ready.fill(plan.networkId)
    return sandbox
  }

  async #abandon(sandbox: SandboxRecord): Promise<void> {
    for (const { networkId } of sandbox.endpoints) this.#parts.bridges.namesOn(networkId)?.remove(sandbox.owner)
    this.#parts.ready.gone(sandbox.id)
    await this.#parts.sandboxes.abandon(sandbox.id)
    this.ports.release(sandbox.owner)
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
      if (asksAddress(request)) await this.#parts.sandboxes.idle()
      const options = { first: sandbox.endpoints.length === 0, ports: [] }
      const plan = await this.#parts.planner.one(target, at, request, options, { signal })
      await this.settle(await this.#parts.sandboxes.add(sandbox.id, plan, { signal }))
    } finally {
      this.#count(target.id, -1)
    }
  }

  /** After the endpoints are there: resolvers listen, names are known. */
  async settle(sandbox: SandboxRecord): Promise<void> {
    for (const { networkId } of sandbox.endpoints) {
      const network = this.#parts.catalog.get(networkId)
      if (!network) continue
      if (!this.#parts.bridges.isUp(networkId)) await this.#parts.bridges.raise(network, { signal: this.#parts.signal })
      await this.#parts.bridges.serve(network)
    }
    this.#nameAll(sandbox)
  }

  #nameAll(sandbox: SandboxRecord): void {
    for (const { networkId, aliases, ipv4, ipv6 } of endpointsOf(sandbox)) {
      if (this.#parts.catalog.get(networkId)?.builtIn) continue // as docker: names are for networks that users made
      const names = [sandbox.name, ...aliases, sandbox.hostname, sandbox.owner.slice(0, 12)]
      const links = linksOf(sandbox.endpoints.find((one) => one.networkId === networkId)?.request)
      this.#parts.bridges.namesOn(networkId)?.put({ containerId: sandbox.owner, names, ipv4, ipv6, links })
    }
  }

  async #guestNetwork(guest: NetworkGuest, sandbox: SandboxRecord): Promise<GuestNetwork> {
    const endpoints = endpointsOf(sandbox)
    const own = sandbox.endpoints.flatMap(({ networkId }) => this.#parts.catalog.get(networkId) ?? [])
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
      netnsPath: this.#parts.sandboxes.pathOf(sandbox),
      hosts: hostsText(facts),
      resolvConf: await resolvText(facts),
    }
  }

  #count(networkId: string, by: number): void {
    this.#attaching.set(networkId, (this.#attaching.get(networkId) ?? 0) + by)
  }
}
