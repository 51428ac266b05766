/** What the demo prints, as text: tables with aligned columns. */
import { formatBytes } from '../../src/core/config/units.ts'
import type { Digest } from '../../src/core/digest.ts'
import type { AccessCounts } from './registry.ts'

/** Rows under heads; every column as wide as its widest cell, the first to the left, the others to the right. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [heads, ...rows]
  const widths = heads.map((_, at) => Math.max(...all.map((row) => (row[at] ?? '').length)))
  const line = (row: readonly string[]) =>
    widths.map((width, at) => (at === 0 ? (row[at] ?? '').padEnd(width) : (row[at] ?? '').padStart(width))).join('  ')
  return [line(heads), widths.map((width) => '-'.repeat(width)).join('  '), ...all.slice(1).map(line)].map((text) =>
    text.trimEnd(),
  )
}

export interface HostBytes {
  readonly name: string
  readonly from: { readonly origin: number; readonly supernode: number; readonly peers: number }
  /** To other hosts. */
  readonly served: number
  readonly seconds: number
}

/** Who got how many bytes from whom. */
export function bytesTable(hosts: readonly HostBytes[]): string[] {
  const sum = (pick: (host: HostBytes) => number) => hosts.reduce((total, host) => total + pick(host), 0)
  const cells = (name: string, host: Omit<HostBytes, 'name'>, seconds: string) => [
    name,
    formatBytes(host.from.origin + host.from.supernode + host.from.peers),
    formatBytes(host.from.origin),
    formatBytes(host.from.supernode),
    formatBytes(host.from.peers),
    formatBytes(host.served),
    seconds,
  ]
  const from = {
    origin: sum((host) => host.from.origin),
    supernode: sum((host) => host.from.supernode),
    peers: sum((host) => host.from.peers),
  }
  return table(
    ['host', 'got', 'from origin', 'from supernode', 'from peers', 'gave to peers', 'seconds'],
    [
      ...hosts.map((host) => cells(host.name, host, host.seconds.toFixed(1))),
      cells('all', { from, served: sum((host) => host.served), seconds: 0 }, ''),
    ],
  )
}

export interface BlobName {
  readonly digest: Digest
  readonly bytes: number
  readonly what: string
}

/** What the registry counted: the GETs of each blob, then everything else. */
export function accessTable(blobs: readonly BlobName[], counts: AccessCounts): string[] {
  const rows = blobs.map(({ digest, bytes, what }) => [
    `${digest.slice(0, 19)}…`,
    what,
    formatBytes(bytes),
    String(counts.blobGets.get(digest) ?? 0),
  ])
  const others = [...counts.others].map(([what, count]) => `${count} × ${what}`)
  return [...table(['blob', 'what', 'bytes', 'GETs'], rows), `beside that: ${others.join(', ') || 'nothing'}`]
}

/** The blobs that the registry was not asked for exactly once, each with what was counted. */
export function notReadOnce(blobs: readonly BlobName[], counts: AccessCounts): string[] {
  const expected = new Set(blobs.map((blob) => blob.digest))
  const wrong = [...expected].filter((digest) => counts.blobGets.get(digest) !== 1)
  const unknown = [...counts.blobGets.keys()].filter((digest) => !expected.has(digest))
  return [...wrong, ...unknown].map((digest) => `${digest}: ${counts.blobGets.get(digest) ?? 0} GETs`)
}
