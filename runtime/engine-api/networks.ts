/** `/networks`: those of the engine where it has them, and always `host` and `none`. */
import { Type } from 'typebox'
import { Value } from 'typebox/value'
import { EndpointRequest, NetworkCreate, type NetworkView } from '../../src/api/networks-api.ts'
import { unattached } from '../network/targets.ts'
import { Id, Query } from './containers.ts'
import type { DockerApp, DockerParts } from './context.ts'
import { EndpointBody, readEndpoint } from './endpoint.ts'
import { StatusError } from './errors.ts'
import { flag, labelsFit, oneOf, readFilters } from './filters.ts'
import { OptFlag, OptMap, OptText } from './optional.ts'

const CreateBody = Type.Object(
  {
    Name: Type.String({ maxLength: 255 }),
    CheckDuplicate: OptFlag(),
    Driver: OptText(),
    Scope: OptText(),
    Internal: OptFlag(),
    Attachable: OptFlag(),
    Ingress: OptFlag(),
    EnableIPv6: OptFlag(),
    ConfigOnly: OptFlag(),
    ConfigFrom: Type.Optional(Type.Union([Type.Object({ Network: OptText() }), Type.Null()])),
    IPAM: Type.Optional(
      Type.Union([
        Type.Object({
          Driver: OptText(),
          Options: OptMap(),
          Config: Type.Optional(
            Type.Union([
              Type.Array(
                Type.Object({
                  Subnet: OptText(),
                  IPRange: OptText(),
                  Gateway: OptText(),
                  AuxiliaryAddresses: OptMap(),
                }),
              ),
              Type.Null(),
            ]),
          ),
        }),
        Type.Null(),
      ]),
    ),
    Options: OptMap(),
    Labels: OptMap(),
  },
  { additionalProperties: false },
)
const ConnectBody = Type.Object({
  Container: Type.String({ maxLength: 256 }),
  EndpointConfig: Type.Optional(Type.Union([EndpointBody, Type.Null()])),
})
const DisconnectBody = Type.Object({ Container: Type.String({ maxLength: 256 }), Force: OptFlag() })

export function networkRoutes(app: DockerApp, parts: DockerParts): void {
  const { networks, containers, events } = parts.runtime
  const shelf = () => {
    if (networks) return networks
    throw new StatusError(
      501,
      'networks of its own are not offered by this agent: use --network host or --network none',
    )
  }
  const all = async (): Promise<NetworkView[]> =>
    networks ? await networks.list() : [unattached('host'), unattached('none')]
  const { signal } = parts
  /** Asks before the step: one that is removed has no name any more. */
  const told = async (reference: string, action: string, container: string | undefined, work: () => Promise<void>) => {
    const one = await shelf().inspect(reference)
    await work()
    tell(one, action, container)
  }
  const tell = (one: NetworkView, action: string, container?: string) => {
    const attributes = { name: one.name, type: driverOf(one), ...(container === undefined ? {} : { container }) }
    events.emit({ type: 'network', action, id: one.id, attributes })
  }
  app.get('/networks', { schema: { querystring: Query('filters') } }, async (request) => {
    const filters = readFilters(request.query.filters, ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type'])
    const dangling = flag(filters, 'dangling')
    const found = (await all()).filter(
      (one) =>
        oneOf(filters, 'name', (text) => one.name.includes(text)) &&
        oneOf(filters, 'id', (text) => one.id.startsWith(text)) &&
        oneOf(filters, 'driver', (text) => driverOf(one) === text) &&
        oneOf(filters, 'scope', (text) => text === 'local') &&
        oneOf(filters, 'type', (text) => text === (one.builtIn ? 'builtin' : 'custom')) &&
        (dangling === undefined || (!one.builtIn && Object.keys(one.containers).length === 0) === dangling) &&
        labelsFit(filters, one.labels),
    )
    return found.map((one) => networkView(one))
  })
  app.get('/networks/:id', { schema: { params: Id, querystring: Query('verbose', 'scope') } }, async (request) => {
    const { id } = request.params
    if (networks) return networkView(await networks.inspect(id))
    const found = (await all()).find((one) => one.name === id || one.id.startsWith(id))
    if (found === undefined) throw new StatusError(404, `network ${id} not found`)
    return networkView(found)
  })
  app.post('/networks/create', { schema: { body: CreateBody } }, async (request, reply) => {
    const { body } = request
    if (/\p{Cc}/u.test(body.Driver ?? '')) throw new StatusError(400, 'Driver: it has control characters')
    const refused = [
      [body.Driver && body.Driver !== 'bridge', `network driver ${body.Driver}`],
      [body.Ingress, 'ingress networks'],
      [body.Scope && body.Scope !== 'local', `network scope ${body.Scope}`],
      [body.ConfigOnly || body.ConfigFrom?.Network, 'network configurations'],
      [Object.keys(body.Options ?? {}).length > 0, 'network driver options'],
      [body.IPAM?.Driver && body.IPAM.Driver !== 'default', `IPAM driver ${body.IPAM?.Driver}`],
      [Object.keys(body.IPAM?.Options ?? {}).length > 0, 'IPAM driver options'],
    ].find(([is]) => is)
    if (refused) throw new StatusError(501, `${refused[1]} is not offered: use a bridge network`)
    const wanted = {
      name: body.Name,
      ...(body.Internal ? { internal: true } : {}),
      ...(body.EnableIPv6 ? { ipv6: true } : {}),
      ...(body.Labels ? { labels: body.Labels } : {}),
      ...(body.IPAM?.Config?.length
        ? {
            subnets: body.IPAM.Config.map(({ Subnet, Gateway, IPRange, AuxiliaryAddresses }) => ({
              subnet: Subnet ?? '',
              ...(Gateway ? { gateway: Gateway } : {}),
              ...(IPRange ? { ipRange: IPRange } : {}),
              ...(Object.keys(AuxiliaryAddresses ?? {}).length > 0 ? { auxiliary: AuxiliaryAddresses } : {}),
            })),
          }
        : {}),
    }
    if (!Value.Check(NetworkCreate, wanted))
      throw new StatusError(400, `invalid network: ${[...Value.Errors(NetworkCreate, wanted)][0]?.message ?? ''}`)
    const made = await shelf().create(wanted)
    tell(made, 'create')
    return reply.code(201).send({ Id: made.id, Warning: '' })
  })
  app.delete('/networks/:id', { schema: { params: Id } }, async (request, reply) => {
    const { id } = request.params
    if (['host', 'none', 'bridge'].includes(id))
      throw new StatusError(403, `${id} is a pre-defined network and cannot be removed`)
    await told(id, 'destroy', undefined, () => shelf().remove(id))
    return reply.code(204).send()
  })
  app.post('/networks/:id/connect', { schema: { params: Id, body: ConnectBody } }, async (request, reply) => {
    const { Container, EndpointConfig } = request.body
    const endpoint = checkedEndpoint(readEndpoint(EndpointConfig))
    const { id } = request.params
    const view = containers.inspect(Container)
    await told(id, 'connect', view.id, () => shelf().connect(id, view, endpoint, { signal }))
    return reply.code(200).send()
  })
  app.post('/networks/:id/disconnect', { schema: { params: Id, body: DisconnectBody } }, async (request, reply) => {
    const view = containers.inspect(request.body.Container)
    const { id } = request.params
    await told(id, 'disconnect', view.id, () => shelf().disconnect(id, view, { signal }))
    return reply.code(200).send()
  })
  app.post('/networks/prune', { schema: { querystring: Query('filters') } }, async (request) => {
    const filters = readFilters(request.query.filters, ['label', 'label!', 'until'])
    const asked = new Set(containers.entries().map((entry) => entry.record.request.network ?? ''))
    const before = await all()
    const spared = before.filter((one) => !labelsFit(filters, one.labels)).map((one) => one.id)
    const gone = networks ? await networks.prune(new Set([...asked, ...spared])) : []
    for (const one of before) if (gone.includes(one.name)) tell(one, 'destroy')
    return { NetworksDeleted: gone.length > 0 ? gone : null }
  })
}

/** Throws 400. */
function checkedEndpoint(endpoint: EndpointRequest): EndpointRequest {
  if (Value.Check(EndpointRequest, endpoint)) return endpoint
  const first = [...Value.Errors(EndpointRequest, endpoint)][0]
  throw new StatusError(400, `invalid endpoint${first?.instancePath ?? ''}: ${first?.message ?? ''}`)
}

function driverOf({ kind }: NetworkView): string {
  return kind === 'none' ? 'null' : kind
}

function networkView(one: NetworkView): Record<string, unknown> {
  return {
    Name: one.name,
    Id: one.id,
    Created: new Date(one.createdAt).toISOString(),
    Scope: 'local',
    Driver: driverOf(one),
    EnableIPv6: one.ipv6,
    IPAM: {
      Driver: 'default',
      Options: null,
      Config: one.subnets.map(({ subnet, gateway, ipRange, auxiliary }) => ({
        Subnet: subnet,
        ...(gateway ? { Gateway: gateway } : {}),
        ...(ipRange ? { IPRange: ipRange } : {}),
        ...(auxiliary ? { AuxiliaryAddresses: auxiliary } : {}),
      })),
    },
    Internal: one.internal,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: Object.fromEntries(
      Object.entries(one.containers).map(([id, end]) => [
        id,
        {
          Name: end.name,
          EndpointID: '',
          MacAddress: end.mac,
          IPv4Address: end.ipv4 === '' ? '' : `${end.ipv4}/${end.ipv4Bits}`,
          IPv6Address: end.ipv6 === '' ? '' : `${end.ipv6}/${end.ipv6Bits}`,
        },
      ]),
    ),
    Options: one.bridge === '' ? {} : { 'com.docker.network.bridge.name': one.bridge },
    Labels: one.labels,
  }
}
