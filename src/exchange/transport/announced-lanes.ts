/** The addresses that are announced to others. A lane on a wildcard is listed with the addresses that the node found for itself. */
import { multiaddr } from '@multiformats/multiaddr'
import { formatHostPort, parseHostPort } from '../../core/host-port.ts'

/** Lanes as `IP:PORT`, wildcards replaced by the hosts of `multiaddrs`. */
export function spelledLanes(lanes: readonly string[], multiaddrs: readonly string[]): string[] {
  return lanes.flatMap((lane) => {
    const { host, port } = parseHostPort(lane)
    if (host !== '0.0.0.0' && host !== '::') return [lane]
    const hosts = multiaddrs
      .map((text) => multiaddr(text).getComponents()[0]?.value)
      .filter((value) => value !== undefined)
    return [...new Set(hosts)]
      .filter((value) => host === '::' || !value.includes(':'))
      .map((value) => formatHostPort({ host: value, port }))
  })
}
