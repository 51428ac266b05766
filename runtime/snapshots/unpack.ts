/**
 * The directory format: a layer's files as files, whiteouts as overlayfs wants them (a 0/0 character device, an attribute on opaque
 * directories). The plan returns safe paths. Here the kernel opens each parent once more below the layer's root, crossing no symlink and no
 * mount. Everything is made by name inside that descriptor, never following the last component.
 */
import { closeSync, fchmodSync, fchownSync, ftruncateSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { isMainThread } from 'node:worker_threads'
import {
  chmodAt,
  chownAt,
  linkAt,
  mkdirAt,
  mknodAt,
  O,
  openAt,
  openBelow,
  RESOLVE,
  S_IF,
  setXattr,
  symlinkAt,
  unlinkAt,
  utimesAt,
} from '../linux/syscalls.ts'
import type { LayerFormat, OpenLayer, Written } from './layer-format.ts'
import type { DirFacts, LayerStep, Replaced } from './layer-plan.ts'
import { OPAQUE_XATTR } from './overlay.ts'
import { runProgram } from './program.ts'
import type { TarEntry } from './tar.ts'

const TREE = 'tree'
const TRASH = 'trash'
const KEPT_DIRECTORIES = 64
const BLOCK_BYTES = 4096

export const directoryFormat: LayerFormat = {
  kind: 'directory',
  open: async (staging) => new OpenTree(staging),
  seal: sealTree,
}

interface WrittenTree extends Written {
  readonly bytes: number
  readonly trashed: boolean
}

/** Where the files of a stored directory layer are. */
export function treeOf(layerDirectory: string): string {
  return join(layerDirectory, TREE)
}

class OpenTree implements OpenLayer {
  readonly sliceBytes = 16 * 1024
  readonly #staging: string
  readonly #root: number
  readonly #parents = new Map<string, number>()
  #file: { fd: number; parent: number; name: Buffer; entry: TarEntry; end: number } | undefined
  #trashed = 0
  #bytes = 0

  constructor(staging: string) {
    this.#staging = staging
    mkdirSync(join(staging, TREE), { mode: 0o755 })
    this.#root = openSync(join(staging, TREE), O.RDONLY | O.DIRECTORY | O.NOFOLLOW)
  }

  step(step: LayerStep): void {
    if (step.do === 'settle') {
      this.#settle(step.path, step.facts, step.opaque)
      return
    }
    const { parent, name } = this.#place(step.path)
    this.#clear(parent, name, step.replaces)
    switch (step.do) {
      case 'mkdir':
        mkdirAt(parent, name, 0o700)
        this.#bytes += BLOCK_BYTES
        break
      case 'whiteout':
        mknodAt(parent, name, S_IF.CHR, 0, 0)
        break
      case 'link': {
        const target = this.#place(step.target)
        linkAt(target.parent, target.name, parent, name)
        break
      }
      case 'make':
        this.#make(parent, name, step.entry)
        break
    }
  }

  data(at: number, chunk: Uint8Array): void {
    const file = this.#file
    if (file === undefined) return
    for (let done = 0; done < chunk.byteLength; )
      done += writeSync(file.fd, chunk, done, chunk.byteLength - done, at + done)
    file.end = Math.max(file.end, at + chunk.byteLength)
    this.#bytes += chunk.byteLength
  }

  endFile(): void {
    const file = this.#file
    if (file === undefined) return
    this.#file = undefined
    const { fd, entry } = file
    try {
      if (file.end < entry.bytes) ftruncateSync(fd, entry.bytes)
      fchownSync(fd, entry.uid, entry.gid)
      fchmodSync(fd, entry.mode)
    } finally {
      closeSync(fd)
    }
    this.#bytes += BLOCK_BYTES / 2
    setAll(file.parent, file.name, entry.xattrs)
    utimesAt(file.parent, file.name, entry.mtime.seconds, entry.mtime.nanoseconds)
  }

  /** All is written as it came; this only lets others have the event loop, where there are any. */
  async flush(): Promise<void> {
    if (isMainThread) await setImmediate()
  }

  async finish(): Promise<WrittenTree> {
    return { bytes: this.#bytes, trashed: this.#trashed > 0 }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#file !== undefined) closeSync(this.#file.fd)
    this.#file = undefined
    this.#forgetParents()
    closeSync(this.#root)
  }

  #make(parent: number, name: Buffer, entry: TarEntry): void {
    switch (entry.kind) {
      case 'file':
        this.#file = {
          fd: openAt(parent, name, O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW, 0o600),
          parent,
          name,
          entry,
          end: 0,
        }
        return
      case 'symlink':
        symlinkAt(entry.link, parent, name)
        chownAt(parent, name, entry.uid, entry.gid)
        break
      default: {
        const type = entry.kind === 'char' ? S_IF.CHR : entry.kind === 'block' ? S_IF.BLK : S_IF.FIFO
        mknodAt(parent, name, type | 0o600, entry.major, entry.minor)
        chownAt(parent, name, entry.uid, entry.gid)
        chmodAt(parent, name, entry.mode)
      }
    }
    setAll(parent, name, entry.xattrs)
    utimesAt(parent, name, entry.mtime.seconds, entry.mtime.nanoseconds)
  }

  #settle(path: Buffer, facts: DirFacts, opaque: boolean): void {
    const { parent, name } = path.length === 0 ? { parent: this.#root, name: Buffer.from('.') } : this.#place(path)
    chownAt(parent, name, facts.uid, facts.gid)
    chmodAt(parent, name, facts.mode)
    setAll(parent, name, facts.xattrs)
    if (opaque) setXattr(inside(parent, name), OPAQUE_XATTR, Buffer.from('y'))
    utimesAt(parent, name, facts.mtime.seconds, facts.mtime.nanoseconds)
  }

  #clear(parent: number, name: Buffer, replaces: Replaced): void {
    if (replaces === 'leaf') unlinkAt(parent, name)
    if (replaces !== 'tree') return
    this.#forgetParents([parent])
    mkdirSync(join(this.#staging, TRASH), { recursive: true, mode: 0o700 })
    renameSync(inside(parent, name), join(this.#staging, TRASH, String(this.#trashed++)))
  }

  /** The open parent directory of a path, and the path's last part. */
  #place(path: Buffer): { parent: number; name: Buffer } {
    const slash = path.lastIndexOf(0x2f)
    if (slash < 0) return { parent: this.#root, name: path }
    const above = path.subarray(0, slash)
    const known = above.toString('latin1')
    let parent = this.#parents.get(known)
    if (parent === undefined) {
      if (this.#parents.size >= KEPT_DIRECTORIES)
        this.#forgetParents(this.#file === undefined ? [] : [this.#file.parent])
      const rules = RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_XDEV | RESOLVE.NO_MAGICLINKS
      parent = openBelow(this.#root, above, O.PATH | O.DIRECTORY | O.NOFOLLOW, rules)
      this.#parents.set(known, parent)
    }
    return { parent, name: path.subarray(slash + 1) }
  }

  #forgetParents(except: readonly number[] = []): void {
    for (const [path, fd] of this.#parents) {
      if (except.includes(fd)) continue
      closeSync(fd)
      this.#parents.delete(path)
    }
  }
}

async function sealTree(
  staging: string,
  written: Written,
  { signal }: { signal: AbortSignal },
): Promise<{ bytes: number; format: Record<string, never>; durable: Promise<void> }> {
  const { bytes, trashed } = written as WrittenTree
  // one call for the file system that holds them all; fsync of each of ten thousand files takes a hundred times as long
  await runProgram('sync', ['-f', join(staging, TREE)], { signal })
  if (trashed) await runProgram('rm', ['-rf', '--', join(staging, TRASH)], { signal })
  return { bytes, format: {}, durable: Promise.resolve() }
}

/** A path to `name` in an open directory for calls that take no descriptor; its last part is not followed by those used here. */
function inside(parent: number, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${parent}/`), name])
}

function setAll(parent: number, name: Buffer, xattrs: ReadonlyMap<string, Buffer>): void {
  for (const [attribute, value] of xattrs) setXattr(inside(parent, name), attribute, value)
}
