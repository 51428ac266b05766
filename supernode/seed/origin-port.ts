/** What the seed needs of an origin; `src/oci/registry-client.ts` is the one that talks HTTP. */
import type { ManifestAnswer } from '../../src/contracts/content.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { Credential, Origin, RegistryOrigin } from '../../src/task/origin.ts'

export interface OriginRead {
  /** Whole length of the blob, when the origin told it. */
  readonly bytes: number | undefined
  /** The first byte that the stream carries: the one asked for, or 0 when the origin ignored the range. */
  readonly from: number
  readonly etag: string | undefined
  readonly lastModified: string | undefined
  readonly stream: AsyncIterable<Uint8Array>
}

export interface ReadOptions {
  readonly digest?: Digest | undefined
  readonly from?: number
  readonly credential?: Credential | undefined
  readonly ifMatch?: string | undefined
  readonly signal: AbortSignal
}

export interface OriginPort {
  read(origin: Origin, options: ReadOptions): Promise<OriginRead>
  /** A HEAD: resolves when the origin would serve the blob to this credential; throws the origin's refusal. */
  stat(
    origin: Origin,
    options: Omit<ReadOptions, 'from'>,
  ): Promise<{ bytes: number | undefined; etag: string | undefined; lastModified: string | undefined }>
  manifest(
    origin: Omit<RegistryOrigin, 'collection'>,
    reference: string,
    options: { credential?: Credential | undefined; signal: AbortSignal },
  ): Promise<ManifestAnswer>
}
