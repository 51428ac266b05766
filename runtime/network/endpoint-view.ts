/** What an attachment came to, read out of the result that its plugins gave. */
import type { EndpointView } from '../../src/api/networks-api.ts'
import type { CniResult } from './cni.ts'
import type { EndpointRecord } from './records.ts'

/** Undefined while it isn't made. */
export function endpointView(endpoint: EndpointRecord): EndpointView | undefined {
  const { networkId, network, ifName, request, result } = endpoint
  if (!result) return undefined
  const v4 = addressOf(result, (one) => !one.includes(':'))
  const v6 = addressOf(result, (one) => one.includes(':'))
  const inside = result.interfaces?.find((one) => one.name === ifName && (one.sandbox ?? '') !== '')
  return {
    networkId,
    network,
    interface: ifName,
    mac: inside?.mac ?? '',
    ipv4: v4.address,
    ipv4Bits: v4.bits,
    gateway: v4.gateway,
    ipv6: v6.address,
    ipv6Bits: v6.bits,
    gateway6: v6.gateway,
    aliases: request.aliases ?? [],
  }
}

function addressOf(result: CniResult, fits: (address: string) => boolean) {
  const found = result.ips?.find((one) => fits(one.address))
  const [address = '', bits = '0'] = found?.address.split('/') ?? []
  return { address, bits: Number(bits), gateway: found?.gateway ?? '' }
}
