/** Shapes of the agent's HTTP API on its unix socket, network part: `/v1/networks…`, and what a container asks of networks. */
import { type Static, Type } from 'typebox'

const Text = (maxLength: number, description: string) => Type.String({ maxLength, description })
const Labels = Type.Record(Type.String({ maxLength: 4096 }), Type.String({ maxLength: 65_536 }), {
  maxProperties: 1000,
})

/** Names of networks, as the docker family has them: spaces within are fine, what a path or a mode is made of is not. */
const NAME = '[^\\s/:\\x00-\\x1f\\x7f]([^/:\\x00-\\x1f\\x7f]{0,126}[^\\s/:\\x00-\\x1f\\x7f])?'
export const NETWORK_NAME = `^${NAME}$`
const Alias = Type.String({ pattern: '^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252})$' })
/** CONTAINER, or CONTAINER:ALIAS. */
const Link = Type.String({ pattern: '^/?[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,252})?$' })
const Mac = Type.String({ pattern: '^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$' })

/** `host`, `none`, `container:NAME`, or the name or id of a network. */
export const NetworkMode = Type.String({
  pattern: `^(container:[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}|${NAME})$`,
  description: 'host, none, bridge, container:NAME, or a network by name or id',
})
export type NetworkMode = Static<typeof NetworkMode>

export const Protocol = Type.Union([Type.Literal('tcp'), Type.Literal('udp')])
export type Protocol = Static<typeof Protocol>

const Port = Type.Integer({ minimum: 1, maximum: 65_535 })

/** One published port. Without a host port a free one is taken at each start. */
export const PortRequest = Type.Object(
  {
    containerPort: Port,
    hostPort: Type.Optional(Port),
    hostIp: Type.Optional(Text(45, 'IPv4 or IPv6 address of this host; default all')),
    protocol: Protocol,
  },
  { additionalProperties: false },
)
export type PortRequest = Static<typeof PortRequest>

/** A published port of a running container. `hostIp` is empty for all addresses. */
export const PortBinding = Type.Object({
  containerPort: Port,
  hostPort: Port,
  hostIp: Type.String(),
  protocol: Protocol,
})
export type PortBinding = Static<typeof PortBinding>

/** The resolver configuration of a container, instead of the engine's. */
export const DnsConfig = Type.Object(
  {
    servers: Type.Optional(Type.Array(Text(45, 'address'), { maxItems: 8 })),
    search: Type.Optional(Type.Array(Type.String({ pattern: '^[a-zA-Z0-9_.-]{1,253}$' }), { maxItems: 32 })),
    options: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z0-9:-]{1,64}$' }), { maxItems: 32 })),
  },
  { additionalProperties: false },
)
export type DnsConfig = Static<typeof DnsConfig>

/** How a container is on one network. */
export const EndpointRequest = Type.Object(
  {
    aliases: Type.Optional(Type.Array(Alias, { maxItems: 100, description: 'further names on this network' })),
    ipv4: Type.Optional(Text(15, 'this address instead of the next free one')),
    ipv6: Type.Optional(Text(45, 'this address instead of the next free one')),
    mac: Type.Optional(Mac),
    links: Type.Optional(Type.Array(Link, { maxItems: 100, description: 'names of others that this one alone knows' })),
    linkLocal: Type.Optional(Type.Array(Text(45, 'a link-local address beside its own'), { maxItems: 8 })),
    /** For who asked to read again: the engine's own bridges take none. */
    driverOpts: Type.Optional(Labels),
  },
  { additionalProperties: false },
)
export type EndpointRequest = Static<typeof EndpointRequest>

/** The members of a request to create a container that are about its network. */
export const NETWORK_OPTIONS = {
  network: Type.Optional(NetworkMode),
  endpoint: Type.Optional(EndpointRequest),
  /** As docker's legacy links on its bridge: lines of /etc/hosts, and variables. Those of other networks are of the endpoint. */
  links: Type.Optional(Type.Array(Link, { maxItems: 100 })),
  publish: Type.Optional(Type.Array(PortRequest, { maxItems: 1000 })),
  dns: Type.Optional(DnsConfig),
} as const

/** One container on one network, as it is now. Prefix lengths are apart from addresses. */
export const EndpointView = Type.Object({
  networkId: Type.String(),
  network: Type.String({ description: 'name of the network' }),
  interface: Type.String({ description: 'name inside the container: eth0' }),
  mac: Type.String(),
  ipv4: Type.String({ description: 'empty when it has none' }),
  ipv4Bits: Type.Integer(),
  gateway: Type.String(),
  ipv6: Type.String(),
  ipv6Bits: Type.Integer(),
  gateway6: Type.String(),
  aliases: Type.Array(Type.String()),
})
export type EndpointView = Static<typeof EndpointView>

/** A network that a container is on, or will be when it runs, and how it asked for it. */
export interface JoinedNetwork {
  readonly networkId: string
  readonly network: string
  readonly request: EndpointRequest
}

/** What a running container has of the network. Empty on `host` and `none`. */
export const NetworkingView = Type.Object({
  netnsPath: Type.String(),
  endpoints: Type.Array(EndpointView),
  ports: Type.Array(PortBinding),
})
export type NetworkingView = Static<typeof NetworkingView>

/** One range of addresses of a network. */
export const SubnetConfig = Type.Object(
  {
    subnet: Text(49, 'CIDR: 10.91.7.0/24'),
    gateway: Type.Optional(Text(45, 'default: the first address')),
    ipRange: Type.Optional(Text(49, 'CIDR inside the subnet that addresses are given from')),
    auxiliary: Type.Optional(
      Type.Record(Type.String({ maxLength: 253 }), Text(45, 'an address that no container is given'), {
        maxProperties: 256,
      }),
    ),
  },
  { additionalProperties: false },
)
export type SubnetConfig = Static<typeof SubnetConfig>

/** `POST /v1/networks`. */
export const NetworkCreate = Type.Object(
  {
    name: Type.String({ pattern: NETWORK_NAME }),
    driver: Type.Optional(Type.Literal('bridge')),
    /** One IPv4 and one IPv6 subnet at most. Without an IPv4 one, a free one is taken from the agent's pool. */
    subnets: Type.Optional(Type.Array(SubnetConfig, { maxItems: 2 })),
    ipv6: Type.Optional(Type.Boolean({ description: 'IPv6 too; without a subnet, a unique local one' })),
    internal: Type.Optional(Type.Boolean({ description: 'no way out of the network' })),
    labels: Type.Optional(Labels),
  },
  { additionalProperties: false },
)
export type NetworkCreate = Static<typeof NetworkCreate>

/** `kind`: the engine's own bridges, a conflist of the configured folders, and the two that need no network at all. */
export const NetworkView = Type.Object({
  id: Type.String(),
  name: Type.String(),
  kind: Type.Union([Type.Literal('bridge'), Type.Literal('cni'), Type.Literal('host'), Type.Literal('none')]),
  /** Made by the engine, not by a user: can't be removed. */
  builtIn: Type.Boolean(),
  internal: Type.Boolean(),
  ipv6: Type.Boolean(),
  /** Name of the bridge on the host; empty when it isn't the engine's. */
  bridge: Type.String(),
  subnets: Type.Array(SubnetConfig),
  labels: Labels,
  createdAt: Type.Number({ description: 'epoch milliseconds' }),
  /** Running containers by id. */
  containers: Type.Record(Type.String(), Type.Intersect([EndpointView, Type.Object({ name: Type.String() })])),
})
export type NetworkView = Static<typeof NetworkView>

export const NetworkList = Type.Object({ networks: Type.Array(NetworkView) })
export type NetworkList = Static<typeof NetworkList>

/** `POST /v1/networks/:name/connect`. */
export const ConnectRequest = Type.Object(
  { container: Text(256, 'id or name'), endpoint: Type.Optional(EndpointRequest) },
  { additionalProperties: false },
)
export type ConnectRequest = Static<typeof ConnectRequest>

/** `POST /v1/networks/:name/disconnect`. */
export const DisconnectRequest = Type.Object(
  { container: Text(256, 'id or name'), force: Type.Optional(Type.Boolean()) },
  { additionalProperties: false },
)
export type DisconnectRequest = Static<typeof DisconnectRequest>
