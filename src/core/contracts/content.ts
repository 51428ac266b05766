/**
 * ContentSource: what the runtime asks of the swarm side. It wants bytes of a blob, in order or not, while the rest still
 * arrives; where they come from is not its affair.
 */
import type { Digest } from '../digest.ts'
import type { Credential, Origin, RegistryOrigin } from '../task/origin.ts'

/** A container that waits comes before a preheat. */
export type Priority = 'interactive' | 'background'

export interface ContentRequest {
  readonly origin: Origin
  /** Absent only for a URL whose content is not known beforehand. */
  readonly digest?: Digest
  /** The length that a manifest states; a blob of another length is refused with SIZE_MISMATCH. */
  readonly bytes?: number
  readonly credential?: Credential
  readonly priority: Priority
  /** `never` keeps this host from reading the origin, whatever happens to the supernode. */
  readonly fromOrigin?: 'never'
  /** The preheat that this is part of, by the supernode's id. */
  readonly preheat?: string
  /** If nobody holds or reads the blob, whose `bytes` are known, this host would read the origin itself. */
  readonly lead?: boolean
  /** Places that have given this reader other bytes under this digest: it is given nothing that came there, unless the digest matched. */
  readonly wrongAt?: readonly Origin[]
  /** Which blob of its image it is, in the order in which they are unpacked. */
  readonly order?: number
}

/** Bytes by where they came from. */
export interface ByteSources {
  readonly origin: number
  readonly supernode: number
  readonly peers: number
}

export interface ContentProgress {
  readonly bytes: number
  /** Verified bytes that are here, whether fetched now or before. */
  readonly have: number
  readonly from: ByteSources
}

export interface ContentSummary {
  readonly digest: Digest
  readonly bytes: number
  readonly pieces: number
  readonly seconds: number
  readonly from: ByteSources
}

/** One open blob. Closing it lets go of the reader's hold; the blob stays in the store. */
export interface Content extends AsyncDisposable {
  readonly bytes: number
  /**
   * Verified bytes of [from, to), in order, each chunk as soon as it is here; the pieces asked for move to the front. Throws what failed
   * the task, or the signal's reason. `lend`: a chunk is good only until the next is asked for. `least`: chunks of a blob that this host
   * reads at an origin have at least so many bytes, except at ends of pieces.
   */
  read(options: {
    from?: number
    to?: number
    lend?: boolean
    least?: number
    signal: AbortSignal
  }): AsyncIterable<Uint8Array>
  /** Resolves once every byte is here and the whole digest matched. */
  whole(options: { signal: AbortSignal }): Promise<ContentSummary>
  /** The stored file, valid after {@link whole} and until this is closed. */
  path(): string
  progress(): ContentProgress
}

export interface ContentSource {
  /** Throws the refusal of the request's place, for what is here as for what isn't. */
  open(request: ContentRequest, options: { signal: AbortSignal }): Promise<Content>
  /** A blob that is here whole, for an image of this host, whose pull has shown the right to it; undefined where it isn't. */
  openHeld(digest: Digest): Promise<Content | undefined>
  /** Resolves where the asker may have a blob, of which nothing is fetched. Throws the refusal of its place. */
  right(request: ContentRequest & { readonly digest: Digest }, options: { signal: AbortSignal }): Promise<void>
  /** The exact bytes of a manifest by tag or digest, its media type as the origin stated it, and its digest. */
  manifest(request: ManifestRequest, options: { signal: AbortSignal }): Promise<ManifestAnswer>
}

export interface ManifestRequest {
  readonly origin: Omit<RegistryOrigin, 'collection'>
  /** A tag or a digest. */
  readonly reference: string
  readonly credential?: Credential
  /** How old the last known answer about a tag may be that is given while the origin is down; 0, or absent, is none. */
  readonly staleMs?: number
}

export interface ManifestAnswer {
  readonly digest: Digest
  readonly mediaType: string
  readonly body: Uint8Array
  /** Present when the origin could not be asked: how old this answer about a tag is. */
  readonly ageMs?: number
}
