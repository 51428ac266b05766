/** What stands in one block of a tar header: numbers, texts, its sum. */
import { DarnerError } from '../../src/core/errors.ts'

export const BLOCK = 512
const MAX_SAFE = Number.MAX_SAFE_INTEGER
const SPACE = 0x20
/** Where a header's own sum stands, counted as blanks in it. */
const SUM_FROM = 148
const SUM_TO = 156
/** The most that state it: a blank or a NUL ends them. */
const SUM_DIGITS = 7

export const invalid = (what: string, cause?: unknown): DarnerError =>
  new DarnerError('LAYER_INVALID', `layer: ${what}`, cause === undefined ? {} : { cause })

/** Octal text padded with blanks and NULs, or GNU's big-endian base-256 when the first bit is set. Throws LAYER_INVALID. */
export function number(block: Buffer, from: number, width: number): number {
  const first = block[from] ?? 0
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x40 ? first - 0x100 : first & 0x7f)
    for (let at = from + 1; at < from + width; at++) value = value * 256n + BigInt(block[at] ?? 0)
    if (value > BigInt(MAX_SAFE) || value < -BigInt(MAX_SAFE)) throw invalid('a number in a header is out of range')
    return Number(value)
  }
  const value = octal(block, from, from + width)
  if (value === undefined) throw invalid('a number in a header is malformed')
  return value
}

/** Octal digits with blanks around them, up to a NUL; without digits 0. Undefined where anything else is among them, or their count is another. */
function octal(block: Buffer, from: number, to: number, least = 0, most = to - from): number | undefined {
  let at = from
  while (at < to && block[at] === SPACE) at++
  const first = at
  let value = 0
  for (; at < to; at++) {
    const digit = (block[at] ?? 0) - 0x30
    if (digit < 0 || digit > 7) break
    value = value * 8 + digit
  }
  const digits = at - first
  while (at < to && block[at] === SPACE) at++
  return (at === to || block[at] === 0) && digits >= least && digits <= most ? value : undefined
}

/** Header sums as unsigned and, as some old writers did, signed bytes. Throws LAYER_INVALID. */
export function checkSum(block: Buffer): void {
  let sum = (SUM_TO - SUM_FROM) * SPACE
  let high = 0
  for (let at = 0; at < BLOCK; at++) {
    if (at === SUM_FROM) at = SUM_TO
    const byte = block[at] ?? 0
    sum += byte
    high += byte >> 7
  }
  const stated = octal(block, SUM_FROM, SUM_TO, 1, SUM_DIGITS)
  if (stated !== sum && stated !== sum - high * 256)
    throw invalid('a header has a wrong checksum; this is not a tar archive, or it is damaged')
}

export function nameOf(block: Buffer): Buffer {
  const name = text(block, 0, 100)
  // only POSIX ustar has a prefix; the same bytes are something else in GNU's format
  const posix = block.toString('latin1', 257, 263) === 'ustar\0'
  const prefix = posix ? text(block, 345, 155) : Buffer.alloc(0)
  return prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name])
}

/** Text up to its NUL, in memory of its own. */
export const text = (block: Buffer, from: number, width: number): Buffer =>
  Buffer.from(untilNul(block.subarray(from, from + width)))

export function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

const ZERO = Buffer.alloc(BLOCK)
export const isZero = (block: Buffer): boolean => block.equals(ZERO)

export function sizeOf(value: number, what: string): number {
  if (value < 0) throw invalid(`a ${what} is negative`)
  return value
}
