/** Pax records (POSIX.1-2024 "pax"), and what they say in place of a header's own fields; GNU's sparse maps among them. */
import { invalid, sizeOf } from './tar-block.ts'

export const MAX_SPARSE_CHUNKS = 262_144
/** Of a number. */
export const MAX_DIGITS = 16
const DIGITS = new RegExp(`^\\d{1,${MAX_DIGITS}}$`)

export type Pax = Map<string, Buffer>
/** Where data lies in a sparse file. */
export type Extent = { at: number; bytes: number }

/** Records of a pax header. Version 0.0 of GNU's sparse form repeats two keys; they are folded into a 0.1 map here. */
export function readPax(body: Buffer): Pax {
  const records: Pax = new Map()
  const map: string[] = []
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at)
    if (space < 0 || space - at > 8) throw invalid('a pax record is malformed')
    const length = wholeNumber(body.toString('latin1', at, space), 'pax record length')
    const end = at + length
    const equals = body.indexOf(0x3d, space)
    if (length < 5 || end > body.length || body[end - 1] !== 0x0a || equals < 0 || equals >= end)
      throw invalid('a pax record is malformed')
    const key = body.toString('utf8', space + 1, equals)
    const value = body.subarray(equals + 1, end - 1)
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') map.push(value.toString('latin1'))
    else records.set(key, value)
    at = end
  }
  if (map.length > 0) records.set('GNU.sparse.map', Buffer.from(map.join(',')))
  return records
}

export function xattrsOf(pax: Pax): ReadonlyMap<string, Buffer> {
  const found = new Map<string, Buffer>()
  for (const [key, value] of pax) if (key.startsWith('SCHILY.xattr.')) found.set(key.slice(13), value)
  return found
}

/** GNU sparse 0.0 and 0.1 (the map is here) and 1.0 (it follows: `extents` is empty yet). */
export function sparseOf(pax: Pax): { bytes: number; extents: Extent[] } | undefined {
  const modern = pax.get('GNU.sparse.major')?.toString() === '1'
  const size = decimal(pax.get('GNU.sparse.realsize')) ?? decimal(pax.get('GNU.sparse.size'))
  if (modern) {
    if (size === undefined) throw invalid('a sparse entry states no size')
    return { bytes: sizeOf(size, 'real size'), extents: [] }
  }
  const map = pax.get('GNU.sparse.map')?.toString('latin1')
  if (map === undefined || size === undefined) return undefined
  const numbers = map === '' ? [] : map.split(',').map((part) => wholeNumber(part, 'sparse map'))
  if (numbers.length % 2 !== 0 || numbers.length > MAX_SPARSE_CHUNKS * 2) throw invalid('a sparse map is malformed')
  const extents: Extent[] = []
  for (let at = 0; at < numbers.length; at += 2) extents.push({ at: numbers[at] ?? 0, bytes: numbers[at + 1] ?? 0 })
  // an explicit last part of no bytes keeps an all-holes map from looking like one that follows
  extents.push({ at: sizeOf(size, 'real size'), bytes: 0 })
  return { bytes: size, extents }
}

export function timeOf(value: Buffer | undefined): { seconds: number; nanoseconds: number } | undefined {
  if (value === undefined || value.length === 0) return undefined
  const match = /^(-?\d{1,15})(?:\.(\d*))?$/.exec(value.toString('latin1'))
  if (match === null) throw invalid('a pax time is malformed')
  const seconds = Number(match[1])
  const nanoseconds = Number((match[2] ?? '').slice(0, 9).padEnd(9, '0'))
  if (value[0] !== 0x2d || nanoseconds === 0) return { seconds, nanoseconds }
  // they count forwards
  return { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds }
}

export function decimal(value: Buffer | undefined): number | undefined {
  return value === undefined || value.length === 0
    ? undefined
    : wholeNumber(value.toString('latin1'), 'number in a pax record')
}

export function wholeNumber(digits: string, what: string): number {
  const value = DIGITS.test(digits) ? Number(digits) : Number.NaN
  if (!Number.isSafeInteger(value)) throw invalid(`a ${what} is malformed`)
  return value
}
