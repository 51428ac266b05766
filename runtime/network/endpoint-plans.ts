/** How a container joins each of its networks: interface, chain of plugins, and their input. The bridge is raised first. */
import type { EndpointRequest, PortBinding } from '../../src/api/networks-api.ts'
import type { Bridges } from './bridges.ts'
import type { NetworkCatalog } from './catalog.ts'
import type { Cni } from './cni.ts'
import type { NetworkRecord } from './records.ts'
import { runtimeConfigOf } from './runtime-config.ts'
import type { EndpointPlan } from './sandboxes.ts'
import { parseSubnet } from './subnets.ts'
import { mustPublish, type Target } from './targets.ts'

export interface PlannerParts {
  readonly catalog: NetworkCatalog
  readonly cni: Cni
  readonly bridges: Bridges
}

/** `first`: the endpoint that has the default route; `ports`: those published by it. */
export interface EndpointRole {
  readonly first: boolean
  readonly ports: readonly PortBinding[]
}

export class EndpointPlanner {
  readonly #parts: PlannerParts

  constructor(parts: PlannerParts) {
    this.#parts = parts
  }

  /** One plan per network, `eth0` first; the default route and the ports are on the first that isn't internal. Throws UNSUPPORTED. */
  async all(
    targets: readonly { readonly target: Target; readonly request: EndpointRequest }[],
    ports: readonly PortBinding[],
    options: { readonly signal: AbortSignal },
  ): Promise<EndpointPlan[]> {
    const gateway = targets.findIndex(({ target }) => target.kind === 'cni' || !target.record.internal)
    const plans: EndpointPlan[] = []
    for (const [at, { target, request }] of targets.entries()) {
      const mine = at === Math.max(gateway, 0)
      if (mine && ports.length > 0) mustPublish(target)
      plans.push(await this.one(target, at, request, { first: mine, ports: mine ? ports : [] }, options))
    }
    return plans
  }

  /** `at`: the number of its interface. */
  async one(
    target: Target,
    at: number,
    request: EndpointRequest,
    role: EndpointRole,
    options: { readonly signal: AbortSignal },
  ): Promise<EndpointPlan> {
    if (target.kind === 'cni') {
      await this.#parts.cni.status(target.list, options)
      const { id: networkId, name: network, list } = target
      const runtimeConfig = runtimeConfigOf(request, role.ports, [])
      return { networkId, network, ifName: `eth${at}`, request, list, runtimeConfig }
    }
    const record = await this.#parts.catalog.fresh(target.record)
    await this.#parts.bridges.raise(record, options)
    return this.on(record, at, request, role)
  }

  /** On a network of the engine's own whose bridge is there. */
  on(network: NetworkRecord, at: number, request: EndpointRequest, { first, ports }: EndpointRole): EndpointPlan {
    const list = this.#parts.bridges.chainOf(network, { first, ports: ports.length > 0 })
    const subnets = network.subnets.map((one) => parseSubnet(one.subnet, network.name))
    const runtimeConfig = runtimeConfigOf(request, ports, subnets)
    return { networkId: network.id, network: network.name, ifName: `eth${at}`, request, list, runtimeConfig }
  }
}
