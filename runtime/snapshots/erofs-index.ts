/**
 * An EROFS image of a layer's tree without the data of its files, which lies in another file, the image's extra device. Inodes of all but
 * directories are written while the layer is read, directories at its end. (Linux, fs/erofs/erofs_fs.h, has names and places of the fields.)
 */
import { DarnerError } from '../../src/core/errors.ts'
import { S_IF } from '../linux/syscalls.ts'
import { INODE, type Inode, LAYOUT, writeInode, xattrBody } from './erofs-inode.ts'
import type { DirFacts, PlanDir, PlanNode } from './layer-plan.ts'
import { OPAQUE_XATTR } from './overlay.ts'
import type { TarEntry } from './tar.ts'
import { BLOCK } from './tar-block.ts'

/** Blocks are tar's, so that data can stay where it is in an archive. */
const BLOCK_BITS = 9
const MAX_BLOCKS = 2 ** 32 - 1
const MAGIC = 0xe0f5e1e2
const SUPER_AT = 1024
/** `erofs_super_block`: places of what isn't zero. */
const SUPER = {
  magic: 0,
  featureCompat: 8,
  blockBits: 12,
  rootNid: 14,
  inos: 16,
  blocks: 36,
  uuid: 48,
  featureIncompat: 80,
  extraDevices: 86,
  deviceSlot: 88,
} as const
const UUID_BYTES = 16
const COMPAT_MTIME = 2
const INCOMPAT = { chunkedFile: 4, deviceTable: 8 } as const
const SLOT_BYTES = 128
const DEVICE_AT = SUPER_AT + SLOT_BYTES
/** `erofs_deviceslot`. */
const DEVICE = { blocks: 64, mappedBlock: 68 } as const
/** The number of an inode is its place in these. */
const NID_BYTES = 32
/** First of all inodes, since the superblock has 16 bits for its number. */
const ROOT_AT = DEVICE_AT + SLOT_BYTES
const CHUNK_INDEXES = 0x20
/** A chunk has at most as many blocks as 2 to the power of this. */
const MAX_CHUNK_BITS = 31
/** `erofs_inode_chunk_index`. */
const CHUNK = { device: 2, block: 4, bytes: 8 } as const
/** `erofs_dirent`. */
const DIRENT = { nid: 0, nameAt: 8, type: 10, bytes: 12 } as const
const TYPE_BITS = 0xf000
const TYPE_DIR = 2
/** `EROFS_FT_…` of what is no directory. */
const TYPES: Readonly<Record<number, number>> = {
  [S_IF.REG]: 1,
  [S_IF.CHR]: 3,
  [S_IF.BLK]: 4,
  [S_IF.FIFO]: 5,
  [S_IF.LNK]: 7,
}
const MODES = { symlink: S_IF.LNK, char: S_IF.CHR, block: S_IF.BLK, fifo: S_IF.FIFO } as const
const OPAQUE = [OPAQUE_XATTR, Buffer.from('y')] as const
const NO_FACTS: DirFacts = { mode: 0, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map() }
const PLAIN_DIR: DirFacts = { ...NO_FACTS, mode: 0o755 }
const NOTHING = new Uint8Array(0)
const FIRST_BYTES = 1024 * 1024
/** It is made in memory. Two million entries of common names take a fifth of it. */
const MAX_BYTES = 1024 ** 3

/** A directory, where its entries go, and their names in the order of their bytes. */
interface PlacedDir {
  readonly dir: PlanDir
  readonly parent: PlanDir
  readonly names: readonly string[]
  readonly at: number
}

export class ErofsIndex {
  readonly #mostBytes: number
  /**
   * All that comes behind the root's inode. Marks and places are offsets in it; in the image they are further on by the bytes before it.
   */
  #bytes = new Uint8Array(FIRST_BYTES)
  #view = new DataView(this.#bytes.buffer)
  #end = 0
  /** Inodes with blocks of their own, which aren't counted from the image's beginning yet. */
  readonly #inBlocks: number[] = []

  /** Of more than `mostBytes` there is none: what would make it so throws LIMIT_EXCEEDED. */
  constructor({ mostBytes = MAX_BYTES }: { mostBytes?: number } = {}) {
    this.#mostBytes = mostBytes
  }

  /** The mark of a file whose data is at `at` of the data file. Throws LIMIT_EXCEEDED where numbers of blocks end. */
  file(entry: TarEntry, at: number): number {
    const { bytes } = entry
    const first = at / BLOCK
    if (first + bytes / BLOCK >= MAX_BLOCKS)
      throw new DarnerError('LIMIT_EXCEEDED', `layer: its data has more than ${MAX_BLOCKS} blocks of ${BLOCK} bytes`)
    const inode = { mode: S_IF.REG | entry.mode, facts: entry, xattrs: xattrBody(entry.xattrs), size: bytes }
    if (bytes === 0) return this.#put({ ...inode, layout: LAYOUT.plain, unit: 0 })
    let bits = 0
    while (bits < MAX_CHUNK_BITS && bytes > BLOCK * 2 ** bits) bits++
    const chunks = Math.ceil(bytes / (BLOCK * 2 ** bits))
    const before = align(INODE.bytes + inode.xattrs.length, CHUNK.bytes)
    const mark = this.#room(before + chunks * CHUNK.bytes, INODE.bytes)
    writeInode(this.#bytes, this.#view, mark, { ...inode, layout: LAYOUT.chunks, unit: CHUNK_INDEXES | bits })
    for (let chunk = 0; chunk < chunks; chunk++) {
      const index = mark + before + chunk * CHUNK.bytes
      this.#view.setUint16(index + CHUNK.device, 1, true)
      this.#view.setUint32(index + CHUNK.block, first + chunk * 2 ** bits, true)
    }
    return mark
  }

  /** The mark of a symlink, device or fifo. */
  special(entry: TarEntry & { readonly kind: keyof typeof MODES }): number {
    const { kind, major, minor } = entry
    const inode = { mode: MODES[kind] | entry.mode, facts: entry, xattrs: xattrBody(entry.xattrs) }
    if (kind === 'symlink') {
      const { mark, at } = this.#putWithData(inode, entry.link.length)
      this.#bytes.set(entry.link, at)
      return mark
    }
    const device = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)
    return this.#put({ ...inode, layout: LAYOUT.plain, size: 0, unit: kind === 'fifo' ? 0 : device >>> 0 })
  }

  /** The mark of what hides a name of lower layers. */
  whiteout(): number {
    return this.#put({ mode: S_IF.CHR, facts: NO_FACTS, xattrs: NOTHING, layout: LAYOUT.plain, size: 0, unit: 0 })
  }

  /** The image, as two parts of it, for a data file of `dataBytes`. All below `root` but directories have marks. Call it once. */
  finish(root: PlanDir, { uuid, dataBytes }: { uuid: Uint8Array; dataBytes: number }): [Uint8Array, Uint8Array] {
    const head = new Uint8Array(align(ROOT_AT + INODE.bytes + dirXattrs(root).length, BLOCK))
    const view = new DataView(head.buffer)
    // each names its parent, and is named by it: all have their places before the first is written
    const placed = [...this.#placeDirs(root, head)]
    for (const mark of this.#inBlocks) this.#addTo(mark + INODE.unit, head.length / BLOCK)
    const numberOf = (node: PlanNode) => (node === root ? ROOT_AT : head.length + node.mark) / NID_BYTES
    let inos = placed.length
    for (const one of placed) inos += this.#fill(one, numberOf)
    this.#room(0, 0, BLOCK)
    const blocks = (head.length + this.#end) / BLOCK
    view.setUint32(SUPER_AT + SUPER.magic, MAGIC, true)
    view.setUint32(SUPER_AT + SUPER.featureCompat, COMPAT_MTIME, true)
    view.setUint8(SUPER_AT + SUPER.blockBits, BLOCK_BITS)
    view.setUint16(SUPER_AT + SUPER.rootNid, ROOT_AT / NID_BYTES, true)
    view.setUint32(SUPER_AT + SUPER.inos, inos, true)
    view.setUint32(SUPER_AT + SUPER.blocks, blocks, true)
    head.set(uuid.subarray(0, UUID_BYTES), SUPER_AT + SUPER.uuid)
    view.setUint32(SUPER_AT + SUPER.featureIncompat, INCOMPAT.chunkedFile | INCOMPAT.deviceTable, true)
    view.setUint16(SUPER_AT + SUPER.extraDevices, 1, true)
    view.setUint16(SUPER_AT + SUPER.deviceSlot, DEVICE_AT / SLOT_BYTES, true)
    view.setUint32(DEVICE_AT + DEVICE.blocks, Math.ceil(dataBytes / BLOCK), true)
    view.setUint32(DEVICE_AT + DEVICE.mappedBlock, blocks, true)
    return [head, this.#bytes.subarray(0, this.#end)]
  }

  /** Gives each directory its inode, the root's in `head`, and room for its entries. */
  *#placeDirs(root: PlanDir, head: Uint8Array): Generator<PlacedDir> {
    const waiting: { dir: PlanDir; parent: PlanDir }[] = [{ dir: root, parent: root }]
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const { dir, parent } = next
      let links = 2
      for (const child of dir.children.values()) {
        if (child.kind !== 'dir') continue
        links++
        waiting.push({ dir: child, parent: dir })
      }
      const names = ['.', '..', ...dir.children.keys()].sort()
      const facts = dir.facts ?? PLAIN_DIR
      const inode = { mode: S_IF.DIR | facts.mode, facts, xattrs: dirXattrs(dir) }
      if (dir === root) {
        const size = sizeOf(names)
        const at = this.#blocks(size)
        const view = new DataView(head.buffer)
        const unit = (head.length + at) / BLOCK
        writeInode(head, view, ROOT_AT, { ...inode, layout: LAYOUT.plain, size, unit })
        view.setUint32(ROOT_AT + INODE.links, links, true)
        yield { dir, parent, names, at }
      } else {
        const { mark, at } = this.#putWithData(inode, sizeOf(names))
        dir.mark = mark
        this.#addTo(mark + INODE.links, links)
        yield { dir, parent, names, at }
      }
    }
  }

  /** Writes a directory's entries; how many of them are files and the like that weren't in another. */
  #fill({ dir, parent, names, at }: PlacedDir, numberOf: (node: PlanNode) => number): number {
    let fresh = 0
    for (let from = 0, block = at; from < names.length; block += BLOCK) {
      const to = endOfBlock(names, from)
      let nameAt = (to - from) * DIRENT.bytes
      for (let entry = block; from < to; from++, entry += DIRENT.bytes) {
        const name = names[from] ?? ''
        const node = name === '.' ? dir : name === '..' ? parent : dir.children.get(name)
        if (node === undefined) continue
        if (node.kind !== 'dir' && this.#addTo(node.mark + INODE.links, 1) === 1) fresh++
        const mode = node.kind === 'dir' ? 0 : this.#view.getUint16(node.mark + INODE.mode, true) & TYPE_BITS
        this.#view.setUint32(entry + DIRENT.nid, numberOf(node), true)
        this.#view.setUint16(entry + DIRENT.nameAt, nameAt, true)
        this.#view.setUint8(entry + DIRENT.type, TYPES[mode] ?? TYPE_DIR)
        for (let letter = 0; letter < name.length; letter++) this.#bytes[block + nameAt++] = name.charCodeAt(letter)
      }
    }
    return fresh
  }

  #put(inode: Inode): number {
    const mark = this.#room(INODE.bytes + inode.xattrs.length, INODE.bytes)
    writeInode(this.#bytes, this.#view, mark, inode)
    return mark
  }

  /** An inode, and where its data goes: behind it, which must not leave the block, or into blocks of its own. */
  #putWithData(inode: Omit<Inode, 'layout' | 'size' | 'unit'>, size: number): { mark: number; at: number } {
    const before = INODE.bytes + inode.xattrs.length
    if (before + size <= BLOCK) {
      const mark = this.#room(before + size, before + size)
      writeInode(this.#bytes, this.#view, mark, { ...inode, layout: LAYOUT.inline, size, unit: 0 })
      return { mark, at: mark + before }
    }
    const at = this.#blocks(size)
    const mark = this.#put({ ...inode, layout: LAYOUT.plain, size, unit: at / BLOCK })
    this.#inBlocks.push(mark)
    return { mark, at }
  }

  /** Takes blocks for `size` bytes, the last one whole: where names end, a zero says so. */
  #blocks(size: number): number {
    return this.#room(align(size, BLOCK), 0, BLOCK)
  }

  /** Takes the next `bytes`, of which the first `together` are in one block. */
  #room(bytes: number, together: number, alignment: number = NID_BYTES): number {
    let at = align(this.#end, alignment)
    if ((at % BLOCK) + together > BLOCK) at = align(at, BLOCK)
    this.#end = at + bytes
    if (this.#end > this.#mostBytes)
      throw new DarnerError('LIMIT_EXCEEDED', `layer: the image of its tree has more than ${this.#mostBytes} bytes`)
    if (this.#end > this.#bytes.length) {
      const before = this.#bytes
      this.#bytes = new Uint8Array(Math.max(this.#end, before.length * 2))
      this.#bytes.set(before)
      this.#view = new DataView(this.#bytes.buffer)
    }
    return at
  }

  #addTo(place: number, more: number): number {
    const sum = this.#view.getUint32(place, true) + more
    this.#view.setUint32(place, sum, true)
    return sum
  }
}

function dirXattrs({ facts, opaque }: PlanDir): Uint8Array {
  return xattrBody([...(facts?.xattrs ?? []), ...(opaque ? [OPAQUE] : [])])
}

/** Which of `names` is the first that a block of entries has no room for, when it begins with number `from`. */
function endOfBlock(names: readonly string[], from: number): number {
  let to = from
  for (let used = 0; to < names.length; to++) {
    used += DIRENT.bytes + (names[to] ?? '').length
    if (used > BLOCK) break
  }
  return to
}

/** Of a directory: all blocks but the last are counted whole. */
function sizeOf(names: readonly string[]): number {
  let size = 0
  for (let from = 0; ; ) {
    const to = endOfBlock(names, from)
    if (to < names.length) size += BLOCK
    else return names.slice(from).reduce((sum, name) => sum + DIRENT.bytes + name.length, size)
    from = to
  }
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to
}
