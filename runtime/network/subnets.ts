/** Address arithmetic for networks: subnets that don't overlap, gateways, what the host's routes already take. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import ipaddr from 'ipaddr.js'
import type { SubnetConfig } from '../../src/api/networks-api.ts'
import { DarnerError } from '../../src/core/errors.ts'

type Address = ipaddr.IPv4 | ipaddr.IPv6

/** A range of addresses with its host bits zero. */
export interface Subnet {
  readonly base: Address
  readonly bits: number
}

export function isV6(subnet: Subnet): boolean {
  return subnet.base.kind() === 'ipv6'
}

export function textOf({ base, bits }: Subnet): string {
  return `${base.toString()}/${bits}`
}

/** Throws BAD_ARGUMENT; host bits must be zero. */
export function parseSubnet(text: string, what: string): Subnet {
  if (!ipaddr.isValidCIDR(text)) throw new DarnerError('BAD_ARGUMENT', `${what}: ${JSON.stringify(text)} is not a CIDR`)
  const [address, bits] = ipaddr.parseCIDR(text)
  const subnet = { base: masked(address, bits), bits }
  if (address.toString() !== subnet.base.toString())
    throw new DarnerError('BAD_ARGUMENT', `${what}: ${text} has host bits; the network is ${textOf(subnet)}`)
  return subnet
}

/** Throws BAD_ARGUMENT. */
export function parseAddress(text: string, what: string): Address {
  if (!ipaddr.isValid(text) || (!text.includes(':') && !ipaddr.IPv4.isValidFourPartDecimal(text)))
    throw new DarnerError('BAD_ARGUMENT', `${what}: ${JSON.stringify(text)} is not an IP address`)
  return ipaddr.parse(text)
}

export function contains(subnet: Subnet, address: Address): boolean {
  if (address.kind() !== subnet.base.kind()) return false
  return masked(address, subnet.bits).toString() === subnet.base.toString()
}

export function overlaps(a: Subnet, b: Subnet): boolean {
  return a.bits <= b.bits ? contains(a, b.base) : contains(b, a.base)
}

/** The address `offset` above the first. */
export function addressAt(subnet: Subnet, offset: number): string {
  const bytes = subnet.base.toByteArray()
  let carry = offset
  for (let at = bytes.length - 1; at >= 0 && carry > 0; at--) {
    const sum = (bytes[at] ?? 0) + carry
    bytes[at] = sum & 0xff
    carry = Math.floor(sum / 256)
  }
  return ipaddr.fromByteArray(bytes).toString()
}

function masked(address: Address, bits: number): Address {
  const bytes = address.toByteArray().map((byte, at) => {
    const kept = Math.min(8, Math.max(0, bits - at * 8))
    return byte & (0xff << (8 - kept))
  })
  return ipaddr.fromByteArray(bytes)
}

/** The first /24 of the pool that overlaps nothing in `taken`. Throws CONFLICT when there is none. */
export function freeSubnet(pool: Subnet, taken: readonly Subnet[]): Subnet {
  const bits = Math.max(24, pool.bits)
  for (let at = 0; at < 2 ** (bits - pool.bits); at++) {
    const one = { base: ipaddr.parse(addressAt(pool, at * 2 ** (32 - bits))), bits }
    if (!taken.some((other) => overlaps(one, other))) return one
  }
  throw new DarnerError('CONFLICT', `no free subnet is left in ${textOf(pool)}`, {
    way: 'remove a network, name a subnet, or set another networkPool',
  })
}

/** A random unique local /64 (RFC 4193, 3.2). */
export function uniqueLocalSubnet(): Subnet {
  const bytes = [0xfd, ...randomBytes(5), ...new Array<number>(10).fill(0)]
  return { base: ipaddr.fromByteArray(bytes), bits: 64 }
}

/** Checks what a user wrote and fills the gateway in. Throws BAD_ARGUMENT. */
export function checkSubnet(config: SubnetConfig, what: string): SubnetConfig & { readonly gateway: string } {
  const subnet = parseSubnet(config.subnet, what)
  const most = isV6(subnet) ? 126 : 30
  if (subnet.bits > most || subnet.bits < 8)
    throw new DarnerError('BAD_ARGUMENT', `${what}: ${config.subnet} must be between /8 and /${most}`)
  const gateway = config.gateway ?? addressAt(subnet, 1)
  if (!contains(subnet, parseAddress(gateway, what)))
    throw new DarnerError('BAD_ARGUMENT', `${what}: gateway ${gateway} is not in ${config.subnet}`)
  if (config.ipRange !== undefined) {
    const range = parseSubnet(config.ipRange, what)
    if (range.bits < subnet.bits || !contains(subnet, range.base))
      throw new DarnerError('BAD_ARGUMENT', `${what}: range ${config.ipRange} is not in ${config.subnet}`)
  }
  const auxiliary = Object.values(config.auxiliary ?? {})
  for (const address of auxiliary)
    if (!contains(subnet, parseAddress(address, what)))
      throw new DarnerError('BAD_ARGUMENT', `${what}: auxiliary address ${address} is not in ${config.subnet}`)
  const range = config.ipRange === undefined ? subnet : parseSubnet(config.ipRange, what)
  if (rangesWithout(rangeEnds(subnet, range), [gateway, ...auxiliary]).length === 0)
    throw new DarnerError('BAD_ARGUMENT', `${what}: no address of ${config.subnet} is left for containers`)
  return { ...config, gateway }
}

/** First and last address of a range, without the subnet's own first (network) and last (broadcast) ones. */
export function rangeEnds(subnet: Subnet, range: Subnet): { rangeStart: string; rangeEnd: string } {
  const size = 2 ** Math.min(32, (isV6(range) ? 128 : 32) - range.bits)
  const first = range.base.toString() === subnet.base.toString() ? 1 : 0
  const end = addressAt(range, size - 1)
  const last = !isV6(subnet) && end === addressAt(subnet, 2 ** (32 - subnet.bits) - 1) ? size - 2 : size - 1
  return { rangeStart: addressAt(range, first), rangeEnd: addressAt(range, last) }
}

/** The same range without some addresses, as the ranges that are left, in order. */
export function rangesWithout(
  { rangeStart, rangeEnd }: { rangeStart: string; rangeEnd: string },
  taken: readonly string[],
): { rangeStart: string; rangeEnd: string }[] {
  const last = numberOf(rangeEnd)
  const text = (number: bigint) => textOfNumber(number, rangeStart.includes(':') ? 16 : 4)
  const left: { rangeStart: string; rangeEnd: string }[] = []
  let from = numberOf(rangeStart)
  const among = taken.map(numberOf).filter((one) => one >= from && one <= last)
  for (const one of among.toSorted((a, b) => (a < b ? -1 : 1))) {
    if (one > from) left.push({ rangeStart: text(from), rangeEnd: text(one - 1n) })
    from = one + 1n
  }
  if (from <= last) left.push({ rangeStart: text(from), rangeEnd: text(last) })
  return left
}

function numberOf(address: string): bigint {
  return ipaddr
    .parse(address)
    .toByteArray()
    .reduce((sum, byte) => sum * 256n + BigInt(byte), 0n)
}

function textOfNumber(number: bigint, bytes: number): string {
  const list = Array.from({ length: bytes }, (_, at) => Number((number >> BigInt(8 * (bytes - 1 - at))) & 0xffn))
  return ipaddr.fromByteArray(list).toString()
}

/** Destinations of this host's IPv4 and IPv6 routes, default routes and those of interfaces in `except` left out. */
export async function hostRoutes(except: ReadonlySet<string>): Promise<Subnet[]> {
  const [v4, v6] = await Promise.all([readLines('/proc/net/route'), readLines('/proc/net/ipv6_route')])
  const found: Subnet[] = []
  for (const line of v4.slice(1)) {
    const [device = '', destination = '', , , , , , mask = ''] = line.split(/\s+/)
    const base = ipaddr.fromByteArray([...Buffer.from(destination, 'hex')].reverse())
    const bits = ipaddr.IPv4.parse(ipaddr.fromByteArray([...Buffer.from(mask, 'hex')].reverse()).toString())
    found.push(...kept(device, { base, bits: bits.prefixLengthFromSubnetMask() ?? 32 }, except))
  }
  for (const line of v6) {
    const [destination = '', bits = '0', ...rest] = line.split(/\s+/)
    const base = ipaddr.fromByteArray([...Buffer.from(destination, 'hex')])
    const own = base.range() === 'linkLocal' || base.range() === 'multicast' || base.range() === 'loopback'
    if (!own) found.push(...kept(rest.at(-1) ?? '', { base, bits: Number.parseInt(bits, 16) }, except))
  }
  return found
}

function kept(device: string, subnet: Subnet, except: ReadonlySet<string>): Subnet[] {
  return subnet.bits === 0 || except.has(device) ? [] : [subnet]
}

async function readLines(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '') // no IPv6 in this kernel, no routes
  return text.split('\n').filter((line) => line.trim() !== '')
}
