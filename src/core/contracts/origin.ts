/** What the seed, and a peer that has to fall back, need of an origin; `src/origin/registry-client.ts` is the one that talks HTTP. */
import type { Digest } from '../digest.ts'
import type { Credential, Origin, RegistryOrigin } from '../task/origin.ts'
import type { ManifestAnswer } from './content.ts'

/** What to read: a URL, or a blob or manifest of a repository by its digest. */
export interface OriginTarget {
  readonly origin: Origin
  readonly digest?: Digest
}

/** What tells one version of a content from another. */
export interface Version {
  readonly etag?: string
  readonly lastModified?: string
  readonly bytes?: number
}

/** One running read: `bytes` is the whole length, if the origin stated it. Closing it ends the connection. */
export interface OriginRead extends Version, AsyncDisposable {
  /** The first byte that the stream carries: the one asked for, or 0 when the origin ignored the range. */
  readonly from: number
  readonly stream: AsyncIterable<Uint8Array>
  /** A chunk of the stream isn't needed any more by anybody: its memory may be used again. Need not be said; never twice of one. */
  readonly done?: (chunk: Uint8Array) => void
}

interface AccessOptions {
  readonly credential?: Credential | undefined
  readonly signal: AbortSignal
}

export interface OriginPort {
  read(
    target: OriginTarget,
    options: AccessOptions & { readonly from?: number; readonly ifMatch?: Version },
  ): Promise<OriginRead>
  /** A HEAD: resolves when the origin would serve the content to this credential; throws the origin's refusal. */
  stat(target: OriginTarget, options: AccessOptions): Promise<Version>
  manifest(
    origin: Omit<RegistryOrigin, 'collection'>,
    reference: string,
    options: AccessOptions,
  ): Promise<ManifestAnswer>
  /** What a HEAD says of a manifest; some registries count only reads. The digest is the origin's word. */
  manifestHead(
    origin: Omit<RegistryOrigin, 'collection'>,
    reference: string,
    options: AccessOptions,
  ): Promise<{ readonly digest?: Digest }>
}
