/** What the containers need from others: images by reference, root file systems, a place for records. */

import type { Rootfs } from '../../src/contracts/snapshots.ts'
import type { Digest } from '../../src/oci/digest.ts'

/** An image that is on this host, ready to run. */
export interface ResolvedImage {
  /** Digest of the configuration. */
  readonly id: string
  /** Canonical reference, as containers show it. */
  readonly reference: string
  /** The image configuration JSON as its author wrote it; unchecked. */
  readonly config: unknown
  /** DiffIDs, lowest first. */
  readonly layers: readonly Digest[]
}

export interface ImageStore {
  /** By reference, digest or id. Throws NOT_FOUND when it isn't on this host. */
  resolve(reference: string): Promise<ResolvedImage>
}

/** The part of Snapshotter (src/contracts) that containers use. */
export interface RootfsStore {
  mount(id: string, layers: readonly Digest[], options: { readonly: boolean; signal: AbortSignal }): Promise<Rootfs>
  unmount(id: string): Promise<void>
  remove(id: string): Promise<void>
  recover(ids: ReadonlySet<string>): Promise<string[]>
}

/** A keyspace of texts: a `level` database or sublevel with utf8 values fits. */
export interface RecordSpace {
  get(key: string): Promise<string | undefined>
  put(key: string, value: string, options: { sync: boolean }): Promise<void>
  del(key: string, options: { sync: boolean }): Promise<void>
  iterator(): AsyncIterable<[string, string]>
}
