/** What the engine keeps of networks across restarts: networks, sandboxes (attached containers, and by what), memberships. */
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { EndpointRequest, NETWORK_NAME, PortBinding, SubnetConfig } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { RecordSpace } from '../containers/dependencies.ts'
import type { CniResult, RuntimeConfig } from './cni.ts'
import type { ConfList } from './conflist.ts'

/** A network of the engine's own: a bridge on the host. */
export const NetworkRecord = Type.Object({
  version: Type.Literal(1),
  id: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  name: Type.String({ pattern: NETWORK_NAME }),
  bridge: Type.String({ pattern: '^[a-z0-9]{1,15}$' }),
  builtIn: Type.Boolean(),
  internal: Type.Boolean(),
  /** IPv4 first. Gateways are filled in. */
  subnets: Type.Array(Type.Intersect([SubnetConfig, Type.Object({ gateway: Type.String() })])),
  labels: Type.Record(Type.String(), Type.String()),
  createdAt: Type.Number({ description: 'epoch milliseconds' }),
  /** The bridge and its rules may be on the host: set before they are made, taken back after they went. */
  up: Type.Boolean(),
  /** It is on its way out: a restart finishes that. */
  removing: Type.Optional(Type.Boolean()),
})
export type NetworkRecord = Static<typeof NetworkRecord>

const Endpoint = Type.Object({
  networkId: Type.String(),
  network: Type.String(),
  ifName: Type.String({ pattern: '^eth[0-9]{1,3}$' }),
  request: EndpointRequest,
  /** The configuration it was added by, so that it can be taken away by the same after that one has changed. */
  list: Type.Unknown(),
  runtimeConfig: Type.Unknown(),
  /** Absent: ADD was begun and nobody knows how far it came. */
  result: Type.Optional(Type.Unknown()),
})
export interface EndpointRecord extends Static<typeof Endpoint> {
  readonly list: ConfList
  readonly runtimeConfig: RuntimeConfig
  readonly result?: CniResult
}

/** One network namespace with what is in it. `owner` is a container's id, or empty while it is ready-made for the next. */
export const SandboxRecord = Type.Object({
  version: Type.Literal(1),
  /** Name of the namespace, and what plugins know it by. */
  id: Type.String({ pattern: '^[0-9a-f]{16}$' }),
  owner: Type.String(),
  name: Type.String(),
  hostname: Type.String(),
  endpoints: Type.Array(Endpoint),
  ports: Type.Array(PortBinding),
  /** Nobody uses it any more: what is left has to go. */
  gone: Type.Boolean(),
})
export interface SandboxRecord extends Omit<Static<typeof SandboxRecord>, 'endpoints'> {
  readonly endpoints: readonly EndpointRecord[]
}

/** Which networks a container is on, once that is no longer what it was created with. */
export const MembershipRecord = Type.Object({
  version: Type.Literal(1),
  containerId: Type.String(),
  networks: Type.Array(Type.Object({ networkId: Type.String(), request: EndpointRequest })),
})
export type MembershipRecord = Static<typeof MembershipRecord>

const KINDS = { network: NetworkRecord, sandbox: SandboxRecord, membership: MembershipRecord } as const
type Kinds = { network: NetworkRecord; sandbox: SandboxRecord; membership: MembershipRecord }

/** One keyspace with all three; each write is one whole record. */
export class NetworkRecords {
  readonly #space: RecordSpace

  constructor(space: RecordSpace) {
    this.#space = space
  }

  async put<Kind extends keyof Kinds>(kind: Kind, key: string, record: Kinds[Kind], sync: boolean): Promise<void> {
    // what would add to a full disk is refused before: a container, when it is made, or its start
    await this.#space.put(`${kind}:${key}`, JSON.stringify(record), { sync, reserved: true })
  }

  async remove(kind: keyof Kinds, key: string): Promise<void> {
    await this.#space.del(`${kind}:${key}`, { sync: false })
  }

  /** All that can be read; what can't goes to `bad` and is skipped. */
  async all(bad: (key: string, error: unknown) => void): Promise<{ [Kind in keyof Kinds]: Kinds[Kind][] }> {
    const found: { [Kind in keyof Kinds]: Kinds[Kind][] } = { network: [], sandbox: [], membership: [] }
    for await (const [key, text] of this.#space.iterator()) {
      try {
        const kind = key.slice(0, key.indexOf(':')) as keyof Kinds
        const schema: TSchema | undefined = KINDS[kind]
        const json: unknown = JSON.parse(text)
        if (!schema || !Value.Check(schema, json))
          throw new DarnerError('STORE_CORRUPT', `network record ${key}: not of version 1`)
        ;(found[kind] as unknown[]).push(json)
      } catch (error) {
        bad(key, error)
      }
    }
    return found
  }
}
