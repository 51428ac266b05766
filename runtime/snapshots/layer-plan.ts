/**
 * Decides what the entries of a layer tar mean for a file tree (image-spec, layer.md, "Representing Changes"). It keeps the layer's tree in
 * memory and resolves every name one component at a time inside it. So whatever a name or symlink says, the parents of each path that it
 * returns are real directories of this layer. Both layer formats follow the same steps, so they hold the same files. What is refused is
 * refused with LAYER_INVALID, before anything is written for it.
 *
 * Symlinks on the way to an entry are followed as in a chroot at the layer's root. `..` above the root is refused in an entry's own name.
 * Hard links reach files of the same layer only. A directory that entries imply but no entry states gets mode 0755, root, epoch. It is
 * recorded as implied, so that stacking can give it what a lower layer states.
 */
import { DarnerError } from '../../src/core/errors.ts'
import { show, type TarEntry } from './tar.ts'

/** What a directory of the layer is like; settled when the layer ends. */
export interface DirFacts {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtime: { readonly seconds: number; readonly nanoseconds: number }
  readonly xattrs: ReadonlyMap<string, Buffer>
}

/** One step. Paths are relative to the layer's root, without `.`, `..` or symlinks in them; the root itself is empty. */
export type LayerStep =
  /** Make a directory; its facts follow at the end. `replaces` something that is no directory. */
  | { readonly do: 'mkdir'; readonly path: Buffer; readonly replaces: Replaced }
  /** A file, symlink, device or fifo; a file's data follows. */
  | {
      readonly do: 'make'
      readonly path: Buffer
      readonly entry: TarEntry
      readonly replaces: Replaced
      readonly node: PlanLeaf
    }
  /** A further name of an earlier file. */
  | { readonly do: 'link'; readonly path: Buffer; readonly target: Buffer; readonly replaces: Replaced }
  /** A name that lower layers have and this one doesn't. */
  | { readonly do: 'whiteout'; readonly path: Buffer; readonly replaces: Replaced; readonly node: PlanLeaf }
  /** Final facts of a directory, deepest first. Opaque: what lower layers have in it is hidden. */
  | { readonly do: 'settle'; readonly path: Buffer; readonly facts: DirFacts; readonly opaque: boolean }

/** What stood at a path in this layer before. */
export type Replaced = 'nothing' | 'leaf' | 'tree'

export interface PlanLimits {
  readonly entries: number
}

/** The layer's tree, for a sink that wants it whole; `mark` is the sink's own. Hard links are one leaf under several names. */
export interface PlanDir {
  readonly kind: 'dir'
  /** By their names, each byte one character (latin1). */
  readonly children: ReadonlyMap<string, PlanNode>
  /** Undefined where no entry states them: 0755, root, epoch. */
  readonly facts: DirFacts | undefined
  readonly opaque: boolean
  mark: number
}
export interface PlanLeaf {
  readonly kind: 'file' | 'symlink' | 'whiteout' | 'special'
  mark: number
}
export type PlanNode = PlanDir | PlanLeaf

interface Dir extends PlanDir {
  readonly name: Buffer
  readonly parent: Dir | undefined
  readonly children: Map<string, Node>
  facts: DirFacts | undefined
  opaque: boolean
  /** Has a whiteout, or had. */
  hides: boolean
}
interface Leaf extends PlanLeaf {
  readonly link: Buffer
}
type Node = Dir | Leaf

const MAX_NAME_BYTES = 255
const MAX_PATH_BYTES = 4095
const MAX_FOLLOWED = 40
const MAX_ID = 0xffff_fffe
/** Apparent size of all files of one layer: what 32-bit addresses of 512-byte blocks reach, with room to spare. */
const MAX_APPARENT_BYTES = 2 ** 40
const MAX_XATTR_BYTES = 65535
/**
 * Of all paths in the record of a layer. One name of four thousand bytes implies two thousand directories, each path longer than the last.
 */
const MAX_RECORDED_BYTES = 64 * 1024 ** 2
/** What is kept of entries until the layer ends: targets of symlinks, attributes of directories. */
const MAX_KEPT_BYTES = 256 * 1024 ** 2
/** Eleven octal digits. */
const MAX_TIME_SECONDS = 2 ** 33 - 1
const WHITEOUT = Buffer.from('.wh.')
const OPAQUE = '.wh..wh..opq'
const PLAIN_DIR: DirFacts = { mode: 0o755, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map() }
const EMPTY = Buffer.alloc(0)

export class LayerPlan {
  readonly #root: Dir = {
    kind: 'dir',
    name: EMPTY,
    parent: undefined,
    children: new Map(),
    facts: undefined,
    opaque: false,
    hides: false,
    mark: 0,
  }
  readonly #limits: PlanLimits
  #entries = 0
  #apparentBytes = 0
  #recordedBytes = 0
  #keptBytes = 0

  constructor(limits: PlanLimits) {
    this.#limits = limits
  }

  /** Entries read and directories implied so far. */
  get entries(): number {
    return this.#entries
  }

  /** The steps of one entry. Throws LAYER_INVALID, LIMIT_EXCEEDED. */
  place(raw: TarEntry): LayerStep[] {
    this.#count()
    const entry = this.#checked(raw)
    const steps: LayerStep[] = []
    const { parent, name } = this.#locate(entry.path, steps)
    if (name === undefined) {
      if (entry.kind !== 'dir') throw refused(entry, 'it would replace the root directory')
      this.#root.facts = this.#factsOf(entry)
      return steps
    }
    if (name.subarray(0, 4).equals(WHITEOUT)) this.#whiteout(parent, name, entry, steps)
    else if (entry.kind === 'dir') this.#dir(parent, name, entry, steps)
    else if (entry.kind === 'link') this.#link(parent, name, entry, steps)
    else if (entry.kind === 'char' && entry.major === 0 && entry.minor === 0) this.#hide(parent, name, steps)
    else {
      const replaces = replacedBy(parent, name)
      const node: Leaf = {
        kind: leafKind(entry),
        link: entry.kind === 'symlink' ? this.#kept(entry.link) : EMPTY,
        mark: 0,
      }
      parent.children.set(key(name), node)
      steps.push({ do: 'make', path: pathOf(parent, name), entry, replaces, node })
    }
    return steps
  }

  /** The whole tree, once all entries are placed. */
  get root(): PlanDir {
    return this.#root
  }

  /** Facts of all directories, deepest first, the root last. */
  *settle(): Generator<LayerStep> {
    for (const dir of this.#dirs()) {
      yield { do: 'settle', path: pathOf(dir), facts: dir.facts ?? PLAIN_DIR, opaque: dir.opaque }
    }
  }

  /** Paths of directories that no entry stated (the root is the empty path), parents first. */
  implied(): Buffer[] {
    return [...this.#dirs()]
      .filter((dir) => dir.facts === undefined && !dir.opaque)
      .map((dir) => pathOf(dir))
      .reverse()
  }

  /** Paths of directories with names that are to be hidden from lower layers; not the root, which is always stacked on another. */
  hiding(): Buffer[] {
    return [...this.#dirs()].filter((dir) => dir.hides && dir.parent !== undefined).map((dir) => pathOf(dir))
  }

  /** Directories that an entry implies count too: one name may imply two thousand. */
  #count(): void {
    if (++this.#entries > this.#limits.entries) {
      throw new DarnerError('LIMIT_EXCEEDED', `layer: more than ${this.#limits.entries} entries`)
    }
  }

  /** A copy, since a view keeps a whole header in memory. */
  #kept(bytes: Buffer): Buffer {
    this.#keptBytes += bytes.length
    if (this.#keptBytes > MAX_KEPT_BYTES) {
      const most = `more than ${MAX_KEPT_BYTES} bytes in targets of symlinks and attributes of directories`
      throw new DarnerError('LIMIT_EXCEEDED', `layer: ${most}`)
    }
    return Buffer.from(bytes)
  }

  #factsOf({ mode, uid, gid, mtime, xattrs }: TarEntry): DirFacts {
    const kept = new Map<string, Buffer>()
    for (const [name, value] of xattrs) kept.set(name, this.#kept(value))
    return { mode, uid, gid, mtime, xattrs: kept }
  }

  #countRecorded(path: Buffer): void {
    this.#recordedBytes += path.length
    if (this.#recordedBytes > MAX_RECORDED_BYTES) {
      const most = `paths of more than ${MAX_RECORDED_BYTES} bytes in directories that no entry states, or that have whiteouts`
      throw new DarnerError('LIMIT_EXCEEDED', `layer: ${most}`)
    }
  }

  *#dirs(): Generator<Dir> {
    // an explicit stack: depth is the archive's to choose
    const stack: { dir: Dir; rest: Iterator<Node> }[] = [{ dir: this.#root, rest: this.#root.children.values() }]
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const next = top.rest.next()
      if (next.done) {
        yield top.dir
        stack.pop()
      } else if (next.value.kind === 'dir') stack.push({ dir: next.value, rest: next.value.children.values() })
    }
  }

  #checked(entry: TarEntry): TarEntry {
    if (entry.uid < 0 || entry.gid < 0 || entry.uid > MAX_ID || entry.gid > MAX_ID)
      throw refused(entry, `owner ${entry.uid}:${entry.gid} is out of range`)
    if (entry.major < 0 || entry.minor < 0 || entry.major > 0xfff || entry.minor > 0xfffff)
      throw refused(entry, `device ${entry.major}:${entry.minor} is out of range`)
    if (entry.kind === 'symlink' && (entry.link.length === 0 || entry.link.length > MAX_PATH_BYTES))
      throw refused(entry, `a symlink target of ${entry.link.length} bytes`)
    this.#apparentBytes += entry.bytes
    if (this.#apparentBytes > MAX_APPARENT_BYTES) {
      throw new DarnerError('LIMIT_EXCEEDED', `layer: its files span more than ${MAX_APPARENT_BYTES} bytes`)
    }
    // a time before 1970 is the epoch, as containerd and docker have it
    const seconds = Math.min(Math.max(entry.mtime.seconds, 0), MAX_TIME_SECONDS)
    const mtime = seconds === entry.mtime.seconds ? entry.mtime : { seconds, nanoseconds: 0 }
    // a symlink's mode means nothing to Linux, which shows 777
    const mode = entry.kind === 'symlink' ? 0o777 : entry.mode
    return { ...entry, mode, mtime, xattrs: keptXattrs(entry) }
  }

  /** Walks to the directory that holds the entry's last component, making what is missing. No name: the root itself. */
  #locate(path: Buffer, steps: LayerStep[]): { parent: Dir; name: Buffer | undefined } {
    const components = split(path)
    let at = this.#root
    let last: Buffer | undefined
    for (const [index, component] of components.entries()) {
      last = undefined
      if (isUp(component)) {
        if (at.parent === undefined)
          throw new DarnerError('LAYER_INVALID', `layer: entry ${show(path)} leads out of the root`)
        at = at.parent
      } else if (index < components.length - 1) {
        if (component.subarray(0, 4).equals(WHITEOUT))
          throw new DarnerError('LAYER_INVALID', `layer: entry ${show(path)} has a whiteout as directory`)
        at = this.#step(at, component, path, steps, 0)
      } else last = component
    }
    if (last === undefined && at !== this.#root) {
      // the name ended in `..`: it means that directory, whose own name is needed
      return { parent: at.parent ?? this.#root, name: at.name }
    }
    if (last !== undefined && pathOf(at, last).length > MAX_PATH_BYTES)
      throw new DarnerError('LAYER_INVALID', `layer: entry ${show(path)} has too long a path`)
    return { parent: at, name: last }
  }

  /** The directory `name` in `at`, through symlinks, made when missing. */
  #step(at: Dir, name: Buffer, path: Buffer, steps: LayerStep[], followed: number): Dir {
    const found = at.children.get(key(name))
    if (found?.kind === 'dir') return found
    if (found?.kind === 'symlink') {
      if (followed >= MAX_FOLLOWED)
        throw new DarnerError('LAYER_INVALID', `layer: entry ${show(path)} goes through too many symlinks`)
      let to = found.link[0] === 0x2f ? this.#root : at
      for (const component of split(found.link)) {
        to = isUp(component) ? (to.parent ?? this.#root) : this.#step(to, component, path, steps, ++followed)
      }
      return to
    }
    if (found !== undefined && found.kind !== 'whiteout')
      throw new DarnerError('LAYER_INVALID', `layer: entry ${show(path)} has a parent that is not a directory`)
    return this.#make(at, name, steps)
  }

  #make(parent: Dir, name: Buffer, steps: LayerStep[], stated = false): Dir {
    const before = parent.children.get(key(name))
    const replaces = replacedBy(parent, name)
    // a name that was whited out and comes back as a directory must not let the lower one shine through
    const dir: Dir = {
      kind: 'dir',
      name,
      parent,
      children: new Map(),
      facts: undefined,
      opaque: before?.kind === 'whiteout',
      hides: false,
      mark: 0,
    }
    parent.children.set(key(name), dir)
    if (!stated) this.#count()
    const path = pathOf(dir)
    if (path.length > MAX_PATH_BYTES)
      throw new DarnerError('LAYER_INVALID', `layer: a path of ${path.length} bytes, more than ${MAX_PATH_BYTES}`)
    if (!stated) this.#countRecorded(path)
    steps.push({ do: 'mkdir', path, replaces })
    return dir
  }

  #dir(parent: Dir, name: Buffer, entry: TarEntry, steps: LayerStep[]): void {
    const found = parent.children.get(key(name))
    const dir = found?.kind === 'dir' ? found : this.#make(parent, name, steps, true)
    dir.facts = this.#factsOf(entry)
  }

  #link(parent: Dir, name: Buffer, entry: TarEntry, steps: LayerStep[]): void {
    const components = split(entry.link)
    let at: Dir | undefined = this.#root
    let target: Buffer | undefined
    for (const [index, component] of components.entries()) {
      target = undefined
      if (isUp(component)) {
        if (at.parent === undefined)
          throw refused(entry, `its hard link target ${show(entry.link)} leads out of the root`)
        at = at.parent
      } else if (index < components.length - 1) {
        const before = steps.length
        at = this.#step(at, component, entry.path, steps, 0)
        if (steps.length > before) throw refused(entry, `its hard link target ${show(entry.link)} is not in this layer`)
      } else target = component
    }
    const node = target === undefined ? undefined : at.children.get(key(target))
    if (target === undefined || node === undefined || node.kind === 'dir' || node.kind === 'whiteout') {
      throw refused(entry, `its hard link target ${show(entry.link)} is not a file in this layer`)
    }
    if (at === parent && target.equals(name)) throw refused(entry, 'it is a hard link to itself')
    const replaces = replacedBy(parent, name)
    const targetPath = pathOf(at, target)
    if (replaces === 'tree' && isWithin(targetPath, pathOf(parent, name)))
      throw refused(entry, 'it replaces a directory that holds its target')
    parent.children.set(key(name), node)
    steps.push({ do: 'link', path: pathOf(parent, name), target: targetPath, replaces })
  }

  #whiteout(parent: Dir, name: Buffer, entry: TarEntry, steps: LayerStep[]): void {
    const text = name.toString('latin1')
    if (text === OPAQUE) {
      parent.opaque = true
      return
    }
    if (text.startsWith('.wh..wh.')) return // aufs bookkeeping, no whiteout
    const hidden = name.subarray(4)
    if (hidden.length === 0 || isUp(hidden) || isDot(hidden)) throw refused(entry, 'it is a whiteout of no name')
    this.#hide(parent, Buffer.from(hidden), steps)
  }

  /** Whiteouts hide what lower layers have, never what this layer brings (image-spec, layer.md, "Whiteouts"). */
  #hide(parent: Dir, name: Buffer, steps: LayerStep[]): void {
    const found = parent.children.get(key(name))
    if (found?.kind === 'dir') found.opaque = true
    // overlayfs would list it where nothing is below
    if (found !== undefined || isHiding(parent)) return
    const node: Leaf = { kind: 'whiteout', link: EMPTY, mark: 0 }
    parent.children.set(key(name), node)
    if (!parent.hides) this.#countRecorded(pathOf(parent))
    parent.hides = true
    steps.push({ do: 'whiteout', path: pathOf(parent, name), replaces: 'nothing', node })
  }
}

/** Names as map keys: latin1 maps each byte to one character. */
const key = (name: Buffer): string => name.toString('latin1')
const isUp = (component: Buffer): boolean => component.length === 2 && component[0] === 0x2e && component[1] === 0x2e
const isDot = (component: Buffer): boolean => component.length === 1 && component[0] === 0x2e

/** Components without empty ones and `.`; each a copy, since the archive's buffers go. Throws LAYER_INVALID for too long a one. */
function split(path: Buffer): Buffer[] {
  const components: Buffer[] = []
  for (let from = 0; from <= path.length; ) {
    const slash = path.indexOf(0x2f, from)
    const end = slash < 0 ? path.length : slash
    const component = path.subarray(from, end)
    if (component.length > MAX_NAME_BYTES)
      throw new DarnerError('LAYER_INVALID', `layer: a name of ${component.length} bytes, more than ${MAX_NAME_BYTES}`)
    if (component.length > 0 && !isDot(component)) components.push(Buffer.from(component))
    from = end + 1
  }
  return components
}

/** Whether nothing of lower layers shows in it. */
function isHiding(dir: Dir): boolean {
  for (let at: Dir | undefined = dir; at !== undefined; at = at.parent) if (at.opaque) return true
  return false
}

function pathOf(dir: Dir, name?: Buffer): Buffer {
  let bytes = name === undefined ? -1 : name.length
  for (let at: Dir | undefined = dir; at?.parent !== undefined; at = at.parent) bytes += at.name.length + 1
  if (bytes <= 0) return EMPTY
  const path = Buffer.allocUnsafe(bytes)
  let end = bytes
  const put = (part: Buffer): void => {
    end -= part.length
    part.copy(path, end)
    if (end > 0) path[--end] = 0x2f
  }
  if (name !== undefined) put(name)
  for (let at: Dir | undefined = dir; at?.parent !== undefined; at = at.parent) put(at.name)
  return path
}

function isWithin(path: Buffer, dir: Buffer): boolean {
  return path.length > dir.length && path[dir.length] === 0x2f && path.subarray(0, dir.length).equals(dir)
}

function replacedBy(parent: Dir, name: Buffer): Replaced {
  const found = parent.children.get(key(name))
  if (found === undefined) return 'nothing'
  return found.kind === 'dir' ? 'tree' : 'leaf'
}

function leafKind(entry: TarEntry): Leaf['kind'] {
  return entry.kind === 'file' || entry.kind === 'symlink' ? entry.kind : 'special'
}

/** What an image may bring: no overlayfs bookkeeping, no labels of the host's security modules; user.* where Linux has it. */
function keptXattrs(entry: TarEntry): ReadonlyMap<string, Buffer> {
  if (entry.xattrs.size === 0) return entry.xattrs
  const kept = new Map<string, Buffer>()
  let bytes = 0
  for (const [name, value] of entry.xattrs) {
    const user = name.startsWith('user.') && (entry.kind === 'file' || entry.kind === 'dir')
    const acl = (name === 'system.posix_acl_access' || name === 'system.posix_acl_default') && entry.kind !== 'symlink'
    const trusted = name.startsWith('trusted.') && !name.startsWith('trusted.overlay.')
    if (!(user || acl || trusted || name === 'security.capability')) continue
    bytes += name.length + value.length
    if (Buffer.byteLength(name) > MAX_NAME_BYTES || name.includes('\0') || bytes > MAX_XATTR_BYTES)
      throw refused(entry, 'its extended attributes are too large')
    kept.set(name, value)
  }
  return kept
}

function refused(entry: TarEntry, why: string): DarnerError {
  return new DarnerError('LAYER_INVALID', `layer: entry ${show(entry.path)}: ${why}`)
}
