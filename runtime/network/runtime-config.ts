/**
 * What a plugin receives about one endpoint beside its configuration: addresses, MAC, aliases, ports. (CNI spec 1.1, runtime configuration)
 */
import type { EndpointRequest, PortBinding } from '../../src/api/networks-api.ts'
import type { RuntimeConfig } from './cni.ts'

/** An address or MAC was asked for: a ready-made sandbox hasn't it. */
export function asksAddress({ ipv4, ipv6, mac, linkLocal = [] }: EndpointRequest): boolean {
  return [ipv4, ipv6, mac, ...linkLocal].some((one) => one !== undefined && one !== '')
}

export function runtimeConfigOf(
  { ipv4, ipv6, mac, aliases }: EndpointRequest,
  ports: readonly PortBinding[],
  subnets: readonly { readonly base: { kind(): string }; readonly bits: number }[],
): RuntimeConfig {
  const bits = (kind: string) => subnets.find((one) => one.base.kind() === kind)?.bits
  const ips = [...(ipv4 ? [`${ipv4}/${bits('ipv4') ?? 32}`] : []), ...(ipv6 ? [`${ipv6}/${bits('ipv6') ?? 128}`] : [])]
  // neighbours remember an address's MAC: the same address comes with the same MAC again
  const settledMac = mac ?? (ipv4 ? macOf(ipv4) : undefined)
  return {
    ...(ips.length > 0 ? { ips } : {}),
    ...(settledMac ? { mac: settledMac } : {}),
    ...(aliases && aliases.length > 0 ? { aliases } : {}),
    ...(ports.length > 0
      ? {
          portMappings: ports.map(({ hostIp, ...one }) => ({ ...one, ...(hostIp === '' ? {} : { hostIP: hostIp }) })),
        }
      : {}),
  }
}

/** A locally administered MAC that goes with an IPv4 address. */
function macOf(ipv4: string): string {
  const bytes = [0x02, 0xda, ...ipv4.split('.').map(Number)]
  return bytes.map((one) => one.toString(16).padStart(2, '0')).join(':')
}
