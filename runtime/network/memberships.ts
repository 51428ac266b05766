/** Which networks a container is on: what it was created with, until somebody connected or disconnected it by hand. */

import type { EndpointRequest } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { NetworkGuest } from '../containers/dependencies.ts'
import { DEFAULT_NETWORK, type NetworkCatalog } from './catalog.ts'
import type { MembershipRecord, NetworkRecords } from './records.ts'
import { checkEndpoint, isUnattached, type Target } from './targets.ts'

const MOST_ENDPOINTS = 64

export interface Membership {
  readonly networkId: string
  readonly request: EndpointRequest
}

export class Memberships {
  readonly #records: NetworkRecords
  readonly #catalog: NetworkCatalog
  readonly #kept = new Map<string, MembershipRecord>()

  constructor(records: NetworkRecords, catalog: NetworkCatalog) {
    this.#records = records
    this.#catalog = catalog
  }

  restore(kept: readonly MembershipRecord[]): void {
    for (const one of kept) this.#kept.set(one.containerId, one)
  }

  /** Undefined for the modes that have no networks. Throws NOT_FOUND when its network has gone. */
  of({ id, request }: Pick<NetworkGuest, 'id' | 'request'>): readonly Membership[] | undefined {
    const mode = request.network ?? DEFAULT_NETWORK
    if (isUnattached(mode)) return undefined
    const kept = this.#kept.get(id)
    return kept ? kept.networks : [{ networkId: this.#catalog.find(mode).id, request: request.endpoint ?? {} }]
  }

  /** Those that it would have with `target`. Throws CONFLICT when it is on it already or can't be on any, LIMIT_EXCEEDED, BAD_ARGUMENT. */
  joined(
    container: Pick<NetworkGuest, 'id' | 'name' | 'request'>,
    target: Target,
    request: EndpointRequest,
  ): readonly Membership[] {
    const { name } = container
    const before = this.of(container)
    if (before === undefined)
      throw new DarnerError('CONFLICT', `container ${name} cannot be connected to networks beside its own mode`)
    if (before.some((one) => one.networkId === target.id))
      throw new DarnerError('CONFLICT', `container ${name} is already on network ${target.name}`)
    if (before.length >= MOST_ENDPOINTS)
      throw new DarnerError('LIMIT_EXCEEDED', `container ${name}: it is on ${MOST_ENDPOINTS} networks already`)
    checkEndpoint(target, request)
    return [...before, { networkId: target.id, request }]
  }

  async set(containerId: string, networks: readonly Membership[]): Promise<void> {
    const record: MembershipRecord = { version: 1, containerId, networks: [...networks] }
    await this.#records.put('membership', containerId, record, true)
    this.#kept.set(containerId, record)
  }

  async forget(containerId: string): Promise<void> {
    if (this.#kept.delete(containerId)) await this.#records.remove('membership', containerId)
  }

  /** Containers that were connected by hand. */
  containers(): string[] {
    return [...this.#kept.keys()]
  }

  /** Some container was connected to it by hand. */
  uses(networkId: string): boolean {
    return [...this.#kept.values()].some((one) => one.networks.some((at) => at.networkId === networkId))
  }
}
