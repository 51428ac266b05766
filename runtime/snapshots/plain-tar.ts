/** Writes the one dialect of tar that mkfs.erofs is fed: ustar headers, pax records where ustar can't, data at block bounds, holes left out. */
import type { DirFacts } from './layer-plan.ts'
import type { TarEntry } from './tar.ts'
import { BLOCK } from './tar-block.ts'

/** What of a header is written here; zeros follow. */
const HEAD_BYTES = 345
const FLAGS = { file: '0', symlink: '2', char: '3', block: '4', fifo: '6' } as const
const OPAQUE_RECORD = 'SCHILY.xattr.trusted.overlay.opaque'
/** Largest number in 11 and in 7 octal digits. */
const MAX_11 = 8 ** 11 - 1
const MAX_7 = 8 ** 7 - 1
const MAGIC = Buffer.from('ustar\x0000')
const HOLE_BYTES = 64 * 1024
const ZEROS = new Uint8Array(HOLE_BYTES)

interface Head {
  readonly path: Buffer
  readonly flag: string
  readonly link?: Buffer
  readonly bytes?: number
  readonly facts: DirFacts
  readonly major?: number
  readonly minor?: number
  readonly opaque?: boolean
}

const NO_FACTS: DirFacts = { mode: 0o755, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map() }

/** Where it is written to. */
export interface TarTarget {
  readonly end: number
  put(bytes: Uint8Array): void
  skip(bytes: number): void
}

export class PlainTar {
  readonly #to: TarTarget
  #fileStart = 0
  #fileBytes = 0

  constructor(to: TarTarget) {
    this.#to = to
  }

  directory(path: Buffer, facts: DirFacts = NO_FACTS, opaque = false): void {
    this.#head({
      path: Buffer.concat([path.length === 0 ? Buffer.from('.') : path, Buffer.from('/')]),
      flag: '5',
      facts,
      opaque,
    })
  }

  whiteout(path: Buffer): void {
    this.#head({ path, flag: '3', facts: { ...NO_FACTS, mode: 0 } })
  }

  link(path: Buffer, target: Buffer): void {
    this.#head({ path, flag: '1', link: target, facts: NO_FACTS })
  }

  /** A file's data may follow; anything else is done. */
  entry(path: Buffer, entry: TarEntry): void {
    if (entry.kind === 'dir' || entry.kind === 'link') return
    const { link, major, minor } = entry
    const bytes = entry.kind === 'file' ? entry.bytes : 0
    this.#head({ path, flag: FLAGS[entry.kind], link, bytes, facts: entry, major, minor })
    this.#fileStart = this.#to.end
    this.#fileBytes = bytes
  }

  data(at: number, chunk: Uint8Array): void {
    this.#skipTo(this.#fileStart + at)
    this.#to.put(chunk)
  }

  endFile(): void {
    this.#skipTo(this.#fileStart + Math.ceil(this.#fileBytes / BLOCK) * BLOCK)
    this.#fileBytes = 0
  }

  end(): void {
    this.#to.put(ZEROS.subarray(0, BLOCK * 2))
  }

  /** Leaves a hole where one saves a block of the file system, else writes zeros. */
  #skipTo(place: number): void {
    const bytes = place - this.#to.end
    if (bytes >= HOLE_BYTES) this.#to.skip(bytes)
    else if (bytes > 0) this.#to.put(ZEROS.subarray(0, bytes))
  }

  #head(head: Head): void {
    const { path, facts, link, bytes = 0 } = head
    const records: Buffer[] = []
    if (path.length > 100) records.push(record('path', path))
    if (link !== undefined && link.length > 100) records.push(record('linkpath', link))
    if (bytes > MAX_11) records.push(record('size', Buffer.from(String(bytes))))
    if (facts.uid > MAX_7) records.push(record('uid', Buffer.from(String(facts.uid))))
    if (facts.gid > MAX_7) records.push(record('gid', Buffer.from(String(facts.gid))))
    const { seconds, nanoseconds } = facts.mtime
    if (nanoseconds > 0)
      records.push(record('mtime', Buffer.from(`${seconds}.${String(nanoseconds).padStart(9, '0')}`)))
    for (const [name, value] of facts.xattrs) records.push(record(`SCHILY.xattr.${name}`, value))
    if (head.opaque === true) records.push(record(OPAQUE_RECORD, Buffer.from('y')))
    if (records.length > 0) {
      const body = Buffer.concat(records)
      this.#to.put(block({ path: Buffer.from('pax'), flag: 'x', bytes: body.length, facts: NO_FACTS }))
      this.#to.put(body)
      const rest = body.length % BLOCK
      if (rest > 0) this.#to.put(ZEROS.subarray(0, BLOCK - rest))
    }
    this.#to.put(block(head))
  }
}

function record(key: string, value: Buffer): Buffer {
  const tail = key.length + value.length + 3 // blank, equals sign, newline; keys with other than ASCII are measured below
  const keyBytes = Buffer.from(key)
  const fixed = tail - key.length + keyBytes.length
  let length = fixed + 1
  while (String(length).length + fixed !== length) length = String(length).length + fixed
  return Buffer.concat([Buffer.from(`${length} `), keyBytes, Buffer.from('='), value, Buffer.from('\n')])
}

function block({ path, flag, link, bytes = 0, facts, major = 0, minor = 0 }: Head): Buffer {
  const out = Buffer.allocUnsafe(BLOCK).fill(0) // one of a pool, unlike what alloc gives
  path.copy(out, 0, 0, 100)
  octal(out, facts.mode, 100, 7)
  octal(out, Math.min(facts.uid, MAX_7), 108, 7)
  octal(out, Math.min(facts.gid, MAX_7), 116, 7)
  octal(out, Math.min(bytes, MAX_11), 124, 11)
  octal(out, facts.mtime.seconds, 136, 11)
  out.fill(0x20, 148, 156)
  out.write(flag, 156, 'latin1')
  link?.copy(out, 157, 0, 100)
  MAGIC.copy(out, 257)
  octal(out, major, 329, 7)
  octal(out, minor, 337, 7)
  let sum = 0
  for (let at = 0; at < HEAD_BYTES; at++) sum += out[at] ?? 0
  octal(out, sum, 148, 6)
  out[154] = 0
  return out
}

function octal(into: Buffer, value: number, at: number, digits: number): void {
  let rest = value
  for (let place = at + digits - 1; place >= at; place--) {
    into[place] = 0x30 + (rest % 8)
    rest = Math.floor(rest / 8)
  }
}
