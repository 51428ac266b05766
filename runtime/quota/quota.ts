/** Disk quotas of writable layers: picks a way that was proven to bite, and stands between the engine and its root file systems. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, statfs } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { DiskQuota, StorageView } from '../../src/api/rich-api.ts'
import type { Rootfs } from '../../src/core/contracts/snapshots.ts'
import type { Digest } from '../../src/core/digest.ts'
import { DarnerError } from '../../src/core/errors.ts'
import type { Log } from '../../src/core/log.ts'
import type { RootfsStore } from '../containers/dependencies.ts'
import type { VolumeRooms } from '../volumes/volumes.ts'
import { QuotaPool } from './pool.ts'
import { ProjectQuota, projectFileSystem } from './project.ts'
import type { QuotaReader, QuotaUsage } from './uses.ts'

/** A volume among the containers of the book and the pool; their ids have no dash. */
const ROOM = /^volume-/
/** The logs of a container among them, by the container's id. */
const LOGS = /^log-/
const logsOf = (id: string) => `log-${id}`
/** What else lies beside logs: specs, sockets and the folders of commands. */
const BESIDE_LOGS_BYTES = 16 << 20
const roomOf = (name: string) => `volume-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`

/** If a root file system store says where its writable layers are (`upperOf`), quotas can be put below them. */
export class Quotas implements RootfsStore, VolumeRooms, QuotaReader {
  readonly #dir: string
  readonly #pool: QuotaPool
  #project: ProjectQuota | undefined
  readonly #rootfs: RootfsStore
  readonly #log: Log
  #refusal: string | undefined = 'this host has no quota pool'
  readonly #wanted = new Map<string, DiskQuota>()
  /** Volumes that have a quota, by name: where they are, and which. */
  readonly #rooms = new Map<string, { readonly folder: string; readonly quota: DiskQuota }>()
  /** What is begun is ended: none of it takes long. */
  readonly #ending = { signal: new AbortController().signal }

  private constructor(dir: string, pool: QuotaPool, rootfs: RootfsStore, log: Log) {
    this.#dir = dir
    this.#pool = pool
    this.#rootfs = rootfs
    this.#log = log
  }

  /** Opens the pool in `dir`, when one was made, and proves that its limits bite. */
  static async open(
    options: { dir: string },
    parts: { rootfs: RootfsStore; log: Log; signal: AbortSignal },
  ): Promise<Quotas> {
    const dir = resolve(options.dir)
    const quotas = new Quotas(dir, await QuotaPool.open(dir), parts.rootfs, parts.log)
    await quotas.#tryProjects(parts.signal)
    if (quotas.#project === undefined && quotas.#pool.bytes !== undefined) await quotas.#prove(parts.signal)
    return quotas
  }

  /** Makes or grows the pool, and proves it. Throws BAD_ARGUMENT; HOST_UNABLE when its limits don't bite here. */
  async initPool(bytes: number, { signal }: { signal: AbortSignal }): Promise<StorageView> {
    await this.#pool.init(bytes)
    await this.#prove(signal)
    if (this.#refusal !== undefined) throw new DarnerError('HOST_UNABLE', `quota pool: ${this.#refusal}`)
    return this.view()
  }

  async view(): Promise<StorageView> {
    const bytes = this.#pool.bytes
    const sizes = bytes === undefined ? {} : { poolBytes: bytes, promisedBytes: await this.#pool.promisedBytes() }
    if (this.#project) return { way: 'project', ...sizes }
    return this.#refusal === undefined ? { way: 'pool', ...sizes } : { way: 'none', reason: this.#refusal, ...sizes }
  }

  /** At create. Throws HOST_UNABLE where nothing can enforce it. */
  check(): void {
    if (this.#project !== undefined || this.#refusal === undefined) return
    throw new DarnerError('HOST_UNABLE', `disk quota: nothing can enforce it here: ${this.#refusal}`, {
      way: 'make a pool by darner storage init --size SIZE',
    })
  }

  /** Before the first {@link mount}: what the container is promised. */
  want(id: string, quota: DiskQuota | undefined): void {
    if (quota) this.#wanted.set(id, quota)
  }

  /**
   * Another quota for what has one, or none yet, at once also while it is mounted. Throws HOST_UNABLE where nothing enforces it,
   * UNSUPPORTED for a file system of its own from the pool, which stays as large as it was made.
   */
  async change(id: string, quota: DiskQuota, options: { signal: AbortSignal }): Promise<void> {
    this.check()
    if (this.#project === undefined || (await this.#pool.has(id)))
      throw new DarnerError('UNSUPPORTED', `changing the disk quota of ${id}: its disk space is a file of the pool`, {
        way: 'make a new container, or use xfs or ext4 with project quotas',
      })
    const folder = this.#place(id)
    await mkdir(folder, { recursive: true, mode: 0o755 })
    await this.#project.apply(id, folder, quota, options)
    this.#wanted.set(id, quota)
  }

  /** What is used of the quota of a mounted writable layer; undefined when it has none. */
  async usage(id: string): Promise<QuotaUsage | undefined> {
    const quota = this.#wanted.get(id)
    return quota && usageAt(this.#place(id), quota)
  }

  /** What is used of the quota of a volume; undefined when it has none. */
  async usageOfVolume(name: string): Promise<QuotaUsage | undefined> {
    const room = this.#rooms.get(name)
    return room && usageAt(room.folder, room.quota)
  }

  /**
   * Before a start, where there are project quotas: the kernel stops what is written to the folder of a container's logs too. conmon keeps
   * them to `bytes` by itself. The limit is so much higher that only a conmon that fails to do so would meet it, because it ends then.
   */
  async boundLogs(id: string, folder: string, bytes: number, options: { signal: AbortSignal }): Promise<void> {
    if (this.#project === undefined) return
    await mkdir(folder, { recursive: true, mode: 0o700 })
    if (!(await this.#project.holds(folder))) return
    await this.#project.apply(logsOf(id), folder, { bytes: bytes + BESIDE_LOGS_BYTES }, options)
  }

  /** After the folder is gone; fine for a container that has no such limit. */
  async freeLogs(id: string): Promise<void> {
    await this.#project?.release(logsOf(id), this.#ending)
  }

  async give(name: string, folder: string, quota: DiskQuota): Promise<void> {
    await this.#give(name, folder, quota)
    this.#rooms.set(name, { folder, quota })
  }

  async #give(name: string, folder: string, quota: DiskQuota): Promise<void> {
    this.check()
    const id = roomOf(name)
    const { signal } = this.#ending
    if (this.#project && !(await this.#pool.has(id))) return this.#project.apply(id, folder, quota, { signal })
    await this.#pool.make(id, quota, { signal })
    await this.#pool.mount(id, folder, { signal })
  }

  async take(name: string, folder: string): Promise<void> {
    this.#rooms.delete(name)
    const id = roomOf(name)
    if (await this.#pool.has(id)) {
      this.#pool.unmount(folder)
      await this.#pool.remove(id)
    }
    await this.#project?.release(id, this.#ending)
  }

  async keepOnly(names: ReadonlySet<string>): Promise<void> {
    const rooms = new Set([...names].map(roomOf))
    const isGone = (id: string) => ROOM.test(id) && !rooms.has(id)
    for (const id of (await this.#pool.ids()).filter(isGone)) await this.#pool.remove(id)
    for (const id of this.#project?.ids().filter(isGone) ?? []) await this.#project?.release(id, this.#ending)
  }

  async mount(
    id: string,
    layers: readonly Digest[],
    options: { readonly: boolean; signal: AbortSignal },
  ): Promise<Rootfs> {
    const quota = this.#wanted.get(id)
    const pooled = await this.#pool.has(id) // made before the host had project quotas
    if (quota && this.#project && !pooled) {
      const folder = this.#place(id)
      await mkdir(folder, { recursive: true, mode: 0o755 })
      await this.#project.apply(id, folder, quota, options)
    } else if (quota !== undefined || pooled) {
      const target = this.#place(id)
      if (quota) {
        this.check()
        await this.#pool.make(id, quota, options)
      }
      await mkdir(target, { recursive: true, mode: 0o755 })
      await this.#pool.mount(id, target, options)
    }
    return await this.#rootfs.mount(id, layers, options)
  }

  async unmount(id: string): Promise<void> {
    await this.#rootfs.unmount(id)
    if (await this.#pool.has(id)) this.#pool.unmount(this.#place(id))
  }

  async remove(id: string): Promise<void> {
    this.#wanted.delete(id)
    if (await this.#pool.has(id)) {
      await this.unmount(id)
      await this.#pool.remove(id)
    }
    await this.#rootfs.remove(id)
    await this.#project?.release(id, this.#ending)
  }

  async recover(ids: ReadonlySet<string>): Promise<string[]> {
    const mended: string[] = []
    for (const id of await this.#pool.ids()) {
      if (ids.has(id) || ROOM.test(id)) continue
      await this.#rootfs.unmount(id)
      this.#pool.unmount(this.#place(id))
      await this.#pool.remove(id)
      mended.push(`removed the quota file of ${id}, which nobody owns`)
    }
    mended.push(...(await this.#rootfs.recover(ids)))
    for (const id of this.#project?.ids() ?? []) {
      if (ids.has(id) || ROOM.test(id) || LOGS.test(id)) continue // of logs: when their container is removed
      await this.#project?.release(id, this.#ending)
      mended.push(`took back the quota project of ${id}, which nobody owns`)
    }
    return mended
  }

  /** The folder that upper and work directory of the overlay share. */
  #place(id: string): string {
    const store = this.#rootfs
    if ('upperOf' in store && typeof store.upperOf === 'function') return dirname(resolve(String(store.upperOf(id))))
    throw new DarnerError('HOST_UNABLE', 'disk quota: the root file systems of this engine tell no place for it')
  }

  /** Where writable layers lie on a file system with project quotas that bite, they are taken. */
  async #tryProjects(signal: AbortSignal): Promise<void> {
    const store = this.#rootfs
    if (!('upperOf' in store)) return
    const folder = dirname(dirname(this.#place('probe')))
    const system = projectFileSystem(await readFile('/proc/self/mountinfo', 'utf8'), folder)
    if (!system) return
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    await mkdir(folder, { recursive: true, mode: 0o711 })
    const project = await ProjectQuota.open(this.#dir, system)
    const why = await project.probe(folder, { signal })
    if (why === undefined) this.#project = project
    this.#log.info(
      { kind: system.kind, why },
      why === undefined ? 'disk quotas by projects' : 'project quotas do not bite',
    )
  }

  async #prove(signal: AbortSignal): Promise<void> {
    this.#refusal = await this.#pool.probe({ signal })
    if (this.#refusal === undefined) this.#log.info({}, 'disk quotas by a pool of files: both limits bite')
    else this.#log.warn({ reason: this.#refusal }, 'disk quotas are refused')
  }
}

async function usageAt(folder: string, quota: DiskQuota): Promise<QuotaUsage> {
  const { bsize, blocks, bfree, files, ffree } = await statfs(folder)
  const inodes = quota.inodes === undefined ? undefined : { used: files - ffree, limit: files }
  return { bytes: { used: bsize * (blocks - bfree), limit: bsize * blocks }, ...(inodes ? { inodes } : {}) }
}
