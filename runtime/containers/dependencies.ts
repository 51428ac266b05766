/** What the containers need from others: images by reference, root file systems, a place for records. */

import type { CreateRequest } from '../../src/api/containers-api.ts'
import type { NetworkingView } from '../../src/api/networks-api.ts'
import type { Snapshotter } from '../../src/core/contracts/snapshots.ts'
import type { Digest } from '../../src/core/digest.ts'

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

/** What containers use of it. */
export type RootfsStore = Pick<Snapshotter, 'mount' | 'unmount' | 'remove' | 'recover'>

/** A keyspace of texts: a `level` database or sublevel with utf8 values fits. */
export interface RecordSpace {
  get(key: string): Promise<string | undefined>
  /** With `reserved` it is written on a full disk too: what happened to what is there, never what is new. Throws DISK_FULL. */
  put(key: string, value: string, options: { sync: boolean; reserved?: boolean }): Promise<void>
  del(key: string, options: { sync: boolean }): Promise<void>
  /** All or none. */
  batch(
    puts: { type: 'put'; key: string; value: string }[],
    options: { sync: boolean; reserved?: boolean },
  ): Promise<void>
  iterator(): AsyncIterable<[string, string]>
}

/** What a container's network needs to know of it. */
export interface NetworkGuest {
  readonly id: string
  readonly name: string
  readonly hostname: string
  readonly request: CreateRequest
}

/** The network of one run of a container. */
export interface GuestNetwork {
  /** Path of its network namespace. */
  readonly netnsPath: string
  /** Contents of its /etc/hosts and /etc/resolv.conf. */
  readonly hosts: string
  readonly resolvConf: string
}

/** The networks that containers are attached to: every mode but `host`, `none` and `container:NAME`. */
export interface ContainerNetworks {
  /** Throws NOT_FOUND for an unknown network, BAD_ARGUMENT and UNSUPPORTED for what it can't do. */
  check(request: CreateRequest): Promise<void>
  /**
   * Makes the namespace with all its interfaces and published ports. With `keep`, what the last run left stays as it is: addresses, ports,
   * names. Throws CONFLICT, NETWORK_FAILED, HOST_UNABLE.
   */
  attach(guest: NetworkGuest, options: { keep?: boolean; signal: AbortSignal }): Promise<GuestNetwork>
  /** The run is over: ports are closed, addresses given back. Fine for one that isn't attached. */
  detach(id: string): Promise<void>
  /** The container is no more. */
  forget(id: string): Promise<void>
  renamed(id: string, name: string): Promise<void>
  /** What it is attached to; empty when it isn't. */
  attached(id: string): { readonly id: string; readonly name: string; readonly type: string }[]
  /** Undefined when it isn't attached. */
  view(id: string): NetworkingView | undefined
  /** After a restart: compares with the host; `live` run, `all` exist. Says what was mended. */
  recover(live: ReadonlySet<string>, all: ReadonlySet<string>): Promise<string[]>
}
