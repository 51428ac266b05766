/**
 * Brings a writable layer over to a new image, in two passes. The first, while the container still runs, takes what has not been touched
 * for a while. The second, after its stop, takes the rest. All is written through the new root, so that overlayfs itself makes the new
 * upper directory; the old one is only read.
 */
import type { BigIntStats } from 'node:fs'
import { readdir, rm, statfs } from 'node:fs/promises'
import type { Clock } from '../../src/core/clock.ts'
import { asDarnerError, DarnerError, systemCode } from '../../src/core/errors.ts'
import { isGone } from '../linux/foreign-tree.ts'
import { runProgram } from '../shim/program.ts'
import { copyAttributes, copyLeaf, linkLeaf, makeFolder } from './copy-entry.ts'
import {
  bytesOf,
  shown,
  stillTrees,
  type UpperRules,
  type UpperTrees,
  type WalkedPath,
  walkUpper,
} from './upper-walk.ts'

type Waits = { readonly signal: AbortSignal }

/** File systems that note the first write to a page through a mapping after each write-back: ext4, xfs, btrfs. */
const NOTES_MAPPED_WRITES = new Set([0xef53, 0x58465342, 0x9123683e])
/** Longer than the grain of any file system's times. */
const GRAIN_NS = 1_000_000_000n

export class UpperCopy {
  readonly #trees: UpperTrees
  readonly #rules: UpperRules
  readonly #target: string
  readonly #clock: Pick<Clock, 'now'>
  /** What each path that was copied in the first pass looked like; directories have an empty text. */
  readonly #made = new Map<string, string>()
  /** Something is not on the disk yet: a container whose layer says nothing new waits for no disk while it is down. */
  #unsynced = false

  /** `target`: the new root, mounted with its fresh upper directory. */
  constructor(trees: UpperTrees, rules: UpperRules, target: string, clock: Pick<Clock, 'now'>) {
    this.#trees = trees
    this.#rules = rules
    this.#target = target
    this.#clock = clock
  }

  /**
   * While the container runs. {@link finish} takes what was changed after the write-back at the beginning. A later change of anything older
   * shows in its times, also one through a mapping.
   */
  async begin({ signal }: Waits): Promise<void> {
    const { type } = await statfs(this.#trees.upper)
    if (!NOTES_MAPPED_WRITES.has(Number(type))) return
    const beforeNs = BigInt(Math.floor(this.#clock.now())) * 1_000_000n - GRAIN_NS
    await writeBack(this.#trees.upper, { signal })
    const replaced: string[] = []
    using trees = stillTrees(this.#trees)
    for await (const { path, facts, verdict, alone } of walkUpper(trees, this.#rules)) {
      signal.throwIfAborted()
      if (alone) replaced.push(`${path}/`)
      if (verdict !== 'keep' || replaced.some((one) => path.startsWith(one))) continue
      if (facts.isDirectory()) {
        await makeFolder(bytesOf(this.#target, path))
        this.#made.set(path, '')
      } else if (facts.nlink === 1n && facts.ctimeNs < beforeNs && (await this.#copy(trees, path, facts, true, signal)))
        this.#made.set(path, looksOf(facts))
    }
    await writeBack(this.#target, { signal })
  }

  /** After its stop. Resolves when all of it is on the disk. */
  async finish({ signal }: Waits): Promise<void> {
    const left = new Set(this.#made.keys())
    const links = new Map<string, Buffer>()
    const folders: WalkedPath[] = []
    using trees = stillTrees(this.#trees)
    for await (const one of walkUpper(trees, this.#rules)) {
      signal.throwIfAborted()
      left.delete(one.path)
      await this.#finishOne(trees, one, links, signal)
      if (one.facts.isDirectory() && (one.verdict === 'keep' || one.verdict === 'win')) folders.push(one)
    }
    if (left.size > 0 || folders.length > 0) this.#unsynced = true
    // shortest first: what is below goes with it
    for (const path of [...left].sort((a, b) => a.length - b.length)) {
      await rm(bytesOf(this.#target, path), { recursive: true, force: true }).catch((error: unknown) => {
        if (systemCode(error) !== 'ENOTDIR') throw error // a file is where its folder was
      })
    }
    for (const { path, facts } of folders.toReversed())
      await copyAttributes(bytesOf(trees.old, path), bytesOf(this.#target, path), facts)
    if (this.#unsynced) await writeBack(this.#target, { signal })
    this.#unsynced = false
  }

  async #finishOne(trees: UpperTrees, one: WalkedPath, links: Map<string, Buffer>, signal: AbortSignal): Promise<void> {
    const { path, verdict, facts } = one
    const to = bytesOf(this.#target, path)
    if (verdict === 'drop' || verdict === 'return') return
    if (this.#made.get(path) === looksOf(facts)) return
    this.#unsynced = true
    if (verdict === 'delete') return rm(to, { recursive: true, force: true })
    if (facts.isDirectory()) {
      await makeFolder(to)
      if (one.alone) for (const name of await readdir(to, 'buffer')) await rm(join(to, name), { recursive: true })
      return
    }
    const key = `${facts.dev}:${facts.ino}`
    const first = facts.nlink > 1n ? links.get(key) : undefined
    if (first) await linkLeaf(first, to)
    else if (await this.#copy(trees, path, facts, false, signal)) links.set(key, to)
  }

  /** False when there was nothing to copy. */
  async #copy(
    trees: UpperTrees,
    path: string,
    facts: BigIntStats,
    live: boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      const source = { tree: trees.old, path: Buffer.from(path, 'latin1') }
      return await copyLeaf(source, bytesOf(this.#target, path), facts, { signal })
    } catch (error) {
      if (live ? isGone(error) : systemCode(error) === 'ENOENT') return false // the second pass sees what became of it
      throw asDarnerError(error, `copying ${shown(path)} to the new writable layer`)
    }
  }
}

function looksOf({ dev, ino, mode, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, mode, size, mtimeNs, ctimeNs].join(' ')
}

function join(folder: Buffer, name: Buffer): Buffer {
  return Buffer.concat([folder, Buffer.from('/'), name])
}

/** Puts all that was written to the file system of `path` on the disk. */
async function writeBack(path: string, { signal }: Waits): Promise<void> {
  const { code, stderr } = await runProgram('sync', ['-f', '--', path], { signal })
  if (code !== 0) throw new DarnerError('COMMAND_FAILED', `sync of ${path}: ${stderr.trim().slice(-500)}`)
}
