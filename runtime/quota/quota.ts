/** Disk quotas of writable layers: picks a way that was proven to bite, and stands between the engine and its root file systems. */
import { mkdir } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { DarnerError } from '../../src/base/errors.ts'
import type { Log } from '../../src/base/log.ts'
import type { Rootfs } from '../../src/contracts/snapshots.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { DiskQuota, StorageView } from '../../src/wire/rich-api.ts'
import type { RootfsStore } from '../containers/ports.ts'
import { QuotaPool } from './pool.ts'

/** Where a root file system store tells its writable layers to be (`upperOf`), quotas can be put below them. */
export class Quotas implements RootfsStore {
  readonly #pool: QuotaPool
  readonly #rootfs: RootfsStore
  readonly #log: Log
  #refusal: string | undefined = 'this host has no quota pool'
  readonly #wanted = new Map<string, DiskQuota>()

  private constructor(pool: QuotaPool, rootfs: RootfsStore, log: Log) {
    this.#pool = pool
    this.#rootfs = rootfs
    this.#log = log
  }

  /** Opens the pool in `dir`, when one was made, and proves that its limits bite. */
  static async open(
    options: { dir: string },
    parts: { rootfs: RootfsStore; log: Log; signal: AbortSignal },
  ): Promise<Quotas> {
    const quotas = new Quotas(await QuotaPool.open(resolve(options.dir)), parts.rootfs, parts.log)
    if (quotas.#pool.bytes !== undefined) await quotas.#prove(parts.signal)
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
    return this.#refusal === undefined ? { way: 'pool', ...sizes } : { way: 'none', reason: this.#refusal, ...sizes }
  }

  /** At create. Throws HOST_UNABLE where nothing can enforce it. */
  check(): void {
    if (this.#refusal === undefined) return
    throw new DarnerError('HOST_UNABLE', `disk quota: nothing can enforce it here: ${this.#refusal}`, {
      way: 'make a pool by darner storage init --size SIZE',
    })
  }

  /** Before {@link mount}: what the container was promised. */
  want(id: string, quota: DiskQuota | undefined): void {
    if (quota) this.#wanted.set(id, quota)
  }

  async mount(
    id: string,
    layers: readonly Digest[],
    options: { readonly: boolean; signal: AbortSignal },
  ): Promise<Rootfs> {
    const quota = this.#wanted.get(id)
    if (quota !== undefined || (await this.#pool.has(id))) {
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
  }

  async recover(ids: ReadonlySet<string>): Promise<string[]> {
    const mended: string[] = []
    for (const id of await this.#pool.ids()) {
      if (ids.has(id)) continue
      await this.#rootfs.unmount(id)
      this.#pool.unmount(this.#place(id))
      await this.#pool.remove(id)
      mended.push(`removed the quota file of ${id}, which nobody owns`)
    }
    return [...mended, ...(await this.#rootfs.recover(ids))]
  }

  /** The folder that upper and work directory of the overlay share. */
  #place(id: string): string {
    const store = this.#rootfs
    if ('upperOf' in store && typeof store.upperOf === 'function') return dirname(resolve(String(store.upperOf(id))))
    throw new DarnerError('HOST_UNABLE', 'disk quota: the root file systems of this engine tell no place for it')
  }

  async #prove(signal: AbortSignal): Promise<void> {
    this.#refusal = await this.#pool.probe({ signal })
    if (this.#refusal === undefined) this.#log.info({}, 'disk quotas by a pool of files: both limits bite')
    else this.#log.warn({ reason: this.#refusal }, 'disk quotas are refused')
  }
}
