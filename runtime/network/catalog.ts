/** The networks that there are, by name: the engine's own, kept as records, and the CNI configurations of the folders. */
import { randomBytes } from 'node:crypto'
import type { NetworkCreate } from '../../src/api/networks-api.ts'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError, DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Locks } from '../containers/locks.ts'
import { linkExists } from './bridges.ts'
import { Claims } from './claims.ts'
import { type ConfList, readConfLists } from './conflist.ts'
import type { NetworkRecord, NetworkRecords } from './records.ts'
import {
  addressAt,
  checkSubnet,
  freeSubnet,
  hostRoutes,
  overlaps,
  parseSubnet,
  textOf,
  uniqueLocalSubnet,
} from './subnets.ts'
import { listId, type Target } from './targets.ts'

/** The default network. */
export const DEFAULT_NETWORK = 'bridge'
const BRIDGE_PREFIX = 'darner'
const MOST_NETWORKS = 1000
const RESERVED: readonly string[] = ['host', 'none', 'default', 'container']

export interface CatalogOptions {
  readonly confDirs: readonly string[]
  /** Range that subnets are taken from. */
  readonly pool: string
}

export interface CatalogParts {
  readonly records: NetworkRecords
  readonly clock: Clock
  readonly log: Log
}

export class NetworkCatalog implements AsyncDisposable {
  readonly #options: CatalogOptions
  readonly #parts: CatalogParts
  readonly #networks = new Map<string, NetworkRecord>()
  readonly #locks = new Locks()
  readonly #claims = new Claims()
  readonly #complaints = new Map<string, string>()
  #lists: ReadonlyMap<string, ConfList> = new Map()

  constructor(options: CatalogOptions, parts: CatalogParts) {
    this.#options = options
    this.#parts = parts
  }

  /** Takes what was kept, reads the folders, and makes the default network when there is none yet. */
  async start(kept: readonly NetworkRecord[]): Promise<void> {
    for (const one of kept) {
      this.#networks.set(one.id, one)
      // the default one that isn't up chooses before it is
      if (one.up || !one.builtIn) for (const what of claimsOf(one)) await this.#claims.take(what)
    }
    if (!this.own().some((one) => one.builtIn)) await this.#makeDefault()
    await this.readLists()
  }

  /** The engine's own networks, those on their way out too. */
  own(): NetworkRecord[] {
    return [...this.#networks.values()]
  }

  get(id: string): NetworkRecord | undefined {
    return this.#networks.get(id)
  }

  /** Everything that a container can be attached to: own networks by age, then configurations that no own network hides. */
  async targets(): Promise<Target[]> {
    await this.readLists()
    const own = this.own().filter((one) => !one.removing)
    own.sort((a, b) => a.createdAt - b.createdAt)
    const lists = [...this.#lists.values()].filter((list) => !own.some((one) => one.name === list.name))
    return [
      ...own.map((record): Target => ({ kind: 'bridge', id: record.id, name: record.name, record })),
      ...lists.map((list): Target => ({ kind: 'cni', id: listId(list.name), name: list.name, list })),
    ]
  }

  /** Reads the folders' configurations again; one that can't be read is logged and skipped. */
  async readLists(): Promise<void> {
    this.#lists = await readConfLists(this.#options.confDirs, (path, error) => {
      const { message } = asDarnerError(error, `reading ${path}`)
      if (this.#complaints.get(path) === message) return // said already: the folders are read before each look
      this.#complaints.set(path, message)
      this.#parts.log.warn({ path, reason: message }, 'network configuration skipped')
    })
  }

  /** By name, id or the start of an id; `default` is the default network. Throws NOT_FOUND. */
  find(reference: string): Target {
    const wanted = reference === 'default' ? DEFAULT_NETWORK : reference
    const own = this.own().filter((one) => one.removing !== true)
    const record = own.find((one) => one.name === wanted) ?? own.find((one) => one.id === wanted)
    if (record) return { kind: 'bridge', id: record.id, name: record.name, record }
    const list = [...this.#lists.values()].find((one) => one.name === wanted || listId(one.name) === wanted)
    if (list) return { kind: 'cni', id: listId(list.name), name: list.name, list }
    const short = /^[0-9a-f]{4,63}$/.test(wanted) ? own.filter((one) => one.id.startsWith(wanted)) : []
    const [only, second] = short
    if (only && !second) return { kind: 'bridge', id: only.id, name: only.name, record: only }
    throw new DarnerError('NOT_FOUND', `network ${reference} not found`, { details: { network: reference } })
  }

  /** One change of what networks there are at a time. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#locks.hold('networks', work)
  }

  /** Throws CONFLICT for a taken name or subnet, BAD_ARGUMENT for a subnet that is none, LIMIT_EXCEEDED. */
  create(request: NetworkCreate): Promise<NetworkRecord> {
    return this.inTurn(async () => {
      await this.readLists()
      const { name } = request
      const taken = RESERVED.includes(name) || this.own().some((one) => one.name === name) || this.#lists.has(name)
      if (taken) throw new DarnerError('CONFLICT', `network with name ${name} already exists`)
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
      await this.keep(record)
      return record
    })
  }

  /** Other agents may have what this one claimed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#claims[Symbol.asyncDispose]()
  }

  /** The default network, before its bridge is made: name and subnet are chosen again if the host has taken them meanwhile. */
  fresh(network: NetworkRecord): Promise<NetworkRecord> {
    return this.inTurn(async () => {
      const now = this.#networks.get(network.id) ?? network
      if (!now.builtIn || now.up) return now
      const own = parseSubnet(now.subnets[0]?.subnet ?? '0.0.0.0/0', now.name)
      const routes = await hostRoutes(new Set())
      const free = !linkExists(now.bridge) && !routes.some((one) => overlaps(one, own))
      if (free && (await this.#claim(claimsOf(now)))) return now
      const fresh = { ...now, bridge: await this.#freeBridge(), subnets: [await this.#freeSubnet()] }
      await this.keep(fresh)
      return fresh
    })
  }

  async keep(record: NetworkRecord): Promise<void> {
    await this.#parts.records.put('network', record.id, record, true)
    this.#networks.set(record.id, record)
  }

  async drop(id: string): Promise<void> {
    const gone = this.#networks.get(id)
    if (gone) for (const what of claimsOf(gone)) this.#claims.release(what)
    this.#networks.delete(id)
    await this.#parts.records.remove('network', id)
  }

  async #makeDefault(): Promise<void> {
    await this.keep({
      version: 1,
      id: randomBytes(32).toString('hex'),
      name: DEFAULT_NETWORK,
      bridge: `${BRIDGE_PREFIX}0`,
      builtIn: true,
      internal: false,
      subnets: [await this.#freeSubnet({ claim: false })],
      labels: {},
      createdAt: this.#parts.clock.now(),
      up: false,
    })
  }

  /** All of them, or none. */
  async #claim(all: readonly string[]): Promise<boolean> {
    const taken: string[] = []
    for (const what of all) {
      if (await this.#claims.take(what)) taken.push(what)
      else {
        for (const one of taken) this.#claims.release(one)
        return false
      }
    }
    return true
  }

  /** Claimed from now on. */
  async #freeBridge(): Promise<string> {
    for (let at = 0; ; at++) {
      const name = `${BRIDGE_PREFIX}${at}`
      if (!linkExists(name) && (await this.#claims.take(bridgeClaim(name)))) return name
    }
  }

  /** Claimed from now on, if it is the one of a network that another agent would meet. */
  async #freeSubnet({ claim = true }: { claim?: boolean } = {}): Promise<{ subnet: string; gateway: string }> {
    const taken = this.own().flatMap((one) => one.subnets.map(({ subnet }) => parseSubnet(subnet, one.name)))
    taken.push(...(await hostRoutes(new Set())))
    const pool = parseSubnet(this.#options.pool, 'the networkPool setting')
    for (;;) {
      const subnet = freeSubnet(pool, taken)
      const text = textOf(subnet)
      if (!claim || (await this.#claims.take(subnetClaim(text)))) return { subnet: text, gateway: addressAt(subnet, 1) }
      taken.push(subnet)
    }
  }

  async #subnetsOf({ name, subnets = [], ipv6 }: NetworkCreate): Promise<NetworkRecord['subnets']> {
    const what = `network ${name}`
    const given = subnets.map((one) => checkSubnet(one, what))
    const v4 = given.filter((one) => !one.subnet.includes(':'))
    const v6 = given.filter((one) => one.subnet.includes(':'))
    if (v4.length > 1 || v6.length > 1)
      throw new DarnerError('BAD_ARGUMENT', `${what}: one IPv4 and one IPv6 subnet at most`)
    if (v6.length > 0 && ipv6 === false) throw new DarnerError('BAD_ARGUMENT', `${what}: an IPv6 subnet without IPv6`)
    const routes = await hostRoutes(new Set(this.own().map((one) => one.bridge)))
    for (const { subnet } of given) {
      const range = parseSubnet(subnet, what)
      const clash = this.own().find((one) =>
        one.subnets.some((other) => overlaps(parseSubnet(other.subnet, one.name), range)),
      )
      if (clash) throw new DarnerError('CONFLICT', `${what}: pool overlaps with network ${clash.name}`)
      // a wider route is fine, as docker has it: that of the bridge goes before it
      const route = routes.find((one) => one.bits >= range.bits && overlaps(one, range))
      if (route) throw new DarnerError('CONFLICT', `${what}: ${subnet} covers the host's route to ${textOf(route)}`)
    }
    if (!(await this.#claim(given.map((one) => subnetClaim(one.subnet)))))
      throw new DarnerError('CONFLICT', `${what}: pool overlaps with a network of another agent on this host`)
    if (v4.length === 0) v4.push(await this.#freeSubnet())
    if (v6.length === 0 && ipv6 === true) {
      const subnet = uniqueLocalSubnet()
      v6.push({ subnet: textOf(subnet), gateway: addressAt(subnet, 1) })
    }
    return [...v4, ...v6]
  }
}

const bridgeClaim = (name: string) => `bridge ${name}`
const subnetClaim = (subnet: string) => `subnet ${subnet}`

/** What a network takes of its host. */
function claimsOf({ bridge, subnets }: NetworkRecord): string[] {
  return [bridgeClaim(bridge), ...subnets.map((one) => subnetClaim(one.subnet))]
}
