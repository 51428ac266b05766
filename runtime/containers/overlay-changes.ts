/** What a container changed of its image: the upper directory of its overlay, compared with the image below. */
import type { Stats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { isGone, type StillTree, stillTree } from '../linux/foreign-tree.ts'

export interface Change {
  readonly path: string
  readonly kind: 'modified' | 'added' | 'deleted'
}

/** A change with the bytes of its path, which need not be text: below the root, without a slash before. */
export interface FoundChange extends Change {
  readonly bytes: Buffer
}

/** What an overlay's upper directory holds, in the order of names. */
export async function changesIn(upper: StillTree, image: string): Promise<FoundChange[]> {
  using below = stillTree(image)
  const found: FoundChange[] = []
  await walk(upper.path, below.path, '', found)
  return found
}

/** Paths are their bytes as latin1 text. What goes meanwhile is as if it had never been. */
async function walk(upper: string, image: string, folder: string, found: FoundChange[]): Promise<void> {
  for (const name of await namesIn(inTree(upper, folder))) {
    const path = folder === '' ? name : `${folder}/${name}`
    const facts = await lstatIn(upper, path)
    if (facts === undefined) continue
    const below = (await lstatIn(image, path)) !== undefined
    const bytes = Buffer.from(path, 'latin1')
    const add = (kind: Change['kind']) => found.push({ path: `/${bytes.toString('utf8')}`, kind, bytes })
    if (facts.isCharacterDevice() && facts.rdev === 0) {
      if (below) add('deleted')
      continue
    }
    add(below ? 'modified' : 'added')
    if (facts.isDirectory()) await walk(upper, image, path, found)
  }
}

const inTree = (tree: string, path: string) => Buffer.concat([Buffer.from(`${tree}/`), Buffer.from(path, 'latin1')])

async function namesIn(folder: Buffer): Promise<string[]> {
  try {
    return (await readdir(folder, { encoding: 'latin1' })).sort()
  } catch (error) {
    if (isGone(error)) return []
    throw error
  }
}

async function lstatIn(tree: string, path: string): Promise<Stats | undefined> {
  try {
    return await lstat(inTree(tree, path))
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

/** Where the runtime makes mount points in the writable layer. */
const MADE = ['/dev', '/proc', '/sys', '/etc/hostname', '/etc/hosts', '/etc/resolv.conf', '/sbin/docker-init']

/** Leaves out what was made for mounts, and folders that changed by nothing else. */
export function withoutMountPoints<T extends Change>(changes: readonly T[], targets: readonly string[]): T[] {
  const made = [...MADE, ...targets]
  const isMade = ({ path, kind }: Change) =>
    kind === 'added' && made.some((one) => path === one || path.startsWith(`${one}/`))
  const kept = changes.filter((one) => !isMade(one))
  const above = (path: string, list: readonly Change[]) => list.some((one) => one.path.startsWith(`${path}/`))
  return kept.filter(
    ({ path, kind }) => kind !== 'modified' || above(path, kept) || !above(path, changes.filter(isMade)),
  )
}
