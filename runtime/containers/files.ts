/**
 * The files of a container, from outside: stat, copy out, copy in, export, changes. Paths are resolved by the kernel as a process
 * in the container would see them, and never lead out of it (openat2(2), RESOLVE_IN_ROOT).
 */
import { randomUUID } from 'node:crypto'
import { closeSync, fstatSync, readlinkSync, type Stats } from 'node:fs'
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join, normalize } from 'node:path'
import type { Readable } from 'node:stream'
import { DarnerError, systemCode } from '../../src/core/errors.ts'
import { type StillTree, stillTree } from '../linux/foreign-tree.ts'
import { AT_FDCWD, O, openAt, openBelow, RESOLVE } from '../linux/syscalls.ts'
import { readImageConfig } from '../spec/image-config.ts'
import { findUser } from '../spec/users.ts'
import { prepareMounts } from '../volumes/mounts.ts'
import type { Containers } from './containers.ts'
import { extractInto } from './extract.ts'
import { firstProcess } from './first-process.ts'
import { layerTar, streamTar } from './layer-tar.ts'
import { type Change, changesIn, type FoundChange, withoutMountPoints } from './overlay-changes.ts'
import { mountOptionsOf, rootfsIdOf } from './record.ts'
import { ownerMap } from './userns.ts'

export interface PathFacts {
  readonly name: string
  readonly stat: Stats
  /** Of a symlink. */
  readonly target: string
}

/** Descriptors of the folder that `inner` is looked up in, and of the container's own root. */
interface Place {
  readonly root: number
  readonly inner: string
  readonly home: number
  readonly readonly: boolean
}

interface Mounted {
  /** Path on this host. */
  readonly source: string
  /** The rest of the path, below it. */
  readonly inner: string
  readonly readonly: boolean
}

export class ContainerFiles {
  readonly #containers: Containers

  constructor(containers: Containers) {
    this.#containers = containers
  }

  /** Facts of what is at `path`, a last symlink not followed. Throws NOT_FOUND. */
  async stat(reference: string, path: string, { signal }: { signal: AbortSignal }): Promise<PathFacts> {
    return this.#within(reference, path, signal, ({ root, inner }) => {
      const found = openPath(root, inner, false, reference)
      try {
        const facts = factsOf(found, path)
        return facts.stat.isSymbolicLink() ? { ...facts, target: targetOf(root, inner, reference) } : facts
      } finally {
        closeSync(found)
      }
    })
  }

  /** A tar of what is at `path`, under its own last name. Throws NOT_FOUND; RUNTIME_MISSING without tar. Ends when the caller read it. */
  async archive(
    reference: string,
    path: string,
    options: { signal: AbortSignal },
  ): Promise<{ facts: PathFacts; tar: Readable; done: Promise<void> }> {
    const opened = Promise.withResolvers<{ facts: PathFacts; tar: Readable }>()
    const done = this.#within(reference, path, options.signal, async ({ root, inner }) => {
      const found = openPath(root, inner, false, reference)
      let folder: number | undefined
      try {
        const facts = factsOf(found, path)
        folder = facts.stat.isDirectory()
          ? openPath(root, inner, true, reference)
          : openPath(root, dirname(slashed(inner)), true, reference)
        const name = facts.stat.isDirectory() ? '.' : facts.name
        const shown = facts.name === '/' ? '.' : facts.name
        const renamed = facts.stat.isDirectory() ? ['--transform', `s,^\\.,${escaped(shown)},S`] : []
        await using owners = await this.#owners(reference)
        await streamTar([...owners.args, ...renamed, '--', name], folder, options.signal, (tar) =>
          opened.resolve({ facts, tar }),
        )
      } finally {
        if (folder !== undefined) closeSync(folder)
        closeSync(found)
      }
    })
    done.catch(opened.reject)
    return { ...(await opened.promise), done }
  }

  /** The whole root file system, without volumes and mounts, as a tar. */
  async export(
    reference: string,
    { signal }: { signal: AbortSignal },
  ): Promise<{ tar: Readable; done: Promise<void> }> {
    const opened = Promise.withResolvers<Readable>()
    const done = this.#mounted(reference, signal, async (path) => {
      const root = openAt(AT_FDCWD, path, O.RDONLY | O.DIRECTORY)
      try {
        await using owners = await this.#owners(reference)
        const args = [...owners.args, '--one-file-system', '--transform', 's,^\\./,,S', '--', '.']
        await streamTar(args, root, signal, opened.resolve)
      } finally {
        closeSync(root)
      }
    })
    done.catch(opened.reject)
    return { tar: await opened.promise, done }
  }

  /** Unpacks a tar below the folder `path`; with `asUser` all is the container's user's, where it has one. Throws NOT_FOUND, BAD_ARGUMENT when it is not a folder, LAYER_INVALID. */
  async extract(
    reference: string,
    path: string,
    tar: AsyncIterable<Uint8Array>,
    options: { keepKind: boolean; asUser: boolean; signal: AbortSignal },
  ): Promise<void> {
    const { record } = this.#containers.entry(reference)
    const { request } = record
    const user = request.user ?? readImageConfig(record.imageConfig, record.imageReference).user
    if (request.readonlyRootfs === true) throw new DarnerError('BAD_ARGUMENT', 'container rootfs is marked read-only')
    await this.#within(reference, path, options.signal, async ({ root, inner, home, readonly }) => {
      if (readonly) throw new DarnerError('BAD_ARGUMENT', `${path}: the mount there is read-only`)
      const folder = openPath(root, inner, true, reference)
      try {
        const owner = options.asUser && user ? { owner: findUser(`/proc/self/fd/${home}`, user) } : {}
        await extractInto(root, folder, tar, { ...options, ...owner, idBase: record.userns?.base ?? 0 })
      } finally {
        closeSync(folder)
      }
    })
  }

  /** What differs from the image, in the order of names. */
  async changes(reference: string, { signal }: { signal: AbortSignal }): Promise<Change[]> {
    return this.#changed(reference, { still: false, signal }, async (found) => found)
  }

  /**
   * The writable layer, without volumes and mounts, as the tar of a layer. What takes it is done before another step begins; with `still`
   * no process of the container runs meanwhile.
   */
  async layer<T>(
    reference: string,
    { still = false, signal }: { still?: boolean; signal: AbortSignal },
    take: (tar: AsyncIterable<Uint8Array>) => Promise<T>,
  ): Promise<T> {
    return this.#changed(reference, { still, signal }, async (found, upper) => {
      await using owners = await this.#owners(reference)
      return await take(layerTar(upper, found, signal, owners.args))
    })
  }

  /** Words for tar that give a container's own ids, where it has any. */
  async #owners(reference: string): Promise<{ args: readonly string[] } & AsyncDisposable> {
    const { record, bundle } = this.#containers.entry(reference)
    if (!record.userns) return { args: [], [Symbol.asyncDispose]: async () => {} }
    const file = join(bundle.path, `owners-${randomUUID()}`)
    await mkdir(bundle.path, { recursive: true, mode: 0o700 }) // it was never started
    await writeFile(file, ownerMap(record.userns), { mode: 0o600 })
    return {
      args: [`--owner-map=${file}`, `--group-map=${file}`],
      [Symbol.asyncDispose]: () => rm(file, { force: true }),
    }
  }

  async #changed<T>(
    reference: string,
    { still, signal }: { still: boolean; signal: AbortSignal },
    take: (changes: FoundChange[], upper: StillTree) => Promise<T>,
  ): Promise<T> {
    const entry = this.#containers.entry(reference)
    const { rootfs } = this.#containers
    const work = async () => {
      const view = `view-${entry.id.slice(0, 32)}`
      const { upper } = await rootfs.mount(rootfsIdOf(entry.record), entry.record.layers, {
        ...mountOptionsOf(entry.record),
        signal,
      })
      try {
        const image = await rootfs.mount(view, entry.record.layers, { readonly: true, signal })
        // its processes may be changing it
        using written = stillTree(upper)
        const found = await changesIn(written, image.path)
        const mounts = entry.record.request.mounts?.map((one) => one.target) ?? []
        return await take(withoutMountPoints(found, mounts), written)
      } finally {
        await rootfs.remove(view)
        if (entry.record.pid === undefined) await rootfs.unmount(rootfsIdOf(entry.record))
      }
    }
    return this.#containers.hold(entry, work, still ? { still: { signal } } : {})
  }

  /**
   * The place of `path` as a running container sees it. For one that doesn't run, it is in its root file system or in the mount that is to
   * be there.
   */
  async #within<T>(
    reference: string,
    path: string,
    signal: AbortSignal,
    work: (place: Place) => Promise<T> | T,
  ): Promise<T> {
    const entry = this.#containers.entry(reference)
    const use = async (at: string, mount?: Mounted) => {
      const home = openAt(AT_FDCWD, at, O.PATH | O.DIRECTORY)
      let source: number | undefined
      try {
        if (mount === undefined) return await work({ root: home, inner: path, home, readonly: false })
        source = openAt(AT_FDCWD, mount.source, O.PATH | O.DIRECTORY)
        return await work({ root: source, inner: mount.inner, home, readonly: mount.readonly })
      } finally {
        if (source !== undefined) closeSync(source)
        closeSync(home)
      }
    }
    if (entry.record.pid === undefined)
      return this.#mounted(reference, signal, async (at) => use(at, await this.#mountAt(reference, path, at, signal)))
    using first = await firstProcess(entry)
    return await use(`${first.path}/root`)
  }

  /** The bind or volume that a start would mount where `path` is; an empty volume is filled as a start would. */
  async #mountAt(reference: string, path: string, rootfs: string, signal: AbortSignal): Promise<Mounted | undefined> {
    const { record } = this.#containers.entry(reference)
    const { request, userns } = record
    const whole = slashed(normalize(`/${path}`))
    const mounts = (request.mounts ?? []).filter(({ target }) => `${whole}/`.startsWith(`${slashed(target)}/`))
    const mount = mounts.toSorted((a, b) => a.target.length - b.target.length).at(-1)
    if (mount === undefined || mount.type === 'tmpfs') return undefined
    const [found] = await prepareMounts([mount], {
      volumes: this.#containers.volumes,
      ...(request.volumeQuotas === undefined ? {} : { quotas: request.volumeQuotas }),
      rootfs,
      now: record.createdAt,
      idBase: userns?.base ?? 0,
      signal,
    })
    // a file that is bound is the mount itself
    const source = found?.source
    if (source === undefined || !(await stat(source)).isDirectory()) return undefined
    const rest = whole.slice(slashed(mount.target).length) + (/\/\.?$/.exec(path)?.[0] ?? '')
    return { source, inner: rest || '/', readonly: mount.readonly === true }
  }

  async #mounted<T>(reference: string, signal: AbortSignal, work: (path: string) => Promise<T>): Promise<T> {
    const entry = this.#containers.entry(reference)
    const mount = async () => {
      const { path } = await this.#containers.rootfs.mount(rootfsIdOf(entry.record), entry.record.layers, {
        ...mountOptionsOf(entry.record),
        signal,
      })
      return path
    }
    if (entry.record.pid !== undefined) return work(await mount())
    return this.#containers.hold(entry, async () => {
      const path = await mount()
      try {
        return await work(path)
      } finally {
        if (entry.record.pid === undefined) await this.#containers.rootfs.unmount(rootfsIdOf(entry.record))
      }
    })
  }
}

const slashed = (path: string) => path.replace(/\/+$/, '') || '/'

/** The descriptor of what is there, which the caller closes. `reference` is how the container was asked for. */
function openPath(root: number, path: string, folder: boolean, reference: string): number {
  const flags = folder ? O.RDONLY | O.DIRECTORY : O.PATH | (/\/\.?$/.test(path) ? 0 : O.NOFOLLOW)
  try {
    return openBelow(root, path === '' ? '/' : path, flags, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS)
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT')
      throw new DarnerError('NOT_FOUND', `Could not find the file ${path} in container ${reference}`)
    if (code === 'ENOTDIR') throw new DarnerError('BAD_ARGUMENT', `${path}: not a directory`)
    throw error
  }
}

/** Docker's clients rename what is in an archive by its name: `.` where the contents of a folder were asked for. */
function factsOf(fd: number, path: string): PathFacts {
  const stat = fstatSync(fd)
  if (/\/\.$/.test(path)) return { name: '.', stat, target: '' }
  const name = basename(normalize(slashed(path))) || '/'
  return { name: name === '.' ? '/' : name, stat, target: '' }
}

/** Read through the descriptor of its folder: a symlink's own descriptor can't be. */
function targetOf(root: number, path: string, reference: string): string {
  const folder = openPath(root, dirname(slashed(path)), true, reference)
  try {
    return readlinkSync(`/proc/self/fd/${folder}/${basename(slashed(path))}`)
  } finally {
    closeSync(folder)
  }
}

function escaped(name: string): string {
  return name.replaceAll(/[\\&,]/g, '\\$&')
}
