/**
 * A layer may bring `etc/x` without stating `etc`. Alone it has a plain `etc` then, and overlayfs would show that one's mode and
 * owner over those that a lower layer states. For such stacks a small directory goes on top that repeats what the highest layer
 * to state each such directory says; most images need none.
 *
 * Nor does overlayfs take the whiteouts out of a directory that no other layer has: it lists their names, which nobody can open. Such a
 * directory is repeated there too, so that there are two to stack.
 */
import { chmodSync, chownSync, closeSync, existsSync, lstatSync, mkdirSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
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
} from '../linux/syscalls.ts'
import type { LayerRecord } from './layers.ts'
import { removeTree } from './layers.ts'
import { OPAQUE_XATTR } from './overlay.ts'

/**
 * A directory to make on top of a stack, and the layer, counted from the lowest, whose attributes it has. One in the middle of a path may
 * have none.
 */
export interface Fill {
  readonly path: string
  readonly from: number | undefined
}

export interface Stack {
  /** Lowest first, as `folders` are. */
  readonly records: readonly LayerRecord[]
  /** The layers' files. */
  readonly folders: readonly string[]
  /** Fill the root too; not needed under a writable layer, whose own root rules. */
  readonly root: boolean
}

/** After so many paths other work has its turn: there may be ten thousands, each looked for in each layer. */
const PATHS_AT_ONCE = 50
/** Of each layer, until a stack is done. */
const MAX_LOOKS_KEPT = 1000

/**
 * What the top directory of a stack has to hold, deepest first; mostly nothing. It follows from the layers alone. Opaque directories and
 * whiteouts between two layers end the search, as they do for overlayfs.
 */
export async function fillsOf({ records, folders, root }: Stack): Promise<Fill[]> {
  const wanted = new Map<string, number>()
  for (const [index, record] of records.entries()) {
    if (index > 0) for (const path of record.implied) if (path !== '' || root) wanted.set(path, index)
  }
  const impliedBy = records.map((record) => new Set(record.implied))
  const looks = folders.map((folder) => new Looks(folder))
  let paths = 0
  const breathe = async () => {
    if (++paths % PATHS_AT_ONCE === 0) await setImmediate()
  }
  const all = new Map<string, number | undefined>()
  for (const [path, highest] of [...wanted].sort(([a], [b]) => (a < b ? -1 : 1))) {
    await breathe()
    const from = stating(path, highest, looks, impliedBy)
    if (from !== undefined) all.set(path, from)
  }
  for (const [index, { hiding = [] }] of records.entries())
    for (const path of hiding) {
      await breathe()
      if (isAlone(path, index, looks)) all.set(path, index)
    }
  for (const path of [...all.keys()])
    for (const parent of parentsOf(path))
      if (!all.has(parent)) {
        await breathe()
        all.set(parent, stating(parent, folders.length, looks, impliedBy))
      }
  return [...all].map(([path, from]) => ({ path, from })).sort((a, b) => b.path.length - a.path.length)
}

/** Makes the top directory at `into`. */
export async function makeFills(fills: readonly Fill[], folders: readonly string[], into: string): Promise<void> {
  if (existsSync(into)) await removeTree(into)
  mkdirSync(into, { mode: 0o755 })
  const root = openAt(AT_FDCWD, into, O.PATH | O.DIRECTORY)
  try {
    for (const { path } of fills) makeParents(root, Buffer.from(path, 'latin1'))
    // deepest first, since making a child changes its parent's time; the root is the shortest path of all
    for (const { path, from } of fills)
      if (from === undefined) utimesAt(root, Buffer.from(path === '' ? '.' : path, 'latin1'), 0, 0)
      else copyFacts(folders[from] ?? '', into, path)
  } finally {
    closeSync(root)
  }
}

/** The folder of the highest layer that states its root directory. */
export function rootStatedBy(records: readonly LayerRecord[], folders: readonly string[]): string | undefined {
  return folders.findLast((_, index) => records[index]?.implied.includes('') === false)
}

/** The highest layer that states `path` as a directory, unless one above `highest` does, which then rules anyway. */
function stating(
  path: string,
  highest: number,
  looks: readonly Looks[],
  impliedBy: readonly ReadonlySet<string>[],
): number | undefined {
  for (let index = looks.length - 1; index >= 0; index--) {
    const layer = looks[index]
    const found = layer?.kindAt(path)
    if (found === 'other') return undefined
    if (found === 'dir' && impliedBy[index]?.has(path) !== true) return index > highest ? undefined : index
    // what is below one of these is not seen
    if (layer?.hides(path)) return undefined
  }
  return undefined
}

/** Whether a directory of a layer's is seen, and nothing of other layers in it. */
function isAlone(path: string, index: number, looks: readonly Looks[]): boolean {
  const own = looks[index]
  if (looks.slice(index + 1).some((above) => above.kindAt(path) !== 'absent' || above.hides(path))) return false
  // a mark that came behind the whiteouts left them there
  if (own?.isOpaque(path) || own?.hides(path)) return true
  for (const below of looks.slice(0, index).reverse()) {
    const found = below.kindAt(path)
    if (found !== 'absent') return found === 'other'
    if (below.hides(path)) return true
  }
  return true
}

/** One layer. Each look takes some calls of the system, and whether a parent is opaque is asked for again with each child. */
class Looks {
  readonly #folder: string
  readonly #opaque = new Map<string, boolean>()

  constructor(folder: string) {
    this.#folder = folder
  }

  kindAt(path: string): 'dir' | 'absent' | 'other' {
    return kindAt(this.#folder, path)
  }

  isOpaque(path: string): boolean {
    const known = this.#opaque.get(path)
    if (known !== undefined) return known
    const opaque = isOpaque(this.#folder, path)
    if (this.#opaque.size < MAX_LOOKS_KEPT) this.#opaque.set(path, opaque)
    return opaque
  }

  /** Whether a directory on the way to `path` hides what lower layers have there. */
  hides(path: string): boolean {
    return parentsOf(path).some((parent) => this.isOpaque(parent))
  }
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
