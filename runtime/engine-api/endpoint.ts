/** How a container is on a network, in docker's words. */
import { type Static, Type } from 'typebox'
import type { EndpointRequest, EndpointView, JoinedNetwork } from '../../src/api/networks-api.ts'
import { OptMap, OptText, OptTexts } from './optional.ts'

export const EndpointBody = Type.Object({
  IPAMConfig: Type.Optional(
    Type.Union([
      Type.Object({ IPv4Address: OptText(), IPv6Address: OptText(), LinkLocalIPs: OptTexts() }),
      Type.Null(),
    ]),
  ),
  Links: OptTexts(),
  Aliases: OptTexts(),
  MacAddress: OptText(),
  DriverOpts: OptMap(),
})
export type EndpointBody = Static<typeof EndpointBody>

export function readEndpoint(body: EndpointBody | null | undefined): EndpointRequest {
  const { IPAMConfig, Links, Aliases, MacAddress, DriverOpts } = body ?? {}
  const { IPv4Address, IPv6Address, LinkLocalIPs } = IPAMConfig ?? {}
  return {
    ...(Aliases?.length ? { aliases: Aliases } : {}),
    ...(IPv4Address ? { ipv4: IPv4Address } : {}),
    ...(IPv6Address ? { ipv6: IPv6Address } : {}),
    ...(LinkLocalIPs?.length ? { linkLocal: LinkLocalIPs } : {}),
    ...(MacAddress ? { mac: MacAddress } : {}),
    ...(Links?.length ? { links: Links } : {}),
    ...(DriverOpts && Object.keys(DriverOpts).length > 0 ? { driverOpts: DriverOpts } : {}),
  }
}

/** `id` is the container's; `now` is absent while it doesn't run. */
export function endpointView(id: string, joined: JoinedNetwork | undefined, now: EndpointView | undefined) {
  const { aliases = [], ipv4, ipv6, linkLocal, mac, links, driverOpts } = joined?.request ?? {}
  const asked = {
    ...(ipv4 ? { IPv4Address: ipv4 } : {}),
    ...(ipv6 ? { IPv6Address: ipv6 } : {}),
    ...(linkLocal ? { LinkLocalIPs: linkLocal } : {}),
  }
  // on networks that users made, docker has the short id among the names
  const named = joined !== undefined && joined.network !== 'bridge' ? [...aliases, id.slice(0, 12)] : aliases
  return {
    IPAMConfig: Object.keys(asked).length > 0 ? asked : null,
    Links: links ?? null,
    Aliases: named.length > 0 ? named : null,
    MacAddress: now?.mac ?? mac ?? '',
    NetworkID: now?.networkId ?? joined?.networkId ?? '',
    EndpointID: '',
    Gateway: now?.gateway ?? '',
    IPAddress: now?.ipv4 ?? '',
    IPPrefixLen: now?.ipv4Bits ?? 0,
    IPv6Gateway: now?.gateway6 ?? '',
    GlobalIPv6Address: now?.ipv6 ?? '',
    GlobalIPv6PrefixLen: now?.ipv6Bits ?? 0,
    DriverOpts: driverOpts ?? null,
  }
}
