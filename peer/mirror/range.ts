/** What a `Range` header asks of a blob of known length (RFC 9110, section 14). */

import { parse } from 'range-parser'

/** The parser's flag for a range that is malformed. It leaves out those that have no byte of the blob. */
const INVALID = 1

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
 * Decides about a blob of `bytes` bytes whose only validator is the strong `etag`. A header that is not a byte range is ignored. So is one
 * whose `If-Range` names another version, and one that asks for more bytes than there are.
 */
export function decideRange(
  header: string | undefined,
  ifRange: string | undefined,
  blob: { readonly bytes: number; readonly etag: string },
): RangeDecision {
  if (header === undefined || (ifRange !== undefined && ifRange.trim() !== blob.etag)) return { kind: 'whole' }
  const { type, code, ranges } = parse(blob.bytes, header)
  if (type !== 'bytes' || (code & INVALID) !== 0) return { kind: 'whole' }
  if (ranges.length === 0) return { kind: 'unsatisfiable' }
  if (ranges.length > MAX_RANGES) return { kind: 'tooMany', count: ranges.length }
  const parts = ranges.map(({ start, end }) => ({ from: start, to: end + 1 }))
  const total = parts.reduce((sum, { from, to }) => sum + to - from, 0)
  return parts.length > 1 && total > blob.bytes ? { kind: 'whole' } : { kind: 'parts', parts }
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
