/** What a container can join: a network of the engine's own, or a CNI configuration of the folders; and which options each has. */
import { createHash } from 'node:crypto'
import type { EndpointRequest, NetworkView } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { ConfList } from './conflist.ts'
import type { NetworkRecord } from './records.ts'
import { contains, parseAddress, parseSubnet } from './subnets.ts'

export type Target =
  | { readonly kind: 'bridge'; readonly id: string; readonly name: string; readonly record: NetworkRecord }
  | { readonly kind: 'cni'; readonly id: string; readonly name: string; readonly list: ConfList }

/** True for the modes that are no network of the engine's: the container is not attached to anything. */
export function isUnattached(mode: string): boolean {
  return mode === 'host' || mode === 'none' || mode.startsWith('container:')
}

/** Throws BAD_ARGUMENT for an address that the network can't give. */
export function checkEndpoint(target: Target, { ipv4, ipv6, linkLocal = [] }: EndpointRequest): void {
  for (const address of linkLocal)
    if (parseAddress(address, `network ${target.name}`).range() !== 'linkLocal')
      throw new DarnerError('BAD_ARGUMENT', `address ${address}: it is not link-local`)
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

/** Throws UNSUPPORTED for a network that can't publish ports. */
export function mustPublish(target: Target): void {
  const able = target.kind === 'bridge' || target.list.plugins.some((one) => one.capabilities?.portMappings === true)
  if (!able)
    throw new DarnerError('UNSUPPORTED', `network ${target.name} has no plugin that publishes ports`, {
      way: 'add portmap with the capability portMappings to its configuration',
    })
}

/** The id of a CNI configuration, which has a name only. */
export function listId(name: string): string {
  return createHash('sha256').update(`cni:${name}`).digest('hex')
}

/** The two modes that are no networks, as views: the one source of their ids. */
export function unattached(kind: 'host' | 'none'): NetworkView {
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

export function predefined(name: string): DarnerError {
  return new DarnerError('CAPABILITY_REFUSED', `${name} is a pre-defined network and cannot be removed`)
}
