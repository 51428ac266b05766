/** What a `Range` header asks of a blob of known length (RFC 9110, section 14). */

/** Bytes [from, to). */
export interface ByteRange {
  readonly from: number
  readonly to: number
}

export type RangeDecision =
  /** No range applies: the whole blob, 200. */
  | { readonly kind: 'whole' }
  /** One part, or several as multipart, 206. */
  | { readonly kind: 'parts'; readonly parts: readonly ByteRange[] }
  /** None of them has a byte of the blob, 416. */
  | { readonly kind: 'unsatisfiable' }
  /** More than anybody needs, refused. */
  | { readonly kind: 'tooMany'; readonly count: number }

/** Ranges in one request; lazy readers ask for one, repair tools for a few. */
export const MAX_RANGES = 16

/**
 * Decides about a blob of `bytes` bytes whose only validator is the strong `etag`. A header that is no byte range is ignored, as
 * is one whose `If-Range` names another version, and one that asks for more bytes than there are.
 */
export function decideRange(
  header: string | undefined,
  ifRange: string | undefined,
  blob: { readonly bytes: number; readonly etag: string },
): RangeDecision {
  if (header === undefined || (ifRange !== undefined && ifRange.trim() !== blob.etag)) return { kind: 'whole' }
  const set = /^\s*bytes\s*=(.*)$/is.exec(header)?.[1]
  if (set === undefined) return { kind: 'whole' }
  const specs = set.split(',').map((one) => one.trim())
  const wanted = specs.filter((one) => one !== '')
  if (wanted.length > MAX_RANGES) return { kind: 'tooMany', count: wanted.length }
  if (wanted.length === 0) return { kind: 'whole' }
  const parts: ByteRange[] = []
  for (const spec of wanted) {
    const match = /^(\d{0,15})\s*-\s*(\d{0,15})$/.exec(spec)
    if (match === null) return { kind: 'whole' }
    const [, first = '', last = ''] = match
    if (first === '' && last === '') return { kind: 'whole' }
    if (first !== '' && last !== '' && Number(last) < Number(first)) return { kind: 'whole' }
    const part = partOf(first, last, blob.bytes)
    if (part.from < part.to) parts.push(part)
  }
  if (parts.length === 0) return { kind: 'unsatisfiable' }
  const total = parts.reduce((sum, { from, to }) => sum + to - from, 0)
  if (parts.length > 1 && total > blob.bytes) return { kind: 'whole' }
  return { kind: 'parts', parts }
}

function partOf(first: string, last: string, bytes: number): ByteRange {
  if (first === '') return { from: Math.max(0, bytes - Number(last)), to: bytes }
  const from = Number(first)
  return { from, to: last === '' ? bytes : Math.min(bytes, Number(last) + 1) }
}

/** `bytes 0-9/100`. */
export function contentRange({ from, to }: ByteRange, bytes: number): string {
  return `bytes ${from}-${to - 1}/${bytes}`
}

/** True when an `If-None-Match` names this version (RFC 9110, section 13.1.2: compared weakly). */
export function matchesNone(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header
    .slice(0, 8192)
    .split(',')
    .some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === etag)
}
