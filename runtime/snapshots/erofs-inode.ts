/** How EROFS writes an inode and its attributes (Linux, fs/erofs/erofs_fs.h: `erofs_inode_extended`, `erofs_xattr_ibody_header`). */
import type { DirFacts } from './layer-plan.ts'

/** Places of its fields; `unit` is the union `i_u`: a block, a device, or the form of its chunks. */
export const INODE = {
  format: 0,
  xattrCount: 2,
  mode: 4,
  size: 8,
  unit: 16,
  ino: 20,
  uid: 24,
  gid: 28,
  seconds: 32,
  nanoseconds: 40,
  links: 44,
  bytes: 64,
} as const
export const LAYOUT = { plain: 0, inline: 2, chunks: 4 } as const
const EXTENDED = 1
const XATTR_HEAD_BYTES = 12
const XATTR_ENTRY_BYTES = 4
/** `EROFS_XATTR_INDEX_…`; the first two are whole names. */
const XATTR_PREFIXES = [
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [1, 'user.'],
  [4, 'trusted.'],
  [6, 'security.'],
] as const
const NO_XATTRS = new Uint8Array(0)

export interface Inode {
  /** With its type. */
  readonly mode: number
  readonly facts: Omit<DirFacts, 'mode' | 'xattrs'>
  /** As {@link xattrBody} gives them. */
  readonly xattrs: Uint8Array
  readonly layout: number
  readonly size: number
  readonly unit: number
}

/** Writes it at `at`, its attributes behind it; nothing links to it yet. */
export function writeInode(bytes: Uint8Array, view: DataView, at: number, inode: Inode): void {
  const { facts, xattrs, size } = inode
  view.setUint16(at + INODE.format, EXTENDED | (inode.layout << 1), true)
  view.setUint16(at + INODE.xattrCount, xattrs.length === 0 ? 0 : (xattrs.length - XATTR_HEAD_BYTES) / 4 + 1, true)
  view.setUint16(at + INODE.mode, inode.mode, true)
  setUint64(view, at + INODE.size, size)
  view.setUint32(at + INODE.unit, inode.unit, true)
  view.setUint32(at + INODE.uid, facts.uid, true)
  view.setUint32(at + INODE.gid, facts.gid, true)
  setUint64(view, at + INODE.seconds, facts.mtime.seconds)
  view.setUint32(at + INODE.nanoseconds, facts.mtime.nanoseconds, true)
  if (xattrs.length > 0) bytes.set(xattrs, at + INODE.bytes)
}

/** What stands behind an inode for its attributes, a multiple of 4 bytes. */
export function xattrBody(xattrs: Iterable<readonly [name: string, value: Uint8Array]>): Uint8Array {
  const parts: Uint8Array[] = []
  for (const [name, value] of xattrs) {
    const [index, prefix] = XATTR_PREFIXES.find(([, one]) => name.startsWith(one)) ?? [0, '']
    const rest = Buffer.from(name.slice(prefix.length))
    const used = XATTR_ENTRY_BYTES + rest.length + value.length
    const entry = Buffer.alloc(Math.ceil(used / 4) * 4)
    entry[0] = rest.length
    entry[1] = index
    entry.writeUInt16LE(value.length, 2)
    entry.set(rest, XATTR_ENTRY_BYTES)
    entry.set(value, XATTR_ENTRY_BYTES + rest.length)
    parts.push(entry)
  }
  return parts.length === 0 ? NO_XATTRS : Buffer.concat([Buffer.alloc(XATTR_HEAD_BYTES), ...parts])
}

/** Below 2^53. */
function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true)
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true)
}
