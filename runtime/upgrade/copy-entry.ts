/** Copies one entry of a root file system as it is: contents, holes, owner, mode, extended attributes, times. */
import { type BigIntStats, constants } from 'node:fs'
import { copyFile, lchown, link, lstat, mkdir, readlink, rm, symlink } from 'node:fs/promises'
import { DarnerError, systemCode } from '../../src/base/errors.ts'
import { AT_FDCWD, chmodAt, getXattr, listXattrs, mknodAt, S_IF, setXattr, utimesAt } from '../../src/base/syscalls.ts'
import { runProgram } from '../shim/program.ts'

type Waits = { readonly signal: AbortSignal }

/** Puts a file, symlink or node at `to`, in place of what is there. False for a socket, which is nothing without its process. */
export async function copyLeaf(from: Buffer, to: Buffer, facts: BigIntStats, { signal }: Waits): Promise<boolean> {
  if (facts.isSocket()) return false
  await rm(to, { recursive: true, force: true })
  if (facts.isSymbolicLink()) await symlink(await readlink(from, 'buffer'), to)
  else if (facts.isFile()) await copyContents(from, to, facts, signal)
  else makeNode(to, facts)
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

async function copyContents(from: Buffer, to: Buffer, facts: BigIntStats, signal: AbortSignal): Promise<void> {
  const hasHoles = facts.blocks * BLOCK_BYTES + 4096n < facts.size
  const [source, target] = [from.toString('utf8'), to.toString('utf8')]
  if (!hasHoles || !Buffer.from(source).equals(from) || !Buffer.from(target).equals(to)) {
    await copyFile(from, to, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL)
    return
  }
  const { code, stderr } = await runProgram('cp', ['--sparse=always', '--', source, target], { signal })
  if (code !== 0) throw new DarnerError('COMMAND_FAILED', `copying ${source}: ${stderr.trim().slice(-500)}`)
}

function makeNode(to: Buffer, facts: BigIntStats): void {
  const kind = facts.isFIFO() ? S_IF.FIFO : facts.isBlockDevice() ? S_IF.BLK : S_IF.CHR
  const { rdev } = facts
  const major = Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n))
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n))
  mknodAt(AT_FDCWD, to, kind | Number(facts.mode & 0o7777n), major, minor)
}
