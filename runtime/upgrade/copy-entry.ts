/** Copies one entry of a root file system as it is: contents, holes, owner, mode, extended attributes, times. */
import { type BigIntStats, closeSync, constants, fstatSync } from 'node:fs'
import { copyFile, lchown, link, lstat, mkdir, readlink, rm, symlink } from 'node:fs/promises'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { openWithin } from '../linux/foreign-tree.ts'
import {
  AT_FDCWD,
  chmodAt,
  getXattr,
  listXattrs,
  mknodAt,
  O,
  RESOLVE,
  S_IF,
  setXattr,
  utimesAt,
} from '../linux/syscalls.ts'
import { runProgram } from '../shim/program.ts'

type Waits = { readonly signal: AbortSignal }

/** An entry of a tree that its container may be changing: its content is never read by a way that leads out of the tree. */
export interface LeafSource {
  readonly tree: string
  readonly path: Buffer
}

/**
 * Puts a file, symlink or node at `to`, in place of what is there. False for a socket, which is nothing without its process, and for
 * what has become something else since it was looked at.
 */
export async function copyLeaf(
  source: LeafSource,
  to: Buffer,
  facts: BigIntStats,
  { signal }: Waits,
): Promise<boolean> {
  if (facts.isSocket()) return false
  await rm(to, { recursive: true, force: true })
  const from = Buffer.concat([Buffer.from(`${source.tree}/`), source.path])
  if (facts.isSymbolicLink()) await symlink(await readlink(from, 'buffer'), to)
  else if (!facts.isFile()) makeNode(to, facts)
  else if (!(await copyContents(source, to, facts, signal))) return false
  await copyAttributes(from, to, facts)
  return true
}

/** One more name for what was copied to `first`. */
export async function linkLeaf(first: Buffer, to: Buffer): Promise<void> {
  await rm(to, { recursive: true, force: true })
  await link(first, to)
}

/** Makes the directory at `to` unless there is one; in place of anything else. Its attributes come with {@link copyAttributes}. */
export async function makeFolder(to: Buffer): Promise<void> {
  const there = await lstat(to).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  })
  if (there?.isDirectory()) return
  if (there) await rm(to, { force: true })
  await mkdir(to, { mode: 0o700 })
}

/** Owner, mode, extended attributes and modification time. Of a directory: after all that is put into it. */
export async function copyAttributes(from: Buffer, to: Buffer, facts: BigIntStats): Promise<void> {
  await lchown(to, Number(facts.uid), Number(facts.gid))
  if (!facts.isSymbolicLink()) chmodAt(AT_FDCWD, to, Number(facts.mode & 0o7777n))
  // after the owner, whose change takes capabilities away
  for (const name of listXattrs(from)) {
    if (name.startsWith('trusted.overlay.')) continue
    const value = getXattr(from, name)
    if (value !== undefined) setXattr(to, name, value)
  }
  utimesAt(AT_FDCWD, to, Number(facts.mtimeNs / 1_000_000_000n), Number(facts.mtimeNs % 1_000_000_000n))
}

const BLOCK_BYTES = 512n

async function copyContents(source: LeafSource, to: Buffer, facts: BigIntStats, signal: AbortSignal): Promise<boolean> {
  const file = openFile(source)
  if (file === undefined) return false
  try {
    const hasHoles = facts.blocks * BLOCK_BYTES + 4096n < facts.size
    const target = to.toString('utf8')
    if (!hasHoles || !Buffer.from(target).equals(to)) {
      await copyFile(`/proc/self/fd/${file}`, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL)
      return true
    }
    const args = ['--sparse=always', '--', '/proc/self/fd/3', target]
    const { code, stderr } = await runProgram('cp', args, { signal, file })
    if (code !== 0) throw new DarnerError('COMMAND_FAILED', `copying ${target}: ${stderr.trim().slice(-500)}`)
    return true
  } finally {
    closeSync(file)
  }
}

/** The descriptor of a file, which the caller closes; undefined for what is none, or lies behind a link. */
function openFile({ tree, path }: LeafSource): number | undefined {
  const flags = O.RDONLY | O.NOFOLLOW | O.NONBLOCK
  const file = openWithin(tree, path, flags, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
  if (file === undefined || fstatSync(file).isFile()) return file
  closeSync(file)
  return undefined
}

function makeNode(to: Buffer, facts: BigIntStats): void {
  const kind = facts.isFIFO() ? S_IF.FIFO : facts.isBlockDevice() ? S_IF.BLK : S_IF.CHR
  const { rdev } = facts
  const major = Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n))
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n))
  mknodAt(AT_FDCWD, to, kind | Number(facts.mode & 0o7777n), major, minor)
}
