/**
 * What becomes of each path of a writable layer when the image below it is exchanged (docs/rich.md, "Upgrade in place"). Three trees are
 * read. They are the layer itself (the upper directory, with overlayfs's whiteouts and marks), the old root as the container sees it, for
 * contents, and the new image.
 *
 * Paths are relative, their bytes as latin1 text, as names in a root file system may be any bytes.
 */
import type { BigIntStats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import type { UpperVerdict } from '../../src/api/upgrade-api.ts'
import { isGone, stillTree } from '../linux/foreign-tree.ts'
import { getXattr } from '../linux/syscalls.ts'

export interface UpperTrees {
  /** The upper directory. */
  readonly upper: string
  /** The old root, merged. */
  readonly old: string
  /** The new image alone. */
  readonly image: string
}

export interface UpperRules {
  /** The container's files win over the image's at and below these; `''` is the root. */
  readonly wins: readonly string[]
  /** Mount points: what is at and below them is not part of the container's root. */
  readonly skip: ReadonlySet<string>
}

export interface WalkedPath {
  readonly path: string
  readonly verdict: UpperVerdict
  /** Of the path in the upper directory or, below a renamed directory, in the old root. */
  readonly facts: BigIntStats
  /** A directory whose contents in the image do not show: replaced as a whole. Only with `win`. */
  readonly alone: boolean
}

export function bytesOf(root: string, path: string): Buffer {
  return path === '' ? Buffer.from(root) : Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')])
}

/** A path as text in messages and lists. */
export function shown(path: string): string {
  return `/${Buffer.from(path, 'latin1').toString('utf8')}`
}

/** A path as this file has them, of text such as `/etc/app.conf`. */
export function relative(path: string): string {
  return Buffer.from(path.replaceAll(/\/+/g, '/').replace(/^\//, '').replace(/\/$/, '')).toString('latin1')
}

/**
 * The same trees, for a walk while the container may run. What the container puts in the way leads nowhere else, and what it removed is as
 * if it had never been.
 */
export function stillTrees(trees: UpperTrees): UpperTrees & Disposable {
  using made = new DisposableStack()
  const still = (path: string) => made.use(stillTree(path)).path
  const found = { upper: still(trees.upper), old: still(trees.old), image: still(trees.image) }
  const kept = made.move()
  return { ...found, [Symbol.dispose]: () => kept.dispose() }
}

/** All paths about which something is decided: parents before children, except `drop` of a directory, which stands for all below. */
export async function* walkUpper(trees: UpperTrees, rules: UpperRules): AsyncGenerator<WalkedPath> {
  yield* walkFolder('', { inImage: true, whole: false }, trees, rules)
}

interface Place {
  /** The image has this directory too. */
  readonly inImage: boolean
  /** Renamed from elsewhere: what it holds is partly in the old image, so it is read where all of it shows. */
  readonly whole: boolean
}

async function* walkFolder(
  folder: string,
  place: Place,
  trees: UpperTrees,
  rules: UpperRules,
): AsyncGenerator<WalkedPath> {
  const root = place.whole ? trees.old : trees.upper
  for (const name of (await namesIn(bytesOf(root, folder))).sort()) {
    const path = folder === '' ? name : `${folder}/${name}`
    if (rules.skip.has(path)) continue
    const facts = await factsOf(bytesOf(root, path))
    if (facts === undefined) continue
    const inImage = place.inImage ? await factsOf(bytesOf(trees.image, path)) : undefined
    const wins = rules.wins.some((one) => one === '' || one === path || path.startsWith(`${one}/`))
    if (!place.whole && isWhiteout(facts, bytesOf(root, path))) {
      if (inImage) yield { path, verdict: wins ? 'delete' : 'return', facts, alone: false }
    } else if (facts.isDirectory()) yield* walkDirectory(path, facts, { inImage, wins, place }, trees, rules)
    else yield { path, verdict: inImage === undefined ? 'keep' : wins ? 'win' : 'drop', facts, alone: false }
  }
}

async function* walkDirectory(
  path: string,
  facts: BigIntStats,
  { inImage, wins, place }: { inImage: BigIntStats | undefined; wins: boolean; place: Place },
  trees: UpperTrees,
  rules: UpperRules,
): AsyncGenerator<WalkedPath> {
  const { opaque, moved } = place.whole ? { opaque: false, moved: false } : marksOf(bytesOf(trees.upper, path))
  const whole = place.whole || moved
  if (inImage && !inImage.isDirectory() && !wins) {
    yield { path, verdict: 'drop', facts, alone: false }
    return
  }
  const alone = wins && inImage !== undefined && (opaque || whole || !inImage.isDirectory())
  if (wins && inImage) yield { path, verdict: 'win', facts, alone }
  else if (!inImage) yield { path, verdict: 'keep', facts, alone: false }
  // below a directory that replaces the image's there is nothing of the image to compare with
  yield* walkFolder(path, { inImage: inImage?.isDirectory() === true && !alone, whole }, trees, rules)
}

async function namesIn(path: Buffer): Promise<string[]> {
  try {
    return await readdir(path, { encoding: 'latin1' })
  } catch (error) {
    if (isGone(error)) return []
    throw error
  }
}

async function factsOf(path: Buffer): Promise<BigIntStats | undefined> {
  try {
    return await lstat(path, { bigint: true })
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

function markOf(path: Buffer, name: string): string | undefined {
  try {
    const value = getXattr(path, `trusted.overlay.${name}`)
    return value && Buffer.from(value).toString('latin1')
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

/** A character device 0:0, or an empty file with a mark (kernel docs, filesystems/overlayfs, "whiteouts and opaque directories"). */
function isWhiteout(facts: BigIntStats, path: Buffer): boolean {
  if (facts.isCharacterDevice()) return facts.rdev === 0n
  return facts.isFile() && facts.size === 0n && markOf(path, 'whiteout') !== undefined
}

function marksOf(path: Buffer): { opaque: boolean; moved: boolean } {
  return { opaque: markOf(path, 'opaque') === 'y', moved: markOf(path, 'redirect') !== undefined }
}
