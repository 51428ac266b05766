/**
 * Sandboxes: a network namespace each, with endpoints that CNI plugins put in. Every step is recorded before it is taken and undone from
 * the record. So an agent that ends in the middle leaves nothing that isn't recorded.
 */
import { randomBytes } from 'node:crypto'
import PQueue from 'p-queue'
import type { EndpointRequest, PortBinding } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { runProgram } from '../shim/program.ts'
import type { Cni, CniTarget, RuntimeConfig } from './cni.ts'
import type { ConfList } from './conflist.ts'
import type { NetnsFolder } from './netns.ts'
import type { EndpointRecord, NetworkRecords, SandboxRecord } from './records.ts'

/** The steps between which the state on disk and in the kernel changes. */
export const NETWORK_FAULT_POINTS = [
  'attach:recorded',
  'attach:namespace',
  'attach:bridge',
  'attach:portmap',
  'attach:added',
  'attach:ready',
  'detach:recorded',
  'detach:portmap',
  'detach:bridge',
  'detach:deleted',
  'detach:namespace',
] as const

/** An endpoint that isn't made yet. */
export interface EndpointPlan {
  readonly networkId: string
  readonly network: string
  readonly ifName: string
  readonly request: EndpointRequest
  readonly list: ConfList
  readonly runtimeConfig: RuntimeConfig
}

export interface SandboxFacts {
  readonly owner: string
  readonly name: string
  readonly hostname: string
}

export interface SandboxesParts {
  readonly folder: NetnsFolder
  readonly cni: Cni
  readonly records: NetworkRecords
  readonly log: Log
  readonly fault: (point: string) => void
}

type Waits = { readonly signal: AbortSignal }

/** How many sandboxes are taken apart side by side, in the background. */
const DELETES_AT_ONCE = 2

export class Sandboxes {
  readonly #parts: SandboxesParts
  readonly #all = new Map<string, SandboxRecord>()
  readonly #deletes = new PQueue({ concurrency: DELETES_AT_ONCE })
  /** Those that are being taken apart. */
  readonly #releasing = new Map<string, Promise<void>>()

  constructor(parts: SandboxesParts) {
    this.#parts = parts
  }

  /** Takes up what a former agent recorded. */
  restore(record: SandboxRecord): void {
    this.#all.set(record.id, record)
  }

  all(): readonly SandboxRecord[] {
    return [...this.#all.values()]
  }

  of(owner: string): SandboxRecord | undefined {
    return this.all().find((one) => one.owner === owner && !one.gone)
  }

  pathOf(record: SandboxRecord): string {
    return this.#parts.folder.pathOf(record.id)
  }

  /** Makes a sandbox with its endpoints, or nothing. Throws what the plugins throw. */
  async make(
    facts: SandboxFacts,
    plans: readonly EndpointPlan[],
    ports: readonly PortBinding[],
    { signal }: Waits,
  ): Promise<SandboxRecord> {
    const id = randomBytes(8).toString('hex')
    const bare: SandboxRecord = { version: 1, id, ...facts, endpoints: plans, ports: [...ports], gone: false }
    await this.#put(bare)
    this.#parts.fault('attach:recorded')
    try {
      this.#parts.folder.make(id)
      this.#parts.fault('attach:namespace')
      let made = bare
      for (const plan of plans) made = await this.#addPlanned(made, plan, { signal })
      this.#parts.fault('attach:ready')
      return made
    } catch (error) {
      await this.release(id, { signal: new AbortController().signal }).catch((second: unknown) =>
        this.#parts.log.warn({ sandbox: id, error: second }, 'undoing a network attachment failed'),
      )
      throw error
    }
  }

  /** One more endpoint in a sandbox that is in use, or nothing. */
  async add(id: string, plan: EndpointPlan, { signal }: Waits): Promise<SandboxRecord> {
    const before = this.#get(id)
    await this.#put({ ...before, endpoints: [...before.endpoints, plan] })
    try {
      return await this.#addPlanned(this.#get(id), plan, { signal })
    } catch (error) {
      await this.drop(id, plan.ifName, { signal: new AbortController().signal }).catch((second: unknown) =>
        this.#parts.log.warn({ sandbox: id, error: second }, 'undoing a network attachment failed'),
      )
      throw error
    }
  }

  /** Gives a ready-made sandbox to a container. The chain of its one endpoint may have grown at its end: that part is run. */
  async adopt(
    record: SandboxRecord,
    facts: SandboxFacts,
    plan: EndpointPlan,
    ports: readonly PortBinding[],
    { signal }: Waits,
  ): Promise<SandboxRecord> {
    const [endpoint] = record.endpoints
    const result = endpoint?.result ?? {}
    const plugins = endpoint?.list.plugins.length ?? 0
    const adopted = { ...record, ...facts, endpoints: [{ ...plan, result }], ports: [...ports] }
    await this.#put(adopted)
    if (plan.list.plugins.length === plugins) return adopted
    try {
      const before = (type: string) => this.#parts.fault(`attach:${type}`)
      await this.#parts.cni.add(plan.list, this.#target(record.id, plan), { signal }, before, { plugins, result })
      this.#parts.fault('attach:ready')
      return adopted
    } catch (error) {
      await this.release(record.id, { signal: new AbortController().signal }).catch((second: unknown) =>
        this.#parts.log.warn({ sandbox: record.id, error: second }, 'undoing a network attachment failed'),
      )
      throw error
    }
  }

  async rename(id: string, name: string): Promise<void> {
    await this.#put({ ...this.#get(id), name })
  }

  /** Takes one endpoint out. */
  async drop(id: string, ifName: string, { signal }: Waits): Promise<SandboxRecord> {
    const record = this.#get(id)
    const endpoint = record.endpoints.find((one) => one.ifName === ifName)
    if (endpoint) await this.#del(record, endpoint, { signal })
    const left = { ...record, endpoints: record.endpoints.filter((one) => one !== endpoint) }
    await this.#put(left)
    return left
  }

  /** From now on nobody's: published ports are closed before this resolves, the rest goes in the background. */
  async abandon(id: string): Promise<void> {
    const record = this.#all.get(id)
    if (!record || record.gone) return
    const { signal } = new AbortController()
    await this.#put({ ...record, owner: '', gone: true })
    this.#parts.fault('detach:recorded')
    if (record.ports.length > 0) await this.release(id, { signal })
    else
      this.#deletes
        .add(() => this.release(id, { signal }))
        .catch((error: unknown) => this.#parts.log.warn({ sandbox: id, error }, 'a sandbox could not be taken apart'))
  }

  /**
   * Takes a sandbox apart: endpoints last to first, namespace, record. Fine for one that is gone. A plugin that fails leaves the record,
   * and the agent's next start tries again. The namespace with its interfaces is removed all the same. A caller that wants one that is
   * being taken apart waits for that: a second plugin would find its namespace gone half way.
   */
  release(id: string, { signal }: Waits): Promise<void> {
    const begun = this.#releasing.get(id)
    if (begun) return begun
    const released = this.#release(id, signal).finally(() => this.#releasing.delete(id))
    this.#releasing.set(id, released)
    return released
  }

  async #release(id: string, signal: AbortSignal): Promise<void> {
    const record = this.#all.get(id)
    if (!record) return
    if (!record.gone) await this.#put({ ...record, owner: '', gone: true })
    const failures: unknown[] = []
    for (const endpoint of record.endpoints.toReversed()) {
      try {
        await this.#del(record, endpoint, { signal })
      } catch (error) {
        // what could neither be made nor unmade was never there
        if (endpoint.result !== undefined) failures.push(error)
        else this.#parts.log.warn({ sandbox: id, error }, 'an attachment that was not made could not be unmade')
      }
    }
    this.#parts.fault('detach:deleted')
    this.#parts.folder.remove(id)
    this.#parts.fault('detach:namespace')
    if (failures.length > 0) throw failures[0]
    this.#all.delete(id)
    await this.#parts.records.remove('sandbox', id)
  }

  /** Resolves when nothing is being taken apart. */
  async idle(): Promise<void> {
    await this.#deletes.onIdle()
  }

  /** Looks whether the endpoints are as they were made; throws when one isn't. */
  async check(record: SandboxRecord, { signal }: Waits): Promise<void> {
    for (const endpoint of record.endpoints) {
      const { list, result = {} } = endpoint
      await this.#parts.cni.check(list, this.#target(record.id, endpoint), result, { signal })
    }
  }

  /** Runs the plugins of one type again, DEL and then ADD: the host's rules were lost. */
  async redo(record: SandboxRecord, type: string, { signal }: Waits): Promise<void> {
    for (const endpoint of record.endpoints) {
      const at = endpoint.list.plugins.findIndex((one) => one.type === type)
      const { result } = endpoint
      if (at < 0 || result === undefined) continue
      const target = this.#target(record.id, endpoint)
      const only = { ...endpoint.list, plugins: endpoint.list.plugins.slice(at, at + 1) }
      await this.#parts.cni.del(only, target, result, { signal })
      await this.#parts.cni.add(only, target, { signal }, undefined, { plugins: 0, result })
    }
  }

  async #addPlanned(record: SandboxRecord, plan: EndpointPlan, { signal }: Waits): Promise<SandboxRecord> {
    const before = (type: string) => this.#parts.fault(`attach:${type}`)
    const result = await this.#parts.cni.add(plan.list, this.#target(record.id, plan), { signal }, before)
    this.#parts.fault('attach:added')
    for (const address of plan.request.linkLocal ?? [])
      await addAddress(this.#parts.folder.pathOf(record.id), plan.ifName, address, { signal })
    const endpoints = record.endpoints.map((one) => (one.ifName === plan.ifName ? { ...plan, result } : one))
    const made = { ...record, endpoints }
    await this.#put(made)
    return made
  }

  async #del(record: SandboxRecord, endpoint: EndpointRecord, { signal }: Waits): Promise<void> {
    const { list, result } = endpoint
    const before = (type: string) => this.#parts.fault(`detach:${type}`)
    await this.#parts.cni.del(list, this.#target(record.id, endpoint), result, { signal }, before)
  }

  #target(id: string, endpoint: EndpointPlan): CniTarget {
    const netns = this.#parts.folder.has(id) ? this.#parts.folder.pathOf(id) : ''
    return { containerId: id, netns, ifName: endpoint.ifName, runtimeConfig: endpoint.runtimeConfig }
  }

  #get(id: string): SandboxRecord {
    const record = this.#all.get(id)
    if (!record) throw new Error(`sandbox ${id} is gone`)
    return record
  }

  async #put(record: SandboxRecord): Promise<void> {
    this.#all.set(record.id, record)
    // not synced: what it describes doesn't outlive the machine either, and address leases are compared after a start
    await this.#parts.records.put('sandbox', record.id, record, false)
  }
}

/** A link-local address in the range that all have, beside what the plugins gave. Throws NETWORK_FAILED. */
async function addAddress(netns: string, ifName: string, address: string, { signal }: Waits): Promise<void> {
  const whole = `${address}/${address.includes(':') ? 64 : 16}`
  const words = [`--net=${netns}`, 'ip', 'address', 'add', whole, 'dev', ifName]
  const { code, stderr } = await runProgram('nsenter', words, { signal })
  if (code !== 0) throw new DarnerError('NETWORK_FAILED', `address ${whole} on ${ifName}: ${stderr.trim()}`)
}
