/**
 * Reads a tar stream as it arrives: ustar, pax, GNU long names, the four GNU sparse forms, base-256 numbers. Names are bytes.
 * It says what stands on tape and judges only the form; what an entry may do to a tree is the business of `layer-plan.ts`.
 * (pax: POSIX.1-2024 "pax"; GNU forms: the tar manual, "Tar Internals".)
 */
import { DarnerError } from '../../src/core/errors.ts'
import { BLOCK, checkSum, invalid, isZero, nameOf, number, sizeOf, text, untilNul } from './tar-block.ts'
import {
  decimal,
  type Extent,
  MAX_DIGITS,
  MAX_SPARSE_CHUNKS,
  type Pax,
  readPax,
  sparseOf,
  timeOf,
  wholeNumber,
  xattrsOf,
} from './tar-pax.ts'

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

/**
 * What a reader calls, in order: `entry`, any number of `data`, `endEntry`, each with its `place` in the archive. Chunks are views and valid
 * until `push` returns.
 */
export interface TarSink {
  /** Its data, if it has any, begins at `place`, at the bound of a block. */
  entry(entry: TarEntry, place: number): void
  /** Data of the current file; `at` is its offset in the file. */
  data(at: number, chunk: Uint8Array, place: number): void
  endEntry(place: number): void
}

/** Pax headers and GNU long names of one entry, together. */
const MAX_META_BYTES = 1024 * 1024

type State =
  | { readonly at: 'header' }
  | { readonly at: 'meta'; readonly flag: 'x' | 'g' | 'L' | 'K'; readonly body: Buffer; filled: number }
  | { readonly at: 'sparse-more'; readonly draft: Draft }
  | { readonly at: 'sparse-map'; readonly draft: Draft; readonly numbers: number[]; rest: string; bytes: number }
  | { readonly at: 'data' }
  | { readonly at: 'ended' }

interface Draft {
  readonly entry: TarEntry
  readonly stored: number
  readonly extents?: Extent[]
}

export class TarReader {
  readonly #sink: TarSink
  readonly #block = Buffer.alloc(BLOCK)
  #blockFilled = 0
  /** Bytes of the archive before the chunk in hand, and up to what is read of it. */
  #before = 0
  #place = 0
  #state: State = { at: 'header' }
  #zeroBlocks = 0
  #pax: Pax = new Map()
  #longName: Buffer | undefined
  #longLink: Buffer | undefined
  #metaBytes = 0
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
    this.#read(chunk)
    this.#before += chunk.byteLength
  }

  #read(chunk: Uint8Array): void {
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
      this.#place = this.#before + at
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
        this.#metaBytes += size
        if (this.#metaBytes > MAX_META_BYTES)
          throw new DarnerError(
            'LIMIT_EXCEEDED',
            `layer: an entry's extended headers have ${this.#metaBytes} bytes, more than ${MAX_META_BYTES}`,
          )
        this.#padding = pad(size)
        this.#state = { at: 'meta', flag, body: Buffer.alloc(size), filled: 0 }
        if (size === 0) this.#endMeta(flag, Buffer.alloc(0))
        return
      case 'M':
        throw invalid('it is a part of a multi-volume archive')
    }
    const draft = this.#draft(flag, size)
    const stated = decimal(this.#pax.get('size')) ?? size
    this.#pax = new Map()
    this.#longName = undefined
    this.#longLink = undefined
    this.#metaBytes = 0
    if (draft === undefined) this.#skip(stated)
    else if (flag === 'S') this.#oldSparse(draft)
    else if (draft.extents !== undefined && draft.extents.length === 0 && draft.entry.sparse !== undefined) {
      this.#state = { at: 'sparse-map', draft, numbers: [], rest: '', bytes: 0 }
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

  /** GNU sparse 1.0: the map stands at the head of the body, decimal lines padded to a block; how many parts it has comes first. */
  #moreMap(state: Extract<State, { at: 'sparse-map' }>): void {
    const { draft, numbers } = state
    state.bytes += BLOCK
    if (state.bytes > draft.stored) throw invalid('a sparse map is longer than its entry')
    const lines = (state.rest + this.#block.toString('latin1')).split('\n')
    state.rest = lines.pop() ?? ''
    for (const line of lines) {
      numbers.push(wholeNumber(line, 'sparse map'))
      const [expected = 0] = numbers
      if (expected > MAX_SPARSE_CHUNKS)
        throw invalid(`a sparse map has ${expected} parts, more than ${MAX_SPARSE_CHUNKS}`)
      if (numbers.length <= 2 * expected) continue
      for (let at = 1; at < numbers.length; at += 2)
        draft.extents?.push({ at: numbers[at] ?? 0, bytes: numbers[at + 1] ?? 0 })
      this.#begin({ ...draft, stored: draft.stored - state.bytes })
      return
    }
    if (state.rest.length > MAX_DIGITS) throw invalid('a sparse map is malformed')
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
    this.#sink.entry(entry, this.#place)
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
      this.#sink.endEntry(this.#place)
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
      this.#sink.data(extent.at + this.#inExtent, chunk.subarray(from, from + take), this.#before + from)
      this.#inExtent += take
    }
    this.#left -= take
    this.#place = this.#before + from + take
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

const pad = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK
const nonEmpty = (value: Buffer | undefined): Buffer | undefined =>
  value === undefined || value.length === 0 ? undefined : value
/** A name from an archive, made fit for a message. */
export function show(path: Buffer): string {
  const readable = path.toString('utf8')
  return JSON.stringify(readable.length > 160 ? `${readable.slice(0, 160)}…` : readable)
}
