/**
 * A layer may bring `etc/x` without stating `etc`. Alone it has a plain `etc` then, and overlayfs would show that one's mode and
 * owner over those that a lower layer states. For such stacks a small directory goes on top that repeats what the highest layer
 * to state each such directory says; most images need none.
 *
 * Nor does overlayfs take the whiteouts out of a directory that no other layer has: it lists their names, which nobody can open. Such a
 * directory is repeated there too, so that there are two to stack.
 */
import { chmodSync, chownSync, closeSync, existsSync, lstatSync, mkdirSync } from 'node:fs'
import {
  AT_FDCWD,
  getXattr,
  listXattrs,
  mkdirAt,
  O,
  openAt,
  openBelow,
  RESOLVE,
  setXattr,
  systemErrorIs,
  utimesAt,
} from '../../src/base/syscalls.ts'
import type { LayerRecord } from './layers.ts'
import { removeTree } from './layers.ts'
import { OPAQUE_XATTR } from './overlay.ts'

/**
 * Makes the top directory at `into` if the stack needs one. `folders` are the layers' files, lowest first, as `records` are.
 * Opaque directories and whiteouts between two layers end the search, as they do for overlayfs.
 */
export async function fillImplied(options: {
  readonly records: readonly LayerRecord[]
  readonly folders: readonly string[]
  readonly into: string
  /** Fill the root too; not needed under a writable layer, whose own root rules. */
  readonly root: boolean
}): Promise<string | undefined> {
  const { records, folders, into } = options
  const wanted = new Map<string, number>()
  for (const [index, record] of records.entries()) {
    if (index > 0) for (const path of record.implied) if (path !== '' || options.root) wanted.set(path, index)
  }
  const impliedBy = records.map((record) => new Set(record.implied))
  const fills: { path: string; from: string }[] = []
  for (const [path, highest] of [...wanted].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const from = stating(path, highest, folders, impliedBy)
    if (from !== undefined) fills.push({ path, from })
  }
  for (const [index, { hiding = [] }] of records.entries())
    for (const path of hiding) if (isAlone(path, index, folders)) fills.push({ path, from: folders[index] ?? '' })
  if (fills.length === 0) return undefined
  if (existsSync(into)) await removeTree(into)
  mkdirSync(into, { mode: 0o755 })
  const root = openAt(AT_FDCWD, into, O.PATH | O.DIRECTORY)
  try {
    for (const { path } of fills) makeParents(root, Buffer.from(path, 'latin1'))
    // deepest first, since making a child changes its parent's time; the root is the shortest path of all
    const all = new Map<string, string | undefined>(fills.map(({ path, from }) => [path, from]))
    for (const { path } of fills)
      for (const parent of parentsOf(path))
        if (!all.has(parent)) {
          const from = stating(parent, folders.length, folders, impliedBy)
          all.set(parent, from)
        }
    for (const [path, from] of [...all].sort(([a], [b]) => b.length - a.length))
      if (from === undefined) utimesAt(root, Buffer.from(path === '' ? '.' : path, 'latin1'), 0, 0)
      else copyFacts(from, into, path)
  } finally {
    closeSync(root)
  }
  return into
}

/** The folder of the highest layer that states its root directory. */
export function rootStatedBy(records: readonly LayerRecord[], folders: readonly string[]): string | undefined {
  return folders.findLast((_, index) => records[index]?.implied.includes('') === false)
}

/** The folder of the highest layer that states `path` as a directory, unless one above `highest` does, which then rules anyway. */
function stating(
  path: string,
  highest: number,
  folders: readonly string[],
  impliedBy: readonly ReadonlySet<string>[],
): string | undefined {
  for (let index = folders.length - 1; index >= 0; index--) {
    const folder = folders[index] ?? ''
    const found = kindAt(folder, path)
    if (found === 'other') return undefined
    if (found === 'dir' && impliedBy[index]?.has(path) !== true) return index > highest ? undefined : folder
    // what is below one of these is not seen
    if (parentsOf(path).some((parent) => isOpaque(folder, parent))) return undefined
  }
  return undefined
}

/** Whether a directory of a layer's is seen, and nothing of other layers in it. */
function isAlone(path: string, index: number, folders: readonly string[]): boolean {
  const hides = (folder = '') => parentsOf(path).some((parent) => isOpaque(folder, parent))
  if (folders.slice(index + 1).some((above) => kindAt(above, path) !== 'absent' || hides(above))) return false
  // a mark that came behind the whiteouts left them there
  if (isOpaque(folders[index] ?? '', path) || hides(folders[index])) return true
  for (const below of folders.slice(0, index).reverse()) {
    const found = kindAt(below, path)
    if (found !== 'absent') return found === 'other'
    if (hides(below)) return true
  }
  return true
}

/** Whether nothing of lower layers shows in a directory of a layer's, if that is there. */
export function isOpaque(folder: string, path: string): boolean {
  try {
    const fd = openDir(folder, path)
    try {
      return getXattr(`/proc/self/fd/${fd}/.`, OPAQUE_XATTR)?.[0] === 0x79
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (systemErrorIs(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return false
    throw error
  }
}

function kindAt(folder: string, path: string): 'dir' | 'absent' | 'other' {
  try {
    closeSync(openDir(folder, path))
    return 'dir'
  } catch (error) {
    if (systemErrorIs(error, 'ENOENT')) return 'absent'
    if (systemErrorIs(error, 'ENOTDIR', 'ELOOP')) return 'other'
    throw error
  }
}

function openDir(folder: string, path: string): number {
  const root = openAt(AT_FDCWD, folder, O.PATH | O.DIRECTORY)
  try {
    const name = path === '' ? Buffer.from('.') : Buffer.from(path, 'latin1')
    return openBelow(root, name, O.PATH | O.NOFOLLOW | O.DIRECTORY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS)
  } finally {
    closeSync(root)
  }
}

function parentsOf(path: string): string[] {
  const parents = ['']
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1))
    parents.push(path.slice(0, slash))
  return path === '' ? [] : parents
}

function makeParents(root: number, path: Buffer): void {
  for (let end = path.indexOf(0x2f); path.length > 0; end = path.indexOf(0x2f, end + 1)) {
    try {
      mkdirAt(root, end < 0 ? path : path.subarray(0, end), 0o755)
    } catch (error) {
      if (!systemErrorIs(error, 'EEXIST')) throw error
    }
    if (end < 0) return
  }
}

function copyFacts(from: string, into: string, path: string): void {
  const tail = Buffer.concat([Buffer.from('/'), path === '' ? Buffer.from('.') : Buffer.from(path, 'latin1')])
  const source = Buffer.concat([Buffer.from(from), tail])
  const target = Buffer.concat([Buffer.from(into), tail])
  const facts = lstatSync(source, { bigint: true })
  chownSync(target, Number(facts.uid), Number(facts.gid))
  chmodSync(target, Number(facts.mode) & 0o7777)
  for (const name of listXattrs(source)) {
    // overlayfs' own mean something else up here, and the host's labels are its own
    if (name.startsWith('trusted.overlay.') || name === 'security.selinux') continue
    const value = getXattr(source, name)
    if (value !== undefined) setXattr(target, name, value)
  }
  utimesAt(AT_FDCWD, target, Number(facts.mtimeNs / 1_000_000_000n), Number(facts.mtimeNs % 1_000_000_000n))
}
