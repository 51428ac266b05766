/** The engine's own networks on this host: their plugin chain, their rules, their resolver; up while a container needs them. */
import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { Locks } from '../containers/locks.ts'
import { runProgram } from '../shim/program.ts'
import type { ConfList } from './conflist.ts'
import { DnsServer } from './dns-server.ts'
import { applyRules, type BridgeRules } from './host-rules.ts'
import { Names } from './names.ts'
import type { NetworkRecord } from './records.ts'
import { isV6, parseSubnet, rangeEnds, rangesWithout } from './subnets.ts'

export interface BridgesOptions {
  /** Folder of address leases: `<network>/<address>`. */
  readonly leases: string
  /** Keeps the rules of agents on one host apart: eight hex digits. */
  readonly tag: string
}

export interface BridgesParts {
  readonly log: Log
  /** Keeps the record; called before a bridge may appear and after it went. */
  readonly setUp: (network: NetworkRecord, up: boolean) => Promise<void>
}

interface Up {
  network: NetworkRecord
  readonly names: Names
  dns: DnsServer | undefined
}

type Waits = { readonly signal: AbortSignal }

export class Bridges implements AsyncDisposable {
  readonly #options: BridgesOptions
  readonly #parts: BridgesParts
  readonly #up = new Map<string, Up>()
  readonly #locks = new Locks()

  constructor(options: BridgesOptions, parts: BridgesParts) {
    this.#options = options
    this.#parts = parts
  }

  /** The rules are there; the bridge itself comes with the first endpoint. Call before one is made. */
  async raise(network: NetworkRecord, { signal }: Waits): Promise<void> {
    if (this.#up.has(network.id)) return
    await this.#locks.hold('rules', async () => {
      if (this.#up.has(network.id)) return
      await this.#parts.setUp(network, true)
      this.#up.set(network.id, { network, names: new Names(), dns: undefined })
      try {
        await this.#apply({ signal })
      } catch (error) {
        this.#up.delete(network.id)
        throw error
      }
    })
  }

  /** The resolver listens, now that the gateway's address is there. A port that is taken is a warning: names don't resolve then. */
  async serve(network: NetworkRecord): Promise<void> {
    await this.#locks.hold(network.id, async () => {
      const up = this.#up.get(network.id)
      const address = gatewayOf(network)
      if (!up || up.dns || address === '') return
      try {
        up.dns = await DnsServer.open(
          { address, forward: !network.internal },
          { names: up.names, log: this.#parts.log },
        )
      } catch (error) {
        this.#parts.log.warn({ network: network.name, address, error }, 'names do not resolve on a network')
      }
    })
  }

  /** The names of a network that is up. */
  namesOn(networkId: string): Names | undefined {
    return this.#up.get(networkId)?.names
  }

  isUp(networkId: string): boolean {
    return this.#up.has(networkId)
  }

  /** Takes bridge, rules and resolver away. Nothing may be attached any more. */
  async lower(network: NetworkRecord, { signal }: Waits): Promise<void> {
    await this.#locks.hold('rules', async () => {
      const up = this.#up.get(network.id)
      await up?.dns?.[Symbol.asyncDispose]()
      this.#up.delete(network.id)
      await this.#apply({ signal })
      await removeLink(network.bridge, { signal })
      await rm(join(this.#options.leases, leasesOf(network)), { recursive: true, force: true })
      await this.#parts.setUp(network, false)
    })
  }

  /** Writes the rules of all that are up again: after a restart, and when somebody flushed them. */
  async reapply({ signal }: Waits): Promise<void> {
    await this.#locks.hold('rules', () => this.#apply({ signal }))
  }

  /** Address leases of attachments that no record knows; they are taken back. Returns the addresses. */
  async collectLeases(network: NetworkRecord, known: ReadonlySet<string>): Promise<string[]> {
    const folder = join(this.#options.leases, leasesOf(network))
    const names = existsSync(folder) ? await readdir(folder) : []
    const { readFile } = await import('node:fs/promises')
    const freed: string[] = []
    for (const name of names) {
      if (name === 'lock' || name.startsWith('last_reserved_ip')) continue
      const [id = ''] = (await readFile(join(folder, name), 'utf8')).split(/\s/)
      if (known.has(id)) continue
      await rm(join(folder, name), { force: true })
      freed.push(name)
    }
    return freed
  }

  /** The plugin chain of an attachment. `first`: it has the default route; `ports`: it publishes some. */
  chainOf(network: NetworkRecord, options: { first: boolean; ports: boolean }): ConfList {
    const subnets = network.subnets.map((one) => ({ ...one, range: parseSubnet(one.subnet, network.name) }))
    const out = options.first && !network.internal
    const bridge = {
      type: 'bridge',
      bridge: network.bridge,
      isGateway: true,
      hairpinMode: true,
      ipMasq: false,
      capabilities: { ips: true, mac: true },
      ipam: {
        type: 'host-local',
        dataDir: this.#options.leases,
        ranges: subnets.map(({ subnet, gateway, ipRange, auxiliary, range }) => {
          if (ipRange === undefined && auxiliary === undefined) return [{ subnet, gateway }]
          const given = ipRange === undefined ? range : parseSubnet(ipRange, network.name)
          const left = rangesWithout(rangeEnds(range, given), Object.values(auxiliary ?? {}))
          return left.map((ends) => ({ subnet, gateway, ...ends }))
        }),
        routes: out ? subnets.map(({ range }) => ({ dst: isV6(range) ? '::/0' : '0.0.0.0/0' })) : [],
      },
    }
    const portmap = { type: 'portmap', snat: true, capabilities: { portMappings: true } }
    return { cniVersion: '1.0.0', name: leasesOf(network), plugins: options.ports ? [bridge, portmap] : [bridge] }
  }

  /** Resolvers end; bridges and rules stay for the containers that go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const up of this.#up.values()) {
      await up.dns?.[Symbol.asyncDispose]()
      up.dns = undefined
    }
  }

  async #apply({ signal }: Waits): Promise<void> {
    const rules = { ipv4: [] as BridgeRules[], ipv6: [] as BridgeRules[] }
    let sawV6 = false
    for (const { network } of this.#up.values()) {
      for (const { subnet } of network.subnets) {
        const family = isV6(parseSubnet(subnet, network.name)) ? 'ipv6' : 'ipv4'
        rules[family].push({ bridge: network.bridge, subnet, internal: network.internal })
        sawV6 ||= family === 'ipv6'
      }
    }
    await applyRules('ipv4', this.#options.tag, rules.ipv4, { signal })
    if (sawV6 || this.#hadV6) await applyRules('ipv6', this.#options.tag, rules.ipv6, { signal })
    this.#hadV6 = sawV6
  }

  #hadV6 = false

  /** Rules of a former agent may be there: the next time they are written or removed. */
  expectV6(): void {
    this.#hadV6 = true
  }
}

/** What plugins call it, and its folder of leases: docker takes names that CNI doesn't. */
function leasesOf({ name, id }: NetworkRecord): string {
  return /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name) ? name : id
}

/** IPv4 gateway, which every own network has; empty if it hasn't. */
export function gatewayOf(network: NetworkRecord): string {
  return network.subnets.find((one) => !one.subnet.includes(':'))?.gateway ?? ''
}

export function linkExists(name: string): boolean {
  return existsSync(`/sys/class/net/${name}`)
}

async function removeLink(name: string, { signal }: Waits): Promise<void> {
  const { code, stderr } = await runProgram('ip', ['link', 'delete', name], { signal })
  if (code === 0 || /cannot find device/i.test(stderr)) return
  throw new DarnerError('NETWORK_FAILED', `removing bridge ${name}: ${stderr.trim()}`)
}
