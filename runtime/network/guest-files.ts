/** /etc/hosts and /etc/resolv.conf of a container that has networks of its own. */
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import type { DnsConfig, EndpointView } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'
import { nameserversOf } from './dns-server.ts'

export interface GuestFileFacts {
  readonly hostname: string
  readonly endpoints: readonly EndpointView[]
  /** `NAME:ADDRESS`; the address may be `host-gateway`. */
  readonly extraHosts: readonly string[]
  readonly dns: DnsConfig
  /** Addresses of the engine's own resolvers that answer for this container's networks. */
  readonly resolvers: readonly string[]
  /** Resolvers that answer only when the host's own can't be reached from a container (127.0.0.53). */
  readonly forwarders: readonly string[]
}

/** Throws BAD_ARGUMENT for an extra host that is none. */
export function hostsText({ hostname, endpoints, extraHosts }: GuestFileFacts): string {
  const lines = ['127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback']
  const gateway = endpoints.find((one) => one.gateway !== '')?.gateway ?? ''
  for (const { address, name } of extraHosts.map(parseExtraHost)) {
    const at = address === 'host-gateway' ? gateway : address
    if (at === '') throw new DarnerError('BAD_ARGUMENT', `extra host ${name}: the container has no gateway`)
    lines.push(`${at}\t${name}`)
  }
  for (const { ipv4, ipv6 } of endpoints)
    for (const address of [ipv4, ipv6]) if (address !== '') lines.push(`${address}\t${hostname}`)
  return `${lines.join('\n')}\n`
}

/** Throws BAD_ARGUMENT. */
export function parseExtraHost(text: string): { name: string; address: string } {
  const at = text.search(/[:=]/)
  const name = text.slice(0, at)
  const address = text.slice(at + 1).replace(/^\[(.*)\]$/, '$1')
  const known = address === 'host-gateway' || isIP(address) !== 0
  if (at > 0 && known && /^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252})$/.test(name)) return { name, address }
  throw new DarnerError('BAD_ARGUMENT', `extra host ${JSON.stringify(text.slice(0, 300))} is not NAME:ADDRESS`)
}

/** The request's own resolvers; else the networks'; else the host's that can be reached; else the networks' as forwarders. */
export async function resolvText({ dns, resolvers, forwarders }: GuestFileFacts): Promise<string> {
  const host = await readFile('/etc/resolv.conf', 'utf8').catch(() => '')
  const reachable = nameserversOf(host).filter((one) => !one.startsWith('127.') && one !== '::1')
  const servers = [dns.servers ?? [], resolvers, reachable, forwarders].find((list) => list.length > 0) ?? []
  const kept = (word: string) =>
    [...host.matchAll(new RegExp(`^\\s*${word}\\s+(.+)$`, 'gm'))].map(([, rest = '']) => rest)
  const search = dns.search ?? kept('search').slice(-1)
  const options = dns.options ?? kept('options')
  return [
    ...servers.map((one) => `nameserver ${one}`),
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : []),
    ...(options.length > 0 ? [`options ${options.join(' ')}`] : []),
    '',
  ].join('\n')
}
