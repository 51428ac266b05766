/**
 * Reads a tar stream as it arrives: ustar, pax, GNU long names, the four GNU sparse forms, base-256 numbers. Names are bytes.
 * It says what stands on tape and judges only the form; what an entry may do to a tree is the business of `layer-plan.ts`.
 * (pax: POSIX.1-2024 "pax"; GNU forms: the tar manual, "Tar Internals".)
 */
import { DarnerError } from '../../src/base/errors.ts'

export type TarKind = 'file' | 'dir' | 'symlink' | 'link' | 'char' | 'block' | 'fifo'

export interface TarEntry {
  readonly kind: TarKind
  /** The name as written: it may be absolute, hold `..`, anything but NUL. */
  readonly path: Buffer
  /** Target of a symlink or hard link, else empty. */
  readonly link: Buffer
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number }
  readonly major: number
  readonly minor: number
  /** Apparent size of a file; holes included. */
  readonly bytes: number
  /** Extended attributes by full name (`user.x`), values as they are. */
  readonly xattrs: ReadonlyMap<string, Buffer>
  /** Where data lies in a sparse file, ascending; absent when there are no holes. */
  readonly sparse?: readonly { readonly at: number; readonly bytes: number }[]
}

/** What a reader calls, in order: `entry`, any number of `data`, `endEntry`. Chunks are views and valid until `push` returns. */
export interface TarSink {
  entry(entry: TarEntry): void
  /** Data of the current file; `at` is its offset in the file. */
  data(at: number, chunk: Uint8Array): void
  endEntry(): void
}

/** Longest pax header, GNU long name or sparse map that is read. */
const MAX_META_BYTES = 1024 * 1024
const MAX_SPARSE_CHUNKS = 262_144
const MAX_SAFE = Number.MAX_SAFE_INTEGER
const BLOCK = 512

type Pax = Map<string, Buffer>
type Extent = { at: number; bytes: number }

type State =
  | { readonly at: 'header' }
  | { readonly at: 'meta'; readonly flag: 'x' | 'g' | 'L' | 'K'; readonly body: Buffer; filled: number }
  | { readonly at: 'sparse-more'; readonly draft: Draft }
  | { readonly at: 'sparse-map'; readonly draft: Draft; text: string }
  | { readonly at: 'data' }
  | { readonly at: 'ended' }

interface Draft {
  readonly entry: TarEntry
  readonly stored: number
  readonly extents?: Extent[]
}

const invalid = (what: string): DarnerError => new DarnerError('LAYER_INVALID', `layer: ${what}`)

export class TarReader {
  readonly #sink: TarSink
  readonly #block = Buffer.alloc(BLOCK)
  #blockFilled = 0
  #state: State = { at: 'header' }
  #zeroBlocks = 0
  #pax: Pax = new Map()
  #longName: Buffer | undefined
  #longLink: Buffer | undefined
  // the running body: what is left of it and of its padding, and where in the file the next byte belongs
  #left = 0
  #padding = 0
  #live = false
  #extents: readonly Extent[] = []
  #extent = 0
  #inExtent = 0

  constructor(sink: TarSink) {
    this.#sink = sink
  }

  /** Takes the next bytes. Throws LAYER_INVALID, or what the sink throws. */
  push(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.byteLength) {
      if (this.#state.at === 'ended') return
      if (this.#state.at === 'data') {
        at += this.#takeBody(chunk, at)
        continue
      }
      if (this.#state.at === 'meta') {
        at += this.#takeMeta(this.#state, chunk, at)
        continue
      }
      const take = Math.min(BLOCK - this.#blockFilled, chunk.byteLength - at)
      this.#block.set(chunk.subarray(at, at + take), this.#blockFilled)
      this.#blockFilled += take
      at += take
      if (this.#blockFilled < BLOCK) return
      this.#blockFilled = 0
      this.#takeBlock()
    }
  }

  /** The stream is over. Throws LAYER_INVALID when it ended inside an entry. */
  finish(): void {
    if (this.#state.at === 'ended') return
    const clean =
      this.#state.at === 'header' && this.#blockFilled === 0 && this.#pax.size === 0 && this.#longName === undefined
    if (!clean) throw invalid('the archive ends inside an entry')
  }

  #takeBlock(): void {
    const state = this.#state
    if (state.at === 'sparse-more') this.#moreSparse(state.draft)
    else if (state.at === 'sparse-map') this.#moreMap(state)
    else this.#header()
  }

  #header(): void {
    const block = this.#block
    if (isZero(block)) {
      if (++this.#zeroBlocks === 2) this.#state = { at: 'ended' }
      return
    }
    this.#zeroBlocks = 0
    checkSum(block)
    const flag = String.fromCharCode(block[156] ?? 0)
    const size = sizeOf(number(block, 124, 12), 'size')
    switch (flag) {
      case 'x':
      case 'g':
      case 'L':
      case 'K':
        if (size > MAX_META_BYTES)
          throw new DarnerError(
            'LIMIT_EXCEEDED',
            `layer: an extended header has ${size} bytes, more than ${MAX_META_BYTES}`,
          )
        this.#padding = pad(size)
        this.#state = { at: 'meta', flag, body: Buffer.alloc(size), filled: 0 }
        if (size === 0) this.#endMeta(flag, Buffer.alloc(0))
        return
      case 'M':
        throw invalid('it is a part of a multi-volume archive')
    }
    const draft = this.#draft(flag, size)
    this.#pax = new Map()
    this.#longName = undefined
    this.#longLink = undefined
    if (draft === undefined) this.#skip(size)
    else if (flag === 'S') this.#oldSparse(draft)
    else if (draft.extents !== undefined && draft.extents.length === 0 && draft.entry.sparse !== undefined) {
      this.#state = { at: 'sparse-map', draft, text: '' }
    } else this.#begin(draft)
  }

  #draft(flag: string, size: number): Draft | undefined {
    const block = this.#block
    const pax = this.#pax
    const path = nonEmpty(pax.get('GNU.sparse.name')) ?? nonEmpty(pax.get('path')) ?? this.#longName ?? nameOf(block)
    const kind = kindOf(flag, path)
    if (kind === undefined) return undefined
    if (path.includes(0)) throw invalid('a name holds a NUL byte')
    const isFile = kind === 'file'
    const stored = isFile ? sizeOf(decimal(pax.get('size')) ?? size, 'size') : 0
    const link =
      kind === 'link' || kind === 'symlink'
        ? (nonEmpty(pax.get('linkpath')) ?? this.#longLink ?? text(block, 157, 100))
        : Buffer.alloc(0)
    if (link.includes(0)) throw invalid('a link target holds a NUL byte')
    const sparse = isFile ? sparseOf(pax) : undefined
    const isDevice = kind === 'char' || kind === 'block'
    const entry: TarEntry = {
      kind,
      path,
      link,
      mode: number(block, 100, 8) & 0o7777,
      uid: decimal(pax.get('uid')) ?? number(block, 108, 8),
      gid: decimal(pax.get('gid')) ?? number(block, 116, 8),
      mtime: timeOf(pax.get('mtime')) ?? { seconds: number(block, 136, 12), nanoseconds: 0 },
      major: isDevice ? number(block, 329, 8) : 0,
      minor: isDevice ? number(block, 337, 8) : 0,
      bytes: sparse?.bytes ?? stored,
      xattrs: xattrsOf(pax),
      ...(sparse === undefined ? {} : { sparse: sparse.extents }),
    }
    return { entry, stored, ...(sparse === undefined ? {} : { extents: sparse.extents }) }
  }

  #oldSparse(draft: Draft): void {
    const block = this.#block
    const extents: Extent[] = []
    readSlots(block, 386, 4, extents)
    const bytes = sizeOf(number(block, 483, 12), 'real size')
    const grown: Draft = { entry: { ...draft.entry, bytes, sparse: extents }, stored: draft.stored, extents }
    if (block[482] === 1) this.#state = { at: 'sparse-more', draft: grown }
    else this.#begin(grown)
  }

  #moreSparse(draft: Draft): void {
    readSlots(this.#block, 0, 21, draft.extents ?? [])
    if (this.#block[504] !== 1) this.#begin(draft)
  }

  /** GNU sparse 1.0: the map stands at the head of the body, decimal lines padded to a block. */
  #moreMap(state: { readonly at: 'sparse-map'; readonly draft: Draft; text: string }): void {
    const { draft } = state
    state.text += this.#block.toString('latin1')
    if (state.text.length > MAX_META_BYTES * 8) throw invalid('a sparse map is too long')
    if (state.text.length > draft.stored) throw invalid('a sparse map is longer than its entry')
    const count = /^(\d{1,9})\n/.exec(state.text)
    if (count === null) {
      if (/^\d{0,9}$/.test(state.text)) return
      throw invalid('a sparse map is malformed')
    }
    const expected = Number(count[1])
    if (expected > MAX_SPARSE_CHUNKS)
      throw invalid(`a sparse map has ${expected} parts, more than ${MAX_SPARSE_CHUNKS}`)
    const lines = state.text.split('\n')
    if (lines.length - 1 < 1 + 2 * expected) return
    const numbers = lines.slice(1, 1 + 2 * expected).map((line) => wholeNumber(line, 'sparse map'))
    for (let at = 0; at < numbers.length; at += 2)
      draft.extents?.push({ at: numbers[at] ?? 0, bytes: numbers[at + 1] ?? 0 })
    this.#begin({ ...draft, stored: draft.stored - state.text.length })
  }

  #begin(draft: Draft): void {
    const { entry, stored, extents } = draft
    if (extents !== undefined) {
      if (extents.length > MAX_SPARSE_CHUNKS) throw invalid('a sparse map has too many parts')
      let end = 0
      let sum = 0
      for (const { at, bytes } of extents) {
        if (at < end || at + bytes > entry.bytes)
          throw invalid(`the sparse map of ${show(entry.path)} is out of order or out of the file`)
        end = at + bytes
        sum += bytes
      }
      if (sum !== stored)
        throw invalid(`the sparse map of ${show(entry.path)} covers ${sum} bytes, the archive holds ${stored}`)
    }
    this.#extents = extents ?? [{ at: 0, bytes: stored }]
    this.#extent = 0
    this.#inExtent = 0
    this.#live = true
    this.#left = stored
    this.#padding = pad(stored)
    this.#sink.entry(entry)
    this.#afterBody()
  }

  #skip(size: number): void {
    this.#live = false
    this.#left = size
    this.#padding = pad(size)
    this.#afterBody()
  }

  #afterBody(): void {
    if (this.#left > 0) {
      this.#state = { at: 'data' }
      return
    }
    if (this.#live) {
      this.#live = false
      this.#sink.endEntry()
    }
    this.#state = this.#padding > 0 ? { at: 'data' } : { at: 'header' }
  }

  #takeBody(chunk: Uint8Array, from: number): number {
    const available = chunk.byteLength - from
    if (this.#left === 0) {
      const take = Math.min(this.#padding, available)
      this.#padding -= take
      if (this.#padding === 0) this.#state = { at: 'header' }
      return take
    }
    let take = Math.min(this.#left, available)
    if (this.#live) {
      let extent = this.#extents[this.#extent]
      while (extent !== undefined && extent.bytes === this.#inExtent) {
        extent = this.#extents[++this.#extent]
        this.#inExtent = 0
      }
      if (extent === undefined) throw invalid('more data than its sparse map tells')
      take = Math.min(take, extent.bytes - this.#inExtent)
      this.#sink.data(extent.at + this.#inExtent, chunk.subarray(from, from + take))
      this.#inExtent += take
    }
    this.#left -= take
    if (this.#left === 0) this.#afterBody()
    return take
  }

  #takeMeta(state: Extract<State, { at: 'meta' }>, chunk: Uint8Array, from: number): number {
    const available = chunk.byteLength - from
    const take = Math.min(state.body.length - state.filled, available)
    state.body.set(chunk.subarray(from, from + take), state.filled)
    state.filled += take
    if (state.filled < state.body.length) return take
    const padding = Math.min(this.#padding, available - take)
    this.#padding -= padding
    if (this.#padding === 0) this.#endMeta(state.flag, state.body)
    return take + padding
  }

  #endMeta(flag: 'x' | 'g' | 'L' | 'K', body: Buffer): void {
    this.#state = { at: 'header' }
    if (flag === 'x') for (const [key, value] of readPax(body)) this.#pax.set(key, value)
    else if (flag === 'L') this.#longName = untilNul(body)
    else if (flag === 'K') this.#longLink = untilNul(body)
    // a global header carries comments (git archive); as in other engines it changes no entry
  }
}

function kindOf(flag: string, path: Buffer): TarKind | undefined {
  switch (flag) {
    case '\0':
      return path.at(-1) === 0x2f ? 'dir' : 'file'
    case '0':
    case '7':
    case 'S':
      return 'file'
    case '1':
      return 'link'
    case '2':
      return 'symlink'
    case '3':
      return 'char'
    case '4':
      return 'block'
    case '5':
      return 'dir'
    case '6':
      return 'fifo'
    default:
      return undefined
  }
}

function nameOf(block: Buffer): Buffer {
  const name = text(block, 0, 100)
  // only POSIX ustar has a prefix; the same bytes are something else in GNU's format
  const posix = block.toString('latin1', 257, 263) === 'ustar\0'
  const prefix = posix ? text(block, 345, 155) : Buffer.alloc(0)
  return prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name])
}

function xattrsOf(pax: Pax): ReadonlyMap<string, Buffer> {
  const found = new Map<string, Buffer>()
  for (const [key, value] of pax) if (key.startsWith('SCHILY.xattr.')) found.set(key.slice(13), value)
  return found
}

/** GNU sparse 0.0 and 0.1 (the map is here) and 1.0 (it follows: `extents` is empty yet). */
function sparseOf(pax: Pax): { bytes: number; extents: Extent[] } | undefined {
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

/** Records of a pax header. Version 0.0 of GNU's sparse form repeats two keys; they are folded into a 0.1 map here. */
function readPax(body: Buffer): Pax {
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

function readSlots(block: Buffer, from: number, count: number, into: Extent[]): void {
  for (let slot = 0; slot < count; slot++) {
    const at = from + slot * 24
    if (block[at] === 0) return
    into.push({
      at: sizeOf(number(block, at, 12), 'sparse offset'),
      bytes: sizeOf(number(block, at + 12, 12), 'sparse length'),
    })
    if (into.length > MAX_SPARSE_CHUNKS) throw invalid('a sparse map has too many parts')
  }
}

/** Octal text padded with blanks and NULs, or GNU's big-endian base-256 when the first bit is set. */
function number(block: Buffer, from: number, width: number): number {
  const first = block[from] ?? 0
  if ((first & 0x80) !== 0) {
    let value = BigInt(first & 0x40 ? first - 0x100 : first & 0x7f)
    for (let at = from + 1; at < from + width; at++) value = value * 256n + BigInt(block[at] ?? 0)
    if (value > BigInt(MAX_SAFE) || value < -BigInt(MAX_SAFE)) throw invalid('a number in a header is out of range')
    return Number(value)
  }
  const digits = untilNul(block.subarray(from, from + width))
    .toString('latin1')
    .trim()
  if (digits === '') return 0
  if (!/^[0-7]+$/.test(digits)) throw invalid('a number in a header is malformed')
  return Number.parseInt(digits, 8)
}

/** Header sums as unsigned and, as some old writers did, signed bytes. */
function checkSum(block: Buffer): void {
  let unsigned = 256
  let signed = 256
  for (let at = 0; at < BLOCK; at++) {
    if (at >= 148 && at < 156) continue
    const byte = block[at] ?? 0
    unsigned += byte
    signed += byte > 127 ? byte - 256 : byte
  }
  const digits = untilNul(block.subarray(148, 156)).toString('latin1').trim()
  const stated = /^[0-7]{1,7}$/.test(digits) ? Number.parseInt(digits, 8) : -1
  if (stated !== unsigned && stated !== signed)
    throw invalid('a header has a wrong checksum; this is no tar archive, or a damaged one')
}

function timeOf(value: Buffer | undefined): { seconds: number; nanoseconds: number } | undefined {
  if (value === undefined || value.length === 0) return undefined
  const match = /^(-?\d{1,15})(?:\.(\d*))?$/.exec(value.toString('latin1'))
  if (match === null) throw invalid('a pax time is malformed')
  return { seconds: Number(match[1]), nanoseconds: Number((match[2] ?? '').slice(0, 9).padEnd(9, '0')) }
}

function decimal(value: Buffer | undefined): number | undefined {
  return value === undefined || value.length === 0
    ? undefined
    : wholeNumber(value.toString('latin1'), 'number in a pax record')
}

function wholeNumber(digits: string, what: string): number {
  const value = /^\d{1,16}$/.test(digits) ? Number(digits) : Number.NaN
  if (!Number.isSafeInteger(value)) throw invalid(`a ${what} is malformed`)
  return value
}

function sizeOf(value: number, what: string): number {
  if (value < 0) throw invalid(`a ${what} is negative`)
  return value
}

const pad = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK
const nonEmpty = (value: Buffer | undefined): Buffer | undefined =>
  value === undefined || value.length === 0 ? undefined : value
const text = (block: Buffer, from: number, width: number): Buffer =>
  Buffer.from(untilNul(block.subarray(from, from + width)))

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0)
  return end < 0 ? bytes : bytes.subarray(0, end)
}

const ZERO = Buffer.alloc(BLOCK)
const isZero = (block: Buffer): boolean => block.equals(ZERO)

/** A name from an archive, made fit for a message. */
export function show(path: Buffer): string {
  const readable = path.toString('utf8')
  return JSON.stringify(readable.length > 160 ? `${readable.slice(0, 160)}…` : readable)
}
