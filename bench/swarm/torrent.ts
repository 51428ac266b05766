/** As much of BitTorrent as the bench needs to give its rival a torrent and a tracker: BEP 3, and BEP 23 for compact peers. */
import { createHash } from 'node:crypto'

export type Bencoded = number | string | Uint8Array | readonly Bencoded[] | { readonly [key: string]: Bencoded }

/** BEP 3, "bencoding": dictionaries with their keys in order. Throws RangeError for a number that is not whole. */
export function bencode(value: Bencoded): Buffer {
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new RangeError(`bencode: ${value} is no whole number`)
    return Buffer.from(`i${value}e`)
  }
  if (typeof value === 'string') return bencode(Buffer.from(value))
  if (value instanceof Uint8Array) return Buffer.concat([Buffer.from(`${value.byteLength}:`), value])
  if (Array.isArray(value)) return Buffer.concat([Buffer.from('l'), ...value.map(bencode), Buffer.from('e')])
  const pairs = Object.entries(value as { readonly [key: string]: Bencoded })
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .flatMap(([key, one]) => [bencode(key), bencode(one)])
  return Buffer.concat([Buffer.from('d'), ...pairs, Buffer.from('e')])
}

/** The torrent file of one blob. */
export async function torrentOf(
  content: AsyncIterable<Uint8Array>,
  options: { name: string; announce: string; pieceBytes: number },
): Promise<Buffer> {
  const { name, announce, pieceBytes } = options
  const hashes: Buffer[] = []
  let bytes = 0
  let filled = 0
  let hash = createHash('sha1')
  for await (const chunk of content) {
    for (let at = 0; at < chunk.byteLength; ) {
      const part = chunk.subarray(at, at + pieceBytes - filled)
      hash.update(part)
      at += part.byteLength
      filled += part.byteLength
      bytes += part.byteLength
      if (filled < pieceBytes) continue
      hashes.push(hash.digest())
      hash = createHash('sha1')
      filled = 0
    }
  }
  if (filled > 0) hashes.push(hash.digest())
  const info = { name, length: bytes, 'piece length': pieceBytes, pieces: Buffer.concat(hashes) }
  return bencode({ announce, info })
}

/** Remembers who announced what, and tells each the others. One instance serves all torrents. */
export class Tracker {
  readonly #swarms = new Map<string, Map<string, Buffer>>()

  /** The answer to `GET /announce?…` that came from `address` (IPv4). */
  announce(search: string, address: string): Buffer {
    // info_hash is raw bytes in percent encoding: no text encoding fits, but equal queries spell it alike
    const fields = new Map(
      search
        .replace(/^\?/, '')
        .split('&')
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)] as const),
    )
    const hash = (fields.get('info_hash') ?? '').toLowerCase()
    const port = Number(fields.get('port'))
    if (hash === '' || !Number.isInteger(port) || port < 1 || port > 65_535)
      return bencode({ 'failure reason': 'info_hash and port are needed' })
    const swarm = this.#swarms.get(hash) ?? new Map<string, Buffer>()
    this.#swarms.set(hash, swarm)
    const name = `${address}:${port}`
    if (fields.get('event') === 'stopped') swarm.delete(name)
    else swarm.set(name, Buffer.from([...address.split('.').map(Number), port >> 8, port & 0xff]))
    const peers = [...swarm].filter(([other]) => other !== name).map(([, compact]) => compact)
    return bencode({ interval: 2, 'min interval': 1, peers: Buffer.concat(peers) })
  }
}
