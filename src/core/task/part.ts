/** A part of a content, as it is asked for and as it comes out. */
import { DarnerError } from '../errors.ts'

/** [from, to), open to the end without `to`; or the last `last` bytes. */
export type PartAsk = { readonly from: number; readonly to?: number } | { readonly last: number }

/**
 * [from, to) of a content of `bytes` bytes, as HTTP reads ranges (RFC 9110, section 14.1.2): what reaches over the end stops there.
 * Throws NOT_FOUND where that is nothing.
 */
export function partOf(ask: PartAsk, bytes: number, what: string): { from: number; to: number } {
  const from = 'last' in ask ? Math.max(0, bytes - ask.last) : ask.from
  const to = Math.min(bytes, ('last' in ask ? undefined : ask.to) ?? bytes)
  if (from < to) return { from, to }
  throw new DarnerError('NOT_FOUND', `${what}: the range begins at byte ${from}, the content has ${bytes} bytes`)
}
