/** Snapshotter: holds unpacked layers, shared by all images, and stacks them into root file systems. */
import type { Digest } from '../digest.ts'

/** One unpacked layer. `bytes` is what it takes on disk. */
export interface StoredLayer {
  readonly diffId: Digest
  readonly bytes: number
}

export interface Rootfs {
  /** The mounted root directory. */
  readonly path: string
  /** The writable layer's directory, where quotas apply. */
  readonly upper: string
}

export interface UnpackLimits {
  /** Most bytes that the uncompressed layer may have. */
  readonly bytes: number
  /** Most entries in one layer. */
  readonly entries: number
}

/** Ids 0 to `size` - 1 of a container are `base` and up on the host. */
export interface IdMap {
  readonly base: number
  readonly size: number
}

/** Layers are keyed by DiffID (image-spec, config.md, "Layer DiffID"): the digest of the uncompressed tar. */
export interface Snapshotter {
  readonly kind: 'erofs' | 'directory'
  layer(diffId: Digest): Promise<StoredLayer | undefined>
  /** A layer whose blob has `bytes` is about to come: what takes a while to be ready for it begins now. */
  expect(bytes: number): void
  /**
   * Stores the layer whose tar is `blob`, plain or compressed; a chunk is used before the next is asked for. Single flight per
   * DiffID. Nothing is visible until the digest of the uncompressed tar matched. Throws DIGEST_MISMATCH, LAYER_INVALID, LIMIT_EXCEEDED, DISK_FULL.
   */
  unpack(
    diffId: Digest,
    blob: AsyncIterable<Uint8Array>,
    options: { limits: UnpackLimits; signal: AbortSignal },
  ): Promise<StoredLayer>
  removeLayer(diffId: Digest): Promise<void>
  layers(): Promise<StoredLayer[]>
  /**
   * Stacks layers (lowest first) under a fresh or kept writable layer named `id`, and mounts the result. With `idmap`, the layers' owners
   * appear mapped, and the writable layer holds the host's ids. What is written to a `volatile` one may be lost when the machine ends:
   * nobody waits for the disk.
   */
  mount(
    id: string,
    layers: readonly Digest[],
    options: { readonly: boolean; volatile?: boolean; idmap?: IdMap; signal: AbortSignal },
  ): Promise<Rootfs>
  /** Unmounts; the writable layer stays. Fine to call when it isn't mounted. */
  unmount(id: string): Promise<void>
  /** Unmounts and deletes the writable layer. */
  remove(id: string): Promise<void>
  /** After a restart: what is mounted or half made without an owner in `ids` is cleaned up. Returns what was mended. */
  recover(ids: ReadonlySet<string>): Promise<string[]>
}
