/** Addresses as libp2p writes them: `/ip4/10.0.0.7/tcp/7400`. */
import { isIP } from 'node:net'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { DarnerError } from '../core/errors.ts'
import { formatHostPort, parseHostPort } from '../core/host-port.ts'

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

/** An IP address in its one shortest form, so that two of them can be compared; an IPv4 address inside an IPv6 one is that. */
export function plainAddress(host: string): string {
  if (isIP(host) !== 6) return host
  const short = new URL(`http://[${host.replace(/%.*$/, '')}]`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(short)
  if (mapped === null) return short
  const [high = 0, low = 0] = mapped.slice(1).map((word) => Number.parseInt(word, 16))
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** What one host can have at its will of addresses: one of IPv4, a /64 of IPv6. */
export function addressBlock(host: string): string {
  const plain = plainAddress(host)
  if (isIP(plain) !== 6) return plain
  const [head = '', tail] = plain.split('::')
  const words = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const all = tail === undefined ? words : [...words, ...Array(8 - words.length - after.length).fill('0'), ...after]
  return `${all.slice(0, 4).join(':')}::/64`
}
