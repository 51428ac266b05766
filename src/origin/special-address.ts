/** Which addresses and names a host may be sent to for an origin: ranges with a special meaning (RFC 6890), in all their spellings. */
import { BlockList, isIP } from 'node:net'
import { METADATA_SERVICES } from './metadata-services.ts'

/** `none` is text that is no address. */
export type AddressKind = 'metadata' | 'private' | 'public' | 'none'

const PRIVATE = blockList([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/127',
  '64:ff9b:1::/48',
  'fc00::/7',
  'fec0::/10',
  'ff00::/8',
])
const METADATA = blockList(METADATA_SERVICES.flatMap(({ networks }) => networks))
const METADATA_NAMES = new Set(METADATA_SERVICES.flatMap(({ names }) => names))

/** Which hosts may be asked, as the origin client wants it. */
export interface OriginGuard {
  readonly allowAddress: (address: string) => boolean
  readonly allowName: (hostname: string) => boolean
}

/** Refuses metadata services always, and what isn't of the public internet unless `allowPrivate`. */
export function originGuard({ allowPrivate }: { allowPrivate: boolean }): OriginGuard {
  return {
    allowAddress: (address) => {
      const kind = addressKind(address)
      return kind === 'public' || (kind === 'private' && allowPrivate)
    },
    allowName: (hostname) => !METADATA_NAMES.has(hostname.toLowerCase().replace(/\.$/, '')),
  }
}

/**
 * What an address is for. One that carries an IPv4 address is the stricter of the two: a gateway, or the kernel itself, may turn it into
 * the other.
 */
export function addressKind(address: string): AddressKind {
  const bare = address.replace(/%.*$/s, '')
  if (isIP(bare) === 0) return 'none'
  const all = [bare, ...embedded(bare)]
  const within = (list: BlockList) => all.some((one) => list.check(one, one.includes(':') ? 'ipv6' : 'ipv4'))
  return within(METADATA) ? 'metadata' : within(PRIVATE) ? 'private' : 'public'
}

/** Where an IPv4 address stands in an IPv6 address: the prefix before it, its bytes, and what they are XORed with. */
const EMBEDDINGS = (
  [
    ['::/96', [12, 13, 14, 15], 0], // IPv4-compatible (RFC 4291, 2.5.5.1)
    ['::ffff:0:0/96', [12, 13, 14, 15], 0], // IPv4-mapped (RFC 4291, 2.5.5.2)
    ['::ffff:0:0:0/96', [12, 13, 14, 15], 0], // IPv4-translated (RFC 2765, 2.1)
    ['64:ff9b::/96', [12, 13, 14, 15], 0], // NAT64 (RFC 6052, 2.1)
    ['64:ff9b:1::/48', [6, 7, 9, 10], 0], // NAT64 of a site (RFC 8215), with each length of prefix (RFC 6052, 2.2)
    ['64:ff9b:1::/48', [7, 9, 10, 11], 0],
    ['64:ff9b:1::/48', [9, 10, 11, 12], 0],
    ['64:ff9b:1::/48', [12, 13, 14, 15], 0],
    ['2002::/16', [2, 3, 4, 5], 0], // 6to4 (RFC 3056, 2)
    ['2001::/32', [4, 5, 6, 7], 0], // Teredo's server (RFC 4380, 4)
    ['2001::/32', [12, 13, 14, 15], 0xff], // Teredo's client
  ] as const
).map(([prefix, at, flip]) => ({ within: blockList([prefix]), at, flip }))

/** The IPv4 addresses inside an address, if any. */
function embedded(address: string): string[] {
  if (isIP(address) !== 6) return []
  const bytes = bytesOf(address)
  const found = EMBEDDINGS.filter(({ within }) => within.check(address, 'ipv6')).map(({ at, flip }) =>
    at.map((index) => (bytes[index] ?? 0) ^ flip).join('.'),
  )
  // ISATAP, behind any prefix (RFC 5214, 6.1)
  if (/^0[02]005efe/.test(bytes.toString('hex', 8))) found.push(bytes.subarray(12).join('.'))
  return found
}

/** The 16 bytes of an IPv6 address. */
function bytesOf(address: string): Buffer {
  const hex = (text: string) =>
    text
      .split(':')
      .filter((group) => group !== '')
      .map((group) =>
        group.includes('.') ? Buffer.from(group.split('.').map(Number)).toString('hex') : group.padStart(4, '0'),
      )
      .join('')
  const [head = '', tail = ''] = address.split('::')
  return Buffer.from(`${hex(head)}${hex(tail).padStart(32 - hex(head).length, '0')}`, 'hex')
}

function blockList(networks: readonly string[]): BlockList {
  const list = new BlockList()
  for (const network of networks) {
    const [base = '', bits] = network.split('/')
    const type = base.includes(':') ? 'ipv6' : 'ipv4'
    list.addSubnet(base, Number(bits ?? (type === 'ipv6' ? 128 : 32)), type)
  }
  return list
}
