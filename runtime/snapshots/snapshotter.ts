/**
 * The Snapshotter: stored layers of one format, and root file systems stacked from them. On disk, under one folder per format: `layers/`,
 * `ingest/` (layers.ts), `mounts/<layer>` where layers need a mount of their own, and `rootfs/<id>/{rw/upper,rw/work,root}`. All root file
 * systems that use a layer share its mount, and so its page cache. Both go with the last of them.
 */

import { closeSync, statSync } from 'node:fs'
import { chmod, chown, mkdir, readdir, readFile, rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LRUCache } from 'lru-cache'
import PQueue from 'p-queue'
import type { IdMap, Rootfs, Snapshotter, StoredLayer, UnpackLimits } from '../../src/core/contracts/snapshots.ts'
import { algorithmOf, type Digest, hexOf, isDigest } from '../../src/core/digest.ts'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import { upTo } from '../../src/core/up-to.ts'
import { spreadFolders } from '../linux/spread-folders.ts'
import { type ErofsRecord, erofsFormat, scrubErofs } from './erofs.ts'
import { type ErofsWay, mountErofs, probeErofs } from './erofs-mount.ts'
import { openUserns, showMapped } from './idmap.ts'
import { type Fill, fillsOf, isOpaque, makeFills, rootStatedBy, type Stack } from './implied.ts'
import type { LayerFormat } from './layer-format.ts'
import { type LayerRecord, LayerStore, removeTree } from './layers.ts'
import { isMountPoint, mountsBelow, removeMountPoints, unmountAll } from './mounts.ts'
import { forgiveVolatile, mountOverlay } from './overlay.ts'
import { directoryFormat, treeOf } from './unpack.ts'

export interface SnapshotterOptions {
  readonly directory: string
  /** `auto`: EROFS where the host can mount it, else directories. */
  readonly kind: 'auto' | 'erofs' | 'directory'
}

export interface SnapshotterParts {
  readonly log: Log
}

/** The result is kept for so many stacks; one that needs more than so much on top is computed each time. */
const MAX_STACKS_KEPT = 64
const MAX_FILLS_KEPT = 1000
const ID = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/

/** Opens the snapshotter in `options.directory`. Throws HOST_UNABLE when `erofs` is demanded of a host that can't. */
export async function openSnapshotter(
  options: SnapshotterOptions,
  parts: SnapshotterParts,
): Promise<StackingSnapshotter> {
  await mkdir(options.directory, { recursive: true, mode: 0o711 })
  const probed = options.kind === 'directory' ? undefined : await probeErofs(options.directory)
  if (probed !== undefined && probed.way === undefined) {
    if (options.kind === 'erofs') throw new DarnerError('HOST_UNABLE', `EROFS layers: ${probed.reason}`)
    parts.log.info({ reason: probed.reason }, 'layers are held as directories')
  }
  const way = probed?.way
  const format = way === undefined ? directoryFormat : erofsFormat
  const directory = join(options.directory, format.kind)
  const store = new LayerStore({ directory }, { format })
  const snapshotter = new StackingSnapshotter(
    { directory, ...(way === undefined ? {} : { way }) },
    { store, format, log: parts.log },
  )
  await snapshotter.start()
  return snapshotter
}

export class StackingSnapshotter implements Snapshotter {
  readonly kind: 'erofs' | 'directory'
  readonly #directory: string
  readonly #way: ErofsWay | undefined
  readonly #store: LayerStore
  readonly #log: Log
  /** What this process put on the record of each root file system; of others the record is read. */
  readonly #stacks = new Map<string, readonly Digest[]>()
  /** Of stacks that were mounted lately, oldest first: what their layers need on top. */
  readonly #filled = new LRUCache<string, readonly Fill[]>(upTo(MAX_STACKS_KEPT))
  /** Mounting is quick and its order matters: one at a time. */
  readonly #mounting = new PQueue({ concurrency: 1 })

  constructor(
    options: { directory: string; way?: ErofsWay },
    parts: { store: LayerStore; format: LayerFormat; log: Log },
  ) {
    this.kind = parts.format.kind
    this.#directory = options.directory
    this.#way = options.way
    this.#store = parts.store
    this.#log = parts.log
  }

  async start(): Promise<void> {
    await this.#store.start()
    // root of a user namespace is nobody here, and has its root file system below
    await chmod(this.#directory, 0o711)
    for (const name of ['rootfs', 'mounts', 'empty'])
      await mkdir(join(this.#directory, name), { recursive: true, mode: 0o711 })
    await chmod(join(this.#directory, 'empty'), 0o755)
    spreadFolders(join(this.#directory, 'rootfs'))
  }

  layer(diffId: Digest): Promise<LayerRecord | undefined> {
    return this.#store.get(diffId)
  }

  layers(): Promise<StoredLayer[]> {
    return this.#store.list()
  }

  expect(bytes: number): void {
    this.#store.expect(bytes)
  }

  unpack(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer> {
    return this.#store.unpack(diffId, blob, options)
  }

  /**
   * Puts the layer that `blob` has in the place of the one that is stored. What is mounted keeps what it has; the next mount has the new one.
   * Throws as `unpack` does.
   */
  async renew(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer> {
    const renewed = await this.#store.renew(diffId, blob, options)
    // stacks keep their layers to themselves
    await this.#inTurn(() => unmountAll(this.#layerMount(diffId)))
    return renewed
  }

  /** Throws CONFLICT while a root file system, mounted or not, is stacked on the layer. */
  removeLayer(diffId: Digest): Promise<void> {
    return this.#inTurn(async () => {
      for (const id of await this.#ids()) {
        if (!(await this.#stackOf(id)).includes(diffId)) continue
        throw new DarnerError('CONFLICT', `layer ${diffId}: the root file system ${id} stands on it`)
      }
      await unmountAll(this.#layerMount(diffId))
      await this.#store.remove(diffId)
    })
  }

  /** Throws NOT_FOUND for a layer that isn't stored, MOUNT_FAILED, BAD_ARGUMENT for an id that is no plain name. */
  mount(
    id: string,
    layers: readonly Digest[],
    {
      readonly,
      volatile = false,
      idmap,
      signal,
    }: { readonly: boolean; volatile?: boolean; idmap?: IdMap; signal: AbortSignal },
  ): Promise<Rootfs> {
    return this.#inTurn(async () => {
      signal.throwIfAborted()
      const { root, upper, work, base, mapped } = this.#paths(id)
      if (isMountPoint(root)) {
        await this.#sameStack(id, layers)
        return { path: root, upper }
      }
      const records: LayerRecord[] = []
      for (const diffId of layers) {
        const record = await this.#store.get(diffId)
        if (record === undefined)
          throw new DarnerError('NOT_FOUND', `root file system ${id}: layer ${diffId} is not here`)
        records.push(record)
      }
      await this.#sameStack(id, layers)
      const fresh = await this.#prepare(id, layers)
      if (!fresh) await forgiveVolatile(work)
      try {
        const reached: string[] = []
        for (const { diffId } of records) reached.push(await this.#reach(diffId))
        // overlayfs stacks roots whatever they say
        const lowest = Math.max(
          reached.findLastIndex((folder, at) => records[at]?.opaque ?? isOpaque(folder, '')),
          0,
        )
        const folders = reached.slice(lowest)
        const seen = records.slice(lowest)
        const fills = await this.#fills({ records: seen, folders, root: readonly })
        const lowers = folders.toReversed()
        if (fills.length > 0) {
          const fill = join(base, 'fill')
          await makeFills(fills, folders, fill)
          lowers.unshift(fill)
        }
        while (lowers.length < (readonly ? 2 : 1)) lowers.push(join(this.#directory, 'empty'))
        const stating = rootStatedBy(seen, folders) ?? lowers[0]
        if (fresh && stating !== undefined) await copyRootFacts(stating, upper, idmap?.base ?? 0)
        const stack = (shown: readonly string[]) =>
          mountOverlay({ lowers: shown, target: root, ...(readonly ? {} : { upper: { upper, work, volatile } }) })
        if (idmap === undefined) stack(lowers)
        else await withMapped(lowers, { folder: mapped, idmap }, stack)
      } catch (error) {
        await this.#releaseLayers()
        throw error
      }
      return { path: root, upper }
    })
  }

  async #fills(stack: Stack): Promise<readonly Fill[]> {
    // a layer that is unpacked anew may have more on its record than it had
    const layers = stack.records.map(({ diffId, hiding }) => `${diffId}${hiding === undefined ? '' : '+'}`)
    const key = [String(stack.root), ...layers].join(' ')
    const known = this.#filled.get(key)
    const fills = known ?? (await fillsOf(stack))
    if (fills.length <= MAX_FILLS_KEPT) this.#filled.set(key, fills)
    return fills
  }

  /** The writable layer's directory of a root file system, mounted or not. */
  upperOf(id: string): string {
    return this.#paths(id).upper
  }

  unmount(id: string): Promise<void> {
    return this.#inTurn(async () => {
      if (await unmountAll(this.#paths(id).root)) await this.#releaseLayers()
    })
  }

  remove(id: string): Promise<void> {
    return this.#inTurn(async () => {
      await this.#remove(id)
      await this.#releaseLayers()
    })
  }

  recover(ids: ReadonlySet<string>): Promise<string[]> {
    return this.#inTurn(async () => {
      const mended = await this.#store.recover()
      for (const id of await this.#ids()) {
        if (ids.has(id)) continue
        await this.#remove(id)
        mended.push(`removed the root file system ${id}, which nobody owns`)
      }
      for (const target of await this.#releaseLayers()) mended.push(`unmounted ${target}, which nobody uses`)
      if (mended.length > 0) this.#log.info({ mended }, 'snapshots mended')
      return mended
    })
  }

  /** Reads a stored layer whole and compares it with its record; directories have none to compare. Throws STORE_CORRUPT, NOT_FOUND. */
  async scrub(diffId: Digest, { signal }: { signal: AbortSignal }): Promise<void> {
    const record = await this.#store.get(diffId)
    if (record === undefined) throw new DarnerError('NOT_FOUND', `layer ${diffId} is not here`)
    if (this.kind === 'erofs')
      await scrubErofs(this.#store.path(diffId), diffId, record.format as unknown as ErofsRecord, { signal })
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return await this.#mounting.add(work)
  }

  #paths(id: string): { base: string; root: string; rw: string; upper: string; work: string; mapped: string } {
    if (!ID.test(id))
      throw new DarnerError('BAD_ARGUMENT', `root file system ${JSON.stringify(id.slice(0, 160))}: not a plain name`)
    const base = join(this.#directory, 'rootfs', id)
    return {
      base,
      root: join(base, 'root'),
      rw: join(base, 'rw'),
      upper: join(base, 'rw', 'upper'),
      work: join(base, 'rw', 'work'),
      mapped: join(base, 'mapped'),
    }
  }

  async #ids(): Promise<string[]> {
    return (await readdir(join(this.#directory, 'rootfs'))).filter((name) => ID.test(name))
  }

  /** Makes the folders of a root file system; true when its writable layer is new. */
  async #prepare(id: string, layers: readonly Digest[]): Promise<boolean> {
    const { base, root, upper, work } = this.#paths(id)
    const first = (await mkdir(base, { recursive: true, mode: 0o711 })) !== undefined
    const record = join(base, 'layers.json')
    // not synced: after a power loss nothing is mounted, and an unreadable stack counts as none
    await writeFile(first ? record : `${record}.new`, JSON.stringify(layers))
    if (!first) await rename(`${record}.new`, record)
    this.#stacks.set(id, layers)
    await mkdir(root, { recursive: true })
    const fresh = (await mkdir(upper, { recursive: true, mode: 0o755 })) !== undefined
    await mkdir(work, { recursive: true, mode: 0o700 })
    return fresh
  }

  /** A kept writable layer is meaningful over the layers it was made for only. */
  async #sameStack(id: string, layers: readonly Digest[]): Promise<void> {
    const before = await this.#stackOf(id)
    if (before.length > 0 && before.join() !== layers.join()) {
      throw new DarnerError('CONFLICT', `root file system ${id}: it stands on other layers than those asked for`)
    }
  }

  async #stackOf(id: string): Promise<readonly Digest[]> {
    const known = this.#stacks.get(id)
    if (known) return known
    try {
      const layers: unknown = JSON.parse(await readFile(join(this.#paths(id).base, 'layers.json'), 'utf8'))
      return Array.isArray(layers)
        ? layers.filter((one): one is Digest => typeof one === 'string' && isDigest(one))
        : []
    } catch (error) {
      if (systemCode(error) === 'ENOENT' || error instanceof SyntaxError) return []
      throw error
    }
  }

  #layerMount(diffId: Digest): string {
    return join(this.#directory, 'mounts', `${algorithmOf(diffId)}-${hexOf(diffId)}`)
  }

  /** A folder with the layer's files in it; mounts the layer when its format needs that and nobody did yet. */
  async #reach(diffId: Digest): Promise<string> {
    const folder = this.#store.path(diffId)
    if (this.#way === undefined) return treeOf(folder)
    const target = this.#layerMount(diffId)
    if (isMountPoint(target)) return target
    await mkdir(target, { recursive: true, mode: 0o755 })
    await mountErofs(folder, target, this.#way)
    return target
  }

  async #mounted(): Promise<Set<string>> {
    return new Set((await mountsBelow(this.#directory)).map(({ target }) => target))
  }

  /** Unmounts layers that no mounted root file system uses. */
  async #releaseLayers(): Promise<string[]> {
    const mounted = await this.#mounted()
    const layers = [...mounted].filter((target) => target.startsWith(`${join(this.#directory, 'mounts')}/`))
    if (layers.length === 0) return []
    const used = new Set<string>()
    for (const id of await this.#ids()) {
      if (!mounted.has(this.#paths(id).root)) continue
      for (const diffId of await this.#stackOf(id)) used.add(this.#layerMount(diffId))
    }
    const released: string[] = []
    for (const target of layers) if (!used.has(target) && (await unmountAll(target))) released.push(target)
    return released
  }

  async #remove(id: string): Promise<void> {
    const { base, root } = this.#paths(id)
    this.#stacks.delete(id)
    await unmountAll(root)
    // a quota may have mounted a file system of its own at the writable layer; an agent that was killed left mapped layers
    for (const { target } of (await mountsBelow(base)).toReversed()) await unmountAll(target)
    await removeTree(base)
  }
}

/**
 * Does `work` with each of `lowers` shown with mapped owners below `folder`. An overlay keeps what it was made of to itself, so the
 * mounts go again at once.
 */
async function withMapped(
  lowers: readonly string[],
  { folder, idmap }: { folder: string; idmap: IdMap },
  work: (shown: readonly string[]) => void,
): Promise<void> {
  const userns = await openUserns(idmap)
  const shown: string[] = []
  try {
    for (const [at, lower] of lowers.entries()) {
      const target = join(folder, String(at))
      await showMapped(lower, target, userns)
      shown.push(target)
    }
    work(shown)
  } finally {
    closeSync(userns)
    await removeMountPoints(folder)
  }
}

/** Both were just reached, so the kernel has them at hand; most are alike already. */
async function copyRootFacts(from: string, to: string, idBase: number): Promise<void> {
  const [facts, made] = [statSync(from), statSync(to)]
  const [uid, gid, mode] = [idBase + facts.uid, idBase + facts.gid, facts.mode & 0o7777]
  if (made.uid !== uid || made.gid !== gid) await chown(to, uid, gid)
  if ((made.mode & 0o7777) !== mode) await chmod(to, mode)
  await utimes(to, facts.atime, facts.mtime)
}
