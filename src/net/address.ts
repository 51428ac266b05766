/** Addresses as people write them (`10.0.0.7:7400`, `[::1]:7400`) and as libp2p does (`/ip4/10.0.0.7/tcp/7400`). */
import { isIP } from 'node:net'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { DarnerError } from '../base/errors.ts'

export interface HostPort {
  /** An IPv4 or IPv6 address, without brackets. */
  readonly host: string
  readonly port: number
}

/** Reads `IP:PORT`; IPv6 stands in brackets. Throws BAD_ARGUMENT. Port 0 means "any" where something listens. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3] ?? Number.NaN)
  const wanted = match?.[1] === undefined ? 4 : 6
  if (isIP(host) !== wanted || host.includes('%') || !(port <= 65535)) {
    throw new DarnerError(
      'BAD_ARGUMENT',
      `address ${JSON.stringify(text.slice(0, 120))} is not IP:PORT (IPv6 as [IP]:PORT)`,
    )
  }
  return { host, port }
}

/** The opposite of {@link parseHostPort}. */
export function formatHostPort({ host, port }: HostPort): string {
  return isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`
}

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
