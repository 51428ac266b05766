/** Addresses as libp2p writes them: `/ip4/10.0.0.7/tcp/7400`. */
import { isIP } from 'node:net'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { DarnerError } from '../base/errors.ts'
import { formatHostPort, parseHostPort } from './host-port.ts'

/** The multiaddr of `IP:PORT`, or of multiaddr text. Throws BAD_ARGUMENT for anything that isn't a TCP address. */
export function parseAddress(text: string): Multiaddr {
  if (!text.startsWith('/')) {
    const { host, port } = parseHostPort(text)
    return multiaddr(`/ip${isIP(host)}/${host}/tcp/${port}`)
  }
  try {
    const address = multiaddr(text)
    const names = address.getComponents().map((one) => one.name)
    if (/^(ip4|ip6|dns|dns4|dns6) tcp( p2p)?$/.test(names.join(' '))) return address
  } catch {
    // the one message below serves both
  }
  throw new DarnerError(
    'BAD_ARGUMENT',
    `address ${JSON.stringify(text.slice(0, 200))} is not IP:PORT or /ip4/…/tcp/…[/p2p/…]`,
  )
}

/** `IP:PORT` of a TCP multiaddr, for people to read; the text as it is when it has another shape. */
export function addressName(address: Multiaddr): string {
  const [host, tcp] = address.getComponents()
  if (host?.value === undefined || tcp?.name !== 'tcp') return address.toString()
  return formatHostPort({ host: host.value, port: Number(tcp.value) })
}

/** True for addresses that no other host can use: loopback and link-local ones. */
export function isLocalOnly(address: Multiaddr): boolean {
  const host = address.getComponents()[0]?.value ?? ''
  return host.startsWith('127.') || host === '::1' || /^fe[89ab]/i.test(host) || host.startsWith('169.254.')
}

/** True for `0.0.0.0` and `::`. */
export function isWildcard(address: Multiaddr): boolean {
  const host = address.getComponents()[0]?.value ?? ''
  return host === '0.0.0.0' || host === '::'
}
